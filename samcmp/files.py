"""Files that hold their new content whole or their old one, and what is said when the system refuses to write."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import shutil
import stat
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from samcmp.errors import ConfigError, WriteError
from samcmp.locks import locked

CACHE = "SAMCMP_CACHE"
ELSEWHERE = "Make room, or name another place."
QUIET_SECONDS = 15.0  # a file of the cache is often made in less: no news
_log = logging.getLogger("samcmp")
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
    errno.EBADF: "it is not open for writing",
    errno.EPIPE: "its reader has gone",
}
_NO_NEW_FILE = {errno.EACCES, errno.EPERM, errno.EROFS}  # said of a folder
_NO_RENAME = {errno.EACCES, errno.EPERM, errno.EBUSY, errno.EXDEV}  # said of a mount point, or in a sticky folder


@contextlib.contextmanager
def writing(path: Path, *, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """Yield an empty file whose content ``path`` takes when the block ends well; else ``path`` stays as it was.

    The new file gets the name by a rename, after its bytes are on the disk, so a power cut leaves the old content or
    the new. Missing folders are made, links are followed, an old file's mode is kept. Where a rename is refused or
    would change more than the content (hard links, another owner, a mounted file, a folder that takes no new file) the
    old file is overwritten; a device, a pipe or a stream of this process (/dev/stdout) is written into. Of several
    processes that write one path the last stays. Raises WriteError.
    """
    with refusals(path, remedy=remedy):
        target = _target(path)
        aside = None if isinstance(target, int) else _new_beside(target)
        if isinstance(target, int) or aside is None:
            with temporary_folder() as folder:
                aside = folder / "content"
                aside.touch()
                yield aside
                with aside.open("rb") as content:
                    _overwrite(target, content)
            return
        try:
            yield aside
            _rename(aside, target)
        finally:
            aside.unlink(missing_ok=True)


def write(path: Path, data: bytes, *, remedy: str = ELSEWHERE) -> None:
    """Write ``data`` as :func:`writing` does, without a temporary folder. Raises WriteError."""
    with refusals(path, remedy=remedy):
        target = _target(path)
        aside = None if isinstance(target, int) else _new_beside(target)
        if isinstance(target, int) or aside is None:
            _overwrite(target, io.BytesIO(data))
            return
        try:
            aside.write_bytes(data)
            _rename(aside, target)
        finally:
            aside.unlink(missing_ok=True)


def open_stream(path: Path) -> int | None:
    """Return the descriptor that ``path`` names, as /dev/stdout and the shell's ``>( )`` do, or None.

    The file behind it must not be opened by its name: that would lose the position, and the shell's ``>>``.
    """
    name = os.fspath(path)
    for _ in range(40):  # the most links that Linux follows
        folder, last = os.path.split(name)
        if last.isdecimal() and os.path.realpath(folder) in {f"/proc/{os.getpid()}/fd", "/dev/fd"}:
            return int(last)
        if not os.path.islink(name):
            return None
        name = os.path.join(folder, os.readlink(name))
    return None


def _target(path: Path) -> Path | int:
    stream = open_stream(path)
    if stream is not None:
        return stream
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    return target


def _new_beside(target: Path) -> Path | None:
    """Make an empty file in the folder of ``target``, which a rename can put in its place; None where it must not."""
    old = target.stat() if target.exists() else None
    if old is not None and (not stat.S_ISREG(old.st_mode) or old.st_nlink > 1):
        return None
    aside = target.parent / f".samcmp-{os.urandom(6).hex()}.part"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.touch(exist_ok=False)
    except OSError as error:
        if old is not None and error.errno in _NO_NEW_FILE:
            return None
        raise
    new = aside.stat()
    if old is not None and (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        aside.unlink()
        return None
    return aside


def _rename(aside: Path, target: Path) -> None:
    with aside.open("rb") as file:
        os.fsync(file.fileno())
        old = target.stat() if target.exists() else None
        if old is not None:
            aside.chmod(stat.S_IMODE(old.st_mode))
        try:
            os.replace(aside, target)
        except OSError as error:
            if old is None or error.errno not in _NO_RENAME:
                raise
            _overwrite(target, file)


def _overwrite(target: Path | int, content: IO[bytes]) -> None:
    """Write into what is there: a stream from where it stands, a file from its beginning."""
    if isinstance(target, int) or not target.is_file():
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with open(target, "wb", closefd=not isinstance(target, int)) as out:
            shutil.copyfileobj(content, out)
        return
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    with open(os.open(target, os.O_WRONLY), "wb") as out:
        old_size = os.fstat(out.fileno()).st_size
        if size > old_size and hasattr(os, "posix_fallocate"):
            try:  # a full disk says so while the old content is whole
                os.posix_fallocate(out.fileno(), 0, size)
            except OSError as error:
                os.truncate(out.fileno(), old_size)
                if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
                    raise
        shutil.copyfileobj(content, out)
        out.truncate(size)
        out.flush()
        os.fsync(out.fileno())


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that is removed afterwards. Raises WriteError where the system has no place for one."""
    try:
        made = tempfile.TemporaryDirectory(prefix="samcmp-")
    except OSError:
        raise WriteError(
            "there is no folder for temporary files that can be written", remedy="Name one with TMPDIR=FOLDER."
        ) from None
    with made as folder:
        yield Path(folder)


