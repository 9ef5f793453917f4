"""Energy from the counter: windows, wraps, idle power, and reasons where there is none."""

from __future__ import annotations

import pytest

from samcmp.profiling.energy import Counter, Window, energy, plausible
from samcmp.profiling.nvml import open_gpu
from tests.profiling.fake_nvml import MACHINES, MIG_UUID, UUID, FakeGpu, FakeNvml


class Bench:
    """A GPU that draws 400 W at work and 100 W idle, its counter moving every 100 ms."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.joules = 0.0
        self.gpu = FakeGpu(energy_step=0)
        self.synchronised: list[float] = []

    def pass_time(self, seconds: float, watts: float) -> None:
        self.seconds += seconds
        self.joules += seconds * watts
        self.gpu.energy = 1_000_000 + int(self.joules * 10) * 100  # 100 ms of 1 W steps

    def counter(self) -> Counter:
        return Counter(
            open_gpu(UUID, library=FakeNvml(self.gpu)),
            synchronize=lambda: self.synchronised.append(self.seconds),
            now=lambda: self.seconds,
            sleep=lambda seconds: self.pass_time(seconds, 100.0),
        )

    def work(self) -> int:
        self.pass_time(0.25, 400.0)
        return 64


def test_a_window_lasts_at_least_its_seconds_and_divides_by_its_graphs() -> None:
    bench = Bench()
    window = bench.counter().window(bench.work)
    assert window is not None
    assert window.seconds >= 5.0
    assert window.graphs == 64 * round(window.seconds / 0.25)
    found = energy(window, idle_watts=100.0)
    assert found.joules_per_graph == pytest.approx(400 * 0.25 / 64, rel=0.01)
    assert found.net_joules_per_graph == pytest.approx(300 * 0.25 / 64, rel=0.01)
    assert found.watts == pytest.approx(400, rel=0.01)


def test_the_device_is_waited_for_before_each_reading() -> None:
    bench = Bench()
    bench.counter().window(bench.work, seconds=1.0)
    assert bench.synchronised[0] == 0.0
    assert bench.synchronised[-1] == bench.seconds


def test_idle_power_is_what_the_device_draws_when_nothing_is_asked() -> None:
    assert Bench().counter().idle_watts() == pytest.approx(100.0, rel=0.01)


def test_a_counter_that_wraps_gives_no_energy_and_never_a_negative_one() -> None:
    library = MACHINES["counter wrap"]()
    clock = iter(range(1000))
    counter = Counter(open_gpu(UUID, library=library), synchronize=lambda: None, now=lambda: float(next(clock)))
    windows = [counter.window(lambda: 1, seconds=2.0) for _ in range(12)]
    assert any(w is None for w in windows)
    assert all(w is None or w.joules >= 0 for w in windows)
    assert energy(None, idle_watts=None).missing


def test_a_counter_that_does_not_move_is_not_zero_energy() -> None:
    found = energy(Window(0.0, 0.2, 100), idle_watts=None)
    assert found.joules_per_graph is None
    assert "did not move" in found.missing


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("no driver", "driver"),
        ("no permission", "permission"),
        ("old driver", "support"),
        ("MIG", "MIG"),
        ("driver mismatch", "version"),
    ],
)
def test_without_a_counter_the_reason_is_the_machines(name: str, word: str) -> None:
    gpu = open_gpu(MIG_UUID if name == "MIG" else UUID, library=MACHINES[name]())
    assert word in str(Counter(gpu, synchronize=lambda: None).unusable())


def test_a_gpu_lost_within_a_window_leaves_no_number() -> None:
    library = MACHINES["lost GPU"]()
    gpu = open_gpu(UUID, library=library)
    library.gpus[0].lost_after = sum(library.gpus[0].readings.values()) + 1
    clock = iter(range(100))
    counter = Counter(gpu, synchronize=lambda: None, now=lambda: float(next(clock)))
    assert counter.window(lambda: 1) is None


def test_power_outside_idle_and_limit_is_pointed_out() -> None:
    assert plausible(400, idle_watts=100, limit_watts=700) is None
    assert "limit" in str(plausible(800, idle_watts=100, limit_watts=700))
    assert "idle" in str(plausible(50, idle_watts=100, limit_watts=700))
    assert plausible(400, idle_watts=None, limit_watts=None) is None
