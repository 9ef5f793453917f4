"""Values of settings as a user writes them: read from text, and held against the default's type.

Ranges are no business of this module: each stands once, in the constructor that takes the setting.
"""

from __future__ import annotations

import math

from samcmp.records import Json


def read(text: str) -> Json:
    """Read a value from a command line: true, false, none, a number, else the text itself."""
    lowered = text.lower()
    if lowered in {"true", "false"}:
        return lowered == "true"
    if lowered in {"none", "null"}:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def misfit(value: Json, default: Json) -> str | None:
    """Say what is wrong with the type of ``value`` beside its default, or None. A default of None takes any."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be finite, found {value}"
    if default is None:
        return None
    for kind, fits, expected in (
        (bool, bool, "true or false"),
        (int, int, "a whole number"),
        (float, (int, float), "a number"),
        (str, str, "text"),
    ):
        if isinstance(default, kind):
            right = isinstance(value, fits) and (kind is bool or not isinstance(value, bool))
            return None if right else f"expected {expected}, found {value!r}"
    return None
