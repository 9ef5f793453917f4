"""What every figure is drawn on: matplotlib as it comes, panels, a legend in a strip of its own, and files."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from samcmp.errors import SamcmpError, UsageError
from samcmp.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from samcmp.report.styles import Style

FORMATS = ("svg", "png", "pdf")
Against = Literal["base", "sam"]
Scale = Literal["epochs", "passes", "time"]
AGAINST, SCALES = get_args(Against), get_args(Scale)
MOST_CHARACTERS = 44  # of a name
GREY = "#B0B0B0"  # of lines that a figure is read by
PANEL = 4.6  # inches: the width of a panel where none is asked for
LEAST = 2.3  # inches: a narrower panel at 9 points cannot be read


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may say about a figure."""

    width: float | None = None  # inches of the whole figure; None: as its panels need
    font_size: float = 9.0  # points
    against: Against = "base"  # of differences
    x: Scale = "epochs"  # of curves
    unit: str = ""  # of RMSE and MAE; empty: as the dataset's card says
    columns: int = 3  # panels side by side, at most
    foot: bool = True  # the caption in the picture, too, where a figure has it there


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure and the text that belongs below it."""

    figure: Figure
    caption: str


@contextlib.contextmanager
def plain_matplotlib(font_size: float = 9.0) -> Iterator[None]:
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
    ours |= {"font.size": font_size, "axes.titlesize": 1.1 * font_size, "axes.labelsize": font_size}
    with matplotlib.rc_context(ours):
        yield


@plain_matplotlib()
def save(figure: Figure, path: Path | io.BytesIO, *, form: str | None = None, caption: str = "") -> None:
    """Write a figure as svg, png or pdf: ``form``, or the file's ending. Raises UsageError for another.

    Args:
        caption: becomes the file's description, so that it goes where the file goes.
    """
    ending = form or (path.suffix.lower().lstrip(".") if isinstance(path, Path) else "")
    if ending not in FORMATS:
        raise UsageError(f"unknown figure format {ending!r}", where=str(path), remedy=f"Allowed: {', '.join(FORMATS)}.")
    # no date, fixed ids: the same numbers give the same file
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[ending]
    if caption:
        metadata["Subject" if ending == "pdf" else "Description"] = printable(caption)
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "samcmp", "svg.fonttype": "none"}):
        figure.savefig(path, format=ending, dpi=200, metadata=metadata)


def svg(figure: Figure) -> str:
    """Return a figure as SVG text."""
    file = io.BytesIO()
    save(figure, file, form="svg")
    return file.getvalue().decode()


def tick(name: str) -> str:
    """Keep matplotlib from reading a name as mathematics, and a long one from leaving the figure."""
    name = printable(name)
    short = name if len(name) <= MOST_CHARACTERS else name[: MOST_CHARACTERS - 1] + "…"
    return short.replace("$", r"\$")


def panels(
    count: int, *, height: float, options: Options, legend: Sequence[str] = (), width: float = PANEL
) -> tuple[Figure, list[Axes]]:
    """A grid of panels with a strip below for the legend. Raises UsageError when there is nothing to draw.

    Args:
        height, width: inches of a panel at 9 points; a narrower figure has fewer panels side by side, and lower ones.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if count == 0:
        raise UsageError("nothing to draw: no Record has what this figure shows", where="figure")
    size = options.font_size / 9.0
    columns = options.columns
    across = min(columns, count, 2 if count == 4 else columns)
    if options.width is not None:
        across = max(1, min(across, int(options.width / (LEAST * size))))
        height *= min(1.0, max(0.7, options.width / across / width))
    wide = options.width or width * size * across
    down = -(-count // across)
    rows = -(-len(legend) // _per_line(legend, wide, options.font_size)) if legend else 0
    strip = (0.2 * rows + (0.15 if legend else 0.0)) * size
    tall = height * size * down + strip
    figure = Figure(figsize=(wide, tall))
    figure.set_layout_engine(
        ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, rect=(0, strip / tall, 1, 1 - strip / tall))
    )
    FigureCanvasAgg(figure)
    axes = [one for line in figure.subplots(down, across, squeeze=False) for one in line]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=0.85 * options.font_size)
    for one in axes[count:]:
        one.set_visible(False)
    return figure, axes[:count]


def two_columns(options: Options) -> Options:
    """The same options with at most two panels side by side."""
    return dataclasses.replace(options, columns=min(2, options.columns))


def beside(axes: Sequence[Axes]) -> int:
    """How many panels stand side by side."""
    place = axes[0].get_subplotspec()
    return place.get_gridspec().ncols if place else 1


def _per_line(legend: Sequence[str], width: float, font_size: float) -> int:
    """How many names stand side by side: columns are filled from the top, each as wide as its longest name."""
    sizes = [0.075 * min(len(name), MOST_CHARACTERS) + 0.6 for name in legend]
    for count in range(len(sizes), 1, -1):
        rows = -(-len(sizes) // count)
        columns = [sizes[i : i + rows] for i in range(0, len(sizes), rows)]
        if sum(map(max, columns)) * font_size / 9.0 <= width:
            return count
    return 1


def legend(figure: Figure, styles: Mapping[str, Style], options: Options, *, lines: bool = True) -> None:
    """Name the styles in the strip below the panels."""
    from matplotlib.lines import Line2D

    size = 0.9 * options.font_size
    handles = [
        Line2D([], [], label=tick(name), markersize=0.6 * options.font_size, **(style if lines else points(style)))
        for name, style in styles.items()
    ]
    per_line = _per_line(list(styles), figure.get_figwidth(), options.font_size)
    figure.legend(handles=handles, loc="lower center", ncols=per_line, frameon=False, fontsize=size)


def foot(figure: Figure, text: str, options: Options) -> None:
    """Write ``text`` below panels and legend, in as many lines as it takes; the figure becomes taller by them."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    size = 0.8 * options.font_size
    wide, tall = figure.get_size_inches()
    lines = _wrapped(printable(text), inches=0.92 * wide, size=size)
    extra = (len(lines) * 1.25 * size + 0.6 * options.font_size) / 72.0
    whole = tall + extra
    figure.set_size_inches(wide, whole)
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        _, strip, _, _ = engine.get()["rect"]
        low = (strip * tall + extra) / whole
        engine.set(rect=(0, low, 1, 1 - low))
    for one in figure.legends:
        one.set_bbox_to_anchor((0, extra / whole, 1, 1 - extra / whole), transform=figure.transFigure)
    figure.text(
        0.04, 0.3 * options.font_size / 72.0 / whole, "\n".join(lines), fontsize=size, color="#404040", va="bottom",
        linespacing=1.25, parse_math=False,
    )  # fmt: skip


def _wrapped(text: str, *, inches: float, size: float) -> list[str]:
    """Break a text into lines that are no longer than ``inches`` at that size."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    font.set_size(size, 72)

    def length(line: str) -> float:
        font.set_text(line, 0.0)
        return float(font.get_width_height()[0]) / 64.0 / 72.0

    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and length(longer) > inches:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def points(style: Style) -> Style:
    """A style without its line; a white rim tells a marker from a bar through it."""
    wide = style["fillstyle"] == "full" and style["marker"] not in "PX*"
    rim = {"markeredgecolor": "white", "markeredgewidth": 0.7} if wide else {}
    return {**style, **rim, "linestyle": "none"}
