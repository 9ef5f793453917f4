"""How the numbers of a comparison are written."""

from __future__ import annotations

import math
from collections.abc import Iterable

from samcmp.analysis.comparison import Interval
from samcmp.records import COUNTED, Holds

WIDEST = 8  # characters of a fixed-point number; a wider one is written with an exponent


def form_for(values: Iterable[float], *, metric: str = "") -> str:
    """Return the format of numbers of one size: three decimals below ten, fewer above, more for tiny ones.

    What would take more than eight characters gets an exponent: ``2.18e-09``. An accuracy has four decimals, as the
    hundredth of a per cent is printed everywhere.
    """
    if metric == "accuracy":
        return ".4f"
    largest = max(map(abs, values), default=0.0) or 1.0
    decimals = 1 if largest >= 10 else 3
    if largest < 0.05:
        decimals = max(5, 2 - math.floor(math.log10(largest)))
    return f".{decimals}f" if len(f"{largest:.{decimals}f}") <= WIDEST else ".2e"


def signed(value: float, form: str = ".3f") -> str:
    """Write a difference with its sign (a true minus), so that it lines up and reads as one."""
    text = f"{value:+{form}}"
    if float(text) == 0.0:
        text = f"{0.0:{form}}"
    return text.replace("-", "−")


def times(ratio: Interval) -> str:
    """Write a speed ratio with its interval."""
    text = f"{ratio.value:.2f}×"
    if ratio.low is not None and ratio.high is not None and ratio.low != ratio.high:
        text += f" [{ratio.low:.2f}, {ratio.high:.2f}]"
    return text


def interval(value: Interval, digits: int = 2) -> str:
    """Write an estimate with its limits."""
    text = f"{value.value:.{digits}f}"
    if value.low is not None and value.high is not None:
        text += f" [{value.low:.{digits}f}, {value.high:.{digits}f}]"
    return text.replace("-", "−")


def counted(held: Iterable[Holds]) -> str:
    """Name what speeds count, by what the rows of the datasets are: graphs, images, or samples where there are both."""
    names = {COUNTED[holds] for holds in held}
    return names.pop() if len(names) == 1 else "samples"


def rate(value: float | None) -> str | None:
    """Write graphs or images per second with three figures, whole above a hundred."""
    if value is None:
        return None
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def memory(count: int | None) -> str | None:
    """Write bytes in the binary unit that leaves one to four digits before the point."""
    if count is None:
        return None
    size = float(count)
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            break
        size /= 1024
    figures = max(0, 2 - int(math.log10(abs(size)))) if abs(size) >= 1 and unit != "B" else 0
    return f"{size:.{figures}f} {unit}"
