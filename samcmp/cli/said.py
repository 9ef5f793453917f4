"""What the command says besides its result: on standard error unless --quiet, and with times in the file of --log."""

from __future__ import annotations

import datetime
import os
import sys
from inspect import Parameter
from pathlib import Path
from typing import Annotated

import typer

from samcmp.errors import UsageError, WriteError
from samcmp.printable import printable

_log: Path | None = None
_quiet = False


def reset() -> None:
    """Begin a command: nothing is asked for yet."""
    global _log, _quiet
    _log, _quiet = None, False


def hush(asked: bool) -> None:
    """Read --quiet: from now on standard error has errors alone."""
    global _quiet
    _quiet = _quiet or asked


def is_quiet() -> bool:
    return _quiet


def keep(ctx: typer.Context, path: Path | None) -> None:
    """Read --log: from now on everything that is said is appended to ``path``. Raises UsageError."""
    global _log
    if path is None or ctx.resilient_parsing:  # a line that is completed is no command yet
        return
    from samcmp import files

    _log = None
    try:
        with files.refusals(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("a").close()
    except WriteError as error:
        raise UsageError(error.what, where=f"--log {path}", remedy="Name another file.") from None
    _log = path.absolute()
    log(f"$ {' '.join(map(printable, [os.path.basename(sys.argv[0]), *sys.argv[1:]]))}")


def log(text: str) -> None:
    """Append lines to the log, each with the time; without a log, do nothing. Raises WriteError."""
    if _log is None or not text.strip():
        return
    from samcmp import files

    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    lines = "".join(f"{now} {line.rstrip()}\n" for line in printable(text).splitlines() if line.strip())
    with files.refusals(_log), _log.open("a", encoding="utf-8") as file:
        file.write(lines)


PARAMETERS = [  # of every command that runs something; the callbacks read them as the command line is read
    Parameter(
        "quiet",
        Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[
            bool,
            typer.Option(
                "--quiet", help="Say nothing but errors and gate findings.", callback=hush, rich_help_panel="Output"
            ),
        ],
    ),
    Parameter(
        "log",
        Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None,
            typer.Option(
                "--log",
                metavar="FILE",
                help="Append what is said, with times and every epoch.",
                callback=keep,
                rich_help_panel="Output",
            ),
        ],
    ),
]
