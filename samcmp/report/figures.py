"""Figures of a Comparison as matplotlib Figures: accuracy against throughput, paired differences, loss curves.

Colours are Okabe and Ito's (2008), which differ for every kind of colour vision; each arm also has a marker and a
line style of its own, so nothing is lost in grey. Labels stand in margins of their own, where nothing can overlap.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samcmp.analysis.comparison import Cell, Comparison, Row, Verdict, labels, training_speed
from samcmp.analysis.paired import within_half_widths
from samcmp.analysis.sentences import metric_name
from samcmp.errors import SamcmpError, UsageError
from samcmp.printable import printable
from samcmp.records import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from samcmp.analysis.curves import Curve
    from samcmp.analysis.tuning_curves import Dot, Line

ANYTIME_CAPTION = (
    "A run cut short is not a shorter training: its learning rate has not come down; only end points are compared."
)
FORMATS = ("svg", "png", "pdf")
COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C8C00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
MOST_SHADES = 3  # more bands hide each other
MOST_CHARACTERS = 44  # of a name
WIDTH = 4.6  # inches of one panel


@contextlib.contextmanager
def _plain_matplotlib() -> Iterator[None]:
    """Draw with matplotlib's own defaults: neither a notebook's MPLBACKEND nor a matplotlibrc changes a figure.

    Raises SamcmpError where matplotlib cannot be imported.
    """
    backend = os.environ.pop("MPLBACKEND", None)  # an unknown one ends the import
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what is wrong in a matplotlibrc that is not used
    try:
        import matplotlib
    except Exception as error:  # ImportError, or what a matplotlibrc brings about: UnicodeDecodeError, OSError
        raise SamcmpError(
            f"{type(error).__name__}: {error}",
            where="matplotlib cannot be imported",
            remedy="Run `samcmp doctor`, and look whether a file matplotlibrc is damaged, here or in your settings.",
        ) from None
    finally:
        log.setLevel(level)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    ours: Any = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    with matplotlib.rc_context(ours):
        yield


@_plain_matplotlib()
def save(figure: Figure, path: Path | io.BytesIO, *, form: str | None = None) -> None:
    """Write a figure as svg, png or pdf: ``form``, or the file's ending. Raises UsageError for another."""
    ending = form or (path.suffix.lower().lstrip(".") if isinstance(path, Path) else "")
    if ending not in FORMATS:
        raise UsageError(f"unknown figure format {ending!r}", where=str(path), remedy=f"Allowed: {', '.join(FORMATS)}.")
    # no date, fixed ids: the same numbers give the same file
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[ending]
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "samcmp", "svg.fonttype": "none"}):
        figure.savefig(path, format=ending, dpi=200, metadata=metadata)


def svg(figure: Figure) -> str:
    """Return a figure as SVG text."""
    text = io.BytesIO()
    save(figure, text, form="svg")
    return text.getvalue().decode()


@_plain_matplotlib()
def pareto(comparison: Comparison) -> Figure:
    """Draw mean score against graphs per second, a panel a cell, with 95 % intervals and the Pareto front.

    The thin bar is the mean's interval over splits; the thick one leaves out the difficulty that all arms share on a
    split (Morey 2008), so it shows what a paired comparison sees. The grey line joins the front.
    """
    cells = [cell for cell in comparison.cells if any(row.score and row.graphs_per_second for row in cell.rows)]
    figure, panels = _panels(len(cells), height=3.6, legend=_arms(cells))
    styles = _styles(cells)
    for cell, axes in zip(cells, panels, strict=True):
        _pareto(cell, axes, styles)
    _legend(figure, {arm: {**style, "linestyle": "none"} for arm, style in styles.items()})
    return figure


