"""What other packages bring: catalogue entries through entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TypeVar

from samcmp.errors import UsageError

E = TypeVar("E")


@cache
def entries(group: str, kind: type[E]) -> dict[str, E]:
    """Load the entry points of ``group``, each of which must be a ``kind``. Raises UsageError for another."""
    wanted = f"{kind.__module__}.{kind.__qualname__}"
    found: dict[str, E] = {}
    for point in entry_points(group=group):
        made = point.load()
        if not isinstance(made, kind):
            raise UsageError(
                f"entry point {point.name!r} is a {type(made).__name__}, not a {wanted}",
                where=f"entry-point group {group}",
                remedy=f"Let it name a {wanted} object, or uninstall the package that brings it.",
            )
        found[point.name] = made
    return found
