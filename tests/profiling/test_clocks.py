"""Blocks on a CPU's clock, and on CUDA events held against the host's."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

import pytest

from samcmp.profiling.clocks import CudaClock, HostClock, collected
from samcmp.profiling.phases import Phases
from tests.profiling.fake_cuda import FakeCuda


def cuda_clock(cuda: FakeCuda) -> CudaClock:
    return CudaClock("cuda:0", cuda=cuda, counter=cuda.now, cpu_counter=cuda.now)


def test_the_host_clock_times_what_happens_between_its_readings() -> None:
    began = time.perf_counter()
    timed = HostClock().block(lambda: [time.sleep(0.02) or 1])
    assert 0.02 <= timed.seconds <= time.perf_counter() - began
    assert timed.passes == (1,)
    assert timed.agrees


def test_an_error_in_a_block_leaves_the_collector_as_it_was() -> None:
    def work() -> Sequence[int]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        HostClock().block(work)
    assert gc.isenabled()
    gc.disable()
    try:
        HostClock().block(lambda: [1])
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_session_gives_back_what_it_froze() -> None:
    with collected():
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_cuda_events_and_host_agree_on_ordinary_work() -> None:
    cuda = FakeCuda()
    clock = cuda_clock(cuda)

    def work() -> Sequence[int]:
        for _ in range(8):
            cuda.launch(0.005)
        return [1] * 8

    timed = clock.block(work)
    assert timed.seconds == pytest.approx(0.04, rel=0.01)
    assert timed.agrees
    assert not timed.host_bound
    assert timed.launch_seconds < 0.1 * timed.seconds


def test_a_block_waits_for_the_device_once_at_either_end() -> None:
    cuda = FakeCuda()

    def work() -> Sequence[int]:
        for _ in range(50):
            cuda.launch(0.001)
        return [1] * 50

    cuda_clock(cuda).block(work)
    assert cuda.synchronisations == 2


def test_work_on_another_stream_is_caught_by_the_disagreement_of_the_clocks() -> None:
    cuda = FakeCuda()

    def work() -> Sequence[int]:
        cuda.launch(0.010)
        cuda.launch_aside(0.015)  # an optimizer that does not wait for its own second stream
        return [1]

    timed = cuda_clock(cuda).block(work)
    assert not timed.agrees
    assert timed.host_bound
    assert timed.seconds < timed.host_seconds


def test_a_device_that_waits_for_its_host_is_host_bound() -> None:
    cuda = FakeCuda(launch_seconds=0.005)

    def work() -> Sequence[int]:
        for _ in range(10):
            cuda.launch(1e-6)
        return [1] * 10

    timed = cuda_clock(cuda).block(work)
    assert timed.host_bound


# ---------------------------------------------------------------------------------------------- phases


def test_phases_add_up_and_the_innermost_counts() -> None:
    now = [0]
    phases = Phases(HostClock(lambda: now[0]))

    def spend(milliseconds: int) -> None:
        now[0] += milliseconds * 1_000_000

    phases.start()
    for _ in range(3):
        with phases.inside("loading"):
            spend(1)
        with phases.inside("optimizer"):
            spend(2)
            with phases.inside("forward"):
                spend(10)
            with phases.inside("backward"):
                spend(20)
            spend(3)
    seconds, wall = phases.stop()
    assert seconds == pytest.approx({"loading": 0.003, "forward": 0.03, "backward": 0.06, "optimizer": 0.015})
    assert sum(seconds.values()) == pytest.approx(wall)


def test_time_outside_every_phase_shows_as_a_difference_to_the_wall() -> None:
    now = [0]
    phases = Phases(HostClock(lambda: now[0]))
    phases.start()
    with phases.inside("forward"):
        now[0] += 900
    now[0] += 100
    seconds, wall = phases.stop()
    assert sum(seconds.values()) / wall == pytest.approx(0.9)


def test_phases_on_a_device_are_its_own_times_and_not_the_launches() -> None:
    cuda = FakeCuda()
    phases = Phases(cuda_clock(cuda))
    phases.start()
    for _ in range(5):
        with phases.inside("optimizer"):
            with phases.inside("forward"):
                cuda.launch(0.010)
            with phases.inside("backward"):
                cuda.launch(0.020)
            cuda.launch(0.002)
    seconds, wall = phases.stop()
    assert seconds["forward"] == pytest.approx(0.05, rel=0.01)
    assert seconds["backward"] == pytest.approx(0.10, rel=0.01)
    assert seconds["optimizer"] == pytest.approx(0.01, rel=0.05)
    assert sum(seconds.values()) == pytest.approx(wall, rel=0.01)
    assert cuda.synchronisations == 2


def test_phases_of_a_device_that_waits_for_its_host_add_up_although_events_take_time() -> None:
    """Small steps: the events between two of them must not fall between the phases."""
    cuda = FakeCuda(launch_seconds=2e-4, event_seconds=1e-5)
    phases = Phases(cuda_clock(cuda))
    phases.start()
    with phases.inside("optimizer"):
        for _ in range(50):
            for name in ("loading", "forward", "backward"):
                with phases.inside(name):
                    cuda.launch(1e-6)
            cuda.launch(1e-6)
    seconds, wall = phases.stop()
    assert set(seconds) == {"loading", "forward", "backward", "optimizer"}
    assert sum(seconds.values()) == pytest.approx(wall, rel=0.002)
