"""A Comparison as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

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
    lines += grid_lines(layout.main)
    for i, text in enumerate(layout.footnotes, start=1):
        lines += ["", f"<sup>{i}</sup> {escape(text)}"]
    lines += ["", *(f"- {escape(text)}" for text in layout.main.remarks)] if layout.main.remarks else []
    for headline, sentences in layout.verdicts:
        lines += ["", f"**{escape(headline)}**", ""]
        lines += [f"- {escape(sentence)}" for sentence in sentences]
    for grid in layout.extras:
        lines += ["", f"**{escape(grid.title)}**", "", *grid_lines(grid)]
        lines += ["", *(f"- {escape(remark)}" for remark in grid.remarks)] if grid.remarks else []
    if layout.remarks:
        lines += ["", *(f"- {escape(remark)}" for remark in layout.remarks)]
    if layout.splits:
        lines += ["", "Splits: " + ", ".join(f"`{printable(split.replace('`', ''))}`" for split in layout.splits)]
    return "\n".join(lines) + "\n"


def grid_lines(grid: Grid) -> list[str]:
    lines = ["| " + " | ".join(escape(column.title) for column in grid.columns) + " |"]
    lines.append("|" + "|".join("---:" if column.right else ":---" for column in grid.columns) + "|")
    return lines + ["| " + " | ".join(_cell(entry) for entry in row) + " |" for row in grid.rows]


def _cell(entry: Entry) -> str:
    text = escape(entry.text)
    if entry.bold and text:
        text = f"**{text}**"
    return text + (f"<sup>{entry.note}</sup>" if entry.note is not None else "")
