"""Files that appear under their name whole or not at all, and what is said when the system refuses to write."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from samcmp.errors import WriteError

CACHE = "SAMCMP_CACHE"
ELSEWHERE = "Make room, or name another place."
_WHY = {
    errno.ENOSPC: "the disk is full",
    getattr(errno, "EDQUOT", -1): "the disk quota is used up",
    errno.EFBIG: "the file would be larger than is allowed",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "there is no permission to write",
    errno.EPERM: "there is no permission to write",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder",
}


@contextlib.contextmanager
def writing(path: Path, *, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """Yield an empty file beside ``path`` that takes its place when the block ends well and is removed otherwise.

    The bytes are on the disk before the name is, so a power cut leaves the old file or the new one. Missing folders
    are made. A link keeps pointing where it did; a device or a pipe is written into. Of several processes that write
    one path the last stays. Raises WriteError.
    """
    with refusals(path, remedy=remedy):
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if target.exists() and not target.is_file():
            with tempfile.TemporaryDirectory() as folder:
                aside = Path(folder) / "content"
                yield aside
                target.write_bytes(aside.read_bytes())
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.parent / f".samcmp-{os.urandom(6).hex()}.part"
        aside.touch(exist_ok=False)
        try:
            yield aside
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)


def write(path: Path, data: bytes, *, remedy: str = ELSEWHERE) -> None:
    """Write ``data`` so that ``path`` holds all of it or what it held before. Raises WriteError."""
    with writing(path, remedy=remedy) as aside:
        aside.write_bytes(data)


@contextlib.contextmanager
def alone(path: Path, *, remedy: str = ELSEWHERE) -> Iterator[None]:
    """Wait until no other process is inside the same block for ``path``. Makes missing folders; raises WriteError."""
    from filelock import FileLock

    lock = FileLock(path.with_name(path.name + ".lock"))
    with refusals(path, remedy=remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def refusals(path: Path, *, remedy: str = ELSEWHERE) -> Iterator[None]:
    """Turn what the system says to writing ``path`` into a WriteError with its cause and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the system's word: a decoder's or a server's
            raise
        why = _WHY.get(error.errno, error.strerror)
        raise WriteError(f"cannot be written: {why}", where=str(path), remedy=remedy) from None


def cache_folder() -> Path:
    """Return the folder for everything that can be made again: SAMCMP_CACHE, or the platform's cache folder."""
    named = os.environ.get(CACHE)
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("samcmp", appauthor=False))
