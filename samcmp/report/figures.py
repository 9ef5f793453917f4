"""Figures of a Comparison, each with its caption: the front, paired differences, learning curves, performance profiles.

In every figure a colour and a marker belong to an optimizer (:mod:`samcmp.report.styles`), better is up or right, and
labels stand in margins of their own, where nothing can overlap.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from samcmp.analysis.comparison import Cell, Comparison, Interval, Row, Verdict, labels
from samcmp.analysis.curves import Curve, curves
from samcmp.analysis.sentences import headline
from samcmp.errors import unknown
from samcmp.records import Record
from samcmp.report.canvas import (
    GREY,
    MOST_CHARACTERS,
    PANEL,
    Drawn,
    Options,
    beside,
    legend,
    panels,
    plain_matplotlib,
    points,
    tick,
)
from samcmp.report.styles import Style, styles
from samcmp.report.units import metric_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALE = "#E6E6E6"
LONGEST = 3.0  # times the spread that matters: an interval that is longer runs out of its panel
BARS = (
    "thick bars: 95 % of each comparison alone, thin: of all of a panel together, which the words are read off (one "
    "without a cap runs out of the panel)"
)
Lacking = tuple[str, str, str]  # cell, label, why it is not drawn


def draw(kind: str, comparison: Comparison, records: Sequence[Record] = (), options: Options | None = None) -> Drawn:
    """Draw a figure and write its caption.

    Args:
        kind: front, differences, curves, profiles, sweep, tuning, sensitivity or anytime.
        records: what the comparison was made of; curves, tuning, sensitivity and anytime need them.

    Raises UsageError where the results do not hold what it shows.
    """
    from samcmp.report import sweep, tuning_figures

    makers: dict[str, Callable[[Comparison, Sequence[Record], Options], Drawn]] = {
        "front": _front,
        "differences": _differences,
        "curves": _curves,
        "profiles": _profiles,
        "sweep": sweep.draw,
        **tuning_figures.MAKERS,
    }
    if kind not in makers:
        raise unknown("figure", kind, makers, where="figure")
    options = options or Options()
    with plain_matplotlib(options.font_size):
        return makers[kind](comparison, records, options)


def _used(comparison: Comparison, labels: Sequence[str]) -> dict[str, Style]:
    """The styles of what is drawn, in the order of drawing."""
    every = styles(comparison)
    return {label: every[label] for label in dict.fromkeys(labels)}


def _caption(*sentences: str, cells: Sequence[Cell] = (), left_out: Sequence[Lacking] = ()) -> str:
    """Put a caption together: what is shown, what each cell rests on, and what is not drawn and why."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for cell, label, why in left_out:
        lacking.setdefault((cell, why), []).append(label)
    said = [*sentences, *(f"{headline(cell)}." for cell in cells)]
    said += [f"Not drawn{f' of {cell}' * bool(cell)}: {', '.join(of)} ({why})." for (cell, why), of in lacking.items()]
    return " ".join(said)


# ---------------------------------------------------------------------------------------------- front


def _front(comparison: Comparison, records: Sequence[Record], options: Options) -> Drawn:
    """Gain over the base, paired by split, against the speed of training over the base's; a panel a cell."""
    shown = {cell.key: _placed(cell) for cell in comparison.cells}
    cells = [cell for cell in comparison.cells if shown[cell.key]]
    names = [row.label for cell in cells for row in cell.rows if row.role == "base" or row.arm in shown[cell.key]]
    used = _used(comparison, names)
    figure, axes = panels(len(cells), height=3.4, options=options, legend=list(used))
    for cell, one in zip(cells, axes, strict=True):
        _front_panel(cell, shown[cell.key], one, used, unit=options.unit)
    legend(figure, used, options, lines=False)
    bases = ", ".join(dict.fromkeys(row.label for cell in cells for row in cell.rows if row.role == "base"))
    caption = _caption(
        f"Accuracy gained over {bases} (mean difference, paired by split, better is up) against the speed of a whole "
        f"training over that of {bases} (ratio of times, 95 %), which is at (1, 0); {BARS}.",
        "The step joins what nothing else in the panel beats in both; grey: the margin.",
        cells=cells,
        left_out=_missing(comparison.cells, shown),
    )
    return Drawn(figure, caption)


