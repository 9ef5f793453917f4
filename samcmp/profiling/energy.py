"""Energy of training, from the GPU's own counter around synchronised windows.

The counter is in millijoules since the driver was loaded and moves about every 100 ms, so windows are 5 s or longer and
hold whole blocks. Polled power is never integrated where the counter exists: on recent datacentre GPUs the power sensor
looks only a quarter of the time (arXiv 2312.02741).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from samcmp.profiling.nvml import Gpu
from samcmp.records import Energy

WINDOW_SECONDS = 5.0
IDLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of time between two readings of the counter."""

    joules: float
    seconds: float
    graphs: int

    @property
    def watts(self) -> float:
        return self.joules / self.seconds


@dataclass(frozen=True, slots=True)
class Counter:
    """The energy counter of a GPU. ``synchronize`` waits for the device; ``now`` is the session's time in seconds."""

    gpu: Gpu
    synchronize: Callable[[], None]
    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep

    def unusable(self) -> str | None:
        """Say why there is no energy to be had, or None."""
        return self.gpu.reason("energy_millijoules") if self.gpu.read("energy_millijoules") is None else None

    def _reading(self) -> tuple[float, int | None]:
        self.synchronize()
        return self.now(), self.gpu.read("energy_millijoules")

    def window(self, work: Callable[[], int], *, seconds: float | None = None) -> Window | None:
        """Repeat ``work`` (returns its graphs) for ``seconds``. None where the counter wrapped, reset or vanished."""
        seconds = WINDOW_SECONDS if seconds is None else seconds
        graphs = 0
        start, before = self._reading()
        while True:
            graphs += work()
            self.synchronize()
            if self.now() - start >= seconds:
                break
        end, after = self._reading()
        if before is None or after is None or after < before:
            return None
        return Window((after - before) / 1e3, end - start, graphs)

    def idle_watts(self) -> float | None:
        """Return the device's power while this process asks nothing of it."""

        def rest() -> int:
            self.sleep(IDLE_SECONDS)
            return 0

        window = self.window(rest, seconds=0.0)
        return None if window is None else window.watts


def energy(window: Window | None, *, idle_watts: float | None) -> Energy:
    """Turn a window into joules a graph; with idle power known, also above idle."""
    if window is None:
        return Energy(None, missing="the energy counter went backwards (wrapped or reset) in each window")
    if window.joules <= 0:
        return Energy(None, idle_watts=idle_watts, missing="the energy counter did not move within the window")
    net = None if idle_watts is None else (window.joules - idle_watts * window.seconds) / window.graphs
    return Energy(
        window.joules / window.graphs,
        idle_watts=idle_watts,
        how=f"energy counter (NVML), windows of {window.seconds:.1f} s, whole device",
        net_joules_per_graph=net,
        watts=window.watts,
    )


def plausible(watts: float, *, idle_watts: float | None, limit_watts: float | None) -> str | None:
    """Say what is wrong with a mean power that lies below idle or above the limit of the device."""
    if limit_watts is not None and watts > 1.02 * limit_watts:
        return f"mean power {watts:.0f} W is above the device's limit of {limit_watts:.0f} W"
    if idle_watts is not None and watts < 0.98 * idle_watts:
        return f"mean power {watts:.0f} W is below its idle power of {idle_watts:.0f} W"
    return None
