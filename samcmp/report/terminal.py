"""A Comparison on a terminal, with rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from samcmp.analysis.comparison import Comparison
from samcmp.report.grid import GAP, Entry, Grid
from samcmp.report.table import Table, compact, table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group
    from rich.table import Table as RichTable
    from rich.text import Text

FOLDED = 9  # characters of a column that may be broken over lines
LONGEST_SPLIT = 34  # characters, where two stand beside each other on 80
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
    parts += footnotes(layout.footnotes)
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


def footnotes(texts: Sequence[str]) -> list[Text]:
    """Return the footnotes of a table, numbered from 1, a line each."""
    from rich.text import Text

    return [Text(f"{str(i).translate(SUPERSCRIPTS)} {text}") for i, text in enumerate(texts, start=1)]


class Screen:
    """A grid on a screen of any width: columns that do not fit go into a table below, beside the same names."""

    def __init__(self, layout: Grid) -> None:
        self.layout = layout

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RichTable | Text]:
        from rich.text import Text

        widths = _widths(self.layout, options.max_width)
        for i, chosen in enumerate(self.layout.parts(widths, options.max_width)):
            if i:
                yield Text()
            yield _table(self.layout, chosen, _widened(self.layout, chosen, widths, options.max_width))


def _widths(layout: Grid, width: int) -> list[int]:
    """The least room of each column: names are folded where they take more than half, or what a column beside needs."""
    whole = [_whole(layout, i) for i in range(len(layout.columns))]
    widths = [min(w, FOLDED) if c.foldable else w for w, c in zip(whole, layout.columns, strict=True)]
    names = layout.names
    beside = [w + GAP for w in widths[len(names) :]]
    room = min(width // 2, width - max(beside)) if beside else width + GAP
    while sum(widths[i] + GAP for i in names) > room:
        widest = max(names, key=lambda i: widths[i])
        if widths[widest] <= FOLDED:
            break
        widths[widest] -= 1
    return widths


def _widened(layout: Grid, chosen: Sequence[int], widths: Sequence[int], width: int) -> dict[int, int]:
    """Give the room that a table leaves to its folded columns, the narrowest first."""
    given = {i: widths[i] for i in chosen}
    folded = [i for i in chosen if widths[i] < _whole(layout, i)]
    for _ in range(width + GAP - sum(w + GAP for w in given.values())):
        folded = [i for i in folded if given[i] < _whole(layout, i)]
        if folded:
            given[min(folded, key=lambda i: given[i])] += 1
    return given


def _whole(layout: Grid, i: int) -> int:
    return max([len(layout.columns[i].title), *(_text(row[i]).cell_len for row in layout.rows)])


def _table(layout: Grid, chosen: Sequence[int], widths: Mapping[int, int]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable

    drawn = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for i in chosen:
        column = layout.columns[i]
        folded = widths[i] < _whole(layout, i)
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold" if folded else "ellipsis",
            no_wrap=not folded,
            width=widths[i] if folded else None,
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
        beside = 2 if max(map(len, layout.splits)) <= LONGEST_SPLIT else 1
        lines = [" · ".join(layout.splits[i : i + beside]) for i in range(0, len(layout.splits), beside)]
        parts += [Text(), Text("splits  " + "\n        ".join(lines), style="dim")]
    return parts
