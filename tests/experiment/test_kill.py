"""``kill -9`` at random moments, then the same command: no Record is lost, doubled or corrupt, the table is the same.

SAMCMP_KILLS sets how many (12 by default; the project's own trial takes 200). One in ten ends the command itself with
its worker processes at a random time; of the others (see :mod:`tests.experiment.killing`) half end at a random time and
half at a random step of a random write: of a cache, a profile, predictions or a Record.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from samcmp.experiment.store import Store
from tests.experiment.killing import STEPS
from tests.places import ROOT

KILLS = int(os.environ.get("SAMCMP_KILLS", "12"))
SIDE_BY_SIDE = 2
RUNS = 12
WRITES = 2 * RUNS + 3 + 2  # Records and predictions, profiles, the probe of the store and the cache of the graphs
SUITE = """
[suites.default]
title = "tiny"
datasets = ["demo"]
models = ["gcn"]
optimizers = ["adam", "sam", "graphsam"]
repeats = 4
profile_seconds = 0.5
protocol = { epochs = 2, subset = 120, batch_size = 16 }
"""


@dataclass
class Trial:
    """Stores in a folder of its own, each filled by a command that is killed again and again."""

    folder: Path
    generator: random.Random
    server: subprocess.Popen[str]
    span: float = 5.0  # seconds of a whole comparison without its imports
    killed: int = 0
    kept: dict[Path, bytes] = field(default_factory=dict)  # what the store holds of training
    number: int = 0

    @property
    def store(self) -> Path:
        return self.folder / f"store-{self.number}"

    @property
    def cache(self) -> Path:
        return self.folder / f"cache-{self.number}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def words(self) -> list[str]:
        words = ["compare", "--config", str(self.folder.parent / "tiny.toml"), "--device", "cpu", "--plain"]
        return [*words, "--store", str(self.store)]

    def fork(self, *, seconds: float | None = None, step: int | None = None) -> int:
        """Run the command in a fork that is killed after seconds or at a step of its writes; return its exit code."""
        asked = {"words": [*self.words, "--jobs", "1"], "cache": str(self.cache), "log": str(self.log)}
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        print(json.dumps({**asked, "seconds": seconds, "step": step}), file=self.server.stdin, flush=True)
        return self.checked(json.loads(self.server.stdout.readline()))

    def command(self, seconds: float | None = None) -> int:
        """Run the command itself, whose workers are processes; its whole group is killed after seconds."""
        words = [sys.executable, "-m", "samcmp", *self.words, "--jobs", "2"]
        environment = os.environ | {"SAMCMP_CACHE": str(self.cache), "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as log:
            process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            return self.checked(process.wait(seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return self.checked(process.wait())

    def checked(self, code: int) -> int:
        assert code in (0, -signal.SIGKILL), self.log.read_text()
        return code

    def kill(self) -> None:
        """Run the command once and kill it, if it does not end before.

        Early moments are taken more often than late ones: a command that goes on has less left to do.
        """
        kind, moment = self.generator.random(), self.generator.random() ** 2
        if kind < 0.1:
            code = self.command(2.0 + 4 * self.span * moment)
        elif kind < 0.55:
            code = self.fork(seconds=self.span * moment)
        else:
            code = self.fork(step=1 + int(STEPS * WRITES * moment))
        self.killed += code != 0

    def check(self) -> None:
        """What was there is there, byte for byte; nothing is damaged; whatever has a Record has its predictions."""
        store = Store(self.store)
        found = [record for record in store.records() if record.case.kind == "train"]
        assert store.damaged == []
        assert all(record.status == "ok" and store.predictions(record.key) for record in found)
        now = training(self.store)
        assert {path: now.get(path) for path in self.kept} == self.kept
        self.kept = now

    def begin_another(self) -> None:
        self.number += 1
        self.kept = {}


def training(store: Path) -> dict[Path, bytes]:
    """Every file of a training run in the store, by its path; what a Record says of times is left out."""
    files = {path.relative_to(store): path.read_bytes() for path in store.glob("predictions/*/*.npz")}
    for record in Store(store).records():
        if record.case.kind == "train":
            path = next(store.glob(f"records/*/{record.key}.json"))
            files[path.relative_to(store)] = path.read_bytes()
    return files


def accuracy_table(store: Path) -> str:
    """The result of every training run, to the last bit, and the bytes of its predictions."""
    lines = []
    for r in Store(store).records():
        if r.case.kind == "train" and r.accuracy is not None:
            predictions = next(store.glob(f"predictions/*/{r.key}.npz")).read_bytes()
            lines.append(f"{r.key} {r.case.arm} {r.case.block} {r.accuracy.test!r} {predictions.hex()}")
    return "\n".join(sorted(lines))


def until(kills: int, trial: Trial, expected: str) -> int:
    """Kill as often as asked, begin another store whenever one is whole, and bring the last one to its end."""
    while trial.killed < kills:
        trial.kill()
        trial.check()
        if len(accuracy_table(trial.store).splitlines()) == RUNS:
            assert trial.fork() == 0
            assert accuracy_table(trial.store) == expected
            trial.begin_another()
    assert trial.fork() == 0
    trial.check()
    assert accuracy_table(trial.store) == expected
    return trial.number + 1


@pytest.mark.timeout(120 + 10 * KILLS)
def test_a_killed_comparison_resumes_to_the_same_accuracy_table(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SUITE)
    program = [sys.executable, "-m", "tests.experiment.killing"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    servers = [
        subprocess.Popen(program, cwd=ROOT, env=environment, stdin=-1, stdout=-1, text=True)
        for _ in range(SIDE_BY_SIDE)
    ]
    try:
        trials = [Trial(tmp_path / str(n), random.Random(n), server) for n, server in enumerate(servers)]
        for trial in trials:
            trial.folder.mkdir()
        assert trials[0].command() == 0
        expected = accuracy_table(trials[0].store)
        assert expected.count("\n") == RUNS - 1
        trials[0].begin_another()
        began = time.monotonic()
        assert trials[0].fork() == 0
        for trial in trials:
            trial.span = time.monotonic() - began
        assert accuracy_table(trials[0].store) == expected
        trials[0].begin_another()
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            shares = [len(range(n, KILLS, SIDE_BY_SIDE)) for n in range(SIDE_BY_SIDE)]
            stores = list(pool.map(until, shares, trials, itertools.repeat(expected)))
    finally:
        for server in servers:
            server.kill()
            server.communicate()
    print(f"{sum(trial.killed for trial in trials)} kills, {sum(stores)} stores, {time.monotonic() - began:.0f} s")
