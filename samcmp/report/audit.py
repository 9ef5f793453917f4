"""The tables of ``samcmp fetch --audit``: an Audit in, rich tables out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from samcmp.data.image_audit import ImageAudit
from samcmp.data.table import shorten

if TYPE_CHECKING:
    from samcmp.data.audit import Audit, TaskLabels

GROUPS = 12  # conflicting groups in the table
SHOWN = 40  # rejected rows in the table; the JSON lists all


def tables(audit: Audit | ImageAudit) -> list[Table]:
    """Return summary, labels and, where there are any, rejected rows."""
    if isinstance(audit, ImageAudit):
        return [_images(audit), _classes(audit)]
    found = [_summary(audit), _labels(audit)]
    if audit.rejected:
        found.append(_rejected(audit))
    return found


def _plain_text(text: str) -> Text:
    """Text from a file: never read as markup, never able to move the terminal's cursor."""
    return Text("".join(c if c.isprintable() else "?" for c in text))


def _plain(title: Text, *, caption: str | None = None, show_header: bool = True) -> Table:
    return Table(
        title=title,
        caption=caption,
        show_header=show_header,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )


def _two(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = _plain(_plain_text(title), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in rows:
        table.add_row(key, _plain_text(value))
    return table


def _summary(audit: Audit) -> Table:
    twins, sizes = audit.duplicates, audit.sizes
    left_out = sum(not rejected.used for rejected in audit.rejected)
    rescued = len(audit.rejected) - left_out
    scaffolds = (
        f"{audit.scaffolds:,}; {audit.single_scaffolds:,} hold one molecule; {audit.acyclic:,} molecules are acyclic; "
        f"largest groups {', '.join(f'{count:,}' for count in audit.largest_scaffolds)}"
    )
    percentiles = ", ".join(f"{value:g}" for value in sizes.percentiles.values())
    conflict = f"{twins.conflicting_groups:,} of {twins.groups:,} groups have different labels"
    if twins.largest_difference is not None and twins.conflicting_groups:
        conflict += f", by up to {twins.largest_difference:.4g}"
    rows = [
        ("file", f"{audit.file}, {audit.file_rows:,} rows"),
        ("molecules", f"{audit.molecules:,} used, {left_out:,} left out, {rescued:,} read without the valence check"),
        ("dataset hash", audit.dataset_hash),
        ("task", f"{audit.kind}, {len(audit.tasks)} task{'s' if len(audit.tasks) > 1 else ''}, {audit.metric}"),
        ("missing labels", _missing(audit)),
        ("duplicates", f"{twins.repeated_molecules:,} rows repeat a molecule, {twins.repeated_strings:,} its text"),
        ("conflicts", conflict if twins.groups else "none"),
        *([("their rows", _groups(twins.rows))] if twins.rows else []),
        ("heavy atoms", f"mean {sizes.mean:.2f}; 0, 5, 25, 50, 75, 95, 100 %: {percentiles}"),
        (
            "unusual",
            f"{sizes.large:,} of 100 heavy atoms and more, {sizes.single_atom:,} of one, {sizes.no_bond:,} without a "
            f"bond, {sizes.fragments:,} of several fragments, {sizes.dummies:,} with an atom *",
        ),
        ("elements", f"{sizes.elements:,}"),
        ("scaffolds", scaffolds),
        ("RDKit", audit.rdkit),
        *(("note", note) for note in audit.notes),
    ]
    return _two(audit.dataset, rows)


def _groups(groups: Sequence[Sequence[int]]) -> str:
    shown = "; ".join(", ".join(map(str, group)) for group in groups[:GROUPS])
    return f"{shown}; and {len(groups) - GROUPS:,} more groups" if len(groups) > GROUPS else shown


def _missing(audit: Audit) -> str:
    total = sum(task.labels + task.missing for task in audit.tasks)
    gone = sum(task.missing for task in audit.tasks)
    share = f"{100 * gone / total:.2f} %"
    return f"{share}; {audit.without_labels:,} molecules without any label"


def _labels(audit: Audit) -> Table:
    binary = audit.kind == "classification"
    if audit.kind == "multiclass":
        return _shares(audit.tasks[0])
    names = (
        ["positive", "negative", "missing", "% positive"]
        if binary
        else ["labels", "missing", "mean", "std", "min", "max"]
    )
    table = _plain(_plain_text("Labels of the molecules used"))
    table.add_column("task", overflow="fold")
    for name in names:
        table.add_column(name, justify="right")
    for task in audit.tasks:
        cells: Sequence[str]
        if binary:
            share = f"{100 * (task.positive or 0) / task.labels:.1f}" if task.labels else "n/a"
            cells = [f"{task.positive:,}", f"{task.negative:,}", f"{task.missing:,}", share]
        else:
            figures = (task.mean, task.std, task.minimum, task.maximum)
            cells = [f"{task.labels:,}", f"{task.missing:,}", *("n/a" if v is None else f"{v:.5g}" for v in figures)]
        table.add_row(_plain_text(task.task), *cells)
    return table


def _shares(task: TaskLabels) -> Table:
    """Lay out how many molecules each class of a multiclass task has."""
    table = _plain(_plain_text(f"Classes of {task.task}"))
    table.add_column("class", overflow="fold")
    for name in ("molecules", "%"):
        table.add_column(name, justify="right")
    for name, count in task.classes.items():
        table.add_row(_plain_text(name), f"{count:,}", f"{100 * count / task.labels:.1f}")
    return table


def _images(audit: ImageAudit) -> Table:
    channels = ", ".join(f"{mean:.4f} ± {std:.4f}" for mean, std in zip(audit.mean, audit.std, strict=True))
    rows = [
        ("file", audit.file),
        ("SHA-256", audit.sha256),
        *([("MD5, published", audit.md5)] if audit.md5 else []),
        ("images", f"{audit.images:,}: {', '.join(f'{n:,} {part}' for part, n in audit.parts.items())}"),
        ("dataset hash", audit.dataset_hash),
        ("task", f"{audit.kind}, {len(audit.classes)} classes, {audit.metric}"),
        ("duplicates", f"{audit.repeated:,} images repeat another, {audit.across_parts:,} of the test one of training"),
        ("conflicts", f"{audit.conflicting:,} groups of equal images have different classes"),
        ("red, green, blue", f"mean ± SD over the training images {channels}"),
        *(("note", note) for note in audit.notes),
    ]
    return _two(audit.dataset, rows)


def _classes(audit: ImageAudit) -> Table:
    table = _plain(_plain_text("Classes"))
    table.add_column("class", overflow="fold")
    for part in audit.parts:
        table.add_column(part, justify="right")
    for name, counts in audit.classes.items():
        table.add_row(_plain_text(name), *(f"{count:,}" for count in counts))
    return table


def _rejected(audit: Audit) -> Table:
    more = len(audit.rejected) - SHOWN
    caption = f"and {more:,} more; --format json lists all" if more > 0 else None
    table = _plain(_plain_text("Rows that RDKit rejects or that are left out"), caption=caption)
    table.add_column("row", justify="right")
    table.add_column("used")
    table.add_column("SMILES", overflow="fold")
    table.add_column("reason", overflow="fold")
    for rejected in audit.rejected[:SHOWN]:
        text = shorten(rejected.smiles)
        table.add_row(
            f"{rejected.row:,}", "yes" if rejected.used else "no", _plain_text(text), _plain_text(rejected.reason)
        )
    return table
