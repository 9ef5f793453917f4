"""The command as a process: its signals, its standard streams, and what is said when the system refuses something."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
from typing import Any

from samcmp.cli import said
from samcmp.errors import SamcmpError
from samcmp.printable import printable

STREAMS = {"stdin": "standard input", "stdout": "standard output", "stderr": "standard error"}
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
BROKEN_PIPE = 141  # 128 + SIGPIPE: what a shell sees of other tools
_received: list[int] = []


class Ended(KeyboardInterrupt):
    """A signal asked the process to end: what is done after ^C is done then, too."""


class Carried(Exception):
    """What click would end in its own way ("Aborted.", exit code 1 or 130) on its way to :func:`end`: its cause."""


def _raise(number: int, _: object) -> None:
    _received.append(number)
    raise Ended


def handle_signals() -> None:
    """Let every signal that asks for an end raise :class:`Ended`; one that is ignored (nohup, &) stays ignored."""
    _received.clear()
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
            with contextlib.suppress(ValueError):  # called outside the main thread: its owner handles signals
                signal.signal(number, _raise)


def exit_code(otherwise: int) -> int:
    """Return 128 + the first signal that came, also where what was measured until then was kept and shown."""
    return 128 + _received[0] if _received else otherwise


class _Named(io.FileIO):
    """A standard stream whose refusals carry its name, as those of files do."""

    label = ""

    def write(self, data: Any) -> Any:
        try:
            return super().write(data)
        except BrokenPipeError:  # the reader has gone: no one is left to say anything to
            raise SystemExit(BROKEN_PIPE) from None
        except OSError as error:
            error.filename = self.label
            raise


def open_streams() -> None:
    """Point closed standard streams (``>&-``) to the null device, and let a screen show ? for what it lacks.

    Left closed, their numbers would go to the next files that are opened, and what C code prints would land in them.
    """
    for number, name in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115 open until the end
        stream = getattr(sys, name)
        if number and type(stream) is io.TextIOWrapper and stream is getattr(sys, f"__{name}__"):
            raw = _Named(number, "w", closefd=False)
            raw.label = STREAMS[name]
            lines = stream.line_buffering or stream.write_through
            named = io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "replace", line_buffering=lines)
            setattr(sys, name, named)


def close_streams() -> None:
    """Write out what is left; a stream that takes nothing more must not change the exit code as Python ends."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError, SystemExit):
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, number)
                os.close(null)


def say(text: str) -> None:
    """Print to standard error where there still is one: after SIGHUP there may be no terminal."""
    with contextlib.suppress(OSError, ValueError, SystemExit):
        print(printable(text), file=sys.stderr, flush=True)
    with contextlib.suppress(SamcmpError):  # the log cannot be written: that was what ended the command
        said.log(text)


def explained(error: BaseException) -> SamcmpError | None:
    """Put what the system or a missing package brought about in words; None for a fault of samcmp itself."""
    doctor = "Run `samcmp doctor`: it says what is missing and what to do."
    if isinstance(error, ImportError) and not (error.name or "").startswith("samcmp"):
        return SamcmpError(str(error), where="a package that samcmp needs cannot be imported", remedy=doctor)
    if isinstance(error, EOFError):
        from samcmp.errors import place_of

        what = f"a file or a pipe ended too early: {error or 'nothing more could be read'}{place_of(error)}"
        return SamcmpError(what, remedy="Look whether a file is cut short; the line in brackets says who read it.")
    if not isinstance(error, OSError):
        return None
    if error.errno is None:
        if "shared object" not in str(error):
            return None
        return SamcmpError(str(error), where="a library cannot be loaded", remedy=doctor)
    why = error.strerror or errno.errorcode.get(error.errno, str(error.errno))
    if error.errno == errno.ENAMETOOLONG:
        return SamcmpError("the name is too long", where=f"{str(error.filename)[:60]}...", remedy="Shorten it.")
    if error.filename in STREAMS.values():
        return SamcmpError(f"cannot be written: {why}", where=error.filename, remedy="Name a file with --output FILE.")
    where = None if error.filename is None else os.fsdecode(error.filename)
    return SamcmpError(why, where=where, remedy="The system refused this: check the path, its permissions and limits.")
