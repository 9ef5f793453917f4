"""Whoever runs a plan, and in how many parts: the set of results is the same, to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from samcmp.engines import Setting, Work, make
from samcmp.experiment.merge import result_of
from samcmp.experiment.store import Store
from samcmp.records import Json
from samcmp.training.setup import Options
from tests.commands import Run, tiny
from tests.places import ROOT

WORDS = ("compare", *tiny("--epochs", "2", "--repeats", "4"), "-o", "adam", "-o", "sam", "-o", "graphsam", "--plain")
RUNS = 12


def results(folder: str) -> dict[str, tuple[Json, bytes]]:
    """Every training run: what its Record says of its result, and the bytes of its predictions."""
    store = Store(Path(folder))
    found = {
        record.key: (result_of(record), store.path(record.key, "predictions", ".npz").read_bytes())
        for record in store.records()
        if record.case.kind == "train"
    }
    assert store.damaged == []
    return found


@pytest.mark.timeout(600)
def test_one_worker_four_workers_four_merged_shards_and_two_processes_give_equal_results(run: Run) -> None:
    assert run(*WORDS, "--store", "one")[0] == 0
    expected = results("one")
    assert len(expected) == RUNS

    # four shards, merged; the whole command finds nothing left to train
    for n in range(1, 5):
        code, out, err = run(*WORDS, "--shard", f"{n}/4", "--store", f"shard-{n}")
        assert code == 0, err
        assert f"Shard {n} of 4: 3 of 3 training runs in shard-{n}." in out
    assert run("merge", *(f"shard-{n}" for n in range(1, 5)), "--into", "merged")[0] == 0
    assert results("merged") == expected
    assert "12 training runs, 12 in the store, 0 to do" in run(*WORDS, "--dry-run", "--store", "merged")[1]

    # two processes on one store: another one begins, this one joins it
    words = [sys.executable, "-m", "samcmp", *WORDS, "--store", str(Path("shared").absolute())]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    other = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(Path("shared").glob("claims/*.claim")) and time.monotonic() < deadline:
        time.sleep(0.01)
    code, _, err = run(*WORDS, "--store", "shared")
    _, said = other.communicate(timeout=300)
    assert (code, other.returncode) == (0, 0), err + said.decode()
    assert results("shared") == expected
    assert "by other processes" in err  # the session that the other had begun
    assert list(Path("shared/claims").iterdir()) == []

    # four workers of one process
    cases = {record.key: record.case for record in Store(Path("one")).records() if record.case.kind == "train"}
    store = Store(Path("four"))
    engine = make(Setting(jobs=4))
    work = Work(cases, store)
    for finished in engine.train(work, Options(), pool=engine.look(), listen=lambda event: None, timeout=None):
        work.keep(finished)
    assert results("four") == expected
