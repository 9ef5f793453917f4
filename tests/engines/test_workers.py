"""Worker processes: one that dies or takes too long costs its own case; the others go on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from samcmp.engines import Work, local
from samcmp.records import Case, Protocol
from samcmp.training.setup import Options

MODEL = '''
"""A model that ends its process, or sleeps, when it is told to."""
import os, time
import torch
from torch import nn
from torch_geometric.nn import global_mean_pool


class Net(nn.Module):
    def __init__(self, in_channels, bond_features, tasks):
        super().__init__()
        self.head = nn.Linear(in_channels, tasks)

    def forward(self, data):
        if os.environ.get("SAMCMP_TEST_DO") == "die":
            os.kill(os.getpid(), 9)
        if os.environ.get("SAMCMP_TEST_DO") == "sleep":
            time.sleep(600)
        return self.head(global_mean_pool(data.x, data.batch))
'''


def cases(models: list[str]) -> dict[str, Case]:
    protocol = Protocol(epochs=1, subset=40)
    return {f"{n:064x}": Case("train", "demo", model, "adam", protocol=protocol) for n, model in enumerate(models)}


@pytest.fixture
def sick(tmp_path: Path) -> str:
    path = tmp_path / "sick.py"
    path.write_text(MODEL)
    return f"{path}:Net"


def run(models: list[str], **more: Any) -> dict[str, Any]:
    done = local.run_apart(Work(cases(models)), Options(), listen=lambda _: None, jobs=1, **more)
    return {f.record.case.model: f.record for f in done}


def test_a_worker_that_is_killed_costs_its_case_alone(sick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMCMP_TEST_DO", "die")
    records = run([sick, "gcn"])
    assert records[sick].status == "error"
    assert "signal 9" in records[sick].reason
    assert records["gcn"].status == "ok"


def test_a_case_that_takes_too_long_is_recorded_and_the_others_go_on(
    sick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMCMP_TEST_DO", "sleep")
    began = time.monotonic()
    records = run([sick, "gcn"], timeout=20.0)
    assert records[sick].status == "timeout"
    assert "20 s" in records[sick].reason
    assert records["gcn"].status == "ok"
    assert time.monotonic() - began < 120


def test_stopping_early_leaves_no_worker_behind(sick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.setenv("SAMCMP_TEST_DO", "sleep")
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    running = local.run_apart(Work(cases([sick])), Options(), listen=lambda _: None, jobs=1, timeout=3.0)
    next(running)
    running.close()
    left = {p.pid for p in psutil.Process().children(recursive=True)} - before
    # the interpreter's own resource tracker stays; a worker would have been a spawned main
    assert not [pid for pid in left if "spawn_main" in " ".join(psutil.Process(pid).cmdline())]
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    assert os.getpid() not in left


@pytest.mark.parametrize(
    ("cores", "devices", "jobs"),
    [(2.5, ["cpu"], 2), (64.0, ["cpu"], 64), (0.5, ["cpu"], 1), (8.0, ["cuda:0"], 1), (8.0, ["cuda:1", "cuda:2"], 2)],
)
def test_as_many_runs_side_by_side_as_the_process_has_cores_or_cards(
    cores: float, devices: list[str], jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samcmp.machine.usable_cores", lambda: cores)
    assert local.default_jobs(devices) == jobs
