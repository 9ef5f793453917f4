"""One archive with every dataset file and its SHA-256, for a machine without a network."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from samcmp.data.download import LARGEST
from samcmp.errors import DataError
from samcmp.files import writing

T = TypeVar("T")
SUMS = "SHA256SUMS"
ENDINGS = (".tar", ".tar.gz", ".tgz")  # of a bundle that is written; a zip is read, too
NAMED = 10  # members, in a message
LONGEST_READ = 1 << 20  # bytes; members are read in smaller blocks
SMALL, MOST_PACKED = 64 << 20, 100  # tables of molecules shrink to a tenth: more than this unpacked is no bundle
# What the decoders of a damaged or encrypted archive raise; OSError without a number is gzip's own.
DECODING = (zlib.error, lzma.LZMAError, RuntimeError, ValueError)


def write(path: Path, files: Sequence[tuple[str, Path]]) -> None:
    """Write files under their names into a tar archive (gzipped when the name ends in gz) with their checksums.

    The archive depends on names and contents alone, so making it twice gives the same bytes for a plain tar.
    Raises WriteError.
    """
    import hashlib

    sums = []
    with writing(path) as aside, tarfile.open(aside, "w:gz" if path.name.lower().endswith("gz") else "w") as archive:
        for file_name, file in sorted(files):
            content = file.read_bytes()
            sums.append(f"{hashlib.sha256(content).hexdigest()}  {file_name}\n")
            _add(archive, file_name, content)
        _add(archive, SUMS, "".join(sums).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def is_named_so(name: str) -> bool:
    """Whether a file of this name is taken for a bundle."""
    return name.lower().endswith((*ENDINGS, ".zip"))


@contextmanager
def member(path: Path, name: str, *, where: str) -> Iterator[IO[bytes]]:
    """Open one file of a bundle (tar or zip) for reading; nothing else of it is unpacked.

    The whole list of names is checked first: an archive with an absolute name, ``..`` or a link in it was made to
    write elsewhere, and one that unpacks to more than LARGEST to fill the disk; both are refused as a whole.
    ``where`` names the bundle in messages. Raises DataError.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe or a device could wait for ever
            raise DataError("is no file", where=where, remedy="Check the path given to --from.")
        with _zipped(path, name, where) if path.name.lower().endswith(".zip") else _tarred(path, name, where) as stream:
            yield stream
    except FileNotFoundError:
        raise DataError("no such bundle", where=where, remedy="Check the path given to --from.") from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, *DECODING) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"cannot be read: {error.strerror}", where=where, remedy="Check the bundle.") from None
        raise DataError(f"the bundle is damaged: {error}", where=where, remedy="Copy it again.") from None


@contextmanager
def _zipped(path: Path, name: str, where: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive:
        entries = {_safe(info.filename, where): info for info in archive.infolist() if not info.is_dir()}
        _check_size(sum(info.file_size for info in entries.values()), path.stat().st_size, where)
        with archive.open(_one(entries, name, where)) as stream:
            yield stream


@contextmanager
def _tarred(path: Path, name: str, where: str) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw, tar(raw, packed=path.stat().st_size, where=where) as (archive, members):
        file = archive.extractfile(_one(members, name, where))
        if file is None:
            raise DataError(f"{name} is no file", where=where)
        with file:
            yield file


@contextmanager
def tar(raw: IO[bytes], *, packed: int, where: str) -> Iterator[tuple[tarfile.TarFile, Mapping[str, tarfile.TarInfo]]]:
    """Open a tar archive of ``packed`` bytes, gzipped or not, and give its files by their names without folders.

    All names, kinds and sizes are checked first. A file is to be read in blocks below LONGEST_READ. Raises DataError.
    """
    with _unpacked(raw) as content, tarfile.open(fileobj=_Bounded(content, where), mode="r:") as archive:
        members = {}
        for info in archive:
            if not (info.isfile() or info.isdir()):
                raise _unsafe(info.name, "is a link or a device", where)
            if info.size < 0:
                raise _unsafe(info.name, "claims a negative size", where)
            checked = _safe(info.name, where)
            _check_size(
                info.offset_data + info.size, packed, where
            )  # before its bytes are unpacked to reach the next one
            if info.isfile():
                members[checked] = info
        yield archive, members


@contextmanager
def _unpacked(raw: IO[bytes]) -> Iterator[IO[bytes] | gzip.GzipFile]:
    packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    if not packed:
        yield raw
        return
    with gzip.open(raw) as content:
        yield content


class _Bounded(io.RawIOBase):
    """A stream of which no more than LONGEST_READ is taken into memory at once, whatever an archive's header claims."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile, where: str) -> None:
        self.source = source
        self.where = where

    def read(self, size: int = -1) -> bytes:
        if size > LONGEST_READ:
            raise _unsafe("of an extended header", f"claims {size / 2**20:,.0f} MiB", self.where)
        return self.source.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.source.seek(offset, whence)

    def tell(self) -> int:
        return self.source.tell()


def _check_size(size: int, packed: int, where: str) -> None:
    if size > min(LARGEST, max(SMALL, MOST_PACKED * packed)):
        raise DataError(
            f"it unpacks to {size / 2**30:,.1f} GiB, more than any bundle of datasets",
            where=where,
            remedy="This is not a bundle of `samcmp fetch --bundle`; nothing was read from it.",
        )


def _safe(name: str, where: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
        raise _unsafe(name, "leads out of the archive", where)
    return path.name


def _unsafe(name: str, why: str, where: str) -> DataError:
    return DataError(
        f"the entry {name!r} {why}",
        where=where,
        remedy="This is not a bundle of `samcmp fetch --bundle`; nothing was read from it.",
    )


def _one(entries: Mapping[str, T], name: str, where: str) -> T:
    if name not in entries:
        held = sorted(entries)
        more = f" and {len(held) - NAMED:,} more" if len(held) > NAMED else ""
        shown = ", ".join(entry[:60] for entry in held[:NAMED])
        raise DataError(
            f"there is no {name} in the bundle", where=where, remedy=f"It holds {shown or 'nothing'}{more}."
        )
    return entries[name]