def _pareto(cell: Cell, axes: Axes, styles: Mapping[str, dict[str, Any]]) -> None:
    rows = [row for row in cell.rows if row.score and row.graphs_per_second]
    front = sorted((row for row in rows if row.front), key=lambda row: training_speed(row) or 0.0)
    points = [(training_speed(row) or 0.0, row.score.mean) for row in front if row.score]
    axes.plot(
        [x for x, _ in points], [y for _, y in points], color="#B0B0B0", linewidth=4, zorder=1, solid_capstyle="round"
    )
    within = _within(rows, cell)
    for row in rows:
        if row.score is None or row.graphs_per_second is None:
            continue
        style = styles[row.label]
        if row.arm in within:
            low, high = within[row.arm]
            speed = training_speed(row) or 0.0
            axes.plot([speed, speed], [low, high], color=style["color"], linewidth=4, alpha=0.55, zorder=2)
        axes.errorbar(
            training_speed(row) or 0.0,
            row.score.mean,
            yerr=_bars(row.score.mean, row.score.low, row.score.high),
            xerr=_speed_bars(row),
            color=style["color"],
            marker=style["marker"],
            markersize=7,
            markeredgecolor="white",
            markeredgewidth=0.8,
            linestyle="none",
            elinewidth=1.2,
            capsize=2,
            zorder=3,
        )
    longer = any(row.times != 1.0 for row in rows)
    axes.set_xlabel("graphs per second / length of training" if longer else "graphs per second")
    axes.set_ylabel(metric_name(cell))
    axes.set_title(_tick(cell.name), fontsize=10)
    if not cell.higher_is_better:
        axes.invert_yaxis()  # better is up in every panel
    axes.margins(x=0.12, y=0.12)
    # one wild interval of a speed must not squeeze all points into a corner: it runs out of the panel instead
    speeds = [training_speed(row) or 0.0 for row in rows]
    left, right = axes.get_xlim()
    axes.set_xlim(max(left, 0.4 * min(speeds)), min(right, 1.5 * max(speeds)))


def _within(rows: Sequence[Row], cell: Cell) -> dict[str, tuple[float, float]]:
    """The interval of each mean without the difficulty that all arms share, where they ran on the same splits."""
    common = sorted(set.intersection(*(set(row.blocks) for row in rows)))
    if len(common) < 2 or len(rows) < 2 or cell.test_over_train is None or len(cell.splits) < 2:
        return {}
    half = within_half_widths(
        [[row.blocks[block] for row in rows] for block in common], test_over_train=cell.test_over_train
    )
    means = {row.arm: row.score.mean for row in rows if row.score}
    return {arm: (mean - h, mean + h) for (arm, mean), h in zip(means.items(), half.tolist(), strict=True)}


def _bars(value: float, low: float | None, high: float | None) -> list[list[float]] | None:
    return None if low is None or high is None else [[value - low], [high - value]]


def _speed_bars(row: Row) -> list[list[float]] | None:
    """The speed's interval relative to the base, which was measured in the same rounds."""
    ratio, speed = row.speed_to.get("base"), training_speed(row) or 0.0
    if ratio is None or ratio.low is None or ratio.high is None:
        return None
    return [[speed * max(0.0, 1 - ratio.low / ratio.value)], [speed * max(0.0, ratio.high / ratio.value - 1)]]


@_plain_matplotlib()
def differences(comparison: Comparison, *, against: str = "sam") -> Figure:
    """Draw every arm's mean paired difference from a reference, with its 95 % interval and the margin."""
    cells = [cell for cell in comparison.cells if any(v.role == against and v.mean is not None for v in cell.verdicts)]
    tallest = max((len(_against(cell, against)) for cell in cells), default=1)
    longest = max((len(name) for cell in cells for name in labels(cell).values()), default=0)
    wider = 0.075 * max(0, min(longest, MOST_CHARACTERS) - 12)
    figure, panels = _panels(len(cells), height=1.3 + 0.32 * tallest, legend=(), width=WIDTH + wider)
    styles = _styles(cells)
    for cell, axes in zip(cells, panels, strict=True):
        _differences(cell, _against(cell, against), axes, styles)
    return figure


def _against(cell: Cell, role: str) -> list[Verdict]:
    return [v for v in cell.verdicts if v.role == role and v.mean is not None]


def _differences(cell: Cell, verdicts: Sequence[Verdict], axes: Axes, styles: Mapping[str, dict[str, Any]]) -> None:
    names = labels(cell)
    if cell.margin is not None:
        axes.axvspan(-cell.margin, cell.margin, color="#E6E6E6", zorder=0)
    axes.axvline(0.0, color="black", linewidth=0.8, zorder=1)
    for place, verdict in enumerate(reversed(verdicts)):
        if verdict.mean is None:
            continue
        style = styles[names[verdict.arm]]
        axes.errorbar(
            verdict.mean,
            place,
            xerr=_bars(verdict.mean, verdict.low, verdict.high),
            color=style["color"],
            marker=style["marker"],
            markersize=6,
            linestyle="none",
            elinewidth=1.4,
            capsize=3,
        )
    axes.set_yticks(range(len(verdicts)), [_tick(names[v.arm]) for v in reversed(verdicts)])
    axes.set_ylim(-0.6, len(verdicts) - 0.4)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(f"gain in {METRICS.get(cell.metric, cell.metric)} (band: margin)", fontsize=9)
    axes.set_title(_tick(f"{cell.name}, against {names[verdicts[0].reference]}"), fontsize=10)


