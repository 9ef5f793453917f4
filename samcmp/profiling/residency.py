"""Whether the optimizers of a session fit in memory side by side.

On a GPU the allocator tells, by refusing. A CPU's would not: the system ends a process that took too much, so there
the next optimizer is compared with what is free.
"""

from __future__ import annotations

from samcmp import machine
from samcmp.profiling.memory import resident_bytes

SAFE = 0.8  # of the memory that is free: beyond it the system would end the process, not the allocation


def room() -> int | None:
    """Return the bytes that this process may still take: of the machine's and of its control group's."""
    import psutil

    limit = machine.memory_limit()
    free = int(psutil.virtual_memory().available)
    if limit is None:
        return free
    used = int(psutil.Process().memory_info().rss)
    return min(free, max(0, limit - used))


class HostMemory:
    """What the optimizers of a session took on a CPU, one after the other, and whether another one would fit."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._before = resident_bytes()

    def note(self) -> None:
        """One more optimizer is in memory."""
        now = resident_bytes()
        if now is not None and self._before is not None:
            self.sizes.append(max(0, now - self._before))
        self._before = now

    def full(self) -> str | None:
        """Say why one as large as the largest so far would not fit, or None."""
        free = room()
        largest = max(self.sizes, default=0)
        if free is None or largest <= SAFE * free:
            return None
        return (
            f"{len(self.sizes)} in memory, the next may take {largest / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are free"
        )
