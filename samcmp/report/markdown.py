"""A Comparison as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from samcmp.analysis.comparison import Comparison
from samcmp.printable import printable
from samcmp.report.grid import Entry, Grid
from samcmp.report.table import table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&-])")


def escape(text: str) -> str:
    """Make any text mean itself in Markdown and in the HTML it becomes; line breaks become blanks."""
    flat = printable(" ".join(text.split()))
    return _SPECIAL.sub(_escaped, flat)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    entity = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(character)
    if entity:
        return entity
    # between words these mean nothing; a backslash there would only be noise
    if character in "-+()!#" and match.start():
        return character
    return "\\" + character


def render(comparison: Comparison) -> str:
    """Return the table, footnotes, sentences and splits as Markdown, ending in a line break."""
    layout = table(comparison)
    lines = [f"**{escape(layout.recommendation)}**", "", escape(layout.rule), ""] if layout.recommendation else []
    lines += [*grid_lines(layout.main), *footnotes(layout.footnotes), *bullets(layout.main.remarks)]
    for headline, sentences in layout.verdicts:
        lines += ["", f"**{escape(headline)}**", *bullets(sentences)]
    for grid in layout.extras:
        lines += ["", f"**{escape(grid.title)}**", "", *grid_lines(grid), *bullets(grid.remarks)]
    lines += bullets(layout.remarks)
    if layout.splits:
        lines += ["", "Splits: " + ", ".join(f"`{printable(split.replace('`', ''))}`" for split in layout.splits)]
    return "\n".join(lines) + "\n"


def footnotes(texts: Sequence[str]) -> list[str]:
    """Return the lines of a table's footnotes, numbered from 1, each after a blank line."""
    return [line for i, text in enumerate(texts, start=1) for line in ("", f"<sup>{i}</sup> {escape(text)}")]


def bullets(texts: Sequence[str]) -> list[str]:
    """Return the lines of a list after a blank line; none where there is nothing to list."""
    return ["", *(f"- {escape(text)}" for text in texts)] if texts else []


def grid_lines(grid: Grid) -> list[str]:
    """Return the lines of a table."""
    lines = ["| " + " | ".join(escape(column.title) for column in grid.columns) + " |"]
    lines.append("|" + "|".join("---:" if column.right else ":---" for column in grid.columns) + "|")
    return lines + ["| " + " | ".join(_cell(entry) for entry in row) + " |" for row in grid.rows]


def _cell(entry: Entry) -> str:
    text = escape(entry.text)
    if entry.bold and text:
        text = f"**{text}**"
    return text + (f"<sup>{entry.note}</sup>" if entry.note is not None else "")
