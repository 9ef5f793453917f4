"""A plan's runs in chunks of about equal time, one chunk a task of a job array."""

from __future__ import annotations

import heapq
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from samcmp.experiment import cost
from samcmp.records import Case

UNKNOWN_SECONDS = 60.0  # for a run where nothing is known of any
CHUNK_SECONDS = 1800.0  # a task is worth its start, and short enough for gaps in a queue
SPARE_SECONDS = 300.0  # of a task's time limit: to start, and to read data


def expected(cases: Mapping[str, Case], history: cost.History) -> dict[str, float]:
    """Return the seconds that each case should take: by earlier runs, else the median of the others.

    Where nothing is known of any, :data:`UNKNOWN_SECONDS`.
    """
    rates = cost.rates(history)
    known = {key: cost.seconds_of(case, rates) for key, case in cases.items()}
    told = [seconds for seconds in known.values() if seconds is not None]
    otherwise = statistics.median(told) if told else UNKNOWN_SECONDS
    return {key: otherwise if seconds is None else seconds for key, seconds in known.items()}


def divide(seconds: Mapping[str, float], *, tasks: int, groups: Mapping[str, object] | None = None) -> list[list[str]]:
    """Divide runs into chunks, the longest first, each into the emptiest (LPT; Graham, SIAM J. Appl. Math. 1969).

    Within a chunk they keep their order, so that whatever has run compares all optimizers after equally many trials.

    Args:
        seconds: that each run should take, by key.
        tasks: the most chunks; there are fewer where half an hour is enough for several runs.
        groups: of each key, where runs of one group must stay together.
    """
    together: dict[object, list[str]] = defaultdict(list)
    for key in seconds:
        together[key if groups is None else groups[key]].append(key)
    units = sorted(together.values(), key=lambda unit: -sum(seconds[key] for key in unit))
    count = min(tasks, len(units), max(1, math.ceil(sum(seconds.values()) / CHUNK_SECONDS)))
    chunks: list[list[str]] = [[] for _ in range(count)]
    emptiest = [(0.0, n) for n in range(count)]
    for unit in units:
        filled, n = heapq.heappop(emptiest)
        chunks[n] += unit
        heapq.heappush(emptiest, (filled + sum(seconds[key] for key in unit), n))
    place = {key: n for n, key in enumerate(seconds)}
    return [sorted(chunk, key=place.__getitem__) for chunk in chunks]


def largest(chunks: Sequence[Sequence[str]], seconds: Mapping[str, float]) -> float:
    """Return the seconds of the longest chunk."""
    return max((sum(seconds[key] for key in chunk) for chunk in chunks), default=0.0)


def limit_minutes(longest: float) -> int:
    """Return the minutes that a task may take whose chunk should take ``longest`` seconds: half as much again."""
    return math.ceil((1.5 * longest + SPARE_SECONDS) / 60)
