"""A store of 100,000 Records: CPU seconds to list it, to plan on it and to report it, beside reading its files alone.

``SAMCMP_RECORDS`` sets another number. The store is one that a plan of so many runs would have filled.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from samcmp.experiment import config, plan, suites
from samcmp.experiment.store import Store
from samcmp.records import Accuracy, Case, Epoch, Record, to_json

RECORDS = int(os.environ.get("SAMCMP_RECORDS", "100000"))
SUITE = """
[suites.default]
title = "many"
datasets = ["bbbp", "esol", "freesolv", "lipo", "bace"]
models = ["gcn", "mpnn", "dmpnn", "cmpnn"]
optimizers = [
  "adam", "sam", "sam-k", "looksam", "ae-sam", "rst", "esam", "vasso", "graphsam", "graphsam-k", "s2-sam", "msam",
  "gsam", "wsam", "late-sam", "asam", "f-sam", "saf", "mesa", "sam-one",
]
repeats = REPEATS
"""
CELLS = 5 * 4 * 20


def result(key: str, case: Case, number: int) -> Record:
    """A Record as training leaves one: 30 epochs, a machine, versions."""
    rng = np.random.default_rng(number)
    scores = [float(x) for x in 0.8 + 0.05 * rng.standard_normal(30)]
    history = tuple(Epoch(0.5, s, s, 1e-3, 1.25, 52, 0.5, 0.05) for s in scores)
    accuracy = Accuracy("roc-auc", scores[-1], max(scores), 29, {"label": scores[-1]}, 1, 1, 20, 800, 100, 100)
    return Record(
        key, case, "ok", None, "2026-01-01T00:00:00+00:00", 40.0, f"{sum(map(ord, case.dataset)):064x}",
        f"{case.split_seed:064x}", 25000, accuracy, history, machine={"architecture": "x86_64", "processor": "X"},
        versions={"torch": "2.13.0"},
    )  # fmt: skip


def fill(folder: Path, count: int) -> Path:
    """Write the Records of a plan; return the suite file that the plan is of."""
    path = folder / "many.toml"
    path.write_text(SUITE.replace("REPEATS", str(max(1, count // CELLS))))
    planned = plan.build(config.read(config.Request(), suites.read(path)), profile=False)
    store = Store(folder / "store")
    for number, (key, case) in enumerate(planned.train.items()):
        place = store.path(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(to_json(result(key, case, number)), indent=1))
    return path


def timed(words: list[str]) -> tuple[float, float, str]:
    """Run a command; return its CPU and wall seconds and the last line that it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lines = (done.stdout + done.stderr).strip().splitlines()
    return cpu, time.perf_counter() - began, lines[-1] if lines else ""


def commands(store: Path, suite: Path) -> Iterator[tuple[str, list[str]]]:
    samcmp = [sys.executable, "-m", "samcmp"]
    peer = (
        "import json, pathlib, sys\nfor p in pathlib.Path(sys.argv[1]).rglob('*.json'):\n    json.loads(p.read_bytes())"
    )
    yield "peer: json.loads of every file", [sys.executable, "-c", peer, str(store)]
    yield "samcmp store list", [*samcmp, "store", "list", "--store", str(store)]
    yield "samcmp compare --dry-run", [
        *samcmp, "compare", "--dry-run", "--device", "cpu", "--config", str(suite), "--store", str(store)
    ]  # fmt: skip
    yield "samcmp report", [*samcmp, "report", "--store", str(store)]
    yield "samcmp merge, all there", [*samcmp, "merge", str(store), "--into", f"{store}-copy"]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.environ.get("SAMCMP_SCALE_FOLDER", name))
        suite = folder / "many.toml"
        if not suite.exists():
            suite = fill(folder, RECORDS)
        store = folder / "store"
        count = sum(len(files) for _, _, files in os.walk(store))
        print(f"{count:,} Records")
        peer = 0.0
        for what, words in commands(store, suite):
            if "merge" in what:
                subprocess.run(["cp", "-r", str(store), f"{store}-copy"], check=True)
            cpu, wall, last = timed(words)
            peer = peer or cpu
            print(f"{what:34s} {cpu:7.1f} s CPU {wall:7.1f} s  {cpu / peer:5.2f} of the peer   {last[:60]}", flush=True)


if __name__ == "__main__":
    main()
