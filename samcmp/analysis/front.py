"""Marks in a cell: the Pareto front and the best of each column."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from samcmp.analysis.comparison import Row, Settings
from samcmp.analysis.paired import front_probability, pareto_front

LEADS = ("accuracy", "speed", "memory")


def with_front(rows: Sequence[Row], *, higher: bool, factor: float | None, settings: Settings) -> list[Row]:
    """Mark the Pareto front of mean score and speed, with the probability of being on it."""
    both = [row for row in rows if row.score and row.graphs_per_second]
    if not both:
        return list(rows)
    sign = 1.0 if higher else -1.0
    speeds = [row.graphs_per_second or 0.0 for row in both]
    front = pareto_front([sign * row.score.mean for row in both if row.score], speeds)
    common = sorted(set.intersection(*(set(row.blocks) for row in both)))
    share = None
    if len(common) > 1 and factor is not None:
        scores = sign * np.array([[row.blocks[block] for row in both] for block in common])
        spread = [_log_speed_se(row) for row in both]
        share = front_probability(
            scores, np.log(speeds), spread, test_over_train=factor, draws=settings.draws, seed=settings.seed
        )
    marks = {
        row.arm: (bool(on), None if share is None else float(share[i]))
        for i, (row, on) in enumerate(zip(both, front, strict=True))
    }
    return [
        dataclasses.replace(row, front=marks[row.arm][0], front_probability=marks[row.arm][1])
        if row.arm in marks
        else row
        for row in rows
    ]


def _log_speed_se(row: Row) -> float:
    """Standard error of log speed against the other arms of the session, from its widest ratio interval."""
    widths = [
        (math.log(r.high) - math.log(r.low)) / (2 * 1.96)
        for r in row.speed_to.values()
        if r.low is not None and r.high is not None and r.low > 0
    ]
    return max(widths, default=0.0)


def with_best(rows: Sequence[Row], *, higher: bool) -> list[Row]:
    """Note for each row the columns in which no other row is better; a column with one value has no best."""
    sign = 1.0 if higher else -1.0
    columns: dict[str, dict[str, float]] = {
        "accuracy": {row.arm: sign * row.score.mean for row in rows if row.score},
        "speed": {row.arm: row.graphs_per_second for row in rows if row.graphs_per_second is not None},
        "memory": {row.arm: -float(row.peak_bytes) for row in rows if row.peak_bytes is not None},
    }
    leaders = {
        column: {arm for arm, value in values.items() if value == max(values.values())}
        for column, values in columns.items()
        if len(set(values.values())) > 1
    }
    return [dataclasses.replace(row, best=tuple(c for c in LEADS if row.arm in leaders.get(c, set()))) for row in rows]
