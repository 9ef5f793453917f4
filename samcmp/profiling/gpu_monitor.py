"""The state of a GPU while it is measured: clocks, throttling, temperature, and who else is there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from samcmp.profiling.nvml import HARMFUL, REASONS, Gpu

EVERY_SECONDS = 0.07
SLOW_CLOCK = 0.75  # of the session's first-decile clock (nvbench)


class Polling:
    """Calls ``look`` every few milliseconds in a thread while a with-block runs, and at its end."""

    def __init__(self, look: Callable[[], None], *, every_seconds: float) -> None:
        self.look = look
        self.every_seconds = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="nvml", daemon=True)

    def _poll(self) -> None:
        while not self._stop.wait(self.every_seconds):
            self.look()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self.look()


@dataclass
class GpuMonitor:
    """Samples a GPU while a block runs. Without NVML it sees nothing.

    A block must not count when the hardware slowed itself down, the SM clock was below three quarters of what is usual
    in this session, or another process appeared. A power cap is normal at full load and only recorded.
    """

    gpu: Gpu = field(default_factory=lambda: Gpu(absent="nothing is watched"))
    clocks: list[int] = field(default_factory=list)  # MHz, of the whole session as are the next three
    bits: list[int] = field(default_factory=list)
    temperatures: list[int] = field(default_factory=list)
    newcomers: set[int] = field(default_factory=set)
    mhz: float | None = None  # median of the last block
    _polling: Polling | None = None
    _first: tuple[int, int] = (0, 0)  # of this block in ``clocks`` and ``bits``

    def __post_init__(self) -> None:
        self._known = set(self.gpu.others()[0])

    def _sample(self) -> None:
        clock, bits = self.gpu.read("sm_clock_mhz"), self.gpu.read("throttle")
        if clock is not None:
            self.clocks.append(clock)
        if bits is not None:
            self.bits.append(bits)

    def begin(self) -> None:
        """Start sampling for one block."""
        if self.gpu.absent is None:
            self._first = len(self.clocks), len(self.bits)
            self._polling = Polling(self._sample, every_seconds=EVERY_SECONDS)
            self._polling.__enter__()

    def end(self) -> str | None:
        """Stop sampling; return why the block must not count, or None."""
        if self._polling is None:
            return None
        self._polling.__exit__()
        self._polling = None
        temperature = self.gpu.read("temperature_celsius")
        if temperature is not None:
            self.temperatures.append(temperature)
        clocks = self.clocks[self._first[0] :]
        self.mhz = float(np.median(clocks)) if clocks else None
        return self._harm(clocks, self.bits[self._first[1] :])

    def _harm(self, clocks: list[int], bits: list[int]) -> str | None:
        harm = [text for bit, text in HARMFUL.items() if any(seen & bit for seen in bits)]
        if harm:
            return ", ".join(harm)
        if len(self.clocks) >= 20 and clocks:
            usual = float(np.quantile(self.clocks, 0.1))
            if min(clocks) < SLOW_CLOCK * usual:
                return f"SM clock {min(clocks)} MHz, usually {usual:.0f} MHz or more"
        arrived = set(self.gpu.others()[0]) - self._known
        self.newcomers |= arrived
        self._known |= arrived
        return "another process came to the GPU" if arrived else None

    def summary(self) -> dict[str, Any]:
        """Return what the samples say about the session."""
        if self.gpu.absent is not None and not self.clocks:
            return {}
        bits = np.array(self.bits, dtype=np.int64)
        shares = {text: float(np.mean((bits & bit) != 0)) for bit, text in REASONS.items() if len(bits)}
        return {
            "sm_clock_mhz": [float(q) for q in np.quantile(self.clocks, [0.05, 0.5, 0.95])] if self.clocks else None,
            "clock_samples": len(self.clocks),
            "throttle_shares": {text: share for text, share in shares.items() if share > 0} if len(bits) else None,
            "temperature_celsius": [self.temperatures[0], self.temperatures[-1]] if self.temperatures else None,
            "processes_that_came": len(self.newcomers),
        }
