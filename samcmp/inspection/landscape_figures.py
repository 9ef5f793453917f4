"""Figures of the loss around weights and between them. Each function is named as its figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from samcmp.inspection.results import Results
from samcmp.inspection.series import Cell, Series, Shown, caption, finished, range_band, score_axis, shown
from samcmp.report.canvas import GREY, Drawn, Options, legend, panels, tick, two_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

INK, PAPER = "#010101", "#fefefe"  # on colours: a page in the dark takes pure black and white for its own
INSIDE = 0.9  # of a surface: a label beyond would be cut by its edge
DIRECTIONS = {
    "filter": "Gaussian directions D, each row of a matrix as long as the weights' row, vectors left alone (Li et al. "
    "2018)",
    "gaussian": "Gaussian directions D as they were drawn",
}


def landscape(results: Results, options: Options) -> Drawn:
    """L(θ + xD), and its rise over L(θ), mean and range over directions (figure 2 of the paper)."""
    what = shown(results, "landscape", "losses")
    figure, axes = panels(2 * len(what.cells), height=3.0, options=two_columns(options), legend=list(what.used))
    for i, cell in enumerate(what.cells):
        for rise, one in enumerate(axes[2 * i : 2 * i + 2]):
            for arm in cell.series:
                _lines(one, arm, rise=bool(rise))
            one.set_xlabel("x")
            one.set_ylabel(r"$L(\theta + xD) - L(\theta)$" if rise else r"$L(\theta + xD)$")
            one.set_title(tick(what.title(cell, "rise over the loss" if rise else "loss")))
    legend(figure, what.used, options)
    settings = what.cells[0].first.settings
    return finished(figure, caption(
        what, f"along {settings['directions']} {DIRECTIONS[settings['direction']]}, the same draws for all optimizers "
        f"of a split, {settings['points']} points", "line: the mean over directions and runs, band: their range",
        _gaps(what), weights=True,
    ), options)  # fmt: skip


def _lines(axes: Axes, arm: Series, *, rise: bool) -> None:
    x = arm.arrays("x")[0]
    rows = []
    for losses in arm.arrays("losses"):
        rows += list(losses - losses[:, [len(x) // 2]] * rise)
    range_band(axes, x, rows, arm.style)


def _gaps(what: Shown) -> str:
    bad = [arm.label for cell in what.cells for arm in cell.series if any(not np.isfinite(a).all() for a in
           arm.arrays("losses"))]  # fmt: skip
    return f"gaps of {', '.join(bad)}: the loss is no finite number there" if bad else ""


def surface(results: Results, options: Options) -> Drawn:
    """L(θ + xD_0 + yD_1), a panel an optimizer, equal levels in all panels of a cell."""
    what = shown(results, "surface", "losses")
    wanted = [(cell, arm) for cell in what.cells for arm in cell.series]
    figure, axes = panels(len(wanted), height=3.7, options=options, width=3.9)
    for cell in what.cells:
        mine = [(arm, one) for (c, arm), one in zip(wanted, axes, strict=True) if c is cell]
        levels = _levels([arm.arrays("losses")[0] for arm, _ in mine])
        for arm, one in mine:
            _contours(one, arm, levels, size=0.7 * options.font_size)
            one.set_title(tick(what.title(cell, arm.label)))
    first = what.cells[0].first
    block = "" if all(len(arm.runs) == 1 for _, arm in wanted) else f"drawn: the run {first.case.block}"
    side = len(wanted[0][1].arrays("x")[0])
    return finished(figure, caption(
        what, f"over two {DIRECTIONS[first.settings['direction']]}, the same draws for all optimizers, {side} × {side} "
        "points; lines and colours: the loss, the same levels in all panels of a cell; cross: the weights", block,
        _gaps(what), weights=True,
    ), options)  # fmt: skip


def _levels(losses: Sequence[Array]) -> Array:
    """Some ten levels that are equal steps of the loss, or equal ratios where it spans more than a factor of ten."""
    finite = np.concatenate([one[np.isfinite(one)] for one in losses])
    low, high = float(finite.min()), float(finite.max())
    if low > 0 and high / low > 10:
        return np.unique([float(f"{x:.2g}") for x in np.geomspace(low, high, 12)])
    from matplotlib.ticker import MaxNLocator

    return np.asarray(MaxNLocator(10).tick_values(low, high if high > low else low + 1e-6))


def _contours(axes: Axes, arm: Series, levels: Array, *, size: float) -> None:
    x, losses = arm.arrays("x")[0], np.ma.masked_invalid(arm.arrays("losses")[0])
    middle = len(levels) / 2
    axes.contourf(x, x, losses, levels=levels, cmap="cividis", extend="both", norm=_even(levels))
    ink = [PAPER if i < middle else INK for i in range(len(levels))]
    lines = axes.contour(x, x, losses, levels=levels, colors=ink, linewidths=0.7)
    for text in axes.clabel(lines, fmt=lambda value: f"{value:.3g}", fontsize=size):
        text.set_visible(max(map(abs, text.get_position())) < INSIDE)
    axes.plot(0, 0, marker="+", color=PAPER, markersize=9, markeredgewidth=1.6)
    axes.set_aspect("equal")
    axes.set_xlabel("x")
    axes.set_ylabel("y")


def _even(levels: Array) -> Any:
    """Colours at even steps of the levels, whatever their distances."""
    from matplotlib.colors import BoundaryNorm

    return BoundaryNorm(levels, 256, extend="both")


def path(results: Results, options: Options) -> Drawn:
    """L and the test score on the line between two optimizers' weights."""
    what = shown(results, "path", "losses")
    ends = {arm.label: arm for cell in what.cells for arm in cell.series}
    figure, axes = panels(2 * len(what.cells), height=3.0, options=two_columns(options), legend=list(ends))
    for i, cell in enumerate(what.cells):
        for name, one in zip(("losses", "scores"), axes[2 * i : 2 * i + 2], strict=True):
            for alpha in (0.0, 1.0):
                one.axvline(alpha, color=GREY, linewidth=0.8, zorder=1)
            for arm in cell.series:
                _line(one, arm, name)
            one.set_xlabel(r"$\alpha$")
            one.set_title(tick(what.title(cell, "training loss" if name == "losses" else "test score")))
            if name == "losses":
                one.set_ylabel(r"$L(\theta_A + \alpha(\theta_B - \theta_A))$")
            else:
                score_axis(one, cell.first)
    legend(figure, what.used, options)
    heights = "; ".join(_height(what, cell, arm) for cell in what.cells for arm in cell.series)
    return finished(figure, caption(
        what, "A to B on the straight line between their weights, hidden units not matched: α = 0 is A, 1 is B, marked "
        "with B's marker; better is up in the score's panel; line: the mean over runs, band: their range",
        f"barrier (largest loss above the chord, mean over runs) and ‖θ_A − θ_B‖, {heights}", _gaps(what), weights=True,
    ), options)  # fmt: skip


def _line(axes: Axes, arm: Series, name: str) -> None:
    if rows := arm.arrays(name):
        x = arm.arrays("alpha")[0]
        range_band(axes, x, rows, arm.style, markevery=[x.tolist().index(1.0)], markersize=6, linewidth=1.4)


def _height(what: Shown, cell: Cell, arm: Series) -> str:
    barrier, distance = arm.scalars("barrier"), arm.scalars("distance")
    shown_barrier = f"{barrier.mean():.3g}" if len(barrier) else "n/a"
    return f"{what.title(cell, arm.label)} {shown_barrier} and {distance.mean():.3g}"
