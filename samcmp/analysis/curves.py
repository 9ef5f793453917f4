"""Loss curves: the histories of training Records, averaged over the runs of an arm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from samcmp.analysis.comparison import Comparison
from samcmp.analysis.grouping import cell_key, cell_of
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
    by_cell: dict[Hashable, list[Record]] = defaultdict(list)
    for record in records:
        if record.case.kind == "train" and record.status == "ok" and record.history:
            by_cell[cell_of(record)].append(record)
    members: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for of_cell in by_cell.values():
        key = cell_key(of_cell[0])
        for record in of_cell:
            members[key, record.case.arm].append(record)
    averaged = []
    for cell in comparison.cells:
        for row in cell.rows:
            of_it = members.get((cell.key, row.arm), [])
            if of_it:
                metric = METRICS.get(cell.metric, cell.metric)
                averaged.append(_curve(of_it, cell=cell.name, label=row.label, metric=metric))
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
