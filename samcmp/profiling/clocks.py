"""How long a block of steps took: the host's clock, and CUDA events checked against it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

AGREEMENT = 0.01  # events and host may differ by 1 % of a block

Work = Callable[[], Sequence[int]]  # runs the steps of a block, returns the gradient evaluations of each


@dataclass(frozen=True, slots=True)
class Timed:
    """One block: its time on the device's clock and on the host's."""

    seconds: float
    host_seconds: float
    cpu_seconds: float  # of this process, all threads
    launch_seconds: float  # until the host had issued everything; on a CPU the whole block
    passes: tuple[int, ...]  # gradient evaluations of each step
    mhz: float | None = None  # SM clock meanwhile, where it was sampled

    @property
    def agrees(self) -> bool:
        """Tell whether device and host saw the same time. Where not, work ran outside the timed stream."""
        return abs(self.host_seconds - self.seconds) <= AGREEMENT * self.host_seconds

    @property
    def host_bound(self) -> bool:
        """Tell whether the device had nothing left to do when the host had issued the last step."""
        return not self.agrees or self.launch_seconds > (1 - AGREEMENT) * self.host_seconds


class HostClock:
    """``perf_counter_ns``, for a CPU. The counters can be replaced, so that a test decides what time it is."""

    name = "perf_counter_ns"

    def __init__(
        self,
        counter: Callable[[], int] = time.perf_counter_ns,
        *,
        cpu_counter: Callable[[], int] = time.process_time_ns,
    ) -> None:
        self._counter = counter
        self._cpu_counter = cpu_counter

    def now(self) -> float:
        """Return the session's own time in seconds."""
        return self._counter() / 1e9

    def mark(self) -> Any:
        """Return this moment of the device."""
        return self._counter()

    def between(self, start: Any, end: Any) -> float:
        """Return the seconds between two marks."""
        return float(end - start) / 1e9

    def wait(self) -> None:
        """Wait until the device has done what it was given."""

    def block(self, work: Work) -> Timed:
        """Run ``work`` between two readings, the garbage collector off."""
        counter = self._counter
        with collector_off():
            cpu = self._cpu_counter()
            start = counter()
            passes = work()
            end = counter()
            cpu = self._cpu_counter() - cpu
        seconds = (end - start) / 1e9
        return Timed(seconds, seconds, cpu / 1e9, seconds, tuple(passes))


def working_after(
    *,
    settle_seconds: float = 0.02,
    seconds: float = 0.02,
    sleep: Callable[[float], None] = time.sleep,
    counter: Callable[[], int] = time.perf_counter_ns,
    cpu_counter: Callable[[], int] = time.process_time_ns,
) -> float:
    """Return how many cores this process uses while it should be idle: work that a step left behind in a thread.

    The settling time lets the threads of a parallel region go to sleep, which spin for about a millisecond.
    """
    sleep(settle_seconds)
    start, cpu = counter(), cpu_counter()
    sleep(seconds)
    return (cpu_counter() - cpu) / max(1, counter() - start)


class CudaClock(HostClock):
    """CUDA events at the ends of a block, one synchronisation, and the host's clock around both.

    Events see the current stream; the host waits for the whole device. Work that an optimizer puts on another stream
    therefore shows as a disagreement. ``cuda`` is ``torch.cuda`` or what stands in for it in a test.
    """

    name = "cuda events"

    def __init__(
        self,
        device: Any,
        *,
        cuda: Any = None,
        counter: Callable[[], int] = time.perf_counter_ns,
        cpu_counter: Callable[[], int] = time.process_time_ns,
    ) -> None:
        super().__init__(counter, cpu_counter=cpu_counter)
        self._cuda = torch.cuda if cuda is None else cuda
        self._device = device

    def mark(self) -> Any:
        event = self._cuda.Event(enable_timing=True)
        event.record(self._cuda.current_stream(self._device))
        return event

    def between(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end)) / 1e3

    def wait(self) -> None:
        self._cuda.synchronize(self._device)

    def block(self, work: Work) -> Timed:
        """Run ``work`` between two events on the current stream, the garbage collector off."""
        counter = self._counter
        with collector_off():
            self.wait()
            cpu = self._cpu_counter()
            host = counter()
            start = self.mark()
            passes = work()
            end = self.mark()
            issued = counter()
            self.wait()
            done = counter()
            cpu = self._cpu_counter() - cpu
        return Timed(self.between(start, end), (done - host) / 1e9, cpu / 1e9, (issued - host) / 1e9, tuple(passes))


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector out of a block; it is as it was afterwards."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def collected() -> Iterator[None]:
    """Collect, then set what lives now aside, so that collecting before each block of a session stays cheap."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def clock_for(device: torch.device) -> HostClock:
    return CudaClock(device) if device.type == "cuda" else HostClock()
