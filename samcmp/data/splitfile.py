"""Splits in files: JSON or CSV of row numbers, as a user brings them and as ``--save-split`` writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samcmp import files
from samcmp.data import table
from samcmp.data.molecules import Molecules
from samcmp.errors import DataError, changed

if TYPE_CHECKING:
    from samcmp.data.split import Split

FORM = 'Write {"train": [...], "valid": [...], "test": [...]}.'
PARTS = ("train", "valid", "test")
OTHER_NAMES = {"val": "valid", "validation": "valid", "dev": "valid", "training": "train"}


def read_parts(
    path: Path, molecules: Molecules, *, sha256: str = ""
) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Read train, valid and test rows from JSON ({"train": [...], ...}) or CSV (columns row and part).

    Rows are those of the published file, 0-based. Raises DataError for rows that overlap, repeat, are out of range or
    are not used, for a file that was saved for other data, and for one that has not the ``sha256`` that is given.
    """
    data = table.content(path)
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise changed(path)
    if path.name.endswith(".json"):
        parts = _from_json(data, path, molecules)
    else:
        parts = _from_csv(data, path)
    _check(parts, molecules, where=str(path))
    return parts["train"], parts["valid"], parts["test"]


def _from_json(data: bytes, path: Path, molecules: Molecules) -> Mapping[str, list[int]]:
    where = str(path)
    try:
        content: Any = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON: {error}", where=where, remedy=FORM) from None
    if not isinstance(content, dict):
        raise DataError("is not a JSON object", where=where, remedy=FORM)
    made_for = content.get("dataset_hash")
    if made_for is not None and made_for != molecules.dataset_hash:
        raise DataError(
            f"the split was saved for the dataset hash {str(made_for)[:16]!r}, {molecules.name} has "
            f"{molecules.dataset_hash[:16]!r}",
            where=where,
            remedy="Use the same data, or delete the line dataset_hash to apply the row numbers all the same.",
        )
    parts: dict[str, list[int]] = {}
    for key, value in content.items():
        part = OTHER_NAMES.get(key, key)
        if part not in PARTS:
            continue
        if part in parts:
            raise DataError(f"the part {part!r} is given twice", where=where)
        if not isinstance(value, list) or not all(type(row) is int for row in value):
            raise DataError("expected a list of row numbers", where=f"{where}, key {key}")
        parts[part] = value
    return parts


def _from_csv(data: bytes, path: Path) -> Mapping[str, list[int]]:
    content = table.parse(data, path)
    rows = content.text(content.column("row"))
    labels = content.text(content.column("part"))
    parts: dict[str, list[int]] = {}
    for line, (row, label) in enumerate(zip(rows, labels, strict=True)):
        part = OTHER_NAMES.get(label.lower(), label.lower())
        if part not in PARTS:
            raise DataError(
                f"line {line + 2}: {table.shorten(label)} is no part",
                where=str(path),
                remedy="The parts are train, valid and test.",
            )
        if not (row.isascii() and row.isdigit() and len(row) < 19):
            raise DataError(f"line {line + 2}: {table.shorten(row)} is no row number", where=str(path))
        parts.setdefault(part, []).append(int(row))
    return parts


def _check(parts: Mapping[str, list[int]], molecules: Molecules, *, where: str) -> None:
    for part in PARTS:
        if not parts.get(part):
            raise DataError(f"the part {part!r} is missing or empty", where=where, remedy="All three parts are needed.")
    owner: dict[int, str] = {}
    used = set(molecules.rows.tolist())
    last = max(used)
    for part in PARTS:
        for row in parts[part]:
            if row in owner:
                both = "twice in" if owner[row] == part else f"in {owner[row]} and in"
                raise DataError(f"row {row} is {both} {part}", where=where, remedy="Each row belongs to one part.")
            if row not in used:
                why = "out of range" if not 0 <= row <= last else "not among the molecules that are used"
                raise DataError(
                    f"row {row} in {part} is {why}",
                    where=where,
                    remedy=f"Rows of {molecules.name} are counted from 0 after the header, up to {last}.",
                )
            owner[row] = part


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
