"""Locks between processes: who waits is told for whom."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import platform
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

POLL_SECONDS = 0.2
REMIND_SECONDS = 300.0  # between two notices
_NO_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


@contextlib.contextmanager
def locked(
    path: Path, *, what: str, say: Callable[[str], None], quiet_seconds: float = 0.0, most_seconds: float | None = None
) -> Iterator[None]:
    """Hold the lock file ``path``; while another process holds it, ``say`` whom ``what`` is waited for.

    Where the file system has no locks, another file's being there is the lock. Raises OSError where none can be made,
    and TimeoutError, which names the holder, after ``most_seconds``.
    """
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

    lock: BaseFileLock = FileLock(path, mode=0o666)
    began = time.monotonic()
    notice = began + quiet_seconds
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            now = time.monotonic()
            if most_seconds is not None and now - began > most_seconds:
                raise TimeoutError(_holder(path)) from None
            if now >= notice:
                say(f"waiting for {what}: {_holder(path)} has it (lock file: {lock.lock_file})")
                notice = now + REMIND_SECONDS
            time.sleep(POLL_SECONDS)
        except (NotImplementedError, OSError) as error:
            without = isinstance(error, NotImplementedError) or error.errno in _NO_FLOCK  # the first is filelock 3.16
            if isinstance(lock, SoftFileLock) or not without:
                raise
            lock = SoftFileLock(path.with_name(path.name + ".soft"))
    try:
        _sign(_signature(path))
        yield
    finally:
        with contextlib.suppress(OSError):
            _signature(path).unlink()
        lock.release()


def _signature(path: Path) -> Path:
    """A file of its own beside the lock file, which filelock empties while it waits (before 4.0)."""
    return path.with_name(path.name + ".holder")


def _sign(path: Path) -> None:
    """Write down who holds the lock. Never through a link: the folder may be everybody's."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    text = f"process {os.getpid()} on {platform.node() or 'this machine'}, since {now}"
    flags = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with contextlib.suppress(OSError):
        try:
            number = os.open(path, flags)  # what a process that was killed has left, another user's perhaps
        except FileNotFoundError:
            number = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.chmod(path, 0o666)
        with open(number, "wb") as file:
            facts = os.fstat(number)
            if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                file.truncate()
                file.write(text.encode())


def _holder(path: Path) -> str:
    try:
        with open(os.open(_signature(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            text = file.read(200).decode(errors="replace")
    except OSError:
        text = ""
    return "".join(sign for sign in text if sign.isprintable()) or "another process"