def _placed(cell: Cell) -> dict[str, tuple[Interval, Verdict]]:
    """Speed and paired gain of every arm that has both."""
    gains = {v.arm: v for v in cell.verdicts if v.role == "base" and v.mean is not None}
    return {r.arm: (r.speed_to["base"], gains[r.arm]) for r in cell.rows if r.arm in gains and "base" in r.speed_to}


def _missing(cells: Sequence[Cell], shown: Mapping[str, Mapping[str, object]]) -> list[Lacking]:
    return [
        (cell.name, row.label, _why_missing(row))
        for cell in cells
        for row in cell.rows
        if row.arm not in shown[cell.key] and not (row.role == "base" and shown[cell.key])
    ]


def _why_missing(row: Row) -> str:
    if row.score is None:
        return row.missing.get("score", "no score")
    return row.missing.get("graphs_per_second", "no run or speed that it shares with the base")


def _front_panel(
    cell: Cell, placed: Mapping[str, tuple[Interval, Verdict]], axes: Axes, used: Mapping[str, Style], *, unit: str
) -> None:
    base = next(row for row in cell.rows if row.role == "base")
    names = labels(cell)
    spots = [(1.0, 0.0), *((speed.value, v.mean or 0.0) for speed, v in placed.values())]
    low, high = _limits((v for _, v in placed.values()), cell.margin)
    slow, fast = min(x for x, _ in spots), max(x for x, _ in spots)
    room = 0.1 * max(fast - slow, 0.2)
    reach = [e for speed, _ in placed.values() for e in (speed.low, speed.high) if e is not None]
    left = max(min([slow, *reach]), 0.5 * slow) - room
    right = min(max([fast, *reach]), 1.5 * fast) + room
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    if cell.margin is not None:
        axes.axhspan(-cell.margin, cell.margin, color=PALE, zorder=0, linewidth=0)
    axes.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
    axes.axvline(1.0, color=GREY, linewidth=0.8, zorder=1)
    front = _unbeaten(spots)
    axes.step(
        [left, *(x for x, _ in front), front[-1][0]], [front[0][1], *(y for _, y in front), low], where="pre",
        color="#808080", linewidth=1.6, zorder=2,
    )  # fmt: skip
    for arm, (speed, verdict) in placed.items():
        style = used[names[arm]]
        _bars(axes, verdict, style, at=speed.value, upright=True)
        if speed.low is not None and speed.high is not None:
            axes.plot([speed.low, speed.high], [verdict.mean or 0.0] * 2, color=style["color"], linewidth=2, zorder=3)
        axes.plot(speed.value, verdict.mean or 0.0, **points(style), markersize=7, zorder=4)
    axes.plot(1.0, 0.0, **points(used[base.label]), markersize=7, zorder=4)
    axes.set_xlabel(f"speed of training over {tick(base.label)} (×)")
    axes.set_ylabel(f"gain in {metric_in(cell, unit)} over {tick(base.label)}")
    axes.set_title(tick(cell.name))


