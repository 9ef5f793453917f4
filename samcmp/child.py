"""A process of its own for code that may end the one it runs in: what it sends, and how it ended."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from samcmp import machine
from samcmp.errors import SamcmpError, cause_of

if TYPE_CHECKING:
    from samcmp.records import Status

IMPORT_SECONDS = 300.0  # for code of others to be imported and built: it may wait or loop for ever
LAST_SECONDS = 5.0  # for a process that has closed its pipe to end by itself


class Died(Exception):
    """A process ended without saying what it was to say."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class Child:
    """A fresh process that runs ``target(pipe, *arguments)``; a forked torch with threads would hang.

    What it prints goes to the standard error: the standard output is for results. ^C is the parent's to handle.
    The user's own script is not run again in it, as multiprocessing would without ``if __name__ == "__main__"``.
    Only ``parental`` ones may have children of their own through multiprocessing; they outlive a parent that is killed.
    """

    def __init__(self, target: Callable[..., None], *arguments: Any, parental: bool = False) -> None:
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.memory_kills = machine.memory_kills()  # before its work began
        self.process = context.Process(target=_live, args=(target, theirs, *arguments), daemon=not parental)
        with _without_main():
            self.process.start()
        theirs.close()

    def receive(self, *, seconds: float | None = None) -> Any:
        """Return what it sends next, within ``seconds``.

        Raises its SamcmpError, and Died where it has ended and nothing more can come, or is too late.
        """
        if not ready([self], seconds=seconds):
            raise Died("timeout", f"took longer than {seconds:g} s")
        try:
            sent = self.pipe.recv() if self.pipe.poll() else self.death()
        except (EOFError, OSError):
            sent = self.death()
        if isinstance(sent, (Died, SamcmpError)):
            raise sent
        return sent

    def death(self) -> Died:
        """Say how the process ended."""
        self.process.join(LAST_SECONDS)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        if code is None or code >= 0:
            return Died("error", f"its process ended with exit code {code} before it was done")
        if -code == getattr(signal, "SIGKILL", None):
            if machine.memory_kills() != self.memory_kills:
                return Died("out-of-memory", "killed by signal 9: the system had no memory left for it")
            return Died("error", "killed by signal 9 (by hand, or by the system for its memory)")
        return Died("error", f"its process was ended by signal {-code} ({signal.strsignal(-code)})")

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the script that runs from multiprocessing, whose new processes import it; their work is in samcmp."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _live(target: Callable[..., None], pipe: Connection, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        target(pipe, *arguments)
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)  # without a traceback: whoever interrupted knows
    except BaseException as error:  # SystemExit, too
        with contextlib.suppress(OSError):  # nobody is left to read it
            pipe.send(error if isinstance(error, SamcmpError) else Died(*cause_of(error)))


def ready(children: Iterable[Child], *, seconds: float | None) -> list[Child]:
    """Wait until one of them has sent something or has ended, at most ``seconds``; return those that did.

    A process counts as ended where its own children still hold its pipe.
    """
    owners: dict[Any, Child] = {}
    for child in children:
        owners[child.pipe] = owners[child.process.sentinel] = child
    return list(dict.fromkeys(owners[source] for source in wait(list(owners), timeout=seconds)))


def call(function: Callable[..., Any], *arguments: Any, seconds: float | None = None) -> Any:
    """Return ``function(*arguments)``, called in a process of its own. Raises its SamcmpError, and Died."""
    child = Child(_answer, function, *arguments, parental=True)
    try:
        answer = child.receive(seconds=seconds)
        child.process.join(LAST_SECONDS)  # one that is killed leaves behind what it holds of the system
        return answer
    finally:
        child.end()


def _answer(pipe: Connection, function: Callable[..., Any], *arguments: Any) -> None:
    pipe.send(function(*arguments))
