"""Figures of inspections: legible in every size, the project's colours, a caption that says what is shown."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from samcmp.errors import UsageError
from samcmp.inspection import Measured
from samcmp.inspection.drawing import FIGURES, draw
from samcmp.inspection.render import grid
from samcmp.inspection.results import Results
from samcmp.report.canvas import Drawn, Options, save
from samcmp.report.styles import styles_of
from tests.inspection.made import results
from tests.pictures import check_legible

COLUMN = Options(width=3.3, font_size=7.0)
LONG = ("adam", "sam", "an-optimizer-of-a-user-with-a-long-name", "graphsam")


def drawn(kind: str, made: Results | None = None, options: Options | None = None) -> Drawn:
    runs = 3 if kind == "generalisation" else 2
    return draw(kind, made or results(FIGURES[kind].what, runs=runs), options or Options())


@pytest.mark.parametrize("kind", FIGURES)
@pytest.mark.parametrize(
    ("options", "many"), [(COLUMN, True), (Options(font_size=14.0), False)], ids=["column", "large"]
)
def test_no_text_overlaps_or_leaves_the_picture(kind: str, options: Options, many: bool) -> None:
    models, optimizers = (("gcn", "cmpnn"), LONG) if many else (("gcn",), LONG[:2])
    made = results(FIGURES[kind].what, runs=3, models=models, optimizers=optimizers)
    check_legible(drawn(kind, made, options).figure, least=4, shared=1.0)


@pytest.mark.parametrize("kind", ["changes", "norms", "landscape"])
def test_optimizer_has_its_colour_marker_and_dash_of_the_project(kind: str) -> None:
    looks = styles_of((name, name) for name in ("adam", "sam", "graphsam"))
    colours = {to_rgb(look["color"]): look for look in looks.values()}
    lines = [line for axes in drawn(kind).figure.axes for line in axes.lines if line.get_marker() != "None"]
    assert len(lines) > 5
    for line in lines:
        look = colours[to_rgb(line.get_color())]
        assert line.get_marker() == look["marker"]


def test_other_settings_of_an_optimizer_look_different() -> None:
    made = results("landscape", optimizers=("sam", "sam"), settings={"rho": 0.1})
    assert [arm.label for arm in made.arms] == ["sam", "sam[rho=0.1]"]
    (legend,) = drawn("landscape", made).figure.legends
    one, other = legend.get_lines()
    assert one.get_color() == other.get_color()
    assert one.get_fillstyle() != other.get_fillstyle()


@pytest.mark.parametrize("kind", FIGURES)
def test_caption_stands_below_and_in_the_file(kind: str, tmp_path: Path) -> None:
    made = drawn(kind)
    save(made.figure, tmp_path / "a.svg", caption=made.caption)
    tree = ET.parse(tmp_path / "a.svg")
    written = [node.text for node in tree.iter() if node.tag.endswith("}description")]
    assert written == [made.caption]
    below = " ".join(text.get_text() for text in made.figure.texts).replace("\n", " ")
    assert made.caption in below
    assert "demo, gcn: " in made.caption
    assert "runs per" in made.caption


@pytest.mark.parametrize("kind", [kind for kind, one in FIGURES.items() if one.what not in ("gradients", "attention")])
def test_caption_at_weights_says_which_weights_molecules_and_mode(kind: str) -> None:
    text = drawn(kind).caption
    assert "best-validation weights, evaluation mode (no dropout), mean loss of 256 training molecules in " in text


def test_caption_counts_the_molecules_that_there_were() -> None:
    assert "mean loss of 90 training molecules" in drawn("landscape", results("landscape", sizes=(90, 20, 20))).caption


def test_m_is_no_more_molecules_than_there_were() -> None:
    assert "of m = 20 molecules" in drawn("sharpness", results("sharpness", sizes=(20, 20, 20))).caption


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("gradients", None),
        ("attention", "at the weights of the best validation epoch"),
        ("landscape", "at the weights of the best validation epoch; over 90 training molecules of each split"),
        ("path", "at the weights of the best validation epoch; over 90 training molecules of each split"),
        (
            "sharpness",
            "at the weights of the best validation epoch; over 90 training molecules of each split; radius 0.05",
        ),
    ],
)
def test_table_says_what_its_numbers_rest_on_and_nothing_of_what_was_not_measured(what: str, says: str | None) -> None:
    remarks = grid(results(what, sizes=(90, 20, 20)))[0].remarks
    assert [text for text in remarks if "weights of" in text or "training molecules of" in text] == (
        [says] if says else []
    )
    assert any("radius 0.05" in text for text in remarks) is (what == "sharpness")


def test_optimizer_that_has_none_is_left_out_with_its_reason() -> None:
    text = drawn("conjectures").caption
    assert "Not drawn: adam (no step is perturbed)." in text


def broken(made: Results, label: str) -> Results:
    """The same, with losses of one optimizer that are no finite numbers."""
    arms = []
    for arm in made.arms:
        rows = arm.measured["landscape"]
        if arm.label == label:
            rows = tuple(_with_gap(one) for one in rows)
        arms.append(dataclasses.replace(arm, measured={"landscape": rows}))
    return dataclasses.replace(made, arms=tuple(arms))


def _with_gap(one: Measured) -> Measured:
    losses = np.array(one.arrays["losses"], dtype=float)
    losses[2, -2:] = np.inf
    return Measured(one.inspection, {**one.arrays, "losses": losses})


def test_line_breaks_where_the_loss_is_no_finite_number_and_the_caption_says_so() -> None:
    made = drawn("landscape", broken(results("landscape"), "sam"))
    sam = next(line for line in made.figure.axes[0].lines if line.get_linestyle() == "--")
    assert np.isnan(np.asarray(sam.get_ydata(), dtype=float)).sum() == 2
    assert "Gaps of sam: the loss is no finite number there." in made.caption


def test_four_runs_are_too_few_for_a_rank_correlation() -> None:
    with pytest.raises(UsageError, match="4 runs are too few"):
        drawn("generalisation", results("sharpness", optimizers=("adam", "sam"), runs=2))


@pytest.mark.parametrize("kind", FIGURES)
def test_figure_of_what_was_not_measured_says_why(kind: str) -> None:
    made = results(FIGURES[kind].what, runs=1)
    empty = dataclasses.replace(made, arms=tuple(dataclasses.replace(a, measured={}) for a in made.arms), pairs=())
    with pytest.raises(UsageError, match="nothing to draw"):
        drawn(kind, empty)


def test_paper_is_beside_the_optimizers_that_it_has_numbers_of() -> None:
    text = drawn("pairs", results("gradients", optimizers=("adam", "sam"))).caption
    assert "67.45 % (sam)" in text
    assert "72.46" not in text