def _unbeaten(spots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other is as good as in both and better in one, from the slowest to the fastest."""
    return sorted({s for s in spots if not any(o[0] >= s[0] and o[1] >= s[1] and o != s for o in spots)})


def _together(verdict: Verdict) -> list[float]:
    return [end for end in (verdict.adjusted_low, verdict.adjusted_high) if end is not None]


def _limits(verdicts: Iterable[Verdict], margin: float | None) -> tuple[float, float]:
    """The ends of an axis of differences: intervals as far as they do not squash what they are the intervals of."""
    verdicts = list(verdicts)
    means = [0.0, *(v.mean for v in verdicts if v.mean is not None)]
    own = [(v.low, v.high) for v in verdicts if v.low is not None and v.high is not None]
    halves = [(high - low) / 2.0 for low, high in own]
    span = max(max(means) - min(means), margin or 0.0, median(halves) if halves else 0.0) or 1.0
    ends = [end for pair in own for end in pair] + [end for v in verdicts for end in _together(v)]
    low = max(min([*means, *ends]), min(means) - LONGEST * span)
    high = min(max([*means, *ends]), max(means) + LONGEST * span)
    room = 0.06 * ((high - low) or 1.0)
    return low - room, high + room


def _bars(axes: Axes, verdict: Verdict, style: Style, *, at: float, upright: bool) -> None:
    """Draw a difference's two intervals: of it alone, thick; of all of its cell together, thin with caps."""
    for ends, width, caps in ((_together(verdict), 1.0, True), ((verdict.low, verdict.high), 2.6, False)):
        along = [end for end in ends if end is not None]
        if len(along) < 2:
            continue
        across = [at] * 2
        x, y = (across, along) if upright else (along, across)
        axes.plot(x, y, color=style["color"], linewidth=width, zorder=3, solid_capstyle="butt")
        if caps:
            axes.plot(x, y, color=style["color"], linestyle="none", marker="_" if upright else "|", zorder=3)


# ---------------------------------------------------------------------------------------------- differences


def _differences(comparison: Comparison, records: Sequence[Record], options: Options) -> Drawn:
    """Every arm's mean paired difference from a reference, the best on top, with its word and its number of splits."""
    sorted_ = {cell.key: _against(cell, options.against) for cell in comparison.cells}
    cells = [cell for cell in comparison.cells if sorted_[cell.key]]
    tallest = max((len(sorted_[cell.key]) for cell in cells), default=1)
    longest = max((len(name) for cell in cells for name in labels(cell).values()), default=0)
    wider = 0.075 * max(0, min(longest, MOST_CHARACTERS) - 12) + 0.9
    figure, axes = panels(len(cells), height=1.1 + 0.27 * tallest, options=options, width=PANEL + wider)
    used = styles(comparison)
    room = figure.get_figwidth() * 9.0 / options.font_size / beside(axes) - wider - 1.9  # without names and words
    bins = max(2, min(5, int(room / 0.45)))
    for cell, one in zip(cells, axes, strict=True):
        _differences_panel(cell, sorted_[cell.key], one, used, bins=bins, options=options)
    references = ", ".join(dict.fromkeys(labels(cell)[sorted_[cell.key][0].reference] for cell in cells))
    untested = [
        (cell.name, labels(cell)[v.arm], v.why or "not compared")
        for cell in comparison.cells
        for v in cell.verdicts
        if v.role == options.against and v.mean is None
    ]
    caption = _caption(
        f"Mean difference of each optimizer from {references}, paired by split, better to the right, the best on top; "
        f"{BARS}. Grey: the margin. n: the splits, or the runs on a single one.",
        cells=cells,
        left_out=untested,
    )
    return Drawn(figure, caption)


def _against(cell: Cell, role: str) -> list[Verdict]:
    return sorted((v for v in cell.verdicts if v.role == role and v.mean is not None), key=lambda v: v.mean or 0.0)


def _differences_panel(
    cell: Cell, verdicts: Sequence[Verdict], axes: Axes, used: Mapping[str, Style], *, bins: int, options: Options
) -> None:
    names = labels(cell)
    axes.set_xlim(*_limits(verdicts, cell.margin))
    if cell.margin is not None:
        axes.axvspan(-cell.margin, cell.margin, color=PALE, zorder=0, linewidth=0)
    axes.axvline(0.0, color="black", linewidth=0.8, zorder=1)
    for place, verdict in enumerate(verdicts):
        style = used[names[verdict.arm]]
        _bars(axes, verdict, style, at=place, upright=False)
        axes.plot(verdict.mean or 0.0, place, **points(style), markersize=6, zorder=4)
    axes.set_yticks(range(len(verdicts)), [tick(names[v.arm]) for v in verdicts])
    axes.set_ylim(-0.6, len(verdicts) - 0.4)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(verdicts)), [_word(v) for v in verdicts])
    right.tick_params(length=0, labelsize=0.85 * options.font_size)
    right.spines["right"].set_visible(False)
    axes.locator_params(axis="x", nbins=bins)
    axes.set_xlabel(f"gain in {metric_in(cell, options.unit)} over {tick(names[verdicts[0].reference])}, better →")
    axes.set_title(tick(cell.name))


def _word(verdict: Verdict) -> str:
    count = verdict.splits if verdict.splits > 1 else verdict.blocks
    return f"{verdict.word}{' < margin' * verdict.within_margin}, n = {count}"


# ---------------------------------------------------------------------------------------------- curves


