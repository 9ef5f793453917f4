"""A dataset in memory: the rows that are used, their SMILES and labels, and the hash that identifies all three."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samcmp.data import catalogue, fetch, gate, labels, table
from samcmp.data.cards import COMPT, DatasetCard, Kind
from samcmp.data.screen import screen
from samcmp.data.split import part_of
from samcmp.errors import DataError, UsageError, changed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samcmp.data.samples import Samples
    from samcmp.records import Holds

NAN = "7ff8000000000000"  # binary64, big-endian; no number has these digits


@dataclass(frozen=True, eq=False)
class Molecules:
    """M molecules with T labels each, in the order of the file."""

    name: str
    rows: NDArray[np.int64]  # (M,) row of the published file, ascending
    smiles: tuple[str, ...]  # as in the file, outer blanks stripped
    y: NDArray[np.float64]  # (M, T) NaN where a label is missing
    tasks: tuple[str, ...]  # (T,)
    kind: Kind
    metric: str
    dataset_hash: str
    notes: tuple[str, ...] = ()  # to be said to the user
    file_rows: int = 0
    skipped: tuple[tuple[int, str, str], ...] = ()  # row, SMILES, reason
    left_out: tuple[tuple[int, str], ...] = ()  # row, SMILES: by the card
    groups: NDArray[np.int64] | None = None  # (M,) scaffold group that the file itself gives
    parts: tuple[str, ...] | None = None  # (M,) part of the split that the file itself gives, "" for none
    partition: str | None = None  # the frozen scaffold partition, first 16 digits
    frozen: bool = False  # whether the rows are a frozen list of a known dataset
    classes: tuple[str, ...] = ()  # of a multiclass task, by number

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def holds(self) -> Holds:
        return "molecules"

    @property
    def unused(self) -> frozenset[int]:
        """Rows without a usable molecule, or left out by the card."""
        return frozenset([row[0] for row in self.skipped] + [row[0] for row in self.left_out])

    @property
    def repeats(self) -> Mapping[int, int]:
        """Place of a molecule that occurred before, by canonical SMILES -> place where it occurred first."""
        return screen(self.smiles, strict=not self.frozen).repeats


def load(
    card: DatasetCard,
    *,
    source: str | Path | None = None,
    progress: fetch.Progress | None = None,
    identity: str = "",
) -> Molecules:
    """Read the molecules of a card, fetching its file first where needed.

    Raises DataError when the file does not hold what the card says, or where the dataset has not the ``identity`` that
    is given: see :func:`samcmp.data.catalogue.identity`. In a user's file a SMILES that cannot be parsed
    is skipped and listed in ``skipped``.
    """
    if card.kind != "molecules":
        raise ValueError(f"{card.name} holds {card.kind}, see samcmp.data.{card.kind}")
    data = fetch.read(card, source=source, progress=progress)
    path = fetch.cached_path(card)
    if identity and catalogue.identity(card, hashlib.sha256(data).hexdigest()) != identity:
        raise changed(path)
    content = table.parse(data, path)
    where, n = content.where, len(content)
    if card.file_rows is not None and n != card.file_rows:
        raise DataError(f"the file has {n:,} rows where its card says {card.file_rows:,}", where=where)
    if max(card.leave_out, default=-1) >= n:
        raise DataError(f"the card leaves out row {max(card.leave_out)} of {n:,} rows", where=str(card.path))
    used = gate.usable(
        content,
        smiles=content.column(card.smiles_column),
        targets=_target_positions(card, content),
        leave_out=card.leave_out,
        frozen=card.frozen,
        multiclass=card.task == "multiclass",
        classes=card.classes,
    )
    said = labels.check(card.task, used.y, tasks=card.target_columns, rows=used.rows, where=where)
    digest = hash_of(card.name.removesuffix(COMPT), used.rows, smiles=used.smiles, y=used.y)
    if card.dataset_hash is not None and digest != card.dataset_hash:
        raise DataError(
            f"the dataset hash is {digest[:16]} where its card says {card.dataset_hash[:16]}",
            where=where,
            remedy="The file holds other molecules or labels than the card describes.",
        )
    return Molecules(
        name=card.name,
        rows=used.rows,
        smiles=used.smiles,
        y=used.y,
        tasks=card.target_columns,
        kind=card.task,
        metric=card.metric,
        dataset_hash=digest,
        notes=(*card.notes, *used.notes, *said),
        file_rows=n,
        skipped=used.skipped,
        left_out=used.left_out,
        groups=_groups(card, content, used.rows),
        parts=_parts(card, content, used.rows),
        partition=card.scaffold_partition,
        frozen=card.frozen,
        classes=used.classes,
    )


def subset(molecules: Molecules, n: int, *, seed: int = 0) -> Molecules:
    """Return n molecules, those of :func:`drawn`; the set itself where it has no more. Raises UsageError."""
    total, chosen = len(molecules), drawn(molecules, n, seed=seed)
    if n == total:
        return molecules
    rows, y = molecules.rows[chosen], molecules.y[chosen]
    smiles = tuple(molecules.smiles[i] for i in chosen)
    return replace(
        molecules,
        rows=rows,
        smiles=smiles,
        y=y,
        dataset_hash=hash_of(molecules.name.removesuffix(COMPT), rows, smiles=smiles, y=y),
        notes=(*molecules.notes, f"a subset of {n:,} of the {total:,} molecules, seed {seed}"),
        groups=None if molecules.groups is None else molecules.groups[chosen],
        parts=None if molecules.parts is None else tuple(molecules.parts[i] for i in chosen),
        partition=None,
    )


def drawn(samples: Samples, n: int, *, seed: int) -> NDArray[np.int64]:
    """Return n places drawn by hash: sort by SHA-256("split-v1:subset:{seed}:{row}") and take the first n.

    The same rows come out on every machine. Raises UsageError when n is larger than the set or too small to split.
    """
    total = len(samples)
    if n > total:
        what = f"a subset of {n:,} {samples.holds} is asked for, {samples.name} has {total:,}"
        raise UsageError(what, where="--subset")
    if n < labels.MIN_ROWS:
        raise UsageError(
            f"{n} {samples.holds} are too few to split into train, validation and test",
            where="--subset",
            remedy=f"Take at least {labels.MIN_ROWS}.",
        )
    by_key = keys("subset", seed, rows=samples.rows)
    return np.sort(np.array(sorted(range(total), key=by_key.__getitem__)[:n], dtype=np.int64))


def keys(tag: str, seed: int, *, rows: Sequence[int] | NDArray[np.int64]) -> list[bytes]:
    """K(tag, seed, i) = SHA-256("split-v1:{tag}:{seed}:{i}") for every row i, as raw bytes."""
    start = hashlib.sha256(f"split-v1:{tag}:{seed}:".encode())
    out = []
    for row in rows:
        key = start.copy()
        key.update(b"%d" % row)
        out.append(key.digest())
    return out


def hash_of(name: str, rows: NDArray[np.int64], *, smiles: Sequence[str], y: NDArray[np.float64]) -> str:
    """Hash a dataset's content: SHA-256 of "dataset-v1", name, size, tasks, and each row's SMILES and labels.

    A label is the 16 hexadecimal digits of its big-endian binary64, "-" where missing, so neither the spelling of a
    number nor the order of columns or the line ends of a file change the hash.
    """
    m, tasks = y.shape
    whole = hashlib.sha256(f"dataset-v1\n{name}\n{m}\n{tasks}\n".encode())
    missing = np.isnan(y)
    plain = np.where(missing, np.nan, y + 0.0)  # one spelling of NaN, and adding zero makes -0.0 into 0.0
    text = plain.astype(">f8").tobytes().hex("\t", 8)
    gaps = set(np.flatnonzero(missing.any(axis=1)).tolist())
    width = 17 * tasks  # 16 digits and a tab a label
    lines = []
    for i, row in enumerate(rows.tolist()):
        labels = text[width * i : width * (i + 1) - 1]
        if i in gaps:
            labels = labels.replace(NAN, "-")
        lines.append(f"{row}\t{smiles[i]}\t{labels}\n")
    whole.update("".join(lines).encode())
    return whole.hexdigest()


def _target_positions(card: DatasetCard, content: table.Table) -> list[int]:
    if not card.target_positions:
        return [content.column(target) for target in card.target_columns]
    width = len(content.header)
    for target, position in zip(card.target_columns, card.target_positions, strict=True):
        if position >= width or content.header[position] != target:
            found = repr(content.header[position]) if position < width else "nothing"
            raise DataError(f"column {position} should be {target!r} and is {found}", where=content.where)
    return list(card.target_positions)


def _groups(card: DatasetCard, content: table.Table, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    if not card.group_column:
        return None
    values, _ = labels.read(content, [content.column(card.group_column)], rows=rows)
    column = values[:, 0]
    if not np.array_equal(column, np.floor(column)):
        raise DataError(f"column {card.group_column!r} must hold whole numbers", where=content.where)
    return column.astype(np.int64)


def _parts(card: DatasetCard, content: table.Table, rows: NDArray[np.int64]) -> tuple[str, ...] | None:
    if not card.split_column:
        return None
    cells = content.text(content.column(card.split_column))
    where = f"{content.where}, column {card.split_column!r}"
    return tuple("" if not cells[row] else part_of(cells[row], where=f"{where}, row {row}") for row in rows.tolist())
