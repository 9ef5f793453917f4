"""Labels: how they are read from cells, which cannot be learnt from, and what is only said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from samcmp.data.table import COUNTED, Table, shorten
from samcmp.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# lower case; a label that was not measured
MISSING = frozenset({"", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "null", "none"})
WORDS = ({"true": 1.0, "false": 0.0}, {"yes": 1.0, "no": 0.0})
LARGEST = 1e30  # of a label: targets and predictions are kept in 32 bits, which end at 3e38
SMALLEST = 1e-30  # of a column's labels: squares of smaller ones would be zero
SAME = 1e-12  # of their size: labels that differ by less are equal but for rounding
MIN_ROWS = 9  # the fewest whose 8/1/1 split has no empty part
FEWEST = 3  # rows of a class: training, validation and test need one each
MOST_CLASSES = 1000  # of a multiclass task


def read(
    content: Table, positions: Sequence[int], *, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return columns as numbers (rows, columns), NaN where missing, and notes about how they were written.

    Only ``rows`` are looked at. Raises DataError that names row and column for text and for infinity.
    """
    y = np.empty((len(rows), len(positions)))
    notes = []
    for k, position in enumerate(positions):
        every = content.text(position)
        y[:, k], note = _column([every[row] for row in rows.tolist()], content, position=position, rows=rows)
        notes += [note] if note else []
    return y, tuple(notes)


def _column(
    cells: list[str], content: Table, *, position: int, rows: NDArray[np.int64]
) -> tuple[list[float], str | None]:
    title = content.header[position]
    lowered = ["" if cell.lower() in MISSING else cell.lower() for cell in cells]
    present = set(lowered) - {""}
    for words in WORDS:
        if present and present <= words.keys():
            yes, no = words
            return [words.get(cell, np.nan) for cell in lowered], f"column {title!r}: {yes} is read as 1, {no} as 0"
    note = None
    commas = {cell for cell in present if "," in cell}
    if content.delimiter != "," and commas and not any("." in cell for cell in present - commas):
        lowered = [cell if "." in cell else cell.replace(",", ".") for cell in lowered]
        note = f"column {title!r}: a comma is read as the decimal point"
    values = [_number(cell) if cell else np.nan for cell in lowered]
    bad = [i for i, value in enumerate(values) if value is None]
    if bad:
        more = f" (and {len(bad) - 1:,} more such cells)" if len(bad) > 1 else ""
        raise DataError(
            f"row {rows[bad[0]]}, column {title!r}: {shorten(cells[bad[0]])} is not a number{more}",
            where=content.where,
            remedy="A target column holds numbers, true and false or yes and no throughout, and empty cells where a "
            f"label is missing; classes by name take --task multiclass. {COUNTED}",
        )
    known = [np.nan if value is None else value for value in values]
    for i, value in enumerate(known):
        if value in {np.inf, -np.inf}:
            raise DataError(
                f"row {rows[i]}, column {title!r}: {shorten(cells[i])} is not a finite number",
                where=content.where,
                remedy=f"Leave the cell empty where a label is missing. {COUNTED}",
            )
    return known, note