def _curves(comparison: Comparison, records: Sequence[Record], options: Options) -> Drawn:
    """Training loss, validation and test score, mean over runs with a band for every arm."""
    drawn, left_out = curves(records, comparison, x=options.x)
    cells = [cell for cell in comparison.cells if any(c.cell == cell.name for c in drawn)]
    wanted = [(cell, part) for cell in cells for part in _parts([c for c in drawn if c.cell == cell.name])]
    used = _used(comparison, [curve.label for curve in drawn])
    columns = min(options.columns, max((sum(c is cell for c, _ in wanted) for cell in cells), default=1))
    sized = dataclasses.replace(options, columns=columns)
    figure, axes = panels(len(wanted), height=2.8, options=sized, legend=list(used))
    unit = _time_unit(drawn) if options.x == "time" else (1.0, "")
    along = {"epochs": "epoch", "passes": "gradient evaluations", "time": f"time of training ({unit[1]})"}[options.x]
    for (cell, part), one in zip(wanted, axes, strict=True):
        for curve in (c for c in drawn if c.cell == cell.name):
            _curve(curve, one, part, style=used[curve.label], unit=unit[0])
        one.locator_params(axis="x", nbins=6, integer=options.x != "time")
        one.set_xlabel(along)
        one.set_ylabel("training loss" if part == "train" else f"{PARTS[part]} {metric_in(cell, options.unit)}")
        one.set_title(tick(cell.name))
    legend(figure, used, options)
    by = {
        "epochs": "by epoch",
        "passes": "by gradient evaluations so far",
        "time": "by the time of training, at the speed that was measured (evaluation is not in it)",
    }[options.x]
    caption = _caption(
        f"Learning curves {by}: mean over runs, band: ± the SD of the runs. The training loss is what "
        "an optimizer's steps returned, their own terms included.",
        cells=cells,
        left_out=left_out,
    )
    return Drawn(figure, caption)


PARTS = {"train": "training", "valid": "validation", "test": "test"}


def _parts(curves: Sequence[Curve]) -> list[str]:
    return [part for part in PARTS if any(getattr(curve, part) is not None for curve in curves)]


def _time_unit(drawn: Sequence[Curve]) -> tuple[float, str]:
    longest = max((curve.x[-1] for curve in drawn), default=0.0)
    return (3600.0, "h") if longest >= 2 * 3600 else (60.0, "min") if longest >= 120 else (1.0, "s")


def _curve(curve: Curve, axes: Axes, part: str, *, style: Style, unit: float) -> None:
    band = getattr(curve, part)
    if band is None:
        return
    mean, low, high = band
    x = [value / unit for value in curve.x]
    if curve.runs > 1:
        axes.fill_between(x, low, high, color=style["color"], alpha=0.1, linewidth=0)
    axes.plot(x, mean, **style, markevery=max(1, len(mean) // 8), markersize=4, linewidth=1.3)


# ---------------------------------------------------------------------------------------------- profiles


def _profiles(comparison: Comparison, records: Sequence[Record], options: Options) -> Drawn:
    """The performance profile over all cells (Dolan and More 2002)."""
    across = comparison.across
    named = {standing.arm: standing.label for standing in across.standings} if across else {}
    arms = across.arms if across and across.profile else ()
    used = _used(comparison, [named[arm] for arm in arms])
    figure, axes = panels(1 if arms else 0, height=3.2, options=options, legend=list(used))
    for arm in arms:
        style = {**used[named[arm]], "marker": ""}
        axes[0].step(across.profile_tau, across.profile[arm], where="post", linewidth=1.6, **style)  # type: ignore[union-attr]
    axes[0].set_xlabel("τ: time to the target over the shortest of the cell")
    axes[0].set_ylabel("share of cells within τ")
    axes[0].set_ylim(-0.03, 1.03)
    legend(figure, {arm: {**style, "marker": ""} for arm, style in used.items()}, options)
    caption = _caption(
        "Performance profile (Dolan and Moré 2002): the share of cells in which an optimizer's time to the target is "
        "within τ times the shortest of the cell.",
        cells=[cell for cell in comparison.cells if across and cell.name in across.cells],
        left_out=[("", arm, why) for arm, why in across.left_out.items()] if across else (),
    )
    return Drawn(figure, caption)
