"""What a file is, by its content: unpacked and decoded where it is text, named where it is no table at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any

from samcmp.errors import DataError

LARGEST = 1 << 32  # bytes of an unpacked table: a small archive can hold any number
BLOCK = 1 << 20
PARQUET = b"PAR1"
SAVE_AS = "Save it as CSV: a header line, then one line a molecule."
_PACKED: dict[bytes, tuple[str, Callable[..., Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
}
_DAMAGE = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError)
_BINARY = {
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"%PDF": "a PDF",
    b"\x89HDF": "an HDF5 file",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3": "a SQLite database",
    b"\x93NUMPY": "a NumPy array",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
_TEXT = {
    "<!doctype html": "an HTML page, perhaps of a download that failed",
    "<html": "an HTML page, perhaps of a download that failed",
    "<?xml": "an XML file",
    "version https://git-lfs": "a Git LFS pointer, not the file that it stands for",
    "{": "a JSON file",
    "[{": "a JSON file",
    "[[": "a JSON file",
    "@<tripos>": "a MOL2 file",
}


def unpack(data: bytes, where: str) -> bytes:
    """Return the content of a gzip, bzip2, xz or zip file, other content as it is.

    Raises DataError for a damaged or over-large archive, and for what is recognised as no table.
    """
    for magic, (name, opened) in _PACKED.items():
        if data.startswith(magic):
            return _content(name, lambda: opened(io.BytesIO(data), "rb"), where)  # noqa: B023
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # the second: an empty one
        return _zipped(data, where)
    for magic, what in _BINARY.items():
        if data.startswith(magic):
            raise no_table(what, where)
    if data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05" and data.endswith(b"."):
        raise no_table("a pickle", where, "It is never opened, because a pickle can run code. Save the table as CSV.")
    if data[257:262] == b"ustar":
        raise no_table("a tar archive", where, "Unpack it and name the table in it.")
    return data


def no_table(what: str, where: str, remedy: str = SAVE_AS) -> DataError:
    return DataError(f"is {what}, which is not read as a table", where=where, remedy=remedy)


def _content(name: str, opened: Callable[[], IO[bytes]], where: str) -> bytes:
    content = bytearray()
    try:
        with opened() as stream:
            while len(content) <= LARGEST and (block := stream.read(BLOCK)):  # one read would reserve it all
                content += block
    except _DAMAGE as error:
        raise DataError(f"the {name} file is damaged: {error}", where=where, remedy="Get it again.") from None
    if len(content) > LARGEST:
        raise DataError(f"unpacks to more than {LARGEST:,} bytes", where=where, remedy="Unpack and shorten it.")
    return bytes(content)


def _zipped(data: bytes, where: str) -> bytes:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _DAMAGE as error:
        raise DataError(f"the zip file is damaged: {error}", where=where, remedy="Get it again.") from None
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if any(name.startswith("xl/") for name in names):
        raise no_table("an Excel workbook", where, 'Save the sheet as "CSV UTF-8".')
    if "content.xml" in names:
        raise no_table("an OpenDocument file", where, "Save the sheet as CSV.")
    if names and all(name.endswith(".npy") for name in names):
        raise no_table("a NumPy archive", where)
    if len(names) != 1:
        found = ", ".join(map(repr, names[:5])) or "nothing"
        raise DataError(f"the zip file holds {found}: {len(names)} files", where=where, remedy="Leave one table in it.")
    return _content("zip", lambda: archive.open(names[0]), where)


def decode(data: bytes, where: str) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark, or in UTF-16 or UTF-32.

    Raises DataError for other encodings, and for text that is recognised as no table.
    """
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        name = "UTF-8" if encoding == "utf-8-sig" else encoding.upper()
        raise DataError(
            f"line {line} is not {name} text (byte 0x{data[error.start]:02x})",
            where=where,
            remedy="Save the file as CSV UTF-8; it may be in Latin-1 or Windows-1252 now, or damaged.",
        ) from None
    start = text[:200].lstrip().lower()
    for beginning, what in _TEXT.items():
        if start.startswith(beginning):
            raise no_table(what, where)
    if "\n$$$$" in text or "\nM  END" in text:
        raise no_table("an SDF or MOL file", where, "Write its molecules as a CSV with a column of SMILES.")
    return text.removeprefix("\ufeff")


def _encoding(data: bytes) -> str:
    if data.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "utf-32"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    sample = data[:400]
    for encoding, high, low in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        zeros = sample[high::2].count(0)
        if zeros > 3 and zeros > 0.8 * len(sample[high::2]) and not sample[low::2].count(0):
            return encoding
    return "utf-8-sig"
