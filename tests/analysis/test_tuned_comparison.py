"""A comparison of which every run was chosen among trials: what it says, what it may not say, and what it costs."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from samcmp.analysis import gate
from samcmp.analysis.build import compare
from samcmp.analysis.comparison import Comparison, Equal, Settings, TunedRow
from samcmp.analysis.published_comparison import with_published
from samcmp.analysis.tuned import test_score as score_of_test
from samcmp.analysis.tuning_curves import best_of_trials, sensitivity
from samcmp.errors import SamcmpError
from samcmp.experiment import suites
from samcmp.experiment.config import Request, read
from samcmp.experiment.plan import build
from samcmp.records import Accuracy, Case, Epoch, Record, content_key
from samcmp.report import render
from samcmp.report.canvas import save
from samcmp.report.figures import draw
from samcmp.report.terminal import write
from tests.report.made import MACHINE, profile

PASSES = {"adam": 10, "sam": 20, "graphsam": 11, "adam ×2": 20}
Scores = Callable[[Case], tuple[float, float]]  # validation, test


def record(case: Case, valid: float, test: float, *, status: str = "ok", created: str = "") -> Record:
    epochs = case.training.epochs
    passes = PASSES.get(case.arm, 10) * 20 // epochs
    history = tuple(Epoch(0.5, valid, test, 1e-3, 1.0, passes) for _ in range(epochs))
    accuracy = Accuracy("rmse", test, valid, 0, {"y": test}, 1, 1, None, 800, 100, 100)
    ok = status == "ok"
    return Record(
        content_key([case, created]), case, status, None if ok else "it failed", created, 1.0,  # type: ignore[arg-type]
        content_key(case.dataset), content_key(case.split_seed), 1000, accuracy if ok else None,
        history if ok else (), machine=MACHINE,
    )  # fmt: skip


def drawn(case: Case) -> tuple[float, float]:
    """Scores of no meaning: a split's difficulty, a trial's luck, test and validation alike in part."""
    rng = np.random.default_rng([case.split_seed, case.trial, *case.arm.encode()])
    luck = rng.normal(0.0, 0.02)
    hard = 0.05 * case.split_seed
    return 0.7 + hard + luck, 0.72 + hard + luck + rng.normal(0.0, 0.01)


def tuned(
    scores: Scores = drawn, *, trials: int = 4, splits: int = 5, speeds: bool = True, **more: Any
) -> list[Record]:
    request = Request(tune=trials, repeats=splits, **more)
    planned = build(read(request, suites.read()))
    records = [record(case, *scores(case)) for case in planned.train.values()]
    if speeds:
        peers = tuple(sorted({r.case.measured_as for r in records}))
        seconds = {"adam": 1.0, "sam": 2.0, "graphsam": 1.1}
        protocol = records[0].case.protocol
        rounds = [1.0 + 0.001 * i for i in range(12)]
        records += [
            profile(arm, [seconds[arm] * r for r in rounds], PASSES[arm] / 10, peers=peers, protocol=protocol)
            for arm in peers
        ]
    return records


def changed(records: Sequence[Record], arm: str, block: int, trial: int, **what: Any) -> list[Record]:
    """The same Records with one that is another."""

    def is_it(case: Case) -> bool:
        return (case.arm, case.split_seed, case.trial, case.kind) == (arm, block, trial, "train")

    assert sum(is_it(r.case) for r in records) == 1
    return [dataclasses.replace(r, **what) if is_it(r.case) else r for r in records]


def failed(records: Sequence[Record], arm: str, block: int, trial: int) -> list[Record]:
    return changed(records, arm, block, trial, status="diverged", reason="nan", accuracy=None)


def row(comparison: Comparison, arm: str) -> TunedRow:
    (cell,) = comparison.cells
    assert cell.tuning is not None
    return next(found for found in cell.tuning.rows if found.arm == arm)


def screen(comparison: Comparison) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    write(comparison, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(records: Sequence[Record]) -> dict[str, str]:
    """Everything that is printed, exported or drawn of Records, the best-of-n curve aside."""
    comparison = compare(records)
    texts = {form: render(comparison, form) for form in ("markdown", "latex", "csv", "json")}
    drawn_dots = sensitivity(records, comparison)
    return {**texts, "terminal": screen(comparison), "sensitivity": repr(drawn_dots)}


def test_each_split_takes_the_trial_that_validates_best_and_scores_by_its_test() -> None:
    records = tuned()
    comparison = compare(records)
    for arm in ("adam", "sam", "graphsam"):
        by_block: dict[str, list[Record]] = {}
        for r in records:
            if r.case.kind == "train" and r.case.arm == arm:
                by_block.setdefault(r.case.block, []).append(r)
        best = {
            block: min(runs, key=lambda r: r.accuracy.valid if r.accuracy else 9) for block, runs in by_block.items()
        }
        found = row(comparison, arm)
        assert found.chosen == {block: r.case.trial for block, r in best.items()}
        table = next(r for r in comparison.cells[0].rows if r.arm == arm)
        assert table.blocks == {block: score_of_test(r) for block, r in best.items()}
        assert found.tuned == table.score
        gains = [by_block[b][0].accuracy.test - r.accuracy.test for b, r in best.items()]  # type: ignore[union-attr]
        assert found.gain is not None
        assert found.gain.value == pytest.approx(np.mean(gains))
        assert found.default_kept == sum(r.case.trial == 0 for r in best.values())


def test_no_test_score_of_a_trial_that_was_not_chosen_is_shown_anywhere() -> None:
    records = tuned()
    chosen = {(r.arm, block): n for r in compare(records).cells[0].tuning.rows for block, n in r.chosen.items()}  # type: ignore[union-attr]
    others = [
        i for i, r in enumerate(records) if r.case.trial and chosen[r.case.arm, r.case.block] != r.case.trial
    ]  # fmt: skip
    assert len(others) > 30
    scores = np.random.default_rng(0).permutation([score_of_test(records[i]) for i in others])
    permuted = list(records)
    for i, score in zip(others, scores.tolist(), strict=True):
        accuracy = permuted[i].accuracy
        assert accuracy is not None
        history = tuple(dataclasses.replace(epoch, test_score=score) for epoch in permuted[i].history)
        other = dataclasses.replace(accuracy, test=score, per_task={"y": score})
        permuted[i] = dataclasses.replace(permuted[i], accuracy=other, history=history)
    before, after = shown(records), shown(permuted)
    for form, text in before.items():
        assert text == after[form], form
    curves = [best_of_trials(r, compare(r)) for r in (records, permuted)]
    assert curves[0] != curves[1], "the mean over all trials may move"


def test_the_curve_goes_from_the_untuned_score_to_the_tuned_one() -> None:
    records = tuned()
    comparison = compare(records)
    for by_trials, by_cost in best_of_trials(records, comparison):
        found = row(comparison, by_trials.label)
        assert found.default is not None
        assert found.tuned is not None
        assert by_trials.y[0] == pytest.approx(found.default.mean)
        assert by_trials.y[-1] == pytest.approx(found.tuned.mean)
        assert by_cost.x[-1] == pytest.approx(4 * PASSES[by_trials.label] / 10)


def test_the_untuned_comparison_is_inside_and_its_word_is_never_established() -> None:
    def only_default_is_bad(case: Case) -> tuple[float, float]:
        valid, test = drawn(case)
        return (valid + 0.3, test + 0.3) if case.arm == "sam" and case.trial == 0 else (valid, test)

    records = tuned(only_default_is_bad)
    comparison = compare(records)
    plain = compare([r for r in records if not r.case.trial])
    (cell,), (untuned,) = comparison.cells, plain.cells
    assert cell.tuning is not None
    words = {(u.arm, u.reference): (u.word, u.mean) for u in cell.tuning.untuned}
    assert words == {(v.arm, v.reference): (v.word, v.mean) for v in untuned.verdicts}
    assert any(v.claim for v in untuned.verdicts), "untuned, graphsam would be as accurate as sam and faster"
    said = " ".join(cell.sentences)
    assert "(untuned: worse −0.3" in said
    for sentence in cell.sentences:
        assert "untuned: established" not in sentence


def test_the_headline_names_the_choice_and_the_table_its_cost() -> None:
    text = " ".join(screen(compare(tuned())).split())
    assert "demo / gcn, tuned with 4 trials each, chosen by validation: RMSE" in text
    assert "tuning 4 trials an optimizer and split, by validation, ranges" in text
    assert row(compare(tuned()), "sam").cost == pytest.approx(8.0)
    assert row(compare(tuned()), "adam").cost == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("equal", "expected"),
    [("trials", {"adam": 8, "sam": 8, "graphsam": 8}), ("passes", {"adam": 8, "sam": 4, "graphsam": 7}),
     ("seconds", {"adam": 8, "sam": 4, "graphsam": 7})],
)  # fmt: skip
def test_at_equal_cost_the_dearer_arms_choose_among_fewer_trials(equal: Equal, expected: Mapping[str, int]) -> None:
    records = [
        dataclasses.replace(r, history=tuple(dataclasses.replace(e, passes=PASSES[r.case.arm]) for e in r.history))
        for r in tuned(trials=8)
    ]
    comparison = compare(records, Settings(equal=equal))
    for arm, count in expected.items():
        found = row(comparison, arm)
        assert set(found.trials.values()) == {count}
        assert max(found.chosen.values()) < count
    if equal != "trials":
        assert f"tuned with 8 trials or fewer at equal {equal}" in screen(comparison)


def test_equal_seconds_without_speeds_is_refused() -> None:
    with pytest.raises(SamcmpError, match="no speeds were measured of adam, sam, graphsam"):
        compare(tuned(speeds=False), Settings(equal="seconds"))


def test_the_number_of_trials_is_what_every_arm_has_on_every_split() -> None:
    records = [
        r for r in tuned(trials=6) if not (r.case.arm == "sam" and r.case.split_seed == 3 and r.case.trial >= 4)
    ]  # fmt: skip
    (cell,) = compare(records).cells
    assert cell.tuning is not None
    assert cell.tuning.trials == 4
    assert set(row(compare(records), "adam").trials.values()) == {4}


def test_a_trial_behind_a_gap_does_not_count() -> None:
    records = [r for r in tuned(trials=6) if (r.case.arm, r.case.split_seed, r.case.trial) != ("sam", 0, 2)]
    (cell,) = compare(records).cells
    assert cell.tuning is not None
    assert cell.tuning.trials == 2


def test_fewer_stored_trials_than_asked_for_are_refused_with_the_command() -> None:
    with pytest.raises(SamcmpError) as caught:
        compare(tuned(trials=5), Settings(trials=8))
    assert "the store holds 5 of every optimizer" in str(caught.value)
    assert "compare --tune 8" in str(caught.value)
    (cell,) = compare(tuned(trials=5), Settings(trials=3)).cells
    assert cell.tuning is not None
    assert cell.tuning.trials == 3


def test_cells_with_fewer_trials_than_asked_for_say_so_and_the_others_are_tuned() -> None:
    few = tuned(trials=2, datasets=("demo-tox",), models=("gcn",))
    plain = [r for r in tuned(trials=2, datasets=("esol",), models=("gcn",), speeds=False) if not r.case.trial]
    comparison = compare([*tuned(trials=4), *few, *plain], Settings(trials=3))
    by_name = {cell.dataset: cell for cell in comparison.cells}
    assert by_name["demo"].tuning is not None
    assert by_name["demo"].tuning.trials == 3
    for dataset, stored in (("demo-tox", 2), ("esol", 1)):
        found = by_name[dataset]
        why = f"{stored} of 3 trials stored of every optimizer and split"
        assert (found.tuning, found.verdicts) == (None, ())
        assert {(r.score, r.missing["score"], r.holes) for r in found.rows} == {(None, why, ())}
        assert f"{why}: no scores, no verdicts" in found.notes
        assert why in screen(comparison)
    assert comparison.across is None, "one cell has scores"


def test_at_equal_seconds_a_cell_without_speeds_says_so_and_the_others_are_tuned() -> None:
    unprofiled = tuned(trials=2, datasets=("esol",), models=("gcn",), speeds=False)
    comparison = compare([*tuned(trials=4), *unprofiled], Settings(equal="seconds"))
    (demo,) = (cell for cell in comparison.cells if cell.dataset == "demo")
    (esol,) = (cell for cell in comparison.cells if cell.dataset == "esol")
    assert demo.tuning is not None
    assert {r.missing["score"] for r in esol.rows} == {"no speeds were measured of adam, sam, graphsam"}


def test_an_arm_without_trials_leaves_all_untuned_and_that_is_said() -> None:
    records = [r for r in tuned() if not (r.case.arm == "sam" and r.case.trial)]
    (cell,) = compare(records).cells
    assert cell.tuning is None
    assert cell.rows == compare([r for r in records if not r.case.trial]).cells[0].rows
    assert any("trials are left out: sam has none" in note for note in cell.notes)


def test_a_failed_trial_was_tried_and_loses_and_a_split_of_failures_is_a_hole() -> None:
    records = tuned()
    best = row(compare(records), "sam").chosen["random/1/seed1"]
    found = row(compare(failed(records, "sam", 1, best)), "sam")
    assert found.chosen["random/1/seed1"] not in {best, -1}
    assert set(found.trials.values()) == {4}
    assert found.failed == 1
    for trial in range(4):
        records = failed(records, "sam", 1, trial)
    comparison = compare(records)
    assert "sam: 4 of 20 trials failed; they were tried and lost" in " ".join(screen(comparison).split())
    assert row(comparison, "sam").chosen["random/1/seed1"] == -1
    sam = next(r for r in comparison.cells[0].rows if r.arm == "sam")
    assert [(hole.status, hole.blocks) for hole in sam.holes] == [("diverged", ("random/1/seed1",))]
    assert len(sam.blocks) == 4


def test_equal_validation_scores_go_to_the_earlier_trial() -> None:
    comparison = compare(tuned(lambda case: (0.5, 0.6 + 0.001 * case.trial)))
    for arm in ("adam", "sam"):
        assert set(row(comparison, arm).chosen.values()) == {0}
        assert row(comparison, arm).settings == ()


def test_of_two_searches_the_one_that_went_further_counts() -> None:
    records = tuned(trials=4)
    other = [
        dataclasses.replace(r, key=content_key([r.key]), case=dataclasses.replace(r.case, search="other"))
        for r in records
        if r.case.trial == 1
    ]
    assert compare([*records, *other]).cells[0].tuning == compare(records).cells[0].tuning


def test_choices_at_the_end_of_a_range_are_said_with_the_range_to_widen() -> None:
    def smallest_radius(case: Case) -> tuple[float, float]:
        rho = case.drawn.get("rho", 0.05)
        return 0.5 + 0.1 * math.log10(rho / 0.001), 0.6

    comparison = compare(tuned(smallest_radius, trials=24, optimizers=("adam", "sam")))
    (setting,) = (s for s in row(comparison, "sam").settings if s.name == "rho")
    assert (setting.edge, setting.at_edge) == ("lowest", 5)
    assert (
        "sam: 5 of 5 choices of rho lie in the lowest tenth of its range: widen [tuning.optimizers] sam.rho"
        in " ".join(screen(comparison).split())
    )
    assert all(s.edge == "" for s in row(comparison, "sam").settings if s.name != "rho")


def test_a_sweep_over_test_scores_is_noted_and_a_tuned_or_plain_comparison_is_not() -> None:
    request = Request(overrides=("sam.rho=0.01,0.05",), repeats=2)
    swept = [record(case, *drawn(case)) for case in build(read(request, suites.read())).train.values()]
    assert any("sam.rho: choosing by test score is biased; use --tune" in n for n in compare(swept).cells[0].notes)
    longer = [r for r in tuned(trials=2, equal_cost=True) if not r.case.trial]
    for records in (longer, tuned()):
        assert not any("biased" in note for note in compare(records).cells[0].notes)


def test_every_format_has_the_tuning_table() -> None:
    comparison = compare(tuned())
    assert "| optimizer | default | tuned | gain |" in render(comparison, "markdown")
    assert r"default kept" in render(comparison, "latex")
    found = json.loads(render(comparison, "json"))["cells"][0]["tuning"]
    assert found["trials"] == 4
    assert {r["arm"] for r in found["rows"]} == {"adam", "sam", "graphsam"}
    header = render(comparison, "csv").splitlines()[0]
    assert "tuning_gain" in header
    assert "untuned_mean" in header


def test_the_figures_of_tuning_show_every_arm(tmp_path: Path) -> None:
    records = tuned(equal_cost=True)
    comparison = compare(records)
    drawing = draw("tuning", comparison, records).figure
    words = {text.get_text() for text in drawing.findobj(lambda a: hasattr(a, "get_text"))}  # type: ignore[attr-defined]
    assert {"adam", "sam", "graphsam", "adam ×2", "trials", "cost, in trainings of adam, by passes"} <= words
    dots = sensitivity(records, comparison)
    assert {dot.setting for dot in dots} == {"learning_rate", "rho", "weight_decay"}
    kept = sum(found.default_kept for found in comparison.cells[0].tuning.rows)  # type: ignore[union-attr]
    assert sum(dot.chosen for dot in dots if dot.setting == "learning_rate") == 20 - kept
    save(draw("sensitivity", comparison, records).figure, tmp_path / "s.svg")
    assert (tmp_path / "s.svg").stat().st_size > 1000


def test_a_gate_holds_no_tuned_comparison_against_an_untuned_baseline() -> None:
    records = tuned()
    plain, chosen = compare([r for r in records if not r.case.trial]), compare(records)
    assert gate.compare(chosen, chosen).code == gate.OK
    found = gate.compare(chosen, plain)
    assert found.code == gate.BASELINE
    assert "the baseline is untuned, this is tuned with 4 trials at equal trials" in found.lines[0]


def test_the_papers_numbers_are_set_beside_runs_with_settings_as_given_alone() -> None:
    records = tuned(datasets=("esol",), models=("gcn",), trials=2, equal_cost=True, speeds=False)
    plain = with_published(compare([r for r in records if not r.case.trial])).published
    assert {found.arm for found in plain} == {"adam"}, "the paper has no other; longer training is another experiment"
    assert with_published(compare(records)).published == ()
