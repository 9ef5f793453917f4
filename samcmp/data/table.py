"""Read a CSV file as a user meant it, or say precisely why that cannot be done."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samcmp.errors import DataError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MISSING = frozenset({"", "nan", "na", "n/a", "null", "none"})  # lower case; a label that was not measured
FIELD_LIMIT = 1 << 28  # characters of one cell; the csv module's own limit hides what is wrong with a longer one
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, slots=True)
class Table:
    """A header and its rows; row i of ``rows`` is data row i of the file, header not counted."""

    where: str
    header: tuple[str, ...]
    rows: list[list[str]]

    def column(self, name: str) -> int:
        """Return the position of a column. Raises DataError when it is missing or its name occurs twice."""
        found = [i for i, title in enumerate(self.header) if title == name]
        if len(found) == 1:
            return found[0]
        if found:
            places = " and ".join(str(i + 1) for i in found)
            raise DataError(
                f"the column name {name!r} occurs {len(found)} times, as columns {places}",
                where=self.where,
                remedy="Rename the columns so that each name occurs once.",
            )
        raise DataError(f"there is no column {name!r}", where=self.where, remedy=self._columns_hint(name))

    def _columns_hint(self, name: str) -> str:
        if len(self.header) == 1:
            for delimiter, spoken in OTHER_DELIMITERS.items():
                if delimiter in self.header[0]:
                    return f"The file looks separated by {spoken}; save it with commas between the columns."
        close = nearest(name, self.header)
        return f"{f'Did you mean {close!r}? ' if close else ''}The columns are {self.columns}."

    @property
    def columns(self) -> str:
        """Name the columns for a message."""
        shown = ", ".join(repr(title) for title in self.header[:12])
        return f"{shown} and {len(self.header) - 12} more" if len(self.header) > 12 else shown

    def text(self, position: int) -> list[str]:
        """Return one column with outer blanks stripped."""
        return [row[position].strip() for row in self.rows]

    def numbers(self, positions: Sequence[int]) -> NDArray[np.float64]:
        """Return columns as (rows, columns) numbers, NaN where missing. Raises DataError for text or infinity."""
        import numpy as np

        out = np.empty((len(self.rows), len(positions)))
        for k, position in enumerate(positions):
            cells = [row[position] for row in self.rows]
            try:
                out[:, k] = [float(cell) if cell else np.nan for cell in cells]
            except ValueError:
                out[:, k] = self._numbers_with_care(cells, position)
            if np.isinf(out[:, k]).any():
                row = int(np.flatnonzero(np.isinf(out[:, k]))[0])
                raise DataError(
                    f"row {row}, column {self.header[position]!r}: {cells[row]!r} is not a finite number",
                    where=self.where,
                    remedy="Leave the cell empty where a label is missing. Rows are counted from 0 after the header.",
                )
        return out

    def _numbers_with_care(self, cells: list[str], position: int) -> list[float]:
        values, bad = [], []
        for row, cell in enumerate(cells):
            if cell.strip().lower() in MISSING:
                values.append(float("nan"))
                continue
            try:
                values.append(float(cell))
            except ValueError:
                bad.append(row)
        if bad:
            more = f" (and {len(bad) - 1:,} more such cells)" if len(bad) > 1 else ""
            raise DataError(
                f"row {bad[0]}, column {self.header[position]!r}: {shorten(cells[bad[0]])} is not a number{more}",
                where=self.where,
                remedy="A target column holds numbers, and empty cells where a label is missing. "
                "Rows are counted from 0 after the header.",
            )
        return values


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
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), remedy="Check the path.") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"cannot be read: {why}", where=str(path), remedy="Name a file that can be read.") from None


def parse(data: bytes, path: Path) -> Table:
    """Read a table from the bytes of ``path``: comma-separated, gzipped when its name ends in .gz.

    Raises DataError for what is not UTF-8, badly quoted, cut short, empty, or has rows of unequal length.
    """
    where = str(path)
    text = _decode(_unpacked(data, path), where)
    limit = csv.field_size_limit(FIELD_LIMIT)
    try:
        rows = _parse(text, where)
    finally:
        csv.field_size_limit(limit)
    if not rows or not any(cell.strip() for cell in rows[0]):
        raise DataError("the file is empty", where=where, remedy="It needs a header line and one line a molecule.")
    header = tuple(title.strip() for title in rows[0])
    width = len(header)
    body = rows[1:]
    for i, row in enumerate(body):
        if len(row) != width:
            raise DataError(
                f"row {i} has {len(row)} cells where the header has {width} columns",
                where=where,
                remedy="A cell that holds a comma must be in double quotes. Rows are counted from 0 after the header.",
            )
    if not body:
        raise DataError("there is a header but no row", where=where, remedy="It needs one line a molecule.")
    return Table(where, header, body)


def _unpacked(data: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(data) if path.name.endswith(".gz") else data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"the gzip file is damaged: {error}", where=str(path), remedy="Get it again.") from None


def _decode(data: bytes, where: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("the text is UTF-16", where=where, remedy="Save the file as CSV UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"line {line} is not UTF-8 text (byte 0x{data[error.start]:02x})",
            where=where,
            remedy="Save the file as CSV UTF-8; it may be in Latin-1 or Windows-1252 now.",
        ) from None


def _parse(text: str, where: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return [row for row in reader if row]
    except csv.Error as error:
        raise DataError(
            f"line {reader.line_num} is badly quoted: {error}",
            where=where,
            remedy="A cell with a comma or a quote in it must be in double quotes, and quotes inside it doubled.",
        ) from None
