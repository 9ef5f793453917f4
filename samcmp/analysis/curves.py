"""Loss curves: the histories of training Records, averaged over the runs of an arm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from samcmp.analysis.comparison import Comparison
from samcmp.analysis.tuned import chosen_groups
from samcmp.records import METRICS, Record

Band = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]  # mean, lowest, highest, by epoch


@dataclass(frozen=True, slots=True)
class Curve:
    """One arm of one cell, by epoch, over as many epochs as every run has."""

    cell: str
    label: str
    metric: str
    runs: int
    train: Band
    test: Band


def curves(records: Iterable[Record], comparison: Comparison) -> list[Curve]:
    """Average the histories of each arm's runs, in the order of the comparison's cells and arms."""
    runs = {group.key: group.runs for group in chosen_groups(records, comparison.settings)}
    averaged = []
    for cell in comparison.cells:
        for row in cell.rows:
            finished = [r for r in runs.get(cell.key, {}).get(row.arm, {}).values() if r.status == "ok" and r.history]
            if finished:
                metric = METRICS.get(cell.metric, cell.metric)
                averaged.append(_curve(finished, cell=cell.name, label=row.label, metric=metric))
    return averaged


def _curve(records: Sequence[Record], *, cell: str, label: str, metric: str) -> Curve:
    epochs = min(len(record.history) for record in records)
    train = [[epoch.train_loss for epoch in record.history[:epochs]] for record in records]
    test = [[_or_nan(epoch.test_score) for epoch in record.history[:epochs]] for record in records]
    return Curve(cell, label, metric, len(records), _band(train), _band(test))


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _band(values: Sequence[Sequence[float]]) -> Band:
    x = np.array(values, dtype=np.float64)
    return tuple(x.mean(axis=0).tolist()), tuple(x.min(axis=0).tolist()), tuple(x.max(axis=0).tolist())
