"""The one gate of a table: its rows are judged first, and only those that pass decide anything after it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samcmp.data import labels
from samcmp.data.screen import screen
from samcmp.data.table import Table
from samcmp.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN = 1000  # characters of a skipped SMILES that are kept


@dataclass(frozen=True, slots=True, eq=False)
class Usable:
    """The rows of a table that are used (M) and why the others are not."""

    rows: NDArray[np.int64]  # (M,) ascending
    smiles: tuple[str, ...]  # (M,) outer blanks stripped
    y: NDArray[np.float64]  # (M, T) NaN where a label is missing
    skipped: tuple[tuple[int, str, str], ...]  # row, SMILES, reason
    left_out: tuple[tuple[int, str], ...]  # row, SMILES: by the card
    notes: tuple[str, ...]  # to be said to the user
    classes: tuple[str, ...] = ()  # of a multiclass task, by number


def usable(
    content: Table,
    *,
    smiles: int,
    targets: Sequence[int],
    leave_out: Collection[int] = (),
    frozen: bool = False,
    multiclass: bool = False,
    classes: Sequence[str] = (),
) -> Usable:
    """Read SMILES and labels of the rows that hold a molecule.

    ``multiclass``: the one target holds names of classes, ``classes`` where these are known beforehand.

    ``frozen``: somebody vouches for all rows but ``leave_out``, so that none is skipped; one that cannot be read is
    an error where it is used. Raises DataError where no row is left, and for a label of a row that is.
    """
    texts = tuple(content.text(smiles))
    keep = np.ones(len(texts), dtype=bool)
    keep[list(leave_out)] = False
    problems = {} if frozen else screen(texts, strict=True).problems
    skipped = tuple((row, texts[row][:SHOWN], why) for row, why in problems.items() if keep[row])
    keep[list(problems)] = False
    rows = np.flatnonzero(keep).astype(np.int64)
    if not len(rows):
        reason = f"Row {skipped[0][0]}: {skipped[0][2]}." if skipped else None
        raise DataError("no row has a usable molecule", where=content.where, remedy=reason)
    if multiclass:
        y, classes = labels.read_classes(content, targets[0], rows=rows, classes=classes)
        notes: tuple[str, ...] = ()
    else:
        y, notes = labels.read(content, targets, rows=rows)
    return Usable(
        rows=rows,
        smiles=tuple(texts[row] for row in rows.tolist()),
        y=y,
        skipped=skipped,
        left_out=tuple((row, texts[row]) for row in sorted(leave_out)),
        notes=(*_skip_notes(skipped, len(texts)), *notes),
        classes=tuple(classes),
    )


def _skip_notes(skipped: Sequence[tuple[int, str, str]], n: int) -> tuple[str, ...]:
    if not skipped:
        return ()
    row, _, why = skipped[0]
    return (f"{len(skipped):,} of {n:,} rows skipped; the first is row {row}: {why} (fetch --audit lists all)",)
