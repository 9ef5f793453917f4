"""The largest batch of each optimizer that fits into memory, by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from samcmp.profiling import memory
from samcmp.records import Case

if TYPE_CHECKING:
    from samcmp.training.setup import Options, Setup

FINE = 8  # the answer is exact to one part in this many


@dataclass(frozen=True, slots=True)
class Tried:
    """One batch size: whether it fits, and its peak."""

    batch_size: int
    fits: bool
    peak_bytes: int | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest batch of one optimizer, and what limits it."""

    optimizer: str
    batch_size: int | None
    limited_by: str
    tried: tuple[Tried, ...]

    @property
    def sentence(self) -> str:
        peaks = ", ".join(
            f"{t.batch_size}: {t.peak_bytes / 2**20:.0f} MiB" for t in self.tried if t.fits and t.peak_bytes is not None
        )
        largest = "no batch fits" if self.batch_size is None else f"largest batch {self.batch_size}"
        return f"{self.optimizer}: {largest} ({self.limited_by}; peaks {peaks or 'not known'})"


def search(attempt: Callable[[int], Tried], *, start: int, most: int) -> tuple[int | None, str, tuple[Tried, ...]]:
    """Double from ``start`` until it fails or ``most`` is reached, then halve the gap to one part in eight."""
    tried: list[Tried] = []

    def fits(size: int) -> bool:
        tried.append(attempt(size))
        return tried[-1].fits

    good, bad, size = 0, 0, min(start, most)
    while not bad:
        if fits(size):
            good = size
            if size == most:
                return good, "the whole training set", tuple(tried)
            size = min(2 * size, most)
        else:
            bad = size
    while bad - good > max(1, good // FINE) and bad > 1:
        size = (good + bad) // 2
        if fits(size):
            good = size
        else:
            bad = size
    reason = next(t.reason for t in reversed(tried) if not t.fits)
    return good or None, reason, tuple(tried)


def batches(
    session: Mapping[str, Case], options: Options, *, say: Callable[[str], None] = lambda text: None
) -> Iterator[Largest]:
    """Yield the largest batch of every case of one dataset and model."""
    from samcmp.training.setup import assemble

    setup = assemble(next(iter(session.values())), options)
    first = next(iter(session.values()))
    _peak(setup, first, first.protocol.batch_size)  # libraries that load at the first step must not weigh
    for case in session.values():
        say(f"{case.arm}: looking for the largest batch")
        size, reason, tried = search(
            _attempt(setup, case), start=case.protocol.batch_size, most=len(setup.train_positions)
        )
        yield Largest(case.arm, size, reason, tried)


def sentence(session: Mapping[str, Case], options: Options) -> str:
    """Say what :func:`batches` found for the only case of a session."""
    return next(batches(session, options)).sentence


def _attempt(setup: Setup, case: Case) -> Callable[[int], Tried]:
    peaks: list[tuple[int, int]] = []

    def attempt(size: int) -> Tried:
        expected = _extrapolated(peaks, size)
        free = memory.free_bytes() if setup.device.type == "cpu" else None
        if expected is not None and free is not None and expected > memory.FILLABLE * free:
            reason = f"{size} would need about {expected / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
            return Tried(size, False, None, reason)
        try:
            peak = _peak(setup, case, size)
        except Exception as error:
            from samcmp.errors import cause_of

            status, reason = cause_of(error)
            if status != "out-of-memory":
                raise
            return Tried(size, False, None, f"out of memory at {size}")
        if peak is not None:
            peaks.append((size, peak))
        return Tried(size, True, peak)

    return attempt


def _peak(setup: Setup, case: Case, size: int) -> int | None:
    """Take two steps on the heaviest samples, so that every batch of this size would fit."""
    from samcmp.profiling.arms import MemorySubject

    larger = replace(setup, case=replace(case, protocol=replace(case.protocol, batch_size=size)))
    batch = setup.dataset.batch(setup.dataset.heaviest(setup.train_positions, size))

    def subject() -> MemorySubject:
        return MemorySubject(larger, larger.case, [batch], steps=2)

    return memory.measure(subject, setup.device, repeats=1).peak_bytes


def _extrapolated(peaks: list[tuple[int, int]], size: int) -> float | None:
    """Peak memory grows in proportion to the batch; parameters and state make the small sizes look worse."""
    if not peaks:
        return None
    known, peak = peaks[-1]
    return peak * size / known