@contextlib.contextmanager
def alone(path: Path, *, remedy: str = ELSEWHERE) -> Iterator[None]:
    """Wait until no other process is inside the same block for ``path``. Makes missing folders; raises WriteError."""
    lock = path.with_name(path.name + ".lock")
    with contextlib.ExitStack() as held:
        with refusals(path, remedy=remedy):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(lock, what=str(path), say=_log.warning, quiet_seconds=QUIET_SECONDS))
        yield


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


def read(path: Path, *, once: bool = False) -> bytes:
    """Return the bytes of a file. Raises OSError, also for what would be waited for or has no end: a pipe, a device.

    ``once``: nobody reads it again, so that what the shell makes of ``<( )`` will do.
    """
    try:
        kind = path.stat().st_mode
    except ValueError as error:  # a zero in its name
        raise OSError(errno.EINVAL, str(error)) from None
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        if open_stream(path) is None:
            raise OSError(errno.ESPIPE, "it is a pipe or a device, not a file")
        if not once:
            raise OSError(errno.ESPIPE, "it is a stream, and it is read more than once: keep it in a file first")
    return path.read_bytes()


def read_toml(path: Path, *, remedy: str) -> dict[str, Any]:
    """Read a TOML file, with or without a byte order mark. Raises ConfigError."""
    try:
        table = tomllib.loads(io.TextIOWrapper(io.BytesIO(read(path, once=True)), "utf-8-sig").read())
        _check_whole_numbers(table)
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=str(path), remedy=remedy) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), remedy=remedy) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, numbers of 5,000 digits, nested too deeply
        raise ConfigError(f"is not TOML: {error}", where=str(path), remedy="Correct it there and run again.") from None
    return table


def _check_whole_numbers(value: Any) -> None:
    """Raise ValueError for a whole number of more than the 64 bits that TOML promises."""
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            _check_whole_numbers(item)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"a whole number of {len(str(value))} digits")


def cache_folder() -> Path:
    """Return the folder for everything that can be made again: SAMCMP_CACHE, or the platform's cache folder.

    Raises WriteError where the system knows no home folder and none is named.
    """
    import platformdirs

    named = os.environ.get(CACHE)
    try:
        folder = os.path.expanduser(named or platformdirs.user_cache_dir("samcmp", appauthor=False))
    except RuntimeError:  # platformdirs, without a home folder; its older versions leave the ~ as it is
        folder = "~"
    if folder.startswith("~"):
        raise WriteError(
            "there is no home folder",
            where="the cache folder",
            remedy=f"Name a folder with {CACHE}=FOLDER, or set HOME.",
        )
    return Path(folder)
