"""Labels that something can be learnt from: what is refused straight after reading, and what is only said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from samcmp.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = 1e30  # of a label: targets and predictions are kept in 32 bits, which end at 3e38
SAME = 1e-12  # of their size: labels that differ by less are equal but for rounding
MIN_ROWS = 9  # the fewest whose 8/1/1 split has no empty part
FEWEST = 3  # rows of a class: training, validation and test need one each
COUNTED = "Rows are counted from 0 after the header."


def check(
    kind: str, y: NDArray[np.float64], *, tasks: Sequence[str], rows: NDArray[np.int64], where: str
) -> tuple[str, ...]:
    """Refuse labels y (M, T) that no model can learn from; return notes about those that only some tasks lack.

    Raises DataError that names the row (of ``rows``) and the column.
    """
    known: NDArray[np.bool_] = ~np.isnan(y)
    if not known.any():
        raise DataError("all labels are missing", where=where, remedy="Choose another target column.")
    _check_values(kind, np.where(known, y, 0.0), tasks=tasks, rows=rows, where=where)
    lowest = np.where(known, y, np.inf).min(axis=0)
    highest = np.where(known, y, -np.inf).max(axis=0)
    flat = ~(highest - lowest > SAME * np.maximum(1.0, np.abs(highest)))  # a single value, or no label at all
    if flat.all():
        value = f"{lowest[0]:g}" if len(flat) == 1 else "in every task"
        what = "all labels are of one class" if kind == "classification" else "all labels are equal"
        remedy = "There is nothing to learn from them; numbers that differ by less than 1e-12 need another unit."
        raise DataError(f"{what} ({value})", where=where, remedy=remedy)
    return tuple(
        f"task {tasks[t]!r} has {'a single value' if known[:, t].any() else 'no label'}"
        for t in np.flatnonzero(flat).tolist()
    )


def _check_values(
    kind: str, y: NDArray[np.float64], *, tasks: Sequence[str], rows: NDArray[np.int64], where: str
) -> None:
    classes = kind == "classification"
    wrong = np.argwhere((y != 0) & (y != 1) if classes else np.abs(y) > LARGEST)
    if len(wrong):
        i, t = wrong[0].tolist()
        found = f"row {rows[i]}, column {tasks[t]!r}: {y[i, t]:g}"
        if classes:
            raise DataError(
                f"{found} is no class; classes are 0 and 1",
                where=where,
                remedy=f"Write the labels as 0 and 1, or take --task regression. {COUNTED}",
            )
        raise DataError(
            f"{found} is beyond ±{LARGEST:g}, the largest label",
            where=where,
            remedy=f"Correct the cell, leave it empty, or give the column in another unit. {COUNTED}",
        )


def shortage(kind: str, y: NDArray[np.float64], *, tasks: Sequence[str]) -> str:
    """Say why the rows of y (M, T) cannot be split into three parts that can be used, or "" where they can."""
    if len(y) < MIN_ROWS:
        return f"{len(y)} row{'s' * (len(y) > 1)} cannot be split into three parts: at least {MIN_ROWS} are needed"
    if kind == "regression":
        return ""
    rarer = np.where((y == 1).sum(axis=0) <= (y == 0).sum(axis=0), 1, 0)
    counts = (y == rarer).sum(axis=0)
    best = int(counts.argmax())
    if counts[best] >= FEWEST:
        return ""
    rows = np.flatnonzero(y[:, best] == rarer[best]).tolist()
    named = f"row{'s' * (len(rows) > 1)} {' and '.join(map(str, rows))}"
    return f"column {tasks[best]!r} is {rarer[best]} in {named} only: training, validation and test need one each"
