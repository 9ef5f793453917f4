"""Read a table as its owner meant it, or say precisely why that cannot be done."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from samcmp import files
from samcmp.data import unpack
from samcmp.errors import DataError, nearest

if TYPE_CHECKING:
    import pandas as pd

FIELD_LIMIT = 1 << 28  # characters of one cell; the csv module's own limit hides what is wrong with a longer one
DELIMITERS = (",", "\t", ";", "|")
SAMPLE = 1 << 16  # characters that decide the delimiter
COUNTED = "Rows are counted from 0 after the header."


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A header and its rows; row i of ``frame`` is data row i of the file, header not counted."""

    where: str
    header: tuple[str, ...]
    frame: pd.DataFrame  # one column a title, by position
    delimiter: str = ","  # empty for a file that is no text

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str, option: str = "") -> int:
        """Return the position of a column. Raises DataError when it is missing or its name occurs twice.

        Args:
            option: the one that names the column, for the remedy.
        """
        places = [i for i, title in enumerate(self.header) if title == name]
        if len(places) == 1:
            return places[0]
        if places:
            raise DataError(
                f"the column name {name!r} occurs {len(places)} times, as columns "
                f"{' and '.join(str(i + 1) for i in places)}",
                where=self.where,
                remedy="Rename the columns so that each name occurs once.",
            )
        if _is_data(self.header):
            raise DataError(
                f"there is no column {name!r}: the first line is data, {self.columns}",
                where=self.where,
                remedy="Add a first line with the names of the columns.",
            )
        close = nearest(name, self.header)
        meant = f"Did you mean {close!r}? " if close else ""
        named = f"Name one with {option}. " if option else ""
        hint = f"{meant}{named}The columns are {self.columns}."
        raise DataError(f"there is no column {name!r}", where=self.where, remedy=hint)

    @property
    def columns(self) -> str:
        """Name the columns for a message."""
        shown = ", ".join(shorten(title) for title in self.header[:12])
        return f"{shown} and {len(self.header) - 12} more" if len(self.header) > 12 else shown

    def text(self, position: int) -> list[str]:
        """Return one column with outer blanks stripped, "" where Parquet has no value."""
        column = self.frame.iloc[:, position]
        if self.delimiter:
            return [cell.strip() for cell in column]
        return ["" if gone else str(cell).strip() for cell, gone in zip(column.tolist(), column.isna(), strict=True)]


def _is_data(header: tuple[str, ...]) -> bool:
    """Whether what stands for column names is a molecule, or numbers beside text: a file without a header."""
    from samcmp.graphs.featurize import parse

    for title in header:
        words = title.split()
        if words and any(sign in words[0] for sign in "()=#[]123"):
            try:
                parse(words[0])
            except DataError:
                continue
            return True
    return False


def shorten(text: str, limit: int = 60) -> str:
    """Quote a piece of a file for a message: as it is where it prints, else escaped; cut where it is long."""
    start = text[:limit]
    shown = f"'{start}'" if start.isprintable() else ascii(start)
    return shown if len(text) <= limit else f"{shown[:-1]}...' ({len(text):,} characters)"


def read(path: Path) -> Table:
    """Read a file with a table. Raises DataError as :func:`content` and :func:`parse` do."""
    return parse(content(path), path)


def content(path: Path) -> bytes:
    """Return the bytes of a user's file. Raises DataError where it cannot be read."""
    try:
        return files.read(path)
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), remedy="Check the path.") from None
    except IsADirectoryError:
        raise DataError("is a folder", where=str(path), remedy="Name a file in it.") from None
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"cannot be read: {why}", where=str(path), remedy="Name a file that can be read.") from None


def parse(data: bytes, path: Path) -> Table:
    """Read a table from the bytes of ``path``: CSV with any usual delimiter, or Parquet; gzip, bzip2, xz and zip, too.

    Raises DataError for what is no such table, is badly quoted, cut short or empty, or has rows of unequal length.
    """
    where = str(path)
    data = unpack.unpack(data, where)
    table = _parquet(data, where) if data.startswith(unpack.PARQUET) else _csv(unpack.decode(data, where), where)
    if not len(table):
        raise DataError("there is a header but no row", where=where, remedy="It needs one line a molecule.")
    return table


def _parquet(data: bytes, where: str) -> Table:
    import pandas as pd
    import pyarrow

    try:
        frame = pd.read_parquet(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError, ValueError, NotImplementedError) as error:
        text = " ".join(str(error).split())[:200]
        raise DataError(f"is Parquet that cannot be read: {text}", where=where, remedy="Get it again.") from None
    return Table(where, tuple(str(title).strip() for title in frame.columns), frame, delimiter="")


def _csv(text: str, where: str) -> Table:
    import pandas as pd

    if text[:4].lower() == "sep=":  # a line that spreadsheets write for each other
        text = text.partition("\n")[2]
    with _long_cells():
        delimiter = _delimiter(text)
        header = next(_records(text, delimiter), [])
        if not any(title.strip() for title in header):
            raise DataError("the file is empty", where=where, remedy="It needs a header line and one line a molecule.")
        try:
            frame = pd.read_csv(
                io.StringIO(text, newline=""),
                sep=delimiter,
                engine="python",  # the only one that refuses bad quotes and tells a short row from empty cells
                header=None,
                names=range(len(header) + 1),
                index_col=False,
                dtype=object,
                na_filter=False,
            )
        except (pd.errors.ParserError, csv.Error) as error:
            raise _bad_row(text, delimiter, width=len(header), where=where, otherwise=str(error)) from None
        if frame[len(header) - 1].isna().any() or frame[len(header)].notna().any():
            raise _bad_row(text, delimiter, width=len(header), where=where, otherwise="rows of unequal length")
    body = frame.iloc[1:, : len(header)].reset_index(drop=True)
    return Table(where, tuple(title.strip() for title in header), body, delimiter)


@contextmanager
def _long_cells() -> Iterator[None]:
    limit = csv.field_size_limit(FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the rows that pandas counts: a blank line is none."""
    return filter(_is_row, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def _is_row(record: list[str]) -> bool:
    return len(record) > 1 or bool(record and record[0].strip())


def _delimiter(text: str) -> str:
    """Choose the delimiter that parts the first rows into equally many cells, and into most."""

    def fit(delimiter: str) -> tuple[bool, int]:
        widths = [len(record) for record in islice(_records(text[:SAMPLE], delimiter), 21)]
        if len(text) > SAMPLE and len(widths) > 1:
            del widths[-1]  # the sample may end within it
        width = widths[0] if widths else 1
        return width > 1 and set(widths) == {width}, width

    return max(DELIMITERS, key=fit)


def _bad_row(text: str, delimiter: str, *, width: int, where: str, otherwise: str) -> DataError:
    """Say which row cannot be read: it is looked for only when reading has failed."""
    records = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = -1  # the header's
    try:
        for record in records:
            if not _is_row(record):
                continue
            if len(record) != width:
                return DataError(
                    f"row {number} has {len(record)} cells where the header has {width} columns",
                    where=where,
                    remedy=f"A cell that holds the delimiter {delimiter!r} must be in double quotes. {COUNTED}",
                )
            number += 1
    except csv.Error as error:
        return DataError(
            f"line {records.line_num} is badly quoted: {error}",
            where=where,
            remedy="A cell with a delimiter or a quote in it must be in double quotes, and quotes inside it doubled.",
        )
    return DataError(f"cannot be read: {otherwise}", where=where, remedy=unpack.SAVE_AS)
