"""A printed table as data."""

from __future__ import annotations

from dataclasses import dataclass


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


class Footnotes:
    """Footnotes in the order of their first use, each text once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1
