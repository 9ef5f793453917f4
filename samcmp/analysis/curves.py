"""Learning curves: the histories of training Records, averaged over the runs of an arm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from samcmp.analysis.comparison import Cell, Comparison, Row
from samcmp.analysis.tuned import chosen_groups
from samcmp.records import METRICS, Epoch, Record

Scale = Literal["epochs", "passes", "time"]
Band = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]  # mean, mean - SD, mean + SD, by epoch


@dataclass(frozen=True, slots=True)
class Curve:
    """One arm of one cell, by epoch, over as many epochs as every run has."""

    cell: str
    label: str
    metric: str
    runs: int
    x: tuple[float, ...]  # epochs, gradient evaluations or seconds so far
    train: Band
    valid: Band | None  # None: no epoch was scored
    test: Band | None


def curves(
    records: Iterable[Record], comparison: Comparison, *, x: Scale = "epochs"
) -> tuple[list[Curve], list[tuple[str, str, str]]]:
    """Average the histories of each arm's runs, in the order of the comparison's cells and arms.

    Returns the curves, and the cell, label and reason of what has none.

    Time is that of training at the measured speed: runs that were trained side by side do not show it.
    """
    runs = {group.key: group.runs for group in chosen_groups(records, comparison.settings)}
    averaged: list[Curve] = []
    left_out: list[tuple[str, str, str]] = []
    for cell in comparison.cells:
        for row in cell.rows:
            every = runs.get(cell.key, {}).get(row.arm, {}).values()
            finished = [r for r in every if r.status == "ok" and r.history and r.accuracy]
            if not finished:
                left_out.append((cell.name, row.label, row.missing.get("score", "no run with a history")))
            elif x == "time" and row.graphs_per_second is None:
                left_out.append((cell.name, row.label, row.missing.get("graphs_per_second", "no speed was measured")))
            else:
                averaged.append(_curve(finished, cell, row, x))
    return averaged, left_out


def _curve(records: Sequence[Record], cell: Cell, row: Row, x: Scale) -> Curve:
    epochs = min(len(record.history) for record in records)
    histories = [record.history[:epochs] for record in records]
    return Curve(
        cell=cell.name,
        label=row.label,
        metric=METRICS.get(cell.metric, cell.metric),
        runs=len(records),
        x=tuple(np.mean([_so_far(record, row, x)[:epochs] for record in records], axis=0).tolist()),
        train=_band([[epoch.train_loss for epoch in history] for history in histories]),
        valid=_scores(histories, "valid_score"),
        test=_scores(histories, "test_score"),
    )


def _so_far(record: Record, row: Row, x: Scale) -> list[float]:
    """What a run had spent at the end of each epoch."""
    if x == "passes":
        return list(np.cumsum([epoch.passes for epoch in record.history]).tolist())
    each = 1.0
    if x == "time" and record.accuracy is not None and row.graphs_per_second is not None:
        each = record.accuracy.train_size / row.graphs_per_second
    return [each * (i + 1) for i in range(len(record.history))]


def _scores(histories: Sequence[Sequence[Epoch]], name: Literal["valid_score", "test_score"]) -> Band | None:
    scores = [[getattr(epoch, name) for epoch in history] for history in histories]
    if all(score is None for line in scores for score in line):
        return None
    return _band([[float("nan") if score is None else score for score in line] for line in scores])


def _band(values: Sequence[Sequence[float]]) -> Band:
    found = np.array(values, dtype=np.float64)  # (runs, epochs)
    mean = found.mean(axis=0)
    sd = found.std(axis=0, ddof=1) if len(found) > 1 else np.zeros_like(mean)
    return tuple(mean.tolist()), tuple((mean - sd).tolist()), tuple((mean + sd).tolist())
