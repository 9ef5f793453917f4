"""The figures of inspections by name, each a function of :class:`samcmp.inspection.results.Results`; no torch here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samcmp.errors import UsageError, unknown

if TYPE_CHECKING:
    from samcmp.inspection.results import Results
    from samcmp.report.canvas import Drawn, Options


@dataclass(frozen=True, slots=True)
class Kind:
    """A line of the catalogue."""

    function: str  # module:function, (Results, Options) -> Drawn
    what: str  # the measurement that it is drawn of


_GRADIENTS = "samcmp.inspection.gradient_figures"
FIGURES: Mapping[str, Kind] = {
    "changes": Kind(f"{_GRADIENTS}:changes", "gradients"),
    "norms": Kind(f"{_GRADIENTS}:norms", "gradients"),
    "pairs": Kind(f"{_GRADIENTS}:pairs", "gradients"),
    "conjectures": Kind(f"{_GRADIENTS}:conjectures", "gradients"),
    "landscape": Kind("samcmp.inspection.landscape_figures:landscape", "landscape"),
    "surface": Kind("samcmp.inspection.landscape_figures:surface", "surface"),
    "path": Kind("samcmp.inspection.landscape_figures:path", "path"),
    "sharpness": Kind("samcmp.inspection.sharpness_figures:sharpness", "sharpness"),
    "generalisation": Kind("samcmp.inspection.sharpness_figures:generalisation", "sharpness"),
    "attention": Kind("samcmp.inspection.attention_figures:attention", "attention"),
}
LEAST_RUNS = 5  # for a rank correlation over runs


def check(kind: str, *, where: str, what: tuple[str, ...], runs: int) -> None:
    """Refuse a figure that there is not, or of what is not measured. Raises UsageError."""
    if kind not in FIGURES:
        raise unknown("figure", kind, FIGURES, where=where)
    needed = FIGURES[kind].what
    if needed not in what:
        raise UsageError(f"{needed} was not measured", where=where, remedy=f"Add --what {needed}.")
    if kind == "generalisation" and runs < LEAST_RUNS:
        raise UsageError(
            f"{runs} runs are too few for a rank correlation", where=where, remedy="Take --repeats 5 or more."
        )


def draw(kind: str, results: Results, options: Options) -> Drawn:
    """Draw a figure and write its caption. Raises UsageError where nothing was measured that it shows."""
    from samcmp.report.canvas import plain_matplotlib

    module, _, name = FIGURES[kind].function.partition(":")
    made: Callable[[Results, Options], Drawn] = getattr(importlib.import_module(module), name)
    with plain_matplotlib(options.font_size):
        return made(results, options)
