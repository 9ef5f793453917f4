"""A Comparison on a terminal, with rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from samcmp.analysis.comparison import Comparison
from samcmp.report.grid import Entry, Grid
from samcmp.report.table import Table, compact, table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group
    from rich.table import Table as RichTable
    from rich.text import Text

GAP = 2  # characters between columns
FOLDED = 9  # characters of a column that may be broken over lines
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def render(comparison: Comparison) -> Group:
    """Return what to print: the table, its footnotes, a sentence an optimizer, and the splits' hashes.

    Names reach the screen as text, never as rich's markup.
    """
    from rich.console import Group
    from rich.text import Text

    layout = table(comparison)
    parts: list[object] = []
    if layout.recommendation:
        parts += [Text(layout.recommendation, style="bold"), Text(layout.rule, style="dim"), Text()]
    parts.append(Screen(compact(layout.main)) if layout.main.rows else Text("No Records match."))
    parts += [Text(f"{str(i).translate(SUPERSCRIPTS)} {text}") for i, text in enumerate(layout.footnotes, start=1)]
    parts += [Text(text, style="dim") for text in layout.main.remarks]
    for headline, sentences in layout.verdicts:
        parts += [Text(), Text(headline, style="bold")]
        parts += [_hanging(sentence) for sentence in sentences]
    for grid in layout.extras:
        parts += [Text(), Text(grid.title, style="bold"), Screen(grid), *(Text(remark) for remark in grid.remarks)]
    parts += _foot(layout)
    return Group(*parts)  # type: ignore[arg-type]


def write(comparison: Comparison, console: Console | None = None) -> None:
    """Print a Comparison."""
    from rich.console import Console

    (console or Console()).print(render(comparison))


class Screen:
    """A grid on a screen of any width: columns that do not fit go into a table below, beside the same names."""

    def __init__(self, layout: Grid) -> None:
        self.layout = layout

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RichTable | Text]:
        from rich.text import Text

        for i, chosen in enumerate(_fitting(self.layout, options.max_width)):
            if i:
                yield Text()
            yield _table(self.layout, chosen)


def _fitting(layout: Grid, width: int) -> list[list[int]]:
    """Part the columns into tables of at most ``width``; the first ones, which name a row, stand in each."""
    names = next((i for i, column in enumerate(layout.columns) if column.right), len(layout.columns))
    taken = sum(_width(layout, i) + GAP for i in range(names))
    tables: list[list[int]] = []
    room = 0
    for i in range(names, len(layout.columns)):
        needed = _width(layout, i) + GAP
        if not tables or needed > room:
            tables.append([*range(names)])
            room = width + GAP - taken
        tables[-1].append(i)
        room -= needed
    return tables or [[*range(names)]]


def _width(layout: Grid, i: int) -> int:
    column = layout.columns[i]
    widest = max([len(column.title), *(_text(row[i]).cell_len for row in layout.rows)])
    return min(widest, FOLDED) if column.foldable else widest


def _table(layout: Grid, chosen: Sequence[int]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable

    drawn = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in (layout.columns[i] for i in chosen):
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold" if column.foldable else "ellipsis",
            no_wrap=not column.foldable,
            min_width=FOLDED if column.foldable else None,
        )
    for i, row in enumerate(layout.rows):
        if i in layout.starts and i:
            drawn.add_section()
        drawn.add_row(*(_text(row[i]) for i in chosen))
    return drawn


def _text(entry: Entry) -> Text:
    from rich.text import Text

    text = Text(entry.text, style="bold" if entry.bold else entry.style)
    if entry.note is not None:
        text.append(str(entry.note).translate(SUPERSCRIPTS))
    return text


def _hanging(sentence: str) -> object:
    from rich.padding import Padding
    from rich.text import Text

    return Padding(Text(sentence), (0, 0, 0, 2))


def _foot(layout: Table) -> list[object]:
    from rich.text import Text

    parts: list[object] = []
    if layout.remarks:
        parts += [Text(), *(Text(remark, style="dim") for remark in layout.remarks)]
    if layout.splits:
        pairs = [" · ".join(layout.splits[i : i + 2]) for i in range(0, len(layout.splits), 2)]
        parts += [Text(), Text("splits  " + "\n        ".join(pairs), style="dim")]
    return parts
