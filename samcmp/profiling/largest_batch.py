"""The largest batch of each optimizer that fits into memory, by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from samcmp.errors import cause_of
from samcmp.profiling import memory
from samcmp.records import Case

if TYPE_CHECKING:
    from samcmp.training.setup import Options, Setup

FINE = 8  # the answer is exact to one part in this many


def search(refused: Callable[[int], str | None], *, start: int, most: int) -> tuple[int | None, str]:
    """Double from ``start`` until a size is refused or ``most`` is reached, then halve the gap to one part in eight.

    ``refused`` says why a size does not fit, or None. Returns the largest that does, and what limits it.
    """
    good, bad, size, reason = 0, 0, min(start, most), ""
    while not bad or bad - good > max(1, good // FINE):
        why = refused(size)
        if why is None:
            good = size
        else:
            bad, reason = size, why
        if good == most:
            return good, "the whole training set"
        if bad == 1:
            break
        size = (good + bad) // 2 if bad else min(2 * size, most)
    return good or None, reason


def sentences(
    session: Mapping[str, Case], options: Options, *, say: Callable[[str], None] = lambda text: None
) -> Iterator[str]:
    """Yield, for every case of one dataset and model, its largest batch and what limits it."""
    from samcmp.training.setup import assemble

    first = next(iter(session.values()))
    setup = assemble(first, options)
    _peak(setup, first, first.protocol.batch_size)  # libraries that load at the first step must not weigh
    for case in session.values():
        say(f"{case.arm}: looking for the largest batch")
        attempt = _Attempt(setup, case)
        size, reason = search(attempt, start=case.protocol.batch_size, most=len(setup.train_positions))
        peaks = ", ".join(f"{size}: {peak / 2**20:.0f} MiB" for size, peak in attempt.peaks.items())
        largest = "no batch fits" if size is None else f"largest batch {size}"
        yield f"{case.arm}: {largest} ({reason}; peaks {peaks or 'not known'})"


def sentence(session: Mapping[str, Case], options: Options) -> str:
    """Return the sentence about the only case of a session."""
    return next(sentences(session, options))


class _Attempt:
    """Tries sizes of one optimizer and keeps the peak of each that fits."""

    def __init__(self, setup: Setup, case: Case) -> None:
        self.setup, self.case = setup, case
        self.peaks: dict[int, int] = {}

    def __call__(self, size: int) -> str | None:
        free = memory.free_bytes() if self.setup.device.type == "cpu" else None
        if self.peaks and free is not None:
            known, peak = list(self.peaks.items())[-1]
            expected = peak * size / known  # parameters and state make the small sizes look worse
            if expected > memory.FILLABLE * free:
                return f"{size} would need about {expected / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
        try:
            peak_now = _peak(self.setup, self.case, size)
        except Exception as error:
            if cause_of(error)[0] != "out-of-memory":
                raise
            return f"out of memory at {size}"
        if peak_now is not None:
            self.peaks[size] = peak_now
        return None


def _peak(setup: Setup, case: Case, size: int) -> int | None:
    """Take two steps on the heaviest samples, so that every batch of this size would fit."""
    from samcmp.profiling.arms import MemorySubject

    larger = replace(setup, case=replace(case, protocol=replace(case.protocol, batch_size=size)))
    batch = setup.dataset.batch(setup.dataset.heaviest(setup.train_positions, size))
    return memory.measure(
        lambda: MemorySubject(larger, larger.case, [batch], steps=2), setup.device, repeats=1
    ).peak_bytes
