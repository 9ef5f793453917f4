"""Who runs what of a shared store: a claim is a file that one process alone can make, and keeps fresh while it lives.

A claim decides no result: two processes that ran one case would store the same Record. It saves the work of the second.
The claim of a process that has ended on this host is taken over at once. Of one on another host, or in another
container, only its heartbeat tells: a claim that has not changed while this process watched it for
:data:`STALE_SECONDS` is taken over, whatever the clocks of the two hosts say.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from samcmp import files

BEAT_SECONDS = 10.0  # between two signs of life
STALE_SECONDS = 120.0  # without one: the process has ended, or its host has
ENDING = ".claim"
GUARD = ".takeover"  # beside a claim while one process takes it over
_REMEDY = "Make room, or name another store with --store DIR; finished runs are kept."


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, and what tells it from every other one."""

    host: str = ""
    process: int = 0
    space: str = ""  # where its number means something: this boot of this host, this container
    started: str = ""  # tells it from a later process of the same number
    token: str = ""  # of this claim

    def __str__(self) -> str:
        return f"host {self.host}, process {self.process}" if self.process else "another process"

    @property
    def is_here(self) -> bool:
        """Whether its number means something to this process."""
        return bool(self.space) and self.space == _space()

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended; of a process elsewhere nothing is known."""
        return self.is_here and started(self.process) != self.started


class Claims:
    """The claims of this process in a store's folder, and those of others.

    A thread gives a sign of life of each every :data:`BEAT_SECONDS` from the first one on; :meth:`close` gives all of
    them up.

    Args:
        store: its folder; claims are in the folder claims of it, which is made when there is one.
    """

    def __init__(self, store: Path) -> None:
        self.folder = Path(store) / "claims"
        self._own: dict[str, str] = {}  # key -> token
        self._seen: dict[Path, tuple[Any, float]] = {}  # the state of a file, and since when it is so
        self._beat: threading.Thread | None = None
        self._ended = threading.Event()

    def acquire(self, key: str) -> Owner | None:
        """Claim ``key``: None where it is ours now, else who has it. Raises WriteError."""
        path = self._path(key)
        with files.refusals(path, remedy=_REMEDY):
            if self._make(key, path):
                return None
            owner = read(path)
            if owner is None:  # given up meanwhile
                return None if self._make(key, path) else Owner()
            if self._is_dead(path, owner) and self._take_over(key, path, owner):
                return None
            return owner

    def release(self, key: str) -> None:
        """Give a claim up; one that was taken over meanwhile stays its new owner's."""
        token = self._own.pop(key, None)
        path = self._path(key)
        owner = read(path) if token is not None else None
        if owner is not None and owner.token == token:
            with contextlib.suppress(OSError):
                path.unlink()

    def close(self) -> None:
        """Give up everything, and end the thread."""
        self._ended.set()
        for key in list(self._own):
            self.release(key)

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{ENDING}"

    def _make(self, key: str, path: Path) -> bool:
        token = os.urandom(8).hex()
        owner = Owner(platform.node(), os.getpid(), _space(), started(os.getpid()), token)
        try:
            _create(path, json.dumps(asdict(owner)).encode())
        except FileExistsError:
            return False
        self._own[key] = token
        if self._beat is None:
            self._beat = threading.Thread(target=self._keep_fresh, name="samcmp-claims", daemon=True)
            self._beat.start()
        return True

    def _keep_fresh(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            for key in list(self._own):
                with contextlib.suppress(OSError):  # taken over, or out of reach: what is finished is stored anyway
                    os.utime(self._path(key))

    def _is_dead(self, path: Path, owner: Owner) -> bool:
        return owner.has_ended if owner.is_here else self._is_stale(path)

    def _is_stale(self, path: Path) -> bool:
        """Whether this process has watched the file stay as it is for so long. Clocks of hosts are not compared."""
        state, now = _state(path), time.monotonic()
        if self._seen.get(path, (None, 0.0))[0] != state:
            self._seen[path] = state, now
        return state is not None and now - self._seen[path][1] > STALE_SECONDS

    def _take_over(self, key: str, path: Path, dead: Owner) -> bool:
        """Put our claim in the place of a dead one. Only who has made the guard may remove a claim that is not its own.

        So of two that take over one claim the second finds the guard, or, later, a claim with another token.
        """
        guard = path.with_name(path.name + GUARD)
        try:
            _create(guard, b"")
        except FileExistsError:
            if self._is_stale(guard):  # whoever made it has ended within these few lines
                guard.unlink(missing_ok=True)
            return False
        try:
            if read(path) == dead:
                path.unlink(missing_ok=True)
            return self._make(key, path)
        finally:
            guard.unlink(missing_ok=True)


def read(path: Path) -> Owner | None:
    """Return who made a claim; None where there is none. One that is not written yet, or damaged, has no name."""
    try:
        told = json.loads(files.read(path))
        return Owner(**{name: type(getattr(Owner(), name))(value) for name, value in told.items()})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError):
        return Owner()


def _create(path: Path, content: bytes) -> None:
    """Make a file that is not there. Raises FileExistsError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        number = os.open(path, flags, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, flags, 0o666)
    with open(number, "wb") as file:
        file.write(content)


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes with every sign of life. Opened first: a network file system then asks its server."""
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def started(process: int) -> str:
    """Say when a process of this host started; empty where it has ended, even if nobody has taken note of it."""
    import psutil

    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    else:
        fields = text.rpartition(")")[2].split()  # its name, in parentheses, may hold anything
        return "" if fields[0] in {"Z", "X"} else fields[19]
    try:
        found = psutil.Process(process)
        return "" if found.status() == psutil.STATUS_ZOMBIE else f"{found.create_time():.0f}"
    except psutil.Error:
        return ""


@cache
def _space() -> str:
    """Name the numbers of processes that this one belongs to: two containers of a host each have their own."""
    import psutil

    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{platform.node()} {psutil.boot_time():.0f}"
