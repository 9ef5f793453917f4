"""Clocks and counters of a real GPU agree with what is known otherwise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from samcmp.profiling.clocks import CudaClock
from samcmp.profiling.nvml import open_torch_device
from tests.gpu.cuda import GPU, MARKS

pytestmark = MARKS
MEBIBYTE = 2**20


def work(seconds: float) -> Any:
    """Return matrix products that keep the device busy for about ``seconds``."""
    a = torch.randn(4096, 4096, device=GPU)

    def run(count: int) -> None:
        for _ in range(count):
            torch.mm(a, a)

    run(3)
    torch.cuda.synchronize(GPU)
    began = time.perf_counter()
    run(10)
    torch.cuda.synchronize(GPU)
    count = max(10, int(10 * seconds / (time.perf_counter() - began)))

    def block() -> Sequence[int]:
        run(count)
        return [1]

    return block


def test_events_and_the_hosts_clock_see_the_same_time() -> None:
    block = work(0.3)
    timed = CudaClock(GPU).block(block)
    torch.cuda.synchronize(GPU)
    began = time.perf_counter()
    block()
    torch.cuda.synchronize(GPU)
    apart = time.perf_counter() - began
    assert timed.agrees
    assert timed.seconds == pytest.approx(apart, rel=0.1)


def test_work_that_is_queued_is_not_host_bound_and_waiting_is() -> None:
    block = work(0.3)

    def idle() -> Sequence[int]:
        time.sleep(0.2)
        return block()

    def waits() -> Sequence[int]:
        found = block()
        torch.cuda.synchronize(GPU)
        time.sleep(0.1)
        return found

    clock = CudaClock(GPU)
    assert not clock.block(block).host_bound
    assert clock.block(idle).seconds == pytest.approx(clock.block(block).seconds + 0.2, rel=0.1)
    assert clock.block(waits).host_bound


def test_nvml_sees_the_memory_that_torch_takes() -> None:
    gpu = open_torch_device(GPU)
    if gpu.absent is not None:
        pytest.skip(gpu.absent)
    torch.cuda.empty_cache()
    torch.zeros(1, device=GPU)
    before, reserved = gpu.read("memory"), torch.cuda.memory_reserved(GPU)
    if before is None:
        pytest.skip(gpu.reason("memory"))
    held = torch.empty(1024 * MEBIBYTE, dtype=torch.uint8, device=GPU)
    torch.cuda.synchronize(GPU)
    taken = torch.cuda.memory_reserved(GPU) - reserved
    assert taken >= held.numel()
    assert gpu.read("memory")["used"] - before["used"] == pytest.approx(taken, abs=64 * MEBIBYTE)
    assert before["total"] == pytest.approx(torch.cuda.get_device_properties(GPU).total_memory, rel=0.05)


def test_nvml_names_the_device_that_torch_names() -> None:
    gpu = open_torch_device(GPU)
    if gpu.absent is not None:
        pytest.skip(gpu.absent)
    assert gpu.read("name") == torch.cuda.get_device_name(GPU)
    assert "name" not in gpu.missing
