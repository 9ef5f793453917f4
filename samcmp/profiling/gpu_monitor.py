"""The state of a GPU while it is measured: clocks, throttling, temperature, and who else is there."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from samcmp.profiling.nvml import HARMFUL, REASONS, Gpu

EVERY_SECONDS = 0.07
SLOW_CLOCK = 0.75  # of the session's first-decile clock (nvbench)


@dataclass(slots=True)
class GpuMonitor:
    """Samples a GPU in a thread while a block runs, and at its ends.

    A block must not count when the hardware slowed itself down, the SM clock was below three quarters of what is usual
    in this session, or another process appeared. A power cap is normal at full load and only recorded.
    """

    gpu: Gpu
    every_seconds: float = EVERY_SECONDS
    clocks: list[int] = field(default_factory=list)
    temperatures: list[int] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    known_others: set[int] = field(default_factory=set)
    newcomers: set[int] = field(default_factory=set)
    block_clocks: list[int] = field(default_factory=list)
    block_bits: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.known_others = set(self.gpu.others()[0])

    def _sample(self) -> None:
        clock, bits = self.gpu.read("sm_clock_mhz"), self.gpu.read("throttle")
        with self._lock:
            if clock is not None:
                self.block_clocks.append(clock)
                self.clocks.append(clock)
            if bits is not None:
                self.block_bits |= bits
                self.bits.append(bits)

    def _poll(self) -> None:
        while not self._stop.wait(self.every_seconds):
            self._sample()

    def begin(self) -> None:
        """Start sampling for one block."""
        self.block_clocks, self.block_bits = [], 0
        self._stop.clear()
        self._thread = threading.Thread(target=self._poll, name="nvml-clocks", daemon=True)
        self._thread.start()

    def end(self) -> str | None:
        """Stop sampling; return why the block must not count, or None."""
        self._sample()
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        temperature = self.gpu.read("temperature_celsius")
        if temperature is not None:
            self.temperatures.append(temperature)
        return self._harm()

    def _harm(self) -> str | None:
        harm = [text for bit, text in HARMFUL.items() if self.block_bits & bit]
        if harm:
            return ", ".join(harm)
        if len(self.clocks) >= 20 and self.block_clocks:
            usual = float(np.quantile(self.clocks, 0.1))
            lowest = min(self.block_clocks)
            if lowest < SLOW_CLOCK * usual:
                return f"SM clock {lowest} MHz, usually {usual:.0f} MHz or more"
        others, _ = self.gpu.others()
        arrived = set(others) - self.known_others
        if arrived:
            self.newcomers |= arrived
            self.known_others |= arrived
            return "another process came to the GPU"
        return None

    @property
    def mhz(self) -> float | None:
        return float(np.median(self.block_clocks)) if self.block_clocks else None

    def summary(self) -> dict[str, Any]:
        """Return what the samples say about the session."""
        bits = np.array(self.bits, dtype=np.int64)
        shares = {text: float(np.mean((bits & bit) != 0)) for bit, text in REASONS.items() if len(bits)}
        clocks = np.array(self.clocks, dtype=np.float64)
        return {
            "sm_clock_mhz": None if not len(clocks) else [float(q) for q in np.quantile(clocks, [0.05, 0.5, 0.95])],
            "clock_samples": len(clocks),
            "throttle_shares": {text: share for text, share in shares.items() if share > 0} if len(bits) else None,
            "temperature_celsius": [self.temperatures[0], self.temperatures[-1]] if self.temperatures else None,
            "processes_that_came": len(self.newcomers),
        }


class NoMonitor:
    """A device that has no sensors we could read."""

    mhz: float | None = None

    def begin(self) -> None:
        return None

    def end(self) -> str | None:
        return None

    def summary(self) -> dict[str, Any]:
        return {}


def monitor_for(gpu: Gpu) -> GpuMonitor | NoMonitor:
    """Return what samples ``gpu``; without NVML nothing is."""
    return NoMonitor() if gpu.absent is not None else GpuMonitor(gpu)
