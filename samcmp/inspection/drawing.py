"""The figures of inspections by name, each a function of :class:`samcmp.inspection.results.Results`; no torch here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samcmp.errors import UsageError, unknown
from samcmp.inspection.generalisation import LEAST, too_few

if TYPE_CHECKING:
    from samcmp.inspection.results import Results
    from samcmp.report.canvas import Drawn, Options


@dataclass(frozen=True, slots=True)
class Drawing:
    """A line of the catalogue: a function (Results, Options) -> Drawn that is named as its figure."""

    module: str
    what: str  # the measurement that it is drawn of


_ROOM = "samcmp.inspection"
FIGURES: Mapping[str, Drawing] = {
    **dict.fromkeys(("changes", "norms", "pairs", "conjectures"), Drawing(f"{_ROOM}.gradient_figures", "gradients")),
    **{name: Drawing(f"{_ROOM}.landscape_figures", name) for name in ("landscape", "surface", "path")},
    **dict.fromkeys(("sharpness", "generalisation"), Drawing(f"{_ROOM}.sharpness_figures", "sharpness")),
    "attention": Drawing(f"{_ROOM}.attention_figures", "attention"),
}


def check(kind: str, *, where: str, what: tuple[str, ...], runs: int) -> None:
    """Refuse a figure that there is not, or of what is not measured. Raises UsageError."""
    if kind not in FIGURES:
        raise unknown("figure", kind, FIGURES, where=where)
    needed = FIGURES[kind].what
    if needed not in what:
        raise UsageError(f"{needed} was not measured", where=where, remedy=f"Add --what {needed}.")
    if kind == "generalisation" and runs < LEAST:
        raise too_few(runs, where=where)


def draw(kind: str, results: Results, options: Options) -> Drawn:
    """Draw a figure and write its caption. Raises UsageError where nothing was measured that it shows."""
    from samcmp.report.canvas import plain_matplotlib

    made: Callable[[Results, Options], Drawn] = getattr(importlib.import_module(FIGURES[kind].module), kind)
    with plain_matplotlib(options.font_size):
        return made(results, options)
