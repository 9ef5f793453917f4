"""What figures must be: legible; and those of docs/, drawn from committed data, show what the data holds now."""

from __future__ import annotations

import itertools
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.places import ROOT


def check(pictures: dict[Path, str]) -> None:
    """Compare files with the SVG that is drawn now; skip under another matplotlib, which draws another file."""
    pinned = re.search(r"^matplotlib==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if pinned is None or version("matplotlib") != pinned[1]:
        pytest.skip("another matplotlib than constraints.txt names draws another file of the same numbers")
    assert pictures
    for path, text in pictures.items():
        same = without_names(path.read_text(encoding="utf-8")) == without_names(text)
        assert same, f"{path.name}: run `make results`"


def without_names(svg: str) -> str:
    """The picture without the names of its clipping areas, which differ from process to process."""
    return re.sub(r"\bp[0-9a-f]{10}\b", "clip", svg)


def visible_texts(figure: Figure) -> list[Text]:
    """Titles, axis labels, the labels of the ticks that are drawn, legends, and what stands below."""
    figure.canvas.draw()
    texts = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        if axes.get_visible():
            texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
            texts += [tick.label1 for axis in (axes.xaxis, axes.yaxis) for tick in axis._update_ticks()]  # type: ignore[attr-defined]
            texts += [tick.label2 for child in axes.child_axes for tick in child.yaxis._update_ticks()]
    return [text for text in texts if text.get_text().strip() and text.get_visible()]


def check_legible(figure: Figure, *, least: int, shared: float = 0.0) -> None:
    """No text leaves the picture, and no two overlap by more than ``shared`` pixels; there are more than ``least``."""
    texts = visible_texts(figure)
    assert len(texts) > least
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    width, height = figure.canvas.get_width_height()
    for name, box in boxes:
        assert box.x0 >= -1, name
        assert box.y0 >= -1, name
        assert box.x1 <= width + 1, name
        assert box.y1 <= height + 1, name
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        apart = (a.x1 - b.x0, b.x1 - a.x0, a.y1 - b.y0, b.y1 - a.y0)
        assert min(apart) <= shared, (one, other)
