"""Times as users write them, a number with its unit: 90s, 5min, 1.5h, 30d, 8w."""

from __future__ import annotations

import math
import re

from samcmp.errors import UsageError

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
PATTERN = rf"([0-9]*\.?[0-9]+)\s*({'|'.join(UNITS)})"


def seconds_of(text: str, *, where: str = "--budget", example: str = "5min", least: float = 1.0) -> float:
    """Read a time. Raises UsageError for what is none, for a bare number too, and for less than ``least`` seconds."""
    found = re.fullmatch(PATTERN, text.strip())
    if found is None:
        bare = re.fullmatch(r"[0-9]*\.?[0-9]+", text.strip())
        raise UsageError(
            f"{text!r} has no unit" if bare else f"{text!r} is not a time",
            where=where,
            remedy=f"A number and one of {', '.join(UNITS)}: {where} {f'{text.strip()}s' if bare else example}.",
        )
    seconds = float(found[1]) * UNITS[found[2]]
    if not (math.isfinite(seconds) and seconds >= least):
        raise UsageError(f"must be at least {least:g} s, got {text}", where=where)
    return seconds
