"""Figures: every arm is told apart, no text overlaps or leaves the picture, files are reproducible."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from samcmp.analysis.build import compare
from samcmp.analysis.curves import curves
from samcmp.errors import UsageError
from samcmp.records import Record
from samcmp.report import figures
from tests.report.made import ARMS, cell

MANY = dict(ARMS) | {f"arm-with-a-long-name[rho=0.0{i}]": (0.001 * i, 1.5, 1.0 + 0.1 * i) for i in range(9)}


def records(cells: int, arms: dict[str, tuple[float, float, float]]) -> list[Record]:
    made: list[Record] = []
    for i in range(cells):
        metric = "rmse" if i % 2 else "roc-auc"
        made += cell(dataset=f"dataset{i}", arms=arms, seed=i, metric=metric, level=0.7, epochs=12)
    return made


def drawn(kind: str, made: list[Record]) -> Figure:
    comparison = compare(made)
    if kind == "curves":
        return figures.loss_curves(curves(made, comparison))
    if kind == "profiles":
        return figures.profiles(comparison)
    return figures.pareto(comparison) if kind == "pareto" else figures.differences(comparison)


def visible_texts(figure: Figure) -> list[Text]:
    """Titles, axis labels, the labels of the ticks that are drawn, and legends."""
    figure.canvas.draw()
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        if axes.get_visible():
            texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
            texts += [tick.label1 for axis in (axes.xaxis, axes.yaxis) for tick in axis._update_ticks()]  # type: ignore[attr-defined]
    return [text for text in texts if text.get_text().strip() and text.get_visible()]


@pytest.mark.parametrize("kind", ["pareto", "differences", "curves", "profiles"])
@pytest.mark.parametrize(("cells", "arms"), [(2, dict(ARMS)), (4, MANY)])
def test_no_text_overlaps_or_leaves_the_picture(
    kind: str, cells: int, arms: dict[str, tuple[float, float, float]]
) -> None:
    figure = drawn(kind, records(cells, arms))
    texts = visible_texts(figure)
    assert len(texts) > 10
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    width, height = figure.canvas.get_width_height()
    for name, box in boxes:
        assert box.x0 >= -1, name
        assert box.y0 >= -1, name
        assert box.x1 <= width + 1, name
        assert box.y1 <= height + 1, name
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1), (one, other)


def test_arms_differ_in_marker_or_line_even_in_grey() -> None:
    styles = figures._of([f"arm{i}" for i in range(24)])
    assert len({(s["color"], s["marker"]) for s in styles.values()}) == 24
    first = list(styles.values())[:8]
    assert len({s["marker"] for s in first}) == 8


def test_colours_differ_for_protanopes_and_deuteranopes() -> None:
    # Machado et al. 2009, severity 1, in linear RGB
    kinds = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    }
    for matrix in kinds.values():
        seen = [np.clip(np.array(matrix) @ np.array(to_rgb(c)) ** 2.2, 0, 1) ** (1 / 2.2) for c in figures.COLOURS[:7]]
        for a, b in itertools.combinations(seen, 2):
            assert np.linalg.norm(a - b) > 0.12


def test_better_is_up_for_errors_too() -> None:
    figure = drawn("pareto", records(2, dict(ARMS)))
    assert [axes.yaxis_inverted() for axes in figure.axes] == [False, True]


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_same_numbers_give_the_same_file(tmp_path: Path, ending: str) -> None:
    made = records(1, dict(ARMS))
    for name in ("a", "b"):
        figures.save(drawn("pareto", made), tmp_path / f"{name}.{ending}")
    one, other = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("a", "b"))
    assert one == other
    assert len(one) > 1000


def test_names_with_dollars_are_not_read_as_mathematics() -> None:
    figure = drawn("pareto", cell(dataset="$\\frac{$", arms={"adam": (0, 1, 1), "$x^{": (0, 2, 2)}))
    figure.canvas.draw()


def test_nothing_to_draw_is_a_clear_error() -> None:
    for kind in ("pareto", "differences", "curves", "profiles"):
        with pytest.raises(UsageError, match="nothing to draw"):
            drawn(kind, [])


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bmp"):
        figures.save(drawn("pareto", cell()), tmp_path / "a.bmp")


def test_an_svg_keeps_its_text_as_text_and_escapes_it(tmp_path: Path) -> None:
    figures.save(drawn("pareto", cell(dataset="<script>alert(1)</script>")), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script" in text