@_plain_matplotlib()
def loss_curves(curves: Sequence[Curve]) -> Figure:
    """Draw training loss and test score by epoch, mean over runs; with few arms the range of runs is shaded."""
    from matplotlib.ticker import MaxNLocator

    cells = list(dict.fromkeys(curve.cell for curve in curves))
    arms = list(dict.fromkeys(curve.label for curve in curves))
    figure, panels = _panels(2 * len(cells), height=3.0, legend=arms, columns=2)
    styles = _of(arms)
    for i, cell in enumerate(cells):
        mine = [curve for curve in curves if curve.cell == cell]
        for axes, what in ((panels[2 * i], "train"), (panels[2 * i + 1], "test")):
            for curve in mine:
                _curve(curve, axes, what, style=styles[curve.label], shaded=len(mine) <= MOST_SHADES)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            axes.set_xlabel("epoch")
            axes.set_title(_tick(cell), fontsize=10)
        panels[2 * i].set_ylabel("training loss")
        panels[2 * i + 1].set_ylabel(f"test {mine[0].metric}")
    _legend(figure, styles)
    return figure


def _curve(curve: Curve, axes: Axes, what: str, *, style: dict[str, Any], shaded: bool) -> None:
    mean, low, high = curve.train if what == "train" else curve.test
    epochs = range(1, len(mean) + 1)
    if shaded:
        axes.fill_between(epochs, low, high, color=style["color"], alpha=0.12, linewidth=0)
    every = max(1, len(mean) // 8)
    axes.plot(
        epochs, mean, color=style["color"], linestyle=style["linestyle"], marker=style["marker"],
        markevery=every, markersize=4, linewidth=1.4,
    )  # fmt: skip


@_plain_matplotlib()
def profiles(comparison: Comparison) -> Figure:
    """Draw the performance profile over all cells (Dolan and More 2002)."""
    across = comparison.across
    figure, panels = _panels(1 if across and across.profile else 0, height=3.2, legend=across.arms if across else ())
    if across is None or not across.profile:
        return figure
    named = {standing.arm: standing.label for standing in across.standings}
    styles = _of([named[arm] for arm in across.arms])
    for arm in across.arms:
        style = styles[named[arm]]
        panels[0].step(across.profile_tau, across.profile[arm], where="post", color=style["color"],
                       linestyle=style["linestyle"], linewidth=1.6)  # fmt: skip
    panels[0].set_xlabel("τ: time to the target over the shortest of the cell")
    panels[0].set_ylabel("share of cells within τ")
    panels[0].set_ylim(-0.03, 1.03)
    _legend(figure, {arm: {**style, "marker": ""} for arm, style in styles.items()})
    return figure


@_plain_matplotlib()
def best_of_trials(lines: Sequence[tuple[Line, Line]], comparison: Comparison) -> Figure:
    """Draw the expected test score of the chosen trial against the number of trials, and against their cost."""
    return _line_panels(lines, comparison, ("trials", f"cost, in trainings of {_base(comparison)}, by passes"))


@_plain_matplotlib()
def anytime(lines: Sequence[tuple[Line, Line | None]], comparison: Comparison) -> Figure:
    """Draw the test score at the best validation epoch so far against passes and time, with where the runs end."""
    base = _base(comparison)
    figure = _line_panels(
        lines, comparison, (f"passes, in trainings of {base}", f"time, in trainings of {base}"), steps=True
    )
    if lines:
        figure.suptitle(ANYTIME_CAPTION, fontsize=8)
    return figure


def _base(comparison: Comparison) -> str:
    names = {row.label for cell in comparison.cells for row in cell.rows if row.role == "base"}
    return next(iter(names)) if len(names) == 1 else "the base"


def _line_panels(
    lines: Sequence[tuple[Line, Line | None]], comparison: Comparison, titles: tuple[str, str], *, steps: bool = False
) -> Figure:
    """Two panels a cell, a line an arm; end points carry their within-split interval where there is one."""
    cells = {cell.name: cell for cell in comparison.cells}
    names = list(dict.fromkeys(first.cell for first, _ in lines))
    arms = list(dict.fromkeys(first.label for first, _ in lines))
    figure, panels = _panels(2 * len(names), height=3.2, legend=arms, columns=2)
    styles = _of(arms)
    for i, name in enumerate(names):
        for place, title in enumerate(titles):
            axes = panels[2 * i + place]
            for pair in lines:
                line = pair[place]
                if line is not None and line.cell == name:
                    _line(line, axes, styles[line.label], steps=steps)
            axes.set_xlabel(title)
            axes.set_title(_tick(name), fontsize=10)
            if not cells[name].higher_is_better:
                axes.invert_yaxis()  # better is up in every panel
        panels[2 * i].set_ylabel(f"test {metric_name(cells[name])}")
    _legend(figure, styles)
    return figure


def _line(line: Line, axes: Axes, style: dict[str, Any], *, steps: bool) -> None:
    look = {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 1.4}
    if not steps:
        axes.plot(line.x, line.y, marker=style["marker"], markersize=4, **look)
        return
    axes.step(line.x, line.y, where="post", **look)
    axes.errorbar(
        line.x[-1], line.y[-1], yerr=line.half_width, color=style["color"], marker=style["marker"], markersize=6,
        markeredgecolor="white", capsize=3, linestyle="none",
    )  # fmt: skip


@_plain_matplotlib()
def sensitivity(dots: Sequence[Dot], comparison: Comparison) -> Figure:
    """Draw every trial's gain in validation over the settings as given against each setting; filled: chosen."""
    wanted = list(dict.fromkeys((dot.cell, dot.setting) for dot in dots))
    arms = list(dict.fromkeys(dot.label for dot in dots))
    figure, panels = _panels(len(wanted), height=3.0, legend=arms)
    styles = _of(arms)
    metrics = {cell.name: METRICS.get(cell.metric, cell.metric) for cell in comparison.cells}
    for (cell, setting), axes in zip(wanted, panels, strict=True):
        axes.axhline(0.0, color="#B0B0B0", linewidth=0.8)
        shown = [dot for dot in dots if (dot.cell, dot.setting) == (cell, setting)]
        if all(isinstance(dot.value, float) and dot.value > 0 for dot in shown):
            axes.set_xscale("log")
        for dot in shown:
            style = styles[dot.label]
            axes.plot(
                [dot.value], [dot.gain], marker=style["marker"], markersize=5 if dot.chosen else 4, linestyle="none",
                color=style["color"], markerfacecolor=style["color"] if dot.chosen else "none",
                alpha=1.0 if dot.chosen else 0.6,
            )  # fmt: skip
        axes.set_xlabel(setting)
        axes.set_ylabel(f"gain in validation {metrics[cell]}", fontsize=8)
        axes.set_title(_tick(cell), fontsize=10)
    _legend(figure, {arm: {**style, "linestyle": "none"} for arm, style in styles.items()})
    return figure


def _arms(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(row.label for cell in cells for row in cell.rows))


def _styles(cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    return _of(_arms(cells))


def _of(arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {
        arm: {
            "color": COLOURS[i % len(COLOURS)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": DASHES[i % len(DASHES)],
        }
        for i, arm in enumerate(arms)
    }


def _tick(name: str) -> str:
    """Keep matplotlib from reading a name as mathematics, and a long one from leaving the figure."""
    name = printable(name)
    short = name if len(name) <= MOST_CHARACTERS else name[: MOST_CHARACTERS - 1] + "…"
    return short.replace("$", r"\$")


def _panels(
    count: int, *, height: float, legend: Sequence[str], columns: int = 3, width: float = WIDTH
) -> tuple[Figure, list[Axes]]:
    """A grid of panels with a strip below for the legend. Raises UsageError when there is nothing to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if count == 0:
        raise UsageError("nothing to draw: no Record has what this figure shows", where="figure")
    across = min(columns, count, 2 if count == 4 else columns)
    down = -(-count // across)
    strip = 0.2 * _legend_rows(legend, across) + (0.15 if legend else 0.0)
    tall = height * down + strip
    figure = Figure(figsize=(width * across, tall))
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, rect=(0, strip / tall, 1, 1 - strip / tall)))
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False)
    panels = [axes for line in grid for axes in line]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def _per_line(legend: Sequence[str], across: int) -> int:
    longest = max((len(name) for name in legend), default=1)
    return max(1, int(WIDTH * across / (0.075 * min(longest, MOST_CHARACTERS) + 0.6)))


def _legend_rows(legend: Sequence[str], across: int) -> int:
    return -(-len(legend) // _per_line(legend, across)) if legend else 0


def _legend(figure: Figure, styles: Mapping[str, dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    across = round(figure.get_figwidth() / WIDTH)
    handles = [Line2D([], [], label=_tick(arm), markersize=6, **style) for arm, style in styles.items()]
    figure.legend(handles=handles, loc="lower center", ncols=_per_line(list(styles), across), frameon=False, fontsize=8)
