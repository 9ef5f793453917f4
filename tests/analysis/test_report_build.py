"""Records to a Comparison: what is compared with what, and what holes do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from samcmp.analysis.build import compare
from samcmp.analysis.comparison import Cell, Comparison, Margin, Row, Settings, Verdict
from samcmp.records import Protocol, Record
from tests.report.made import ARMS, cell, profile, run


def only(comparison: Comparison) -> Cell:
    (found,) = comparison.cells
    return found


def row(found: Cell, arm: str) -> Row:
    return next(r for r in found.rows if r.arm == arm)


def verdict(found: Cell, arm: str, role: str = "sam") -> Verdict:
    return next(v for v in found.verdicts if (v.arm, v.role) == (arm, role))


def test_mean_and_sample_deviation_are_over_the_runs() -> None:
    records = cell(blocks=6)
    scores = [r.accuracy.test for r in records if r.case.optimizer == "sam" and r.accuracy]
    found = row(only(compare(records)), "sam").score
    assert found is not None
    assert (found.mean, found.sd, found.n) == pytest.approx((np.mean(scores), np.std(scores, ddof=1), 6))


def test_base_and_sam_come_first_and_everything_is_compared_with_both() -> None:
    found = only(compare(cell()))
    assert [r.arm for r in found.rows] == ["adam", "sam", "graphsam"]
    pairs = {(v.arm, v.reference, v.role) for v in found.verdicts}
    assert pairs == {("sam", "adam", "base"), ("graphsam", "adam", "base"), ("graphsam", "sam", "sam")}
    assert {v.comparisons for v in found.verdicts} == {3}


def test_differences_are_paired_by_split_and_positive_when_better() -> None:
    for metric in ("roc-auc", "rmse"):
        arms = {"adam": (0.0, 1.0, 1.0), "sam": (0.02, 2.0, 2.0)}
        records = cell(metric=metric, arms=arms, split_sd=0.1, run_sd=0.001, blocks=8)
        found = verdict(only(compare(records)), "sam", "base")
        assert found.mean == pytest.approx(0.02, abs=0.003)
        assert found.sd is not None
        assert found.sd < 0.005  # the splits' own spread of 0.1 has gone
        assert found.word == "better"


def test_the_order_of_records_does_not_matter() -> None:
    records = cell() + cell(dataset="esol", metric="rmse", seed=1)
    shuffled = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    assert compare(records).cells == compare(shuffled).cells


def test_a_margin_of_rmse_is_a_share_of_the_bases_mean() -> None:
    records = cell(metric="rmse", level=2.0)
    found = only(compare(records))
    base = row(found, "adam").score
    assert base is not None
    assert found.margin == pytest.approx(0.02 * base.mean)
    wide = only(compare(records, Settings(margins={"rmse": Margin(0.5)})))
    assert wide.margin == 0.5


def test_a_single_run_has_no_interval_and_says_so() -> None:
    found = only(compare(cell(blocks=1)))
    assert row(found, "sam").score is not None
    assert {v.word for v in found.verdicts} == {"inconclusive"}
    assert all("single run" in (v.why or "") for v in found.verdicts)
    assert not any(v.claim for v in found.verdicts)


@pytest.mark.parametrize("lost", ["adam", "sam"])
def test_a_missing_reference_leaves_the_rest_standing(lost: str) -> None:
    records = [r for r in cell() if r.case.optimizer != lost]
    found = only(compare(records))
    role = "base" if lost == "adam" else "sam"
    assert not any(v.role == role for v in found.verdicts)
    assert found.verdicts
    assert any("nothing is compared with it" in note for note in found.notes)


def test_a_failed_run_is_a_hole_with_its_cause_and_pairs_skip_it() -> None:
    records = cell(blocks=5)
    broken = run(0.0, "sam", 2, status="diverged", reason="loss became NaN in epoch 1")
    records = [broken if (r.case.optimizer, r.case.seed, r.case.kind) == ("sam", 2, "train") else r for r in records]
    found = only(compare(records))
    (hole,) = row(found, "sam").holes
    assert (hole.status, hole.reason, len(hole.blocks)) == ("diverged", "loss became NaN in epoch 1", 1)
    against = verdict(found, "graphsam")
    assert (against.blocks, against.blocks_of) == (4, 5)
    assert "only 4 of 5" in (against.why or "")


def test_an_arm_whose_runs_all_failed_has_no_score_and_a_reason() -> None:
    records = [r for r in cell() if r.case.optimizer != "graphsam"]
    records += [run(0.0, "graphsam", b, status="out-of-memory", reason="needs 9 GiB") for b in range(5)]
    found = only(compare(records))
    failed = row(found, "graphsam")
    assert failed.score is None
    assert failed.missing["score"] == "needs 9 GiB"
    assert "no run that both" in (verdict(found, "graphsam").why or "")


def test_a_partial_run_is_no_result() -> None:
    records = cell(blocks=3)
    records[0] = dataclasses.replace(records[0], status="partial", reason="stopped by the budget")
    assert row(only(compare(records)), "adam").holes[0].status == "partial"


def test_runs_on_one_split_are_tested_over_seeds_and_say_what_that_leaves_out() -> None:
    rng = np.random.default_rng(0)
    records = [
        run(float(0.8 + gain + rng.normal(0, 0.003)), arm, seed, split_seed=7, split_hash="a" * 64)
        for arm, gain in (("adam", 0.0), ("sam", 0.02))
        for seed in range(6)
    ]
    found = verdict(only(compare(records)), "sam", "base")
    assert (found.splits, found.blocks) == (1, 6)
    assert found.method == "paired t over seeds of one split"
    assert "one split" in (found.why or "")


def test_seeds_on_the_same_split_count_once() -> None:
    records = [
        run(0.8 + 0.01 * split + 0.001 * seed, arm, 10 * split + seed, split_seed=split)
        for arm in ("adam", "sam")
        for split in range(3)
        for seed in range(4)
    ]
    found = verdict(only(compare(records)), "sam", "base")
    assert (found.blocks, found.splits) == (12, 3)


def test_a_task_that_one_run_cannot_score_leaves_both_averages() -> None:
    arms = {"adam": {"a": 0.8, "b": 0.6}, "sam": {"a": 0.9, "b": None}}
    records = [run(0.7, "adam", b, per_task=arms["adam"]) for b in (0, 1)]
    records += [run(0.9, "sam", b, per_task=arms["sam"]) for b in (0, 1)]
    found = verdict(only(compare(records)), "sam", "base")
    assert found.mean == pytest.approx(0.1)  # 0.9 − 0.8, not 0.9 − 0.7
    assert "tasks that both" in (found.why or "")


def test_other_protocols_are_other_cells_and_named_by_what_differs() -> None:
    protocol = Protocol(epochs=2)
    long = cell(speeds=False)
    short = [dataclasses.replace(r, case=dataclasses.replace(r.case, protocol=protocol)) for r in long]
    found = compare(long + short).cells
    assert [c.name for c in found] == ["demo / gcn (epochs=2)", "demo / gcn (epochs=30)"]


def test_a_sweep_names_its_arms_by_what_differs() -> None:
    swept = [{"rho": rho, "adaptive": False} for rho in (0.05, 0.01)]
    records = [run(0.8, "sam", block, settings=settings) for settings in swept for block in (0, 1)]
    records += [run(0.8, "adam", b) for b in (0, 1)] + [run(0.8, "looksam", b, settings={"k": 8}) for b in (0, 1)]
    found = only(compare(records))
    assert [r.label for r in found.rows] == ["adam", "looksam", "sam[rho=0.01]", "sam[rho=0.05]"]
    assert "looksam: k=8" in found.notes
    assert not any(v.role == "sam" for v in found.verdicts)  # two arms of SAM and none of them the plain one


def test_a_run_done_again_counts_once_and_a_result_beats_a_later_failure() -> None:
    old, new = run(0.7, "adam", 0, created="2026-01-01"), run(0.8, "adam", 0, created="2026-01-02")
    failed = run(0.0, "adam", 0, status="timeout", created="2026-01-03")
    found = only(compare([old, new, failed]))
    assert row(found, "adam").blocks == {"random/0/seed0": 0.8}
    assert "older Records" in found.notes[0]


def test_without_profiles_speed_is_missing_with_its_reason() -> None:
    found = only(compare(cell(speeds=False)))
    assert all(r.graphs_per_second is None and r.missing["graphs_per_second"] == "not profiled" for r in found.rows)
    assert all(v.speed is None and not v.claim for v in found.verdicts)


def test_profiles_alone_make_a_cell_of_speeds() -> None:
    found = only(compare([r for r in cell() if r.case.kind == "profile"]))
    assert all(r.score is None and r.graphs_per_second for r in found.rows)
    assert found.verdicts == () or all(v.mean is None for v in found.verdicts)


def test_speeds_of_two_machines_are_never_mixed() -> None:
    records = cell(speeds=False)
    records += [profile(arm, [1.0] * 5, peers=tuple(ARMS)) for arm in ("adam", "sam", "graphsam")]
    records.append(profile("graphsam", [0.1] * 5, peers=tuple(ARMS), machine={"processor": "Faster"}))
    found = only(compare(records))
    assert {r.graphs_per_second for r in found.rows} == {1000.0}


def test_load_and_free_memory_do_not_make_another_machine() -> None:
    records = cell(speeds=False)
    for i, arm in enumerate(ARMS):
        records.append(profile(arm, [1.0 + i] * 3, peers=tuple(ARMS), machine={"processor": "One", "load": 0.1 * i}))
    assert all(r.graphs_per_second for r in only(compare(records)).rows)


def test_the_best_of_each_column_is_marked_and_equals_share_it() -> None:
    records = cell()
    found = only(compare(records))
    assert "speed" in row(found, "adam").best
    assert all("memory" not in r.best for r in found.rows)  # all the same: nothing to point out


def test_a_front_needs_both_score_and_speed() -> None:
    found = only(compare(cell(blocks=6)))
    assert row(found, "adam").front is True  # the fastest
    share = row(found, "adam").front_probability
    assert share == 1.0
    assert all(r.front is None for r in only(compare(cell(speeds=False))).rows)


def test_time_to_target_counts_a_miss_as_infinite() -> None:
    records = cell(arms={"adam": (0.0, 1.0, 1.0), "sam": (-0.2, 2.0, 2.0)}, run_sd=0.0, split_sd=0.0)
    found = only(compare(records))
    assert row(found, "adam").epochs_to_target == (3,) * 5
    seconds = row(found, "adam").seconds_to_target
    speed = row(found, "adam").graphs_per_second
    assert speed is not None
    assert seconds == pytest.approx(3 * 800 / speed)
    assert row(found, "sam").seconds_to_target is None
    assert "missed in 5 of 5" in row(found, "sam").missing["seconds_to_target"]


def test_same_against_same_is_called_better_or_worse_in_at_most_5_per_cent_of_200_comparisons() -> None:
    same = {"adam": (0.0, 1.0, 1.0), "sam": (0.0, 2.0, 2.0)}
    wrong = 0
    for seed in range(200):
        found = only(compare(cell(arms=same, seed=seed, blocks=10, run_sd=0.01, speeds=False)))
        wrong += found.verdicts[0].word in {"better", "worse"}
    assert wrong <= 10


def test_with_seven_arms_the_whole_cell_errs_in_at_most_5_per_cent() -> None:
    same = dict.fromkeys(("adam", "sam", "a", "b", "c", "d", "e"), (0.0, 1.0, 1.0))
    wrong = 0
    for seed in range(100):
        found = only(compare(cell(arms=same, seed=seed, blocks=5, run_sd=0.01, speeds=False)))
        wrong += any(v.word in {"better", "worse"} for v in found.verdicts)
    assert wrong <= 5


def test_several_cells_are_ranked_over_the_arms_they_share() -> None:
    records: list[Record] = []
    for i in range(4):
        records += cell(dataset=f"d{i}", seed=i, metric="rmse" if i % 2 else "roc-auc", level=1.0)
    records += [run(0.5, "extra", b, dataset="d0") for b in range(5)]
    found = compare(records).across
    assert found is not None
    assert set(found.arms) == set(ARMS)
    assert "3 of 4 cells" in found.left_out["extra"]
    assert sum(s.mean_rank for s in found.standings) == pytest.approx(6.0)
    speed = next(s for s in found.standings if s.arm == "graphsam").speed_to_sam
    assert speed is not None
    assert speed.value == pytest.approx(1.96 / 1.12, rel=0.01)


def test_one_cell_says_nothing_across_cells() -> None:
    assert compare(cell()).across is None


def test_nothing_to_compare_is_an_empty_comparison() -> None:
    assert compare([]).cells == ()


def test_one_test_set_is_tested_over_its_molecules() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((80, 1)) < 0.5).astype(float)
    records = [run(0.8, arm, 0) for arm in ("adam", "sam")]
    kept = {
        r.key: {"rows": np.arange(80), "truth": truth, "prediction": truth + rng.normal(size=(80, 1))} for r in records
    }
    found = verdict(only(compare(records, predictions=kept.get)), "sam", "base")
    assert found.one_test_set is not None
    assert "80 test molecules" in found.one_test_set
    assert "DeLong" in found.one_test_set
    assert verdict(only(compare(records, predictions=lambda key: None)), "sam", "base").one_test_set is None


@pytest.mark.parametrize(
    ("truth", "prediction"),
    [
        (np.zeros((80, 1)), np.ones((80, 1))),  # one class
        (np.zeros((80, 3)), np.ones((80, 3))),  # one class in each of several tasks
        (np.full((80, 2), np.nan), np.ones((80, 2))),  # no label at all
        (np.arange(80.0)[:, None] % 2, np.full((80, 1), np.nan)),  # predictions that are no numbers
        (np.arange(160.0).reshape(80, 2) % 2, np.full((80, 2), np.inf)),
    ],
)
def test_molecules_that_decide_nothing_add_nothing(truth: np.ndarray, prediction: np.ndarray) -> None:
    records = [run(0.8, arm, 0) for arm in ("adam", "sam")]
    kept = {r.key: {"rows": np.arange(80), "truth": truth, "prediction": prediction} for r in records}
    assert verdict(only(compare(records, predictions=kept.get)), "sam", "base").one_test_set is None
