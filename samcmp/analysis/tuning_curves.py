"""What the figures of tuning and of equal cost show: points of curves, a line an arm, from the Records of a comparison.

Cost is in trainings of the base. Of trials that were not chosen only validation scores are shown, and test scores
only in :func:`samcmp.analysis.tuning.best_of_n`'s mean over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from samcmp.analysis.comparison import Cell, Comparison, TunedRow, labels
from samcmp.analysis.grouping import Group, groups
from samcmp.analysis.paired import within_half_widths
from samcmp.analysis.tuned import chosen_groups, mean_passes, test_score, validation
from samcmp.analysis.tuning import best_of_n
from samcmp.records import Json, Record


@dataclass(frozen=True, slots=True)
class Line:
    """One arm of one panel."""

    cell: str
    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    half_width: float | None = None  # of the last point, without what splits do to all arms alike


@dataclass(frozen=True, slots=True)
class Dot:
    """One trial on one split: its validation score over that of the settings as given, positive where better."""

    cell: str
    label: str
    setting: str
    value: Json
    gain: float
    chosen: bool


def _tuned(records: Iterable[Record], comparison: Comparison) -> Iterator[tuple[Cell, Group]]:
    cells = {cell.key: cell for cell in comparison.cells if cell.tuning is not None}
    for group in groups(records):
        if group.key in cells:
            yield cells[group.key], group


def best_of_trials(records: Iterable[Record], comparison: Comparison) -> list[tuple[Line, Line]]:
    """Expected test score against the number of trials, and against what they cost."""
    lines = []
    for cell, group in _tuned(records, comparison):
        sign = 1 if cell.higher_is_better else -1
        names = labels(cell)
        for row in cell.tuning.rows if cell.tuning else ():
            blocks = [group.trials[row.arm][block][:count] for block, count in row.trials.items()]
            shortest = min(map(len, blocks))  # at equal cost splits may allow one trial more or less
            curves = [
                best_of_n(np.array([validation(r) for r in of]), np.array([test_score(r) for r in of]), sign=sign)
                for of in blocks
            ]
            mean = np.mean([curve[:shortest] for curve in curves], axis=0)
            trials = np.arange(1, shortest + 1)
            price = (row.cost or math.nan) / float(np.mean(list(row.trials.values())))
            lines.append(
                (
                    Line(cell.name, names[row.arm], tuple(trials.tolist()), tuple(mean.tolist())),
                    Line(cell.name, names[row.arm], tuple((trials * price).tolist()), tuple(mean.tolist())),
                )
            )
    return lines


def sensitivity(records: Iterable[Record], comparison: Comparison) -> list[Dot]:
    """Every trial's validation score against each setting it drew."""
    dots: list[Dot] = []
    for cell, group in _tuned(records, comparison):
        for row in cell.tuning.rows if cell.tuning else ():
            dots += _dots(row, cell, group)
    return dots


def _dots(row: TunedRow, cell: Cell, group: Group) -> Iterator[Dot]:
    sign, label = (1 if cell.higher_is_better else -1), labels(cell)[row.arm]
    for block, count in row.trials.items():
        first, *drawn = group.trials[row.arm][block][:count]
        for record in drawn:
            gain = sign * (validation(record) - validation(first))
            if not math.isnan(gain):
                for setting, value in record.case.drawn.items():
                    yield Dot(cell.name, label, setting, value, gain, record.case.trial == row.chosen[block])


def anytime(records: Iterable[Record], comparison: Comparison) -> list[tuple[Line, Line | None]]:
    """Test score at the best validation epoch within a cost, mean over splits: by passes, and by time if measured."""
    cells = {cell.key: cell for cell in comparison.cells}
    lines: list[tuple[Line, Line | None]] = []
    for group in chosen_groups(records, comparison.settings):
        if group.key in cells:
            lines += _anytime(cells[group.key], group)
    return lines


def _anytime(cell: Cell, group: Group) -> Iterator[tuple[Line, Line | None]]:
    base = next((row for row in cell.rows if row.role == "base"), None)
    whole = mean_passes(group.runs.get(base.arm, {}).values()) if base else None
    if base is None or whole is None:
        return
    every = {
        row.arm: {b: r for b, r in group.runs.get(row.arm, {}).items() if r.status == "ok" and r.history}
        for row in cell.rows
    }
    every = {arm: runs for arm, runs in every.items() if runs}
    common = sorted(set.intersection(*(set(runs) for runs in every.values())))
    widths = _half_widths(cell, [[test_score(runs[block]) for runs in every.values()] for block in common])
    for i, (arm, runs) in enumerate(every.items()):
        row = next(row for row in cell.rows if row.arm == arm)
        epochs = min(len(run.history) for run in runs.values())
        scores = np.mean([_best_so_far(run, higher=cell.higher_is_better)[:epochs] for run in runs.values()], axis=0)
        passes = np.mean([np.cumsum([e.passes for e in run.history])[:epochs] for run in runs.values()], axis=0)
        name, y = labels(cell)[arm], tuple(scores.tolist())
        time = row.speed_to.get("base")
        by_time = None
        if time is not None:
            seconds = np.arange(1, epochs + 1) / epochs / time.value
            by_time = Line(cell.name, name, tuple(seconds.tolist()), y, widths[i])
        yield Line(cell.name, name, tuple((passes / whole).tolist()), y, widths[i]), by_time


def _half_widths(cell: Cell, scores: list[list[float]]) -> list[float | None]:
    arms = len(scores[0]) if scores else len(cell.rows)
    if len(scores) < 2 or arms < 2 or cell.test_over_train is None:
        return [None] * arms
    return list(within_half_widths(scores, test_over_train=cell.test_over_train).tolist())


def _best_so_far(run: Record, *, higher: bool) -> list[float]:
    """The test score at the best validation epoch up to each epoch, ties to the earlier; NaN before there is one."""
    scores, best, test = [], math.nan, math.nan
    for epoch in run.history:
        valid = epoch.valid_score
        if valid is not None and (math.isnan(best) or (valid > best if higher else valid < best)):
            best, test = valid, math.nan if epoch.test_score is None else epoch.test_score
        scores.append(test)
    return scores
