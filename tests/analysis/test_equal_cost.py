"""The base trained longer against SAM: equal cost, its five sentences, the front, and what a target costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pytest

from samcmp.analysis.build import compare
from samcmp.analysis.comparison import Cell, Row, Verdict
from samcmp.analysis.tuning_curves import anytime
from samcmp.records import Accuracy, Case, Epoch, Protocol, Record, content_key
from samcmp.report.extras import extras
from samcmp.report.figures import draw
from samcmp.report.tuning_figures import CUT_SHORT
from tests.report.made import MACHINE, profile

PROTOCOL = Protocol(epochs=4)
LONGER = {"times": 2.0}
NOISE = (-0.002, 0.001, 0.0, 0.002, -0.001)


def a_run(
    optimizer: str, block: int, score: float, *, own: Mapping[str, float] | None = None, passes: int | None = None,
    valid: Sequence[float] | None = None,
) -> Record:  # fmt: skip
    case = Case(
        "train", "demo", "gcn", optimizer, PROTOCOL, split_seed=block, seed=block, own=own or {}
    )  # fmt: skip
    epochs = case.training.epochs
    a_pass = passes or (20 if optimizer == "sam" else 10)
    curve = valid or [score] * epochs
    history = tuple(Epoch(0.5, v, v, 1e-3, 1.0, a_pass) for v in curve)
    accuracy = Accuracy("roc-auc", score, max(curve), 0, {"y": score}, 1, 1, 30, 800, 100, 100)
    return Record(
        content_key(case),
        case,
        "ok",
        None,
        "2026",
        1.0,
        content_key("demo"),
        f"{block}",
        1,
        accuracy,
        history,
        machine=MACHINE,
    )


def records(
    sam: float, longer: float, *, spread: float = 1.0, sam_passes: int = 20, sam_seconds: float = 2.0
) -> list[Record]:
    made = []
    for block, noise in enumerate(NOISE):
        made.append(a_run("adam", block, 0.8))
        made.append(a_run("adam", block, 0.8 + longer + 0.1 * NOISE[block - 1], own=LONGER))
        made.append(a_run("sam", block, 0.8 + sam + spread * noise, passes=sam_passes))
    rounds = [1.0 + 0.001 * i for i in range(12)]
    for name, seconds in (("adam", 1.0), ("sam", sam_seconds)):
        made.append(profile(name, [seconds * r for r in rounds], seconds, peers=("adam", "sam"), protocol=PROTOCOL))
    return made


def cell(*args: float, **more: float) -> Cell:
    (found,) = compare(records(*args, **more)).cells  # type: ignore[arg-type]
    return found


def at_cost(found: Cell) -> Verdict:
    (verdict,) = (v for v in found.verdicts if v.role == "cost")
    return verdict


def row(found: Cell, arm: str) -> Row:
    return next(r for r in found.rows if r.arm == arm)


@pytest.mark.parametrize(
    ("sam", "longer", "spread", "word", "says"),
    [
        (0.05, 0.01, 1.0, "better", "sam is worth its cost here: better than longer training by +0.040 ["),
        (0.02, 0.02, 1.0, "equivalent", "sam buys nothing that longer training does not: 0.000 ["),
        (0.02, 0.016, 2.5, "non-inferior", "sam is no worse than longer training; better is not shown: +0.004 ["),
        (0.02, 0.02, 20.0, "inconclusive", "undecided at equal cost: 0.000 ["),
        (0.01, 0.05, 1.0, "worse", "longer training is the better use of sam's cost: −0.040 ["),
    ],
)
def test_every_word_at_equal_cost_has_its_sentence(
    sam: float, longer: float, spread: float, word: str, says: str
) -> None:
    found = cell(sam, longer, spread=spread)
    assert at_cost(found).word == word
    sentence = found.sentences[-1]
    head = (
        f"at sam's cost and time (4 epochs of 2.00 passes) adam trained for 8 reaches {0.8 + longer:.3f}, sam "
        f"{0.8 + sam:.3f} (1.00× its passes, 1.00× its time): "
    )
    assert sentence.startswith(head + says), sentence


def test_the_ratio_of_passes_is_exactly_one_against_sam() -> None:
    verdict = at_cost(cell(0.02, 0.02))
    assert verdict.reference == "adam ×2"
    assert verdict.passes_ratio == 1.0


def test_time_is_always_said_and_called_equal_only_where_its_interval_is_near_one() -> None:
    found = cell(0.02, 0.02, sam_seconds=1.7)
    assert at_cost(found).time_ratio is not None
    assert "at sam's cost (4 epochs" in found.sentences[-1]
    assert "0.85× [0.85, 0.85] its time" in found.sentences[-1]
    unmeasured = compare([r for r in records(0.02, 0.02) if r.case.kind == "train"]).cells[0]
    assert "time not measured" in unmeasured.sentences[-1]


@pytest.mark.parametrize(("passes", "declared"), [(20, True), (18, True), (22, True), (17, False), (23, False)])
def test_only_arms_of_a_tenth_more_or_less_are_of_equal_cost(passes: int, declared: bool) -> None:
    found = cell(0.02, 0.02, sam_passes=passes)
    assert any(v.role == "cost" for v in found.verdicts) is declared


def test_the_comparison_at_equal_cost_is_made_once_and_shares_the_adjustment() -> None:
    found = cell(0.02, 0.02)
    declared = {(v.arm, v.reference, v.role) for v in found.verdicts}
    assert declared == {("sam", "adam", "base"), ("adam ×2", "adam", "base"), ("sam", "adam ×2", "cost")}
    assert {v.comparisons for v in found.verdicts} == {3}


def test_twice_as_long_halves_the_speed_that_counts_and_leaves_graphs_a_second() -> None:
    found = cell(0.02, 0.02)
    longer, sam, adam = row(found, "adam ×2"), row(found, "sam"), row(found, "adam")
    assert longer.graphs_per_second == adam.graphs_per_second
    assert longer.speed_to["base"].value == pytest.approx(0.5)
    assert longer.speed_to["sam"].value == pytest.approx(1.0)
    assert sam.speed_to["base"].value == pytest.approx(0.5)
    assert (adam.times, longer.times, longer.passes_to_base) == (1.0, 2.0, 2.0)


def test_the_front_is_of_accuracy_and_the_time_of_whole_trainings() -> None:
    on_front = {r.arm: r.front for r in cell(0.05, 0.01, sam_seconds=1.9).rows}
    assert on_front == {"adam": True, "sam": True, "adam ×2": False}  # sam is better and sooner done
    on_front = {r.arm: r.front for r in cell(0.01, 0.05, sam_seconds=1.9).rows}
    assert on_front == {"adam": True, "sam": True, "adam ×2": True}
    on_front = {r.arm: r.front for r in cell(0.01, 0.05, sam_seconds=2.2).rows}
    assert on_front == {"adam": True, "sam": False, "adam ×2": True}


def test_a_target_is_of_its_split_and_costs_passes_until_it_is_reached() -> None:
    made = [a_run("adam", b, 0.8, valid=[0.6 + 0.1 * b, 0.7 + 0.1 * b, 0.7 + 0.1 * b, 0.8 + 0.1 * b]) for b in (0, 1)]
    sam = [  # margin 0.01: the targets are 0.79 and 0.89
        a_run("sam", 0, 0.8, valid=[0.5, 0.79, 0.8, 0.8]),
        a_run("sam", 1, 0.8, valid=[0.5, 0.8, 0.88, 0.88]),
    ]
    (found,) = compare([*made, *sam]).cells
    assert row(found, "adam").cost_to_target == (1.0, 1.0)
    assert row(found, "sam").epochs_to_target == (2, None)
    assert row(found, "sam").cost_to_target == (1.0, None)


@pytest.mark.parametrize(
    ("reached", "says"),
    [
        ((), "reached 0 of 3"),
        ((0,), "reached 1 of 3, median missed [1.00, missed]"),
        ((0, 1), "reached 2 of 3, median 1.00 [1.00, missed]"),
        ((0, 1, 2), "reached 3 of 3, median 1.00 [1.00, 1.00]"),
    ],
)
def test_targets_reached_by_none_some_and_all_runs_are_said(reached: Sequence[int], says: str) -> None:
    made = []
    for block in range(3):
        good = block in reached
        made += [a_run("adam", block, 0.8, valid=[0.5, 0.6, 0.7, 0.8]), a_run("adam", block, 0.8, own=LONGER)]
        made.append(a_run("sam", block, 0.8, valid=[0.5, 0.8 if good else 0.6, 0.6, 0.6]))
    (grid,) = extras(compare(made))
    assert next(line[-1].text for line in grid.rows if line[0].text == "sam") == says


def test_the_anytime_curve_keeps_the_test_score_of_the_best_validation_so_far() -> None:
    run = a_run("adam", 0, 0.8, valid=[0.6, 0.8, 0.7, 0.8])
    history = tuple(
        dataclasses.replace(epoch, test_score=test)
        for epoch, test in zip(run.history, (0.5, 0.6, 0.9, 0.7), strict=True)
    )
    made = [dataclasses.replace(run, history=history), a_run("sam", 0, 0.8)]
    ((by_passes, by_time), (sam, _)) = anytime(made, compare(made))
    assert by_passes.y == (0.5, 0.6, 0.6, 0.6)
    assert by_passes.x == (0.25, 0.5, 0.75, 1.0)
    assert sam.x == (0.5, 1.0, 1.5, 2.0)
    assert by_time is None


def test_the_anytime_figure_says_what_may_not_be_read_from_it() -> None:
    made = records(0.02, 0.02)
    comparison = compare(made)
    lines = anytime(made, comparison)
    assert all(line.half_width is not None and time is not None for line, time in lines)
    assert CUT_SHORT in draw("anytime", comparison, made).caption
