"""Splits in files: JSON or a table of row numbers, as other tools and ``--save-split`` write them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samcmp import files
from samcmp.data import table, unpack
from samcmp.data.samples import Samples
from samcmp.data.split import PARTS, Parts, Split, part_of
from samcmp.errors import DataError, changed

FORM = 'Write {"train": [...], "valid": [...], "test": [...]}.'
_ROW, _PART = ("row", "index"), ("part", "split", "set")  # names of the two columns of a table
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", re.ASCII)
MOST_ROWS = 10**8


def read_parts(path: Path, samples: Samples, *, number: int = 0, sha256: str = "") -> tuple[Parts, tuple[str, ...]]:
    """Read train, valid and test rows, and notes about them.

    JSON is an object {"train": [...], ...}, a list of three lists, or chemprop's list of such objects, of which
    ``number`` is read, with ranges as "0-99,120"; any other file is a table with the columns row and part. Rows are
    those of the published file, 0-based. Raises DataError for rows that overlap, repeat, are out of range or are not
    used, for a file that was saved for other data, and for one that has not the ``sha256`` that is given.
    """
    data = table.content(path)
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise changed(path)
    if not _is_json(path):
        return checked(_from_table(data, path), samples, where=str(path))
    splits = _from_json(data, str(path))
    if number >= len(splits):
        counted = "Splits are counted from 0."
        raise DataError(f"holds {len(splits)} splits and no number {number}", where=str(path), remedy=counted)
    where = str(path) if len(splits) == 1 else f"{path}, split {number}"
    return checked(_parts_of(splits[number], samples, where), samples, where=where)


def count(data: bytes, path: Path) -> int:
    """Return how many splits the content of a file holds. Raises DataError for JSON that holds none."""
    return len(_from_json(data, str(path))) if _is_json(path) else 1


def _is_json(path: Path) -> bool:
    return re.search(r"\.json(\.(gz|bz2|xz|zip))?$", path.name.lower()) is not None


def _from_json(data: bytes, where: str) -> list[Mapping[str, Any]]:
    try:
        content: Any = json.loads(unpack.unpack(data, where).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON: {error}", where=where, remedy=FORM) from None
    if isinstance(content, list) and len(content) == 3 and all(isinstance(part, list) for part in content):
        content = dict(zip(PARTS, content, strict=True))
    splits = content if isinstance(content, list) and content else [content]
    if not all(isinstance(split, dict) for split in splits):
        raise DataError("is not a JSON object", where=where, remedy=FORM)
    return splits


def _parts_of(content: Mapping[str, Any], samples: Samples, where: str) -> Mapping[str, list[int]]:
    made_for = content.get("dataset_hash")
    if made_for is not None and made_for != samples.dataset_hash:
        raise DataError(
            f"the split was saved for the dataset hash {table.shorten(str(made_for)[:16])}, {samples.name} has "
            f"{samples.dataset_hash[:16]!r}",
            where=where,
            remedy="Use the same data, or delete the line dataset_hash to apply the row numbers all the same.",
        )
    parts: dict[str, list[int]] = {}
    for key, value in content.items():
        try:
            part = part_of(key, where=where)
        except DataError:
            continue  # other tools keep other things in the same object
        if part in parts:
            raise DataError(f"the part {part!r} is given twice", where=where, remedy=FORM)
        parts[part] = _rows(value, where=f"{where}, key {key}")
    return parts


def _rows(value: Any, *, where: str) -> list[int]:
    if isinstance(value, str):
        rows: list[int] = []
        for piece in filter(None, value.replace(" ", "").split(",")):
            match = _RANGE.fullmatch(piece)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if last < first or last - first > MOST_ROWS:
                raise DataError(f"{table.shorten(piece)} is no range of rows", where=where, remedy='Write "0-99,120".')
            rows += range(first, last + 1)
        return rows
    if not isinstance(value, list) or not all(type(row) is int for row in value):
        raise DataError("expected a list of row numbers", where=where, remedy=FORM)
    return value


def _from_table(data: bytes, path: Path) -> Mapping[str, list[int]]:
    content = table.parse(data, path)
    row_column, part_column = (
        next((name for name in names if name in content.header), names[0]) for names in (_ROW, _PART)
    )
    rows = content.text(content.column(row_column))
    words = content.text(content.column(part_column))
    parts: dict[str, list[int]] = {}
    for line, (row, word) in enumerate(zip(rows, words, strict=True)):
        where = f"{path}, line {line + 2}"
        if not (row.isascii() and row.isdigit() and len(row) < 19):
            raise DataError(f"{table.shorten(row)} is no row number", where=where, remedy=table.COUNTED)
        parts.setdefault(part_of(word, where=where), []).append(int(row))
    return parts


def of_column(samples: Samples) -> tuple[Parts, tuple[str, ...]]:
    """Return the parts that a column of the data file gives, and notes. Raises DataError where a part is empty."""
    parts: dict[str, list[int]] = {}
    for row, part in zip(samples.rows.tolist(), samples.parts or (), strict=bool(samples.parts)):
        if part:
            parts.setdefault(part, []).append(row)
    return checked(parts, samples, where=f"{samples.name}, split column")


def checked(parts: Mapping[str, list[int]], samples: Samples, *, where: str) -> tuple[Parts, tuple[str, ...]]:
    """Return parts that belong to ``samples``, and notes. Raises DataError that names the row that does not fit."""
    for part in PARTS:
        if not parts.get(part):
            raise DataError(f"the part {part!r} is missing or empty", where=where, remedy="All three parts are needed.")
    owner: dict[int, str] = {}
    used = set(samples.rows.tolist())
    unusable = samples.unused
    kept: dict[str, list[int]] = {part: [] for part in PARTS}
    for part in PARTS:
        for row in parts[part]:
            if row in owner:
                both = "twice in" if owner[row] == part else f"in {owner[row]} and in"
                raise DataError(f"row {row} is {both} {part}", where=where, remedy="Each row belongs to one part.")
            owner[row] = part
            if row in used:
                kept[part].append(row)
            elif row not in unusable:
                raise _not_used(row, part, samples, where=where)
    notes = []
    if gone := len(owner) - sum(map(len, kept.values())):
        notes.append(f"{gone:,} rows of the split are left out: none of the {samples.holds} that are used is of them")
    if rest := len(used - owner.keys()):
        notes.append(f"{rest:,} of {len(used):,} {samples.holds} are in no part of the split and are not used")
    return (kept["train"], kept["valid"], kept["test"]), tuple(notes)


def _not_used(row: int, part: str, samples: Samples, *, where: str) -> DataError:
    last = max(samples.file_rows - 1, int(samples.rows[-1]))
    why = f"not among the {samples.holds} that are used" if 0 <= row <= last else "out of range"
    remedy = f"Rows of {samples.name} are counted from 0 after the header, up to {last}."
    return DataError(f"row {row} in {part} is {why}", where=where, remedy=remedy)


def save(split: Split, path: Path, *, dataset_hash: str) -> None:
    """Write a split as JSON, or as CSV when the name ends in .csv; :func:`read_parts` reads both back."""
    if path.name.endswith(".csv"):
        pairs = sorted((row, part) for part in PARTS for row in getattr(split, part).tolist())
        text = "row,part\n" + "".join(f"{row},{part}\n" for row, part in pairs)
    else:
        rows = {part: getattr(split, part).tolist() for part in PARTS}
        head = {"split": str(split).split(" ")[0], "hash": split.hash, "dataset_hash": dataset_hash}
        text = json.dumps({**head, **rows}) + "\n"
    files.write(path, text.encode())
