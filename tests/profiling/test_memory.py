"""Peaks from a pass of their own: what was allocated is found, and what cannot be known has a reason."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from samcmp.profiling import memory
from samcmp.profiling.gpu_monitor import Polling
from samcmp.profiling.memory import cpu_memory, cuda_memory, split, tensors_in, unique_bytes
from samcmp.profiling.nvml import open_gpu
from tests.profiling.fake_cuda import FakeCuda
from tests.profiling.fake_nvml import UUID, FakeGpu, FakeNvml

MIB = 1 << 20
CPU = torch.device("cpu")
DEVICE = SimpleNamespace(type="cuda")
can_reset = pytest.mark.skipif(not memory.reset_peak(), reason="/proc/self/clear_refs cannot be written here")


class Eater:
    """Keeps some memory and uses more for a moment."""

    def __init__(self, kept: int, passing: int) -> None:
        self.kept = torch.ones(kept // 4)
        self.passing = passing

    def run(self) -> None:
        torch.ones(self.passing // 4).sum()

    def tensors(self) -> Mapping[str, Iterable[Any]]:
        return {"parameters": [self.kept], "gradients": [None]}


@can_reset
@pytest.mark.parametrize(("kept", "passing"), [(64, 128), (32, 0), (200, 16)])
def test_a_known_allocation_is_found_on_a_cpu(kept: int, passing: int) -> None:
    found = cpu_memory(lambda: Eater(kept * MIB, passing * MIB), CPU)
    assert found.peak_bytes == pytest.approx((kept + passing) * MIB, abs=4 * MIB)
    assert found.split_bytes["parameters"] == kept * MIB
    assert found.split_bytes["activations"] == pytest.approx(passing * MIB, abs=4 * MIB)


@can_reset
def test_a_larger_pass_before_does_not_hide_a_smaller_one() -> None:
    cpu_memory(lambda: Eater(MIB, 400 * MIB), CPU)
    found = cpu_memory(lambda: Eater(MIB, 60 * MIB), CPU)
    assert found.peak_bytes == pytest.approx(61 * MIB, abs=4 * MIB)


def test_where_the_peak_cannot_be_reset_there_is_a_reason_and_no_number(tmp_path: Path) -> None:
    found = cpu_memory(lambda: Eater(MIB, MIB), CPU, clear=tmp_path / "no" / "such")
    assert found.peak_bytes is None
    assert "reset" in found.missing["peak_bytes"]
    assert found.split_bytes["parameters"] == MIB


def test_where_there_is_no_proc_there_is_a_reason_and_no_number(tmp_path: Path) -> None:
    found = cpu_memory(lambda: Eater(MIB, MIB), CPU, status=tmp_path / "status")
    assert found.peak_bytes is None
    assert found.missing["peak_bytes"]


def test_a_storage_counts_once_however_many_tensors_look_at_it() -> None:
    flat = torch.zeros(1000)
    views = [flat[:500], flat[500:], flat.view(10, 100)]
    assert unique_bytes(views) == 4000
    assert split({"parameters": views, "perturbation_state": [flat, torch.zeros(10)]}) == {
        "parameters": 4000,
        "perturbation_state": 40,
    }


def test_tensors_are_found_in_nested_containers() -> None:
    a, b, c = torch.ones(1), torch.ones(2), torch.ones(3)
    found = tensors_in({"x": [a, {"y": (b,)}], "z": "text", "n": 3, "s": c})
    assert {t.numel() for t in found} == {1, 2, 3}


# ---------------------------------------------------------------------------------------------- CUDA


class FakeSubject:
    def __init__(self, cuda: FakeCuda, *, kept: int, passing: int) -> None:
        self.cuda, self.kept, self.passing = cuda, kept, passing
        cuda.allocate(kept)

    def run(self) -> None:
        self.cuda.allocate(self.passing)
        self.cuda.allocated -= self.passing

    def tensors(self) -> Mapping[str, Iterable[Any]]:
        return {"parameters": []}

    def __del__(self) -> None:
        self.cuda.allocated -= self.kept


class Library:
    """Takes a workspace of the allocator at its first product, as cuBLAS does, and keeps it."""

    size = 32 * MIB

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.held = cuda, 0

    def multiply(self) -> None:
        if not self.held:
            self.cuda.allocate(self.size)
            self.held = self.size

    def clear(self) -> None:
        self.cuda.allocated -= self.held
        self.held = 0


def test_the_workspaces_of_a_library_are_not_called_activations() -> None:
    cuda = FakeCuda(num_ooms=1)
    library = Library(cuda)
    library.multiply()  # in the rounds before

    class Multiplies(FakeSubject):
        def run(self) -> None:
            library.multiply()
            super().run()

    found = cuda_memory(
        lambda: Multiplies(cuda, kept=100, passing=50), DEVICE, cuda=cuda, clear_workspaces=library.clear
    )
    assert found.peak_bytes == library.size + 150
    assert found.split_bytes["workspaces"] == library.size
    assert found.split_bytes["activations"] == 150
    assert cuda.allocated == 0


def test_only_what_an_optimizer_did_itself_is_said_of_it() -> None:
    """An optimizer before it ran out of memory: the allocator's counters never go back."""
    cuda = FakeCuda(num_ooms=3)
    assert "note" not in measure(cuda, passing=[50]).missing

    class Starved(FakeSubject):
        def run(self) -> None:
            cuda.num_ooms += 1

    found = cuda_memory(lambda: Starved(cuda, kept=1, passing=1), DEVICE, cuda=cuda)
    assert "nearly full" in found.missing["note"]


def measure(cuda: FakeCuda, *, passing: list[int], gpu: Any = None) -> memory.Memory:
    each = iter(passing)
    return cuda_memory(
        lambda: FakeSubject(cuda, kept=100, passing=next(each)), DEVICE, gpu=gpu, repeats=len(passing), cuda=cuda
    )


def test_the_peak_on_a_device_excludes_what_others_of_the_session_hold() -> None:
    cuda = FakeCuda(allocated=1000, peak=5000)
    found = measure(cuda, passing=[50, 50, 50])
    assert found.peak_bytes == 150
    assert "note" not in found.missing
    assert cuda.allocated == 1000


def test_the_cache_is_emptied_before_the_peak_is_reset() -> None:
    cuda = FakeCuda()
    measure(cuda, passing=[50])
    assert cuda.calls.index("empty_cache") < cuda.calls.index("reset_peak")


def test_peaks_that_differ_between_equal_passes_are_reported() -> None:
    found = measure(FakeCuda(), passing=[50, 70, 50])
    assert found.peak_bytes == 170
    assert "differ" in found.missing["note"]


def test_the_device_peak_is_nvmls_or_has_a_reason() -> None:
    gpu = open_gpu(UUID, library=FakeNvml(FakeGpu(used=7 * MIB)))
    assert measure(FakeCuda(), passing=[1], gpu=gpu).device_bytes == 7 * MIB
    refused = open_gpu(UUID, library=FakeNvml(FakeGpu(refuses={"memory": "NoPermission"})))
    found = measure(FakeCuda(), passing=[1], gpu=refused)
    assert found.device_bytes is None
    assert found.missing["device_bytes"] == "no permission"


def test_the_device_is_polled_while_something_runs() -> None:
    seen: list[float] = []
    with Polling(lambda: seen.append(time.monotonic()), every_seconds=0.001):
        while len(seen) < 3:
            time.sleep(0.001)
        ends = time.monotonic()
    assert seen[-1] > ends  # and once more where it has run
