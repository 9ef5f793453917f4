"""A printed table as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2  # characters between columns


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell of a table."""

    text: str
    bold: bool = False
    note: int | None = None  # number of its footnote
    style: str = ""  # colour on a terminal


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    right: bool = True
    foldable: bool = False  # may be broken over lines where the screen is narrow


@dataclass(frozen=True, slots=True)
class Grid:
    """Columns and rows; ``starts`` are the rows that open a group."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    starts: frozenset[int] = frozenset()
    title: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def names(self) -> range:
        """The first columns, which name a row."""
        return range(next((i for i, column in enumerate(self.columns) if column.right), len(self.columns)))

    def parts(self, widths: Sequence[int], width: int) -> list[list[int]]:
        """Part the columns into tables of at most ``width``; those that name a row are in each."""
        taken = sum(widths[i] + GAP for i in self.names)
        tables: list[list[int]] = []
        room = 0
        for i in range(len(self.names), len(self.columns)):
            needed = widths[i] + GAP
            if not tables or needed > room:
                tables.append([*self.names])
                room = width + GAP - taken
            tables[-1].append(i)
            room -= needed
        return tables or [[*self.names]]


class Footnotes:
    """Footnotes in the order of their first use, each text once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1
