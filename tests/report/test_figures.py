"""Figures: every arm is told apart and keeps its look, no text overlaps or leaves the picture, files come out equal."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from samcmp.analysis.build import compare
from samcmp.analysis.comparison import Comparison
from samcmp.analysis.curves import curves
from samcmp.data import cards
from samcmp.errors import UsageError
from samcmp.optim import OPTIMIZERS
from samcmp.records import Epoch, Record
from samcmp.report.canvas import Drawn, Options, save
from samcmp.report.figures import draw
from samcmp.report.styles import COLOURS, KNOWN, styles
from tests.pictures import check_legible, visible_texts
from tests.report.made import ARMS, cell, run

MANY = dict(ARMS) | {f"arm-with-a-long-name[rho=0.0{i}]": (0.001 * i, 1.5, 1.0 + 0.1 * i) for i in range(9)}
KINDS = ("front", "differences", "curves", "profiles")
COLUMN = Options(width=3.3, font_size=7.0)


def records(cells: int, arms: dict[str, tuple[float, float, float]]) -> list[Record]:
    made: list[Record] = []
    for i in range(cells):
        metric = "rmse" if i % 2 else "roc-auc"
        made += cell(dataset=f"dataset{i}", arms=arms, seed=i, metric=metric, level=0.7, epochs=12)
    return made


def drawn(kind: str, made: list[Record], options: Options | None = None) -> Drawn:
    return draw(kind, compare(made), made, options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [Options(), COLUMN, Options(font_size=14.0, against="sam", x="time")])
@pytest.mark.parametrize(("cells", "arms"), [(2, dict(ARMS)), (4, MANY)])
def test_no_text_overlaps_or_leaves_the_picture(
    kind: str, options: Options, cells: int, arms: dict[str, tuple[float, float, float]]
) -> None:
    check_legible(drawn(kind, records(cells, arms), options).figure, least=10)


# ---------------------------------------------------------------------------------------------- looks


def looks(*arms: tuple[str, dict[str, float]]) -> dict[str, tuple[str, str, str]]:
    """The look of arms, each an optimizer and its settings."""
    made = [run(0.8, name, block, settings=settings) for name, settings in arms for block in range(2)]
    return {label: (s["color"], s["marker"], s["fillstyle"]) for label, s in styles(compare(made)).items()}


def test_every_optimizer_of_the_catalogue_has_a_look_that_no_other_has() -> None:
    assert set(KNOWN) == set(OPTIMIZERS)
    assert len(set(KNOWN.values())) == len(KNOWN)
    suite = ["adam", "sam", "ae-sam", "graphsam", "looksam", "rst", "sam-k", "sam-one"]
    assert len({KNOWN[name][0] for name in suite}) == 8


def test_a_look_belongs_to_its_optimizer_whatever_stands_beside_it() -> None:
    alone = looks(("sam", {}), ("own.py:MySAM", {}))
    names = [*(set(OPTIMIZERS) - {"adamw", "sgd"}), "own.py:MySAM", "other.py:Best"]  # one base a comparison
    many = looks(*((name, {}) for name in names))
    assert alone.items() <= many.items()
    assert len(set(many.values())) == len(names)


def test_a_sweep_keeps_its_colour_and_is_told_apart() -> None:
    found = looks(("adam", {}), *(("sam", {"rho": rho / 100}) for rho in range(1, 7)), ("graphsam", {}))
    swept = [look for label, look in found.items() if label.startswith("sam")]
    assert len(swept) == len(set(swept)) == 6
    assert {colour for colour, _, _ in swept} == {KNOWN["sam"][0]}
    many = looks(*((name, {"rho": rho / 1000}) for rho in range(1, 41) for name in ("sam", "asam", "graphsam")))
    assert len(set(many.values())) == len(many) == 120


def test_colours_differ_for_protanopes_and_deuteranopes() -> None:
    # Machado et al. 2009, severity 1, in linear RGB
    kinds = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    }
    for matrix in kinds.values():
        seen = [np.clip(np.array(matrix) @ np.array(to_rgb(c)) ** 2.2, 0, 1) ** (1 / 2.2) for c in COLOURS[:7]]
        for a, b in itertools.combinations(seen, 2):
            assert np.linalg.norm(a - b) > 0.12


# ---------------------------------------------------------------------------------------------- what is drawn


def segments(axes: Axes) -> list[tuple[list[float], list[float]]]:
    return [(list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))) for line in axes.lines]  # type: ignore[arg-type]


def two_cells() -> tuple[list[Record], Comparison]:
    made = records(2, dict(ARMS))
    return made, compare(made)


def test_the_front_shows_paired_gains_over_the_base_with_both_intervals_better_up() -> None:
    _, comparison = two_cells()
    for of, axes in zip(comparison.cells, draw("front", comparison).figure.axes, strict=True):
        found = segments(axes)
        assert ([1.0], [0.0]) in found
        assert not axes.yaxis_inverted()
        for verdict in (v for v in of.verdicts if v.role == "base"):
            row = next(row for row in of.rows if row.arm == verdict.arm)
            speed = row.speed_to["base"]
            assert ([speed.value], [verdict.mean]) in found
            assert ([speed.value] * 2, [verdict.low, verdict.high]) in found
            assert ([speed.value] * 2, [verdict.adjusted_low, verdict.adjusted_high]) in found
            assert ([speed.low, speed.high], [verdict.mean] * 2) in found
            assert row.score is not None
            base = next(row for row in of.rows if row.role == "base").score
            assert base is not None
            sign = 1 if of.higher_is_better else -1
            assert verdict.mean == pytest.approx(sign * (row.score.mean - base.mean))


def test_the_step_goes_down_through_what_nothing_beats() -> None:
    arms = {"adam": (0.0, 1.0, 1.0), "sam": (0.05, 2.0, 2.0), "graphsam": (0.03, 1.0, 1.2), "rst": (-0.1, 1.5, 1.5)}
    comparison = compare(cell(arms=arms, run_sd=0.001))
    (axes,) = draw("front", comparison).figure.axes
    (step,) = [line for line in axes.lines if line.get_drawstyle() == "steps-pre"]
    x, y = list(map(float, step.get_xdata())), list(map(float, step.get_ydata()))  # type: ignore[arg-type]
    placed = {v.arm: (next(r for r in comparison.cells[0].rows if r.arm == v.arm).speed_to["base"].value, v.mean)
              for v in comparison.cells[0].verdicts if v.role == "base"}  # fmt: skip
    corners = [placed["sam"], placed["graphsam"], (1.0, 0.0)]
    assert list(zip(x, y, strict=True))[1:-1] == corners
    assert (x[0], y[-1]) == (axes.get_xlim()[0], axes.get_ylim()[0])


def test_a_wild_interval_runs_out_of_the_panel_and_squashes_nothing() -> None:
    arms = {"adam": (0.0, 1.0, 1.0), "sam": (0.01, 2.0, 2.0), "graphsam": (0.02, 1.0, 1.2), "rst": (-0.01, 1.5, 1.5)}
    made = [r for r in cell(arms=arms, run_sd=0.001) if r.case.kind == "profile" or r.case.optimizer != "sam"]
    made += [run(score, "sam", block) for block, score in enumerate((0.3, 0.99))]
    comparison = compare(made)
    wild = next(v for v in comparison.cells[0].verdicts if v.arm == "sam" and v.role == "base")
    (axes,) = draw("front", comparison).figure.axes
    low, high = axes.get_ylim()
    means = [v.mean for v in comparison.cells[0].verdicts if v.role == "base" and v.mean is not None]
    assert low < min(means) < max(means) < high
    assert wild.low is not None
    assert wild.high is not None
    assert high - low < 0.5 * (wild.high - wild.low)


@pytest.mark.parametrize("against", ["base", "sam"])
def test_differences_are_sorted_and_say_their_word_and_number(against: str) -> None:
    _, comparison = two_cells()
    options = Options(against=against)  # type: ignore[arg-type]
    for of, axes in zip(comparison.cells, draw("differences", comparison, (), options).figure.axes, strict=True):
        verdicts = sorted((v for v in of.verdicts if v.role == against), key=lambda v: v.mean or 0.0)
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == [v.arm for v in verdicts]
        words = [label.get_text() for label in axes.child_axes[0].get_yticklabels()]
        assert words == [f"{v.word}{' < margin' * v.within_margin}, n = 5" for v in verdicts]
        found = segments(axes)
        for place, verdict in enumerate(verdicts):
            assert ([verdict.mean], [float(place)]) in found
            assert ([verdict.adjusted_low, verdict.adjusted_high], [float(place)] * 2) in found
        assert "better →" in axes.get_xlabel()


def test_curves_show_validation_too_with_a_band_for_every_arm() -> None:
    made = records(1, MANY)
    figure = drawn("curves", made).figure
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_ylabel() for axes in shown] == ["training loss", "validation ROC-AUC", "test ROC-AUC"]
    for axes in shown:
        assert len(axes.lines) == len(axes.collections) == len(MANY)
    unseen = [dataclasses.replace(r, history=tuple(without_valid(e) for e in r.history)) for r in made]
    names = [axes.get_ylabel() for axes in drawn("curves", unseen).figure.axes if axes.get_visible()]
    assert names == ["training loss", "test ROC-AUC"]


def without_valid(epoch: Epoch) -> Epoch:
    return dataclasses.replace(epoch, valid_score=None)


def test_curves_run_over_epochs_passes_or_the_time_of_the_measured_speed() -> None:
    made = cell(epochs=4)
    comparison = compare(made)
    rows = {row.label: row for row in comparison.cells[0].rows}
    of = {x: {c.label: c for c in curves(made, comparison, x=x)[0]} for x in ("epochs", "passes", "time")}
    history = next(r for r in made if r.case.kind == "train" and r.case.optimizer == "sam").history
    assert of["epochs"]["sam"].x == (1, 2, 3, 4)
    assert of["passes"]["sam"].x == tuple(itertools.accumulate(e.passes for e in history))
    speed = rows["sam"].graphs_per_second
    assert speed is not None
    assert of["time"]["sam"].x == pytest.approx([800 / speed * (i + 1) for i in range(4)])
    scores = [r.history[-1].test_score for r in made if r.case.kind == "train" and r.case.optimizer == "sam"]
    mean, low, high = (part[-1] for part in of["epochs"]["sam"].test or ())
    assert mean == pytest.approx(np.mean(scores))  # type: ignore[arg-type]
    assert (high - low) / 2 == pytest.approx(np.std(scores, ddof=1))  # type: ignore[arg-type]


def test_what_cannot_be_drawn_is_named_with_its_reason_in_the_caption() -> None:
    made = [r for r in cell() if not (r.case.kind == "profile" and r.case.optimizer == "graphsam")]
    for kind, options in (("front", Options()), ("curves", Options(x="time"))):
        caption = drawn(kind, made, options).caption
        assert "Not drawn of demo / gcn: graphsam (not measured in the same session)." in caption
    failed = [r for r in cell() if r.case.optimizer != "sam"]
    failed += [run(0.0, "sam", b, status="diverged", reason="loss is nan") for b in range(5)]
    for kind in ("front", "curves"):
        assert "sam (loss is nan)" in drawn(kind, failed).caption


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_says_what_each_cell_rests_on(kind: str) -> None:
    made, _ = two_cells()
    caption = drawn(kind, made).caption
    assert "dataset0 / gcn: ROC-AUC, 5 runs on 5 random splits, margin ±0.01." in caption
    assert "dataset1 / gcn: RMSE" in caption
    assert "Not drawn" not in caption


# ---------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("options", [Options(), COLUMN, Options(width=7.0, font_size=12.0)])
def test_a_figure_has_the_width_and_the_letters_it_was_asked_for(options: Options) -> None:
    figure = drawn("front", records(4, MANY), options).figure
    assert options.width is None or math.isclose(figure.get_figwidth(), options.width)
    sizes = {text.get_fontsize() for text in visible_texts(figure)}
    assert min(sizes) >= 0.8 * options.font_size
    assert max(sizes) <= 1.2 * options.font_size


@pytest.mark.parametrize("kind", ["front", "differences", "curves"])
def test_axes_have_the_unit_of_the_card_of_these_data_or_the_user_s(kind: str) -> None:
    records = cell(dataset="esol", metric="rmse", level=1.0)
    hashed = cards.find("esol").dataset_hash or ""
    same = [dataclasses.replace(record, dataset_hash=hashed) for record in records]

    def axes(records: Sequence[Record], unit: str = "") -> str:
        figure = draw(kind, compare(records), records, Options(unit=unit)).figure
        return " ".join(label for one in figure.axes for label in (one.get_xlabel(), one.get_ylabel()))

    assert "RMSE (log mol/L)" in axes(same)
    assert "RMSE (kJ/mol)" in axes(same, "kJ/mol")
    assert "(" not in axes(records).replace("(×)", "")  # other data of that name
    assert "kJ" not in axes(cell(), "kJ/mol")  # an AUC has no unit


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_same_numbers_give_the_same_file(tmp_path: Path, ending: str) -> None:
    made = records(1, dict(ARMS))
    for name in ("a", "b"):
        save(drawn("front", made).figure, tmp_path / f"{name}.{ending}")
    one, other = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("a", "b"))
    assert one == other
    assert len(one) > 1000


def test_names_with_dollars_are_not_read_as_mathematics() -> None:
    made = cell(dataset="$\\frac{$", arms={"adam": (0, 1, 1), "$x^{": (0, 2, 2)})
    for kind in KINDS[:3]:
        drawn(kind, made).figure.canvas.draw()


def test_nothing_to_draw_is_a_clear_error() -> None:
    for kind in (*KINDS, "sweep", "tuning", "sensitivity", "anytime"):
        with pytest.raises(UsageError, match="nothing to draw"):
            drawn(kind, [])


def test_another_ending_or_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bmp"):
        save(drawn("front", cell()).figure, tmp_path / "a.bmp")
    with pytest.raises(UsageError, match="'frnot'"):
        drawn("frnot", cell())


def test_an_svg_keeps_its_text_as_text_and_escapes_it(tmp_path: Path) -> None:
    save(drawn("front", cell(dataset="<script>alert(1)</script>")).figure, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script" in text
