"""What a user did or has, where, and the remedy.

Every error that reaches the command line is a :class:`SamcmpError`: it prints as one clear message and
ends the command with exit code 2. Callers of the library who pass nonsense to a function get a plain
``ValueError`` instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from samcmp.records import Status


class SamcmpError(Exception):
    """A problem that its reader can solve.

    ``what`` says what was found, ``where`` names the file and key (or the option), ``remedy`` what to do.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n{self.remedy}" if self.remedy else head


class UsageError(SamcmpError):
    """An option, a name or a number that the command does not accept."""


class ConfigError(SamcmpError):
    """A suite file or a dataset card that does not say what it should."""


class DataError(SamcmpError):
    """A data file that is missing, damaged or does not hold what its card says."""


class DeviceError(SamcmpError):
    """A device that is asked for and cannot be used."""


class StoreError(SamcmpError):
    """A store that cannot be read."""


class WriteError(SamcmpError):
    """A file that cannot be written."""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name that looks most like ``name``, or None when none is close."""
    by_lower = {candidate.lower(): candidate for candidate in allowed}
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


def choice(name: str, allowed: Iterable[str], *, are: str = "Allowed") -> str:
    """Say what may stand where ``name`` does: the nearest of ``allowed``, and all of them in their order."""
    names = list(allowed)
    close = nearest(name, names)
    meant = f"Did you mean {close!r}? " if close else ""
    return f"{meant}{are}: {', '.join(names)}." if names else "There is none."


def unknown(kind: str, name: str, allowed: Iterable[str], *, where: str | None = None) -> UsageError:
    """Build the error for a name that is not in a catalogue: what was found, the nearest match, what is allowed."""
    return UsageError(f"unknown {kind} {name!r}", where=where, remedy=choice(name, sorted(allowed)))


def changed(path: Path) -> DataError:
    """Build the error for a file that is no longer what results are filed under."""
    return DataError(
        "was changed since this comparison began",
        where=str(path),
        remedy="Put it back as it was, or run the same command again: what has finished is kept, and what the change "
        "concerns is run anew.",
    )


class Damaged(Exception):
    """Evidence that was kept and cannot be read: it is missing, for this reason."""


class Diverged(Exception):
    """A loss or a prediction that is not a finite number."""


def cause_of(error: BaseException) -> tuple[Status, str]:
    """Name what ended a run: diverged, out of memory or an error, and its reason in one line."""
    import torch

    text = in_one_line(error) or type(error).__name__
    if isinstance(error, Diverged):
        return "diverged", text
    if isinstance(error, SamcmpError):
        return "error", text[:300]
    starved = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    if starved or "DefaultCPUAllocator: can't allocate memory" in text or "not enough memory" in text:
        return "out-of-memory", text[:300]
    place = place_of(error)
    return "error", f"{type(error).__name__}: {text[:300]}{place}"


def in_one_line(error: BaseException) -> str:
    """Return the message of any error as one line that can be stored and shown."""
    try:
        text = str(error)
    except Exception as unsayable:  # a message of the user's own class
        text = f"its message raised {type(unsayable).__name__}"
    return " ".join(text.encode(errors="backslashreplace").decode().split())  # half a character cannot be stored


def place_of(error: BaseException) -> str:
    """Name the innermost line of this project, or of the user's own file, that the error passed through."""
    import traceback
    from pathlib import Path

    ours = [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not _is_foreign(Path(frame.filename).resolve())
    ]  # fmt: skip
    return f" (at {Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""


def _is_foreign(path: Path) -> bool:
    """Whether a file, links followed, is neither this package's nor a user's: Python's own, or installed."""
    import site
    import sysconfig
    from pathlib import Path

    import torch

    package = Path(__file__).resolve().parent
    if any(path.is_relative_to(folder.resolve()) for folder in (package, package / "backbones")):
        return False
    installed = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    installed |= {*site.getsitepackages(), site.getusersitepackages(), str(Path(torch.__file__).parent.parent)}
    return any(path.is_relative_to(Path(folder).resolve()) for folder in installed)
