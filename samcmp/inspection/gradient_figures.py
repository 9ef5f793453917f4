"""Figures of watched training: changes, norms, pairs, conjectures. Each function is named as its figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from samcmp.inspection import published
from samcmp.inspection.results import Results
from samcmp.inspection.series import Series, Shown, band, caption, finished, per_epoch, shown
from samcmp.report.canvas import GREY, Drawn, Options, legend, panels, points, tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SYMBOLS = {"g": r"g", "epsilon": r"\hat{\varepsilon}", "omega": r"\omega"}
NAMES = {"g": "SAM's true gradient g", "epsilon": "displacement ε", "omega": "updating gradient ω"}
LETTERS = (
    "vectors of step t, on its own batch, in training mode: g, the gradient of the mean loss at the unperturbed "
    "weights; ε, the displacement that was used (0 for an optimizer that perturbs nothing); ω, the gradient of the "
    "step's last pass; all trained parameters as one vector"
)
BAND = "line: the median over the steps of an epoch and all runs, band: their quartiles"
MANY = 4000  # points: more are drawn as one picture inside a vector file


def changes(results: Results, options: Options) -> Drawn:
    """‖v_{t+1} - v_t‖ of g, ε and ω by epoch, and the same of unit vectors (figures 3a and 8 of the paper)."""
    what = shown(results, "gradients", "change_g", "change_omega")
    figure, axes = panels(6 * len(what.cells), height=2.6, options=options, legend=list(what.used))
    places = iter(axes)
    for cell in what.cells:
        for kind in ("change", "unit_change"):
            for name, symbol in SYMBOLS.items():
                one = next(places)
                _by_epoch(one, cell.series, f"{kind}_{name}", log=kind == "change")
                step = rf"{symbol}_{{t+1}} - {symbol}_t"
                if kind == "unit_change":
                    step = rf"{symbol}_{{t+1}}/\|{symbol}_{{t+1}}\| - {symbol}_t/\|{symbol}_t\|"
                    one.axhline(np.sqrt(2), color=GREY, linewidth=0.8, zorder=1)
                one.set_ylabel(rf"$\|{step}\|$")
                one.set_title(tick(what.title(cell, NAMES[name] + ", unit vectors" * (kind == "unit_change"))))
    legend(figure, what.used, options)
    return finished(figure, caption(
        what, "how far each vector of a step is from that of the step before", LETTERS, BAND,
        "unit vectors: each divided by its length; grey: √2, at right angles",
    ), options)  # fmt: skip


def norms(results: Results, options: Options) -> Drawn:
    """‖g‖, ‖ε‖ and ‖ω‖ by epoch on one scale (figure 9 of the paper)."""
    what = shown(results, "gradients", "norm_g", "norm_omega")
    figure, axes = panels(3 * len(what.cells), height=2.8, options=options, legend=list(what.used))
    for i, cell in enumerate(what.cells):
        mine = axes[3 * i : 3 * i + 3]
        for one, (name, symbol) in zip(mine, SYMBOLS.items(), strict=True):
            _by_epoch(one, cell.series, f"norm_{name}", log=True)
            one.set_ylabel(rf"$\|{symbol}_t\|$")
            one.set_title(tick(what.title(cell, NAMES[name])))
        _one_scale(mine)
    legend(figure, what.used, options)
    return finished(figure, caption(what, "length of each vector", LETTERS, BAND, "one scale for all three"), options)


def _by_epoch(axes: Axes, arms: Sequence[Series], name: str, *, log: bool) -> None:
    for arm in arms:
        if not arm.arrays(name):
            continue
        x, quartiles = per_epoch(arm, name, lambda row: np.percentile(row, [25, 50, 75]))
        if log:
            quartiles = np.where(quartiles > 0, quartiles, np.nan)
        low, middle, high = quartiles.T
        if np.isfinite(middle).any():
            band(axes, x, low, middle, high, arm.style)
    if log:
        _log_scale(axes)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set_xlabel("epoch")


def _log_scale(axes: Axes) -> None:
    """A logarithmic axis with plain numbers where it spans little, and powers of ten where it spans much."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 60 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _one_scale(axes: Sequence[Axes]) -> None:
    ends = [one.get_ylim() for one in axes if one.lines]
    for one in axes:
        one.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))


# ---------------------------------------------------------------------------------------------- pairs

QUESTIONS = {
    "next": r"$\cos(g_{t+1}, \omega_t) \geq 0$",
    "direction": r"$\cos(\hat{\varepsilon}_t, g_t) \geq 0$",
    "direction_approximated": r"$\cos(\hat{\varepsilon}_t, g_t) \geq 0$, approximated steps",
}
PARTS = {"_first": "first\nthird", "_middle": "middle\nthird", "_last": "last\nthird", "": "whole\ntraining"}


