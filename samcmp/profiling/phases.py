"""Named phases within a stretch of work; nested ones count once, for the innermost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Phases(Protocol):
    """Says how long each phase took, and how long the whole stretch took by a reading of its own."""

    def start(self) -> None: ...

    def inside(self, name: str) -> contextlib.AbstractContextManager[None]: ...

    def stop(self) -> tuple[dict[str, float], float]: ...


class _Stack:
    """Edges between phases: at each, the phase that was on top gets the time since the last."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.edges: list[tuple[Any, str | None]] = []  # (when, phase that ended or was interrupted here)

    def edge(self, when: Any) -> None:
        self.edges.append((when, self.names[-1] if self.names else None))


class HostPhases:
    """Phases by the host's clock."""

    def __init__(self, counter: Callable[[], int] = time.perf_counter_ns) -> None:
        self._counter = counter
        self._stack = _Stack()
        self._start = 0

    def start(self) -> None:
        self._stack = _Stack()
        self._start = self._counter()

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Count the time inside for ``name``, except what an inner phase takes."""
        stack = self._stack
        stack.edge(self._counter())
        stack.names.append(name)
        try:
            yield
        finally:
            stack.edge(self._counter())
            stack.names.pop()

    def stop(self) -> tuple[dict[str, float], float]:
        """Return seconds by phase, and of the whole stretch."""
        wall = self._counter() - self._start
        seconds: dict[str, float] = {}
        for (before, _), (after, name) in zip(self._stack.edges, self._stack.edges[1:], strict=False):
            if name is not None:
                seconds[name] = seconds.get(name, 0.0) + (after - before) / 1e9
        return seconds, wall / 1e9


class CudaPhases:
    """Phases by CUDA events on the current stream; the wall time is the host's, between two synchronisations."""

    def __init__(self, device: Any, *, cuda: Any = None, counter: Callable[[], int] = time.perf_counter_ns) -> None:
        if cuda is None:
            import torch

            cuda = torch.cuda
        self._cuda = cuda
        self._device = device
        self._counter = counter
        self._stack = _Stack()
        self._start = 0

    def _event(self) -> Any:
        event = self._cuda.Event(enable_timing=True)
        event.record(self._cuda.current_stream(self._device))
        return event

    def start(self) -> None:
        self._cuda.synchronize(self._device)
        self._stack = _Stack()
        self._start = self._counter()

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Count the device's time inside for ``name``, except what an inner phase takes."""
        stack = self._stack
        stack.edge(self._event())
        stack.names.append(name)
        try:
            yield
        finally:
            stack.edge(self._event())
            stack.names.pop()

    def stop(self) -> tuple[dict[str, float], float]:
        """Wait for the device; return seconds by phase, and of the whole stretch."""
        self._cuda.synchronize(self._device)
        wall = self._counter() - self._start
        seconds: dict[str, float] = {}
        for (before, _), (after, name) in zip(self._stack.edges, self._stack.edges[1:], strict=False):
            if name is not None:
                seconds[name] = seconds.get(name, 0.0) + before.elapsed_time(after) / 1e3
        return seconds, wall / 1e9


def phases_for(device: Any) -> Phases:
    """Return what takes phases apart on a ``torch.device``."""
    return CudaPhases(device) if device.type == "cuda" else HostPhases()
