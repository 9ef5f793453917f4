"""Whole sessions on a real GPU: every optimizer is measured, memory is deterministic, and the instruments agree."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from samcmp import optim
from samcmp.experiment.config import unfit
from samcmp.profiling import arms, energy, selfcheck
from samcmp.profiling.memory import cuda_memory
from samcmp.profiling.nvml import open_torch_device
from samcmp.profiling.session import SessionOptions, profile
from samcmp.records import Case, Protocol, Record
from samcmp.training.setup import Options
from tests.gpu.cuda import GPU, MARKS

pytestmark = MARKS
MEBIBYTE = 2**20


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMCMP_LOCKS", str(tmp_path))


def measured(*names: str, seconds: float, **options: Any) -> list[Record]:
    protocol = Protocol(epochs=1, batch_size=32)
    cases = {f"{i:064x}": Case("profile", "demo", "gcn", name, protocol, device="cuda") for i, name in enumerate(names)}
    return profile(cases, Options(device="cuda:0"), session=SessionOptions(seconds, **options))


def test_no_check_of_the_selfcheck_fails() -> None:
    failed = [f"{check.name}: {check.measured}" for check in selfcheck.run(GPU, seconds=40) if check.passed is False]
    assert not failed


def test_every_optimizer_is_timed_by_events_and_weighed_alike_in_each_pass() -> None:
    made = measured(*(name for name in optim.OPTIMIZERS if unfit(name, "adam") is None), seconds=120, energy=False)
    assert {(r.status, r.reason) for r in made} == {("ok", None)}
    for record in made:
        assert record.throughput is not None
        assert record.throughput.details["clock"] == "cuda events"
        assert record.throughput.details["one_at_a_time"] is None
        assert record.throughput.pipeline_graphs_per_second is not None
        assert record.memory is not None
        assert "note" not in record.memory.missing, record.case.optimizer
        assert record.memory.peak_bytes is not None
        assert record.memory.peak_bytes > 4 * (record.parameters or 0)
    assert not any("asked the device for memory" in note for note in made[0].notes)


def test_phases_add_up_to_the_wall_time_and_operations_are_counted() -> None:
    for record in measured("adam", "sam", "ae-sam", seconds=30, detail=True, memory=False, energy=False):
        details = record.throughput.details  # type: ignore[union-attr]
        assert details["phases_add_up"], details["phases_sum_over_wall"]
        assert details["tflop_per_second"] > 0


def test_what_does_not_fit_side_by_side_is_let_go_of_and_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = arms.Arm.prepare
    before: list[int] = []

    def alone(self: arms.Arm, *rest: Any) -> None:
        if before and torch.cuda.memory_allocated(GPU) > before[0] + MEBIBYTE:
            raise torch.OutOfMemoryError("CUDA out of memory, says a test")
        before.append(torch.cuda.memory_allocated(GPU))
        usual(self, *rest)

    monkeypatch.setattr(arms.Arm, "prepare", alone)
    monkeypatch.setattr(arms.torch.cuda, "empty_cache", _emptied)  # type: ignore[attr-defined]
    made = measured("adam", "sam", "graphsam", seconds=30, memory=False, energy=False)
    assert {(r.status, r.reason) for r in made} == {("ok", None)}
    assert all(r.throughput and r.throughput.details["one_at_a_time"] for r in made)


_EMPTY = torch.cuda.empty_cache


def _emptied() -> None:
    """Let cuBLAS go of its workspaces, too: they would look like an optimizer that stayed."""
    torch._C._cuda_clearCublasWorkspaces()
    _EMPTY()


class Product:
    """Keeps two matrices and multiplies them."""

    def __init__(self) -> None:
        self.a, self.b = (torch.ones(1024, 1024, device=GPU) for _ in range(2))

    def run(self) -> None:
        torch.mm(self.a, self.b)

    def tensors(self) -> dict[str, list[Any]]:
        return {"parameters": [self.a, self.b]}


def test_the_workspaces_of_cublas_are_told_apart() -> None:
    found = cuda_memory(Product, GPU)
    assert found.split_bytes["parameters"] == 8 * MEBIBYTE
    assert found.split_bytes["workspaces"] > 0
    assert found.split_bytes["activations"] == pytest.approx(4 * MEBIBYTE, abs=MEBIBYTE)


def test_energy_of_a_window_lies_between_idle_and_the_limit() -> None:
    gpu = open_torch_device(GPU)
    counter = energy.Counter(gpu, synchronize=lambda: torch.cuda.synchronize(GPU))
    if counter.unusable() is not None:
        pytest.skip(counter.unusable())
    idle = counter.idle_watts(seconds=2.0)
    a = torch.randn(4096, 4096, device=GPU)

    def work() -> int:
        for _ in itertools.repeat(None, 20):
            torch.mm(a, a)
        return 1

    window = counter.window(work, seconds=3.0)
    assert idle is not None
    assert window is not None
    watts = window.joules / window.seconds
    assert watts > 1.2 * idle
    assert energy.plausible(watts, idle_watts=idle, limit_watts=gpu.read("power_limit_watts")) is None
