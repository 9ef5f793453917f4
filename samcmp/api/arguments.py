"""Arguments of the Python interface, checked by the readers of the command line's options, and errors in its words."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from samcmp import files
from samcmp.errors import SamcmpError, UsageError
from samcmp.inspection import WHAT

if TYPE_CHECKING:
    import pandas

Group = TypeVar("Group")
Names = str | Sequence[str]  # one name, or several
PathLike = str | os.PathLike[str]
Value = str | int | float | bool | None
Settings = Mapping[str, Value | Sequence[Value]]  # "graphsam.rho": 0.05; several values are a sweep

FLAGS = {
    "dataset": "dataset",
    "optimizer": "optimizers",
    "set": "settings",
    "from": "source",
    "plain": "progress",
    "format": "form",
}
_WORDS = "|".join(("file", "column", *WHAT))  # values that look like the sentence that they stand in
_FLAG = re.compile(rf"--([a-z][a-z-]*)(?:[ =]((?:{_WORDS})\b|[^\s`,;]*[A-Z0-9.:=/][^\s`,;]*))?")


def checked(command: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Pass values through the readers of a command's options, which hold their types and ranges. Raises UsageError."""
    options = get_type_hints(command, include_extras=True)
    read = {}
    for name, value in given.items():
        parts = getattr(options[name], "__metadata__", ())
        parser = next((part.parser for part in parts if getattr(part, "parser", None)), None)
        read[name] = value if value is None or parser is None else parser(value)
    return read


def group(kind: type[Group], values: Mapping[str, Any]) -> Group:
    """Make a group of options of those ``values`` that belong to it."""
    return kind(**{f.name: values[f.name] for f in fields(kind) if f.name in values})  # type: ignore[arg-type]


def names(value: Names | None, argument: str) -> list[str]:
    """Return one name or several as a list. Raises UsageError for what is no name."""
    several = [value] if isinstance(value, str) else list(value or ())
    for name in several:
        if not isinstance(name, str):
            raise UsageError(
                f"expected names, got {name!r}",
                where=f"{argument}=",
                remedy='A class of your own is named by its file: "my_sam.py:MySAM".',
            )
    return several


def one(value: str, argument: str) -> str:
    """Return the one name. Raises UsageError for several."""
    if not isinstance(value, str):
        raise UsageError(
            f"expected one name, got {value!r}", where=f"{argument}=", remedy="`samcmp.compare` takes several."
        )
    return value


def path(value: PathLike | None) -> Path | None:
    return None if value is None else Path(value)


def overrides(settings: Settings | None) -> list[str]:
    """Spell ``{"graphsam.rho": [0.05, 0.005]}`` as the entries of ``--set``. Raises UsageError."""
    if settings is not None and not isinstance(settings, Mapping):
        raise UsageError(
            f"expected a mapping, got {settings!r}", where="settings=", remedy='For example {"graphsam.rho": 0.05}.'
        )
    entries = []
    for name, value in (settings or {}).items():
        values = [value] if isinstance(value, str) or not isinstance(value, Sequence) else list(value)
        entries.append(f"{name}={','.join(map(str, values))}")
    return entries


def table(data: PathLike | pandas.DataFrame | None) -> Path | None:
    """Return the file of a user's table; a frame is written into the cache, under the hash of its content.

    Raises UsageError for what is neither a path nor a frame, WriteError where the cache cannot be written.
    """
    if data is None or isinstance(data, (str, os.PathLike)):
        return path(data)
    if not (hasattr(data, "to_csv") and hasattr(data, "columns")):
        raise UsageError(f"expected a path or a pandas frame, got {type(data).__name__}", where="data=")
    content = data.to_csv(index=False, lineterminator="\n").encode()
    place = files.cache_folder() / "frames" / hashlib.sha256(content).hexdigest() / "frame.csv"
    if not place.is_file() or place.read_bytes() != content:
        files.write(place, content)
    return place


def folders(cards: PathLike | Sequence[PathLike] | None) -> list[Path] | None:
    """Return one folder or several as a list."""
    if cards is None:
        return None
    return [Path(folder) for folder in ([cards] if isinstance(cards, (str, os.PathLike)) else cards)]


def spelled(**given: Any) -> dict[str, Any]:
    """Return arguments as the command line's options: by their names there, paths and lists as there."""
    readers: dict[str, Callable[[Any], Any]] = {
        "data": table, "target": lambda value: names(value, "target"), "cards": folders, "settings": overrides,
        "config": path, "init_from": path, "split_file": path,
    }  # fmt: skip
    options = {"settings": "set_"}
    return {options.get(name, name): readers.get(name, lambda value: value)(value) for name, value in given.items()}


@contextmanager
def in_python(*, progress: bool = True, data: object = None) -> Iterator[None]:
    """Run with or without progress on standard error; a SamcmpError names arguments instead of options."""
    from samcmp.cli import common

    with nullcontext() if progress else common.silence():
        try:
            yield
        except SamcmpError as error:
            error.what, error.where, error.remedy = _worded(error.what), _placed(error.where), _worded(error.remedy)
            if error.where and hasattr(data, "to_csv") and "frame.csv" in error.where:
                error.where = "data= (a frame)"
            raise


def _worded(text: Any) -> Any:
    """Name arguments where a text names options; a command for a shell, `samcmp train --save FILE`, stays one."""
    if text is None:
        return None
    parts = re.split("(`samcmp [^`]*`)", str(text))
    return "".join(part if part.startswith("`samcmp ") else _FLAG.sub(_argument, part) for part in parts)


def _placed(where: str | None) -> str | None:
    """Name the argument that a place is; behind an option there is its value, whatever it looks like."""
    found = re.fullmatch(r"--(?!set )([a-z][a-z-]*) (\S+)", where or "")
    return _worded(where) if found is None else f"{FLAGS.get(found[1], found[1].replace('-', '_'))}={found[2]}"


def _argument(found: re.Match[str]) -> str:
    name = FLAGS.get(found[1], found[1].replace("-", "_"))
    if name == "settings" and found[2]:
        key, _, value = found[2].partition("=")
        return f'settings={{"{key}": {value}}}' if value else f'settings={{"{key}": ...}}'
    return f"{name}={found[2] or ''}"
