"""What profile sessions measured as one HTML page in the style of a comparison's: speeds, and their ratios drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from samcmp.analysis.comparison import Interval
from samcmp.analysis.grouping import machine_of
from samcmp.analysis.numbers import times
from samcmp.records import Record, speed_word
from samcmp.report import profile
from samcmp.report.grid import Grid
from samcmp.report.html import Bar, bar, distinct, fill

SAME = math.log(1.02)  # the margin of speed_word
WIDEST = math.log(64.0)  # of the scale: an interval that is wider ends at its edge


@dataclass(frozen=True, slots=True)
class Line:
    """A speed over another's, with its interval drawn by its logarithm."""

    optimizer: str
    against: str
    word: str
    ratio: str
    bar: Bar


@dataclass(frozen=True, slots=True)
class Session:
    """What was measured side by side: tables, and the ratios."""

    title: str
    grids: tuple[Grid, ...]
    lines: tuple[Line, ...]


def render(sessions: Sequence[Sequence[Record]]) -> str:
    """Return the page."""
    records = [record for session in sessions for record in session]
    shown = [_session(session) for session in sessions]
    counted = f"{len(shown)} sessions, {len(records)} records" if len(shown) > 1 else f"{len(records)} records"
    return fill(
        "profile.html",
        sessions=shown,
        counted=counted,
        notes=list(dict.fromkeys(text for session in shown for text in session.grids[0].remarks)),
        splits=(),
        machines=distinct([machine_of(record.machine) for record in records]),
        versions=distinct([record.versions for record in records]),
    )


def _session(records: Sequence[Record]) -> Session:
    names = profile.names_of(records)
    ratios = [
        (names[record.case.arm], peer, Interval(*ratio))
        for peer in profile.references(records)
        for record in records
        if record.throughput and (ratio := record.throughput.ratio_to.get(peer)) and record.case.arm != peer
    ]
    ends = [abs(math.log(end)) for _, _, r in ratios for end in (r.value, r.low, r.high) if end and math.isfinite(end)]
    scale = min(max(ends, default=0.0) or 1.0, WIDEST)
    return Session(
        profile.title(records),
        tuple(profile.grids(records)),
        tuple(_line(name, peer, ratio, scale) for name, peer, ratio in ratios),
    )


def _line(name: str, peer: str, ratio: Interval, scale: float) -> Line:
    bounded = bool(ratio.low and ratio.high and math.isfinite(ratio.high))
    shown = ratio if bounded else Interval(ratio.value)

    def place(number: float) -> float:
        return max(-scale, min(scale, math.log(number)))

    limits = (place(shown.low), place(shown.high)) if shown.low and shown.high else (None, None)
    drawn = bar(place(shown.value), limits, SAME, scale)
    word = speed_word(ratio.low, ratio.high) if bounded else "one round"
    return Line(name, peer, word, times(shown), drawn)