def read_classes(
    content: Table, position: int, *, rows: NDArray[np.int64], classes: Sequence[str] = ()
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return a column of classes as their numbers (rows, 1), NaN where missing, and the classes' names by number.

    ``classes`` are the names in their order; without them they are those of the column, whole numbers by size, other
    texts by code point. Raises DataError for a name that is not among them, or a column that holds no classes.
    """
    title = content.header[position]
    every = content.text(position)
    cells = [_class_name(every[row]) for row in rows.tolist()]
    present = set(cells) - {""}
    where = f"{content.where}, column {title!r}"
    if classes:
        strange = next((i for i, cell in enumerate(cells) if cell and cell not in classes), None)
        if strange is not None:
            remedy = f"The classes are {', '.join(classes)[:200]}. {COUNTED}"
            raise DataError(f"row {rows[strange]}: {shorten(cells[strange])} is no class", where=where, remedy=remedy)
    elif len(present) > min(MOST_CLASSES, max(2, len(cells) // 2)):
        raise DataError(
            f"{len(present):,} different labels in {len(cells):,} rows are no classes",
            where=where,
            remedy=f"Take --task regression for numbers. At most {MOST_CLASSES:,} classes, and half as many as rows.",
        )
    whole = all(cell.lstrip("-").isdecimal() for cell in present)
    names = tuple(classes) or tuple(sorted(present, key=(lambda name: (int(name), name)) if whole else None))
    number = {name: float(i) for i, name in enumerate(names)}
    return np.array([[number.get(cell, np.nan)] for cell in cells]), names


def _class_name(cell: str) -> str:
    """The name of a class: empty where it is missing, a whole number however it is written as a decimal."""
    if cell.lower() in MISSING:
        return ""
    value = _number(cell)
    return str(int(value)) if value is not None and value.is_integer() and abs(value) < 1e15 else cell


def _number(cell: str) -> float | None:
    """Read a number as every other program does: Python alone takes 1_000 and the digits of all scripts."""
    if not cell.isascii() or "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def guess(y: NDArray[np.float64]) -> tuple[str, str]:
    """Guess the task from the labels, and say so."""
    binary = bool(np.isin(y[~np.isnan(y)], (0.0, 1.0)).all())
    kind = "classification" if binary else "regression"
    why = "the labels are 0 and 1" if binary else "the labels are not only 0 and 1"
    return kind, f"task guessed to be {kind}, because {why}; --task sets it"


def check(
    kind: str, y: NDArray[np.float64], *, tasks: Sequence[str], rows: NDArray[np.int64], where: str
) -> tuple[str, ...]:
    """Refuse labels y (M, T) that no model can learn from; return notes about those that only some tasks lack.

    Raises DataError that names the row (of ``rows``) and the column.
    """
    known: NDArray[np.bool_] = ~np.isnan(y)
    if kind == "multiclass" and y.shape[1] != 1:
        raise DataError("a multiclass task has one target column", where=where, remedy="Run each column by itself.")
    if not known.any():
        raise DataError("all labels are missing", where=where, remedy="Choose another target column.")
    _check_values(kind, np.where(known, y, 0.0), tasks=tasks, rows=rows, where=where)
    lowest = np.where(known, y, np.inf).min(axis=0)
    highest = np.where(known, y, -np.inf).max(axis=0)
    flat = ~(highest - lowest > SAME * np.maximum(np.abs(highest), np.abs(lowest)))  # a single value, or no label
    if flat.all():
        value = f"{lowest[0]:g}" if len(flat) == 1 else "in every task"
        what = "all labels are equal" if kind == "regression" else "all labels are of one class"
        raise DataError(f"{what} ({value})", where=where, remedy="There is nothing to learn from them.")
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
    sizes = np.abs(y).max(axis=0)
    tiny = np.flatnonzero((sizes < SMALLEST) & (sizes > 0))
    if len(tiny):
        raise DataError(
            f"column {tasks[tiny[0]]!r}: no label is larger than {sizes[tiny[0]]:g}; the smallest size is {SMALLEST:g}",
            where=where,
            remedy="Give the column in another unit.",
        )


def shortage(kind: str, y: NDArray[np.float64], *, tasks: Sequence[str], rows: NDArray[np.int64]) -> str:
    """Say why the rows of y (M, T) cannot be split into three parts that can be used, or "" where they can."""
    if len(y) < MIN_ROWS:
        usable = f"{len(y)} usable row{'s' * (len(y) > 1)}"
        return f"{usable} cannot be split into three parts: at least {MIN_ROWS} are needed"
    if kind == "regression":
        return ""
    if kind == "multiclass":
        _, counts = np.unique(y[~np.isnan(y)], return_counts=True)
        if (counts >= FEWEST).sum() >= 2:
            return ""
        return f"fewer than two classes of {tasks[0]!r} have {FEWEST} rows: training, validation and test need one each"
    rarer = np.where((y == 1).sum(axis=0) <= (y == 0).sum(axis=0), 1, 0)
    counts = (y == rarer).sum(axis=0)
    best = int(counts.argmax())
    if counts[best] >= FEWEST:
        return ""
    of_it = rows[np.flatnonzero(y[:, best] == rarer[best])].tolist()
    named = f"row{'s' * (len(of_it) > 1)} {' and '.join(map(str, of_it))}"
    return f"column {tasks[best]!r} is {rarer[best]} in {named} only: training, validation and test need one each"
