"""``kill -9`` at random moments, then the same command: no Record is lost, doubled or corrupt, the table is the same.

SAMCMP_KILLS sets how many (3 by default; the project's own trial takes 200).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from samcmp.store import Store
from tests.places import ROOT

KILLS = int(os.environ.get("SAMCMP_KILLS", "3"))
SUITE = """
[suites.default]
title = "tiny"
datasets = ["demo"]
models = ["gcn"]
optimizers = ["adam", "sam", "graphsam"]
repeats = 4
profile_seconds = 1
protocol = { epochs = 2, subset = 120, batch_size = 16 }
"""


def command(store: Path, config: Path, *more: str) -> list[str]:
    words = ["compare", "--config", str(config), "--store", str(store), "--device", "cpu", "--plain", *more]
    return [sys.executable, "-m", "samcmp", *words]


def whole_group(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def accuracy_table(store: Path) -> str:
    lines = [
        f"{r.key} {r.case.arm} {r.case.block} {r.accuracy.test!r} {r.accuracy.best_epoch}"
        for r in Store(store).records()
        if r.case.kind == "train" and r.accuracy is not None
    ]
    return "\n".join(sorted(lines))


def test_a_killed_comparison_resumes_to_the_same_accuracy_table(tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(SUITE)
    began = time.monotonic()
    assert subprocess.run(command(tmp_path / "whole", config), cwd=ROOT, capture_output=True).returncode == 0
    span = time.monotonic() - began
    expected = accuracy_table(tmp_path / "whole")
    assert expected.count("\n") == 11

    generator = random.Random(0)
    killed, store, round_ = 0, tmp_path / "killed-0", 0
    while killed < KILLS:
        process = whole_group(command(store, config))
        time.sleep(generator.uniform(0.3, span))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
        found = Store(store)
        assert len({r.key for r in found.records()}) == len(found.records())
        assert found.damaged == []
        if len(accuracy_table(store).splitlines()) == 12:  # this one is whole: begin another
            assert accuracy_table(store) == expected
            round_ += 1
            store = tmp_path / f"killed-{round_}"
    assert subprocess.run(command(store, config), cwd=ROOT, capture_output=True).returncode == 0
    assert accuracy_table(store) == expected
    assert Store(store).damaged == []
