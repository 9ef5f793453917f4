"""Figures of tuned comparisons and of equal cost: best of the trials, sensitivity to settings, score within a cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from samcmp.analysis import tuning_curves
from samcmp.analysis.comparison import Comparison
from samcmp.analysis.sentences import headline
from samcmp.analysis.tuning_curves import Line
from samcmp.records import Record
from samcmp.report.canvas import GREY, Drawn, Options, legend, panels, points, tick, two_columns
from samcmp.report.styles import Style, styles
from samcmp.report.units import metric_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CUT_SHORT = (
    "A run cut short is not a shorter training: its learning rate has not come down; only end points are compared."
)


def _best_of_trials(comparison: Comparison, records: Sequence[Record], options: Options) -> Drawn:
    """The expected test score of the chosen trial against the number of trials, and against their cost."""
    lines = tuning_curves.best_of_trials(records, comparison)
    titles = ("trials", f"cost, in trainings of {_base(comparison)}, by passes")
    said = (
        "Expected test score of the trial that validates best, against the number of trials and against their cost, "
        "better is up: mean over all subsets of the trials and over splits (Dodge et al. 2019)."
    )
    return _line_panels(lines, comparison, titles, said, options)


def _anytime(comparison: Comparison, records: Sequence[Record], options: Options) -> Drawn:
    """The test score at the best validation epoch so far against passes and time, with where the runs end."""
    base = _base(comparison)
    titles = (f"passes, in trainings of {base}", f"time, in trainings of {base}")
    said = (
        "Test score at the best validation epoch so far, mean over splits, better is up; bars at the ends: 95 %, "
        f"without what splits do to all optimizers alike. {CUT_SHORT}"
    )
    return _line_panels(tuning_curves.anytime(records, comparison), comparison, titles, said, options, steps=True)


def _base(comparison: Comparison) -> str:
    names = {row.label for cell in comparison.cells for row in cell.rows if row.role == "base"}
    return next(iter(names)) if len(names) == 1 else "the base"


def _line_panels(
    lines: Sequence[tuple[Line, Line | None]],
    comparison: Comparison,
    titles: tuple[str, str],
    said: str,
    options: Options,
    *,
    steps: bool = False,
) -> Drawn:
    """Two panels a cell, a line an arm; end points carry their within-split interval where there is one."""
    cells = {cell.name: cell for cell in comparison.cells}
    names = list(dict.fromkeys(first.cell for first, _ in lines))
    every = styles(comparison)
    used = {first.label: every[first.label] for first, _ in lines}
    figure, axes = panels(2 * len(names), height=3.2, options=two_columns(options), legend=list(used))
    for i, name in enumerate(names):
        for place, title in enumerate(titles):
            one = axes[2 * i + place]
            for pair in lines:
                line = pair[place]
                if line is not None and line.cell == name:
                    _line(line, one, used[line.label], steps=steps)
            one.set_xlabel(tick(title))
            one.set_ylabel(f"test {metric_in(cells[name], options.unit)}")
            one.set_title(tick(name))
            if not cells[name].higher_is_better:
                one.invert_yaxis()  # better is up in every panel
    legend(figure, used, options)
    return Drawn(figure, " ".join([said, *(f"{headline(cells[name])}." for name in names)]))


def _line(line: Line, axes: Axes, style: Style, *, steps: bool) -> None:
    if not steps:
        axes.plot(line.x, line.y, markersize=4, linewidth=1.4, **style)
        return
    axes.step(line.x, line.y, where="post", linewidth=1.4, **{**style, "marker": ""})
    axes.errorbar(line.x[-1], line.y[-1], yerr=line.half_width, markersize=6, capsize=3, **points(style))


def _sensitivity(comparison: Comparison, records: Sequence[Record], options: Options) -> Drawn:
    """Every trial's gain in validation over the settings as given against each setting; strong: chosen."""
    dots = tuning_curves.sensitivity(records, comparison)
    wanted = list(dict.fromkeys((dot.cell, dot.setting) for dot in dots))
    every = styles(comparison)
    used = {dot.label: every[dot.label] for dot in dots}
    figure, axes = panels(len(wanted), height=3.0, options=options, legend=list(used))
    metrics = {cell.name: metric_in(cell, options.unit) for cell in comparison.cells}
    for (cell, setting), one in zip(wanted, axes, strict=True):
        one.axhline(0.0, color=GREY, linewidth=0.8)
        shown = [dot for dot in dots if (dot.cell, dot.setting) == (cell, setting)]
        if all(isinstance(dot.value, float) and dot.value > 0 for dot in shown):
            one.set_xscale("log")
        for dot in shown:
            look = points(used[dot.label])
            one.plot(
                [dot.value], [dot.gain], markersize=6 if dot.chosen else 4, alpha=1 if dot.chosen else 0.35, **look
            )
        one.set_xlabel(tick(f"{setting}, times the default" if setting == "learning_rate" else setting))
        one.set_ylabel(f"gain in validation {metrics[cell]}")
        one.set_title(tick(cell))
    legend(figure, used, options, lines=False)
    said = (
        "Validation score of every trial over that of the settings as given, on its split, against each setting; "
        "better is up. Large and strong: the trial that was chosen."
    )
    cells = [cell for cell in comparison.cells if cell.name in {name for name, _ in wanted}]
    return Drawn(figure, " ".join([said, *(f"{headline(cell)}." for cell in cells)]))


MAKERS: dict[str, Callable[[Comparison, Sequence[Record], Options], Drawn]] = {
    "tuning": _best_of_trials,
    "sensitivity": _sensitivity,
    "anytime": _anytime,
}