def pairs(results: Results, options: Options) -> Drawn:
    """The share of steps whose directions agree, by thirds of training and over all of it (figure 3c of the paper)."""
    what = shown(results, "gradients", "pairs_next", "pairs_direction")
    figure, axes = panels(3 * len(what.cells), height=3.0, options=options, legend=list(what.used))
    places = iter(axes)
    stars: dict[str, float] = {}
    for cell in what.cells:
        for question, text in QUESTIONS.items():
            one = next(places)
            one.axhline(50.0, color=GREY, linewidth=0.8, zorder=1)
            for k, arm in enumerate(cell.series):
                offset = 0.6 * ((k + 0.5) / len(cell.series) - 0.5)
                _shares(one, arm, f"pairs_{question}", offset)
                paper = published.PAIRS.get(arm.label) if question == "next" else None
                if paper is not None:
                    stars[arm.label] = paper
                    one.plot(
                        4 + offset, paper, marker="*", markersize=9, markeredgecolor="black",
                        markerfacecolor=arm.style["color"], markeredgewidth=0.6, linestyle="none", zorder=5,
                    )  # fmt: skip
            beside = question == "next" and bool(published.PAIRS.keys() & what.used.keys())
            parts = [*PARTS.values(), *["the\npaper"] * beside]
            one.set_xticks(range(len(parts)), parts)
            one.set_xlim(-0.5, len(parts) - 0.5)
            one.set_ylim(-3, 103)
            one.set_ylabel("share of steps (%)")
            one.set_title(what.title(cell, text) if len(what.cells) == 1 else f"{tick(cell.name)}\n{text}")
    legend(figure, what.used, options, lines=False)
    said = ", ".join(f"{share:.2f} % ({name})" for name, share in stars.items())
    return finished(figure, caption(
        what, "share of steps whose two vectors point the same way (cosine 0 or more)", LETTERS,
        "approximated: of the steps without a pass at the unperturbed weights (at the others ε points along g by "
        "construction)",
        "point: the mean over runs, bar: their range, over the steps for which both vectors are there and not zero",
        f"stars: Wang et al. (2024), BBBP, perturbation and previous updating gradient: {said}" if said else "",
    ), options)  # fmt: skip


def _shares(axes: Axes, arm: Series, name: str, offset: float) -> None:
    for place, part in enumerate(PARTS):
        values = 100.0 * arm.scalars(name + part)
        if not len(values):
            continue
        x = place + offset
        if len(values) > 1:
            axes.plot([x, x], [values.min(), values.max()], color=arm.style["color"], linewidth=1.6, zorder=3)
        axes.plot(x, values.mean(), **points(arm.style), markersize=6, zorder=4)


# ---------------------------------------------------------------------------------------------- conjectures


def conjectures(results: Results, options: Options) -> Drawn:
    """The loss at the perturbation that was used against the loss at SAM's, on approximated steps."""
    what = shown(results, "gradients", "c1_share", remedy="Add an optimizer that approximates, such as graphsam.")
    figure, axes = panels(3 * len(what.cells), height=3.0, options=options, legend=list(what.used))
    for i, cell in enumerate(what.cells):
        scatter, first, second = axes[3 * i : 3 * i + 3]
        scatter.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
        first.axhline(50.0, color=GREY, linewidth=0.8, zorder=1)
        second.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
        for arm in cell.series:
            x, y, epoch = _differences(arm)
            look = {**points(arm.style), "markeredgewidth": 0, "markerfacecolor": arm.style["color"]}
            scatter.plot(x, y, **look, markersize=3, alpha=0.35, zorder=2, rasterized=len(x) > MANY)
            epochs = np.unique(epoch)
            line = {**arm.style, "markersize": 4, "linewidth": 1.3, "markevery": max(1, len(epochs) // 8)}
            first.plot(epochs + 1, [100.0 * np.mean(y[epoch == e] > 0) for e in epochs], **line)
            second.plot(epochs + 1, [_spearman(np.abs(y[epoch == e]), x[epoch == e]) for e in epochs], **line)
        scatter.set_xlabel(r"$\|\hat{\varepsilon} - \hat{\varepsilon}^S\|$")
        scatter.set_ylabel(r"$L(\theta+\hat{\varepsilon}) - L(\theta+\hat{\varepsilon}^S)$")
        scatter.set_title(tick(what.title(cell, "approximated steps")))
        first.set_ylabel(r"$L(\theta+\hat{\varepsilon}) > L(\theta+\hat{\varepsilon}^S)$ (% of steps)")
        first.set_ylim(-3, 103)
        first.set_title(tick(what.title(cell, "conjecture 1")))
        second.set_ylabel("Spearman's correlation in an epoch")
        second.set_ylim(-1.03, 1.03)
        second.set_title(tick(what.title(cell, "conjecture 2")))
        for one in (first, second):
            one.locator_params(axis="x", nbins=6, integer=True)
            one.set_xlabel("epoch")
    legend(figure, what.used, options)
    return finished(figure, caption(
        what,
        "approximated steps, without a pass at the unperturbed weights: L, the loss of the step's batch with its own "
        "dropout masks; ε, the displacement that was used; εˢ, SAM's with the same radius; differences below 1e-6 L "
        "are left out, all runs together",
        "conjecture 1 of Wang et al. (2024): the difference is positive; conjecture 2: its size goes with ‖ε − εˢ‖",
        _in_words(what),
    ), options)  # fmt: skip


def _in_words(what: Shown) -> str:
    said = []
    for cell in what.cells:
        for arm in cell.series:
            share, ranks = arm.scalars("c1_share"), arm.scalars("c2_spearman")
            second = f"{ranks.mean():.2f}" if len(ranks) else "n/a"
            said.append(f"{arm.label}: {100 * share.mean():.1f} % and {second}")
    return f"share of conjecture 1 and mean correlation of conjecture 2, {'; '.join(said)}"


def _differences(arm: Series) -> tuple[Array, Array, Array]:
    """‖ε̂ - ε̂ˢ‖, the difference of losses and the epoch of every step that is compared."""
    loss, of_sam, x, epoch = (np.concatenate(arm.arrays(n)) for n in ("loss", "sam_loss", "distance", "epoch"))
    y = loss - of_sam
    with np.errstate(invalid="ignore"):
        there = np.isfinite(y) & (np.abs(y) >= 1e-6 * np.abs(loss))
    return x[there], y[there], epoch[there]


def _spearman(a: Array, b: Array) -> float:
    from scipy.stats import spearmanr

    if len(a) < 5 or np.ptp(a) == 0 or np.ptp(b) == 0:  # a constant has no ranks
        return float("nan")
    return float(spearmanr(a, b).statistic)
