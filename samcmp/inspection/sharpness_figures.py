"""Figures of sharpness, and of sharpness beside the test score. Each function is named as its figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from samcmp.analysis.numbers import signed
from samcmp.inspection.generalisation import LEAST, Point, association, too_few
from samcmp.inspection.results import Results
from samcmp.inspection.series import Series, Shown, batch_of, caption, finished, score_axis, shown
from samcmp.records import LOWER_IS_BETTER
from samcmp.report.canvas import Drawn, Options, legend, panels, points, tick, two_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

DINH = "sharpness depends on the scale of weights (Dinh et al. 2017), adaptive sharpness less so"

MEASURES = {
    "m_sharpness": "m-sharpness\n(loss)",
    "adaptive_sharpness": "adaptive sharpness\n(loss)",
    "lambda_max": "largest Hessian eigenvalue\n(loss / weight²)",
    "trace": "Hessian trace\n(loss / weight²)",
}


def sharpness(results: Results, options: Options) -> Drawn:
    """Each measure of sharpness, an optimizer a row."""
    what = shown(results, "sharpness", *MEASURES)
    wanted = [(cell, name) for cell in what.cells for name in MEASURES]
    tallest = max(len(cell.series) for cell in what.cells)
    figure, axes = panels(len(wanted), height=0.95 + 0.27 * tallest, options=two_columns(options))
    for (cell, name), one in zip(wanted, axes, strict=True):
        for k, arm in enumerate(cell.series):
            _dots(one, arm, name, len(cell.series) - 1 - k)
        one.set_yticks(range(len(cell.series)), [tick(arm.label) for arm in reversed(cell.series)])
        one.set_ylim(-0.6, len(cell.series) - 0.4)
        one.locator_params(axis="x", nbins=6)
        one.set_xlabel(MEASURES[name])
        if len(what.cells) > 1:
            one.set_title(tick(cell.name))
    radius = what.cells[0].first.settings["radius"]
    batch, holds = batch_of(what.cells[0].first), what.cells[0].first.run.holds
    return finished(figure, caption(
        what, f"m-sharpness: rise of the loss of m = {batch} {holds} one step of length {radius:g} along their "
        f"gradient, mean over batches; adaptive: in units of the weights, radius {10 * radius:g} (Kwon et al. 2021)",
        "eigenvalue: 10 Lanczos steps; trace: 10 Rademacher probes; Hessian products are differences of gradients at a "
        "distance of 0.01", "large: the mean over runs, small: each run, bar: the standard error of a single run's "
        "trace", DINH, *_absent(what), weights=True,
    ), options)  # fmt: skip


def _dots(axes: Axes, arm: Series, name: str, place: int) -> None:
    """Draw an arm's runs and their mean."""
    values = arm.scalars(name)
    if len(values) > 1:
        axes.plot(values, [place] * len(values), **points(arm.style), markersize=4, alpha=0.4, zorder=3)
    if len(values) == 1 and name == "trace":
        axes.errorbar(values, [place], xerr=arm.scalars("trace_error"), color=arm.style["color"], zorder=3)
    if len(values):
        axes.plot(values.mean(), place, **points(arm.style), markersize=7, zorder=4)


def _absent(what: Shown) -> list[str]:
    """Say of which runs a measure is missing, and why."""
    said = []
    for name, title in MEASURES.items():
        lacking: dict[str, list[str]] = {}
        for cell in what.cells:
            for arm in cell.series:
                missing = [run.inspection.missing[name] for run in arm.runs if name in run.inspection.missing]
                if missing:
                    runs = f"{len(missing)} of {len(arm.runs)} runs of {what.title(cell, arm.label)}"
                    lacking.setdefault(missing[0], []).append(runs)
        reasons = "; ".join(f"{', '.join(runs)} ({why})" for why, runs in lacking.items())
        if reasons:
            said.append(f"no {title.partition(chr(10))[0]}: {reasons}")
    return said


def generalisation(results: Results, options: Options) -> Drawn:
    """Each measure of sharpness against the test score, a point a run, with its rank correlation."""
    what = shown(results, "sharpness", *MEASURES)
    wanted = [(cell, name) for cell in what.cells for name in MEASURES]
    every = [[point for arm in cell.series for point, _ in _points(arm, name)] for cell, name in wanted]
    most = max(map(len, every))
    if most < LEAST:
        raise too_few(most, where="--figure generalisation")
    figure, axes = panels(len(wanted), height=2.9, options=two_columns(options), legend=list(what.used))
    for (cell, name), runs, one in zip(wanted, every, axes, strict=True):
        for arm in cell.series:
            if rows := [(point.measure, test) for point, test in _points(arm, name)]:
                one.plot(*zip(*rows, strict=True), **points(arm.style), markersize=6, zorder=3)
        one.locator_params(axis="x", nbins=6)
        one.set_xlabel(MEASURES[name])
        score_axis(one, cell.first)
        one.set_title(tick(what.title(cell, _tau(runs))))
    legend(figure, what.used, options, lines=False)
    return finished(figure, caption(
        what, "a point a run, better is up; τ: Kendall's τ_b of a measure with the test score, larger is better, over "
        "all runs and as the mean of those within splits: below 0, flatter goes with better", "association over these "
        "runs, no cause: Andriushchenko et al. (2023) found it weak or reversed", DINH, weights=True,
    ), options)  # fmt: skip


def _points(arm: Series, name: str) -> list[tuple[Point, float]]:
    """The runs that have the measure and a test score, each with the score as it is, be larger better or not."""
    found = []
    for one in (run.inspection for run in arm.runs):
        case, measure, accuracy = one.case, one.scalars.get(name), one.run.accuracy
        if measure is not None and accuracy is not None:
            better = -accuracy.test if accuracy.metric in LOWER_IS_BETTER else accuracy.test
            found.append((Point((case.split, case.split_seed, case.fold), measure, better), accuracy.test))
    return found


def _tau(runs: Sequence[Point]) -> str:
    if len(runs) < LEAST:
        return f"fewer than {LEAST} runs"
    found = association(runs)
    said = ["n/a" if tau is None else signed(tau, ".2f") for tau in (found.pooled, found.within)]
    return f"τ = {said[0]} over {found.runs} runs, {said[1]} within splits"
