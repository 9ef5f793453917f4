"""A table of the user's own as a dataset: its card, with what it does not say guessed from its usable rows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from samcmp.data import gate, labels, table
from samcmp.data.cards import METRICS, DatasetCard, Kind, shipped_folder
from samcmp.errors import UsageError, unknown


def user_card(
    path: Path,
    smiles_column: str,
    targets: Sequence[str],
    task: str | None = None,
    *,
    metric: str | None = None,
    split_column: str = "",
    content: bytes | None = None,
) -> DatasetCard:
    """Make the card of a user's table, or of its ``content``.

    Where ``task`` is not given it is guessed from the labels, and a note says so. Only rows that hold a molecule
    decide anything. Raises UsageError for columns that contradict each other, DataError for a table that nothing
    can be learnt from.
    """
    rows = table.parse(table.content(path) if content is None else content, path)
    where = str(path)
    if not targets:
        remedy = f"Name one with --target. The columns are {rows.columns}."
        raise UsageError("no target column is named", where=where, remedy=remedy)
    if len(set(targets)) != len(targets):
        raise UsageError("a target column is named twice", where=where, remedy="Name each once.")
    if smiles_column in targets:
        remedy = "Name the two with --smiles-column and --target."
        raise UsageError(f"{smiles_column!r} is both SMILES and target", where=where, remedy=remedy)
    if split_column:
        rows.column(split_column, option="--split-column")
    if task is not None and task not in METRICS:
        raise unknown("task", task, METRICS, where="--task")
    if task == "multiclass" and len(targets) > 1:
        remedy = "Name one --target; run the command once for each."
        raise UsageError("a multiclass task has one target column", where="--task multiclass", remedy=remedy)
    used = gate.usable(
        rows,
        smiles=rows.column(smiles_column, option="--smiles-column"),
        targets=[rows.column(target, option="--target") for target in targets],
        multiclass=task == "multiclass",
    )
    notes: tuple[str, ...] = ()
    if task is None:
        task, guessed = labels.guess(used.y)
        notes = (guessed,)
    kind: Kind = next(one for one in METRICS if one == task)
    if metric is not None and metric not in METRICS[kind]:
        raise unknown(f"metric of a {kind}", metric, METRICS[kind], where="--metric")
    labels.check(kind, used.y, tasks=targets, rows=used.rows, where=where)
    return DatasetCard(
        name=_user_name(path),
        title=path.name,
        smiles_column=smiles_column,
        target_columns=tuple(targets),
        task=kind,
        metric=metric or METRICS[kind][0],
        file_name=path.name,
        split_column=split_column,
        file_rows=len(rows),
        classes=used.classes,
        data=path,
        notes=notes,
        shortage=labels.shortage(kind, used.y, tasks=targets, rows=used.rows),
    )


_ENDINGS = re.compile(r"(\.(csv|tsv|tab|txt|parquet|pq))?(\.(gz|bz2|xz|zip))?$")


def _user_name(path: Path) -> str:
    """Make a dataset's name from a file's, in any script; never that of a shipped card, which another set has."""
    stem = unicodedata.normalize("NFC", _ENDINGS.sub("", path.name.lower()))
    kept = "".join(c if c in "._-" or unicodedata.category(c)[0] in "LMN" else "-" for c in stem)
    name = re.sub("-+", "-", kept).strip("-._")[:48] or "data"
    return f"{name}-csv" if (shipped_folder() / f"{name}.toml").is_file() else name
