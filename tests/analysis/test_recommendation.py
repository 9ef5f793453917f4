"""What is recommended: of made-up cells with known effects, by the rule that is printed with it."""

from __future__ import annotations

import dataclasses

import pytest

from samcmp.analysis.build import compare
from samcmp.analysis.comparison import Cell, Comparison, Recommendation, Settings
from samcmp.records import Record
from samcmp.report import render
from samcmp.report.table import table
from tests.analysis.test_tuned_comparison import tuned
from tests.report.made import cell, run

Arms = dict[str, tuple[float, float, float]]  # effect on the score, passes, seconds a block
BASE: Arms = {"adam": (0.0, 1.0, 1.0), "sam": (-0.05, 2.0, 2.0)}
ALIKE: Arms = {"sam": (0.0, 2.0, 2.0)}


def of(arms: Arms, **more: object) -> Cell:
    settled = {"blocks": 8, "run_sd": 0.0005, **more}
    (found,) = compare(cell(arms=BASE | arms, **settled)).cells  # type: ignore[arg-type]
    return found


def said(found: Cell | Comparison) -> Recommendation:
    assert found.recommendation is not None
    return found.recommendation


@pytest.mark.parametrize(
    ("arms", "arm", "says"),
    [
        ({"good": (0.05, 2.0, 2.0)}, "good", "Use good: better than adam, +0.0"),
        ({"good": (0.05, 2.0, 2.0), "better": (0.09, 2.0, 3.0)}, "good", "at 0.50× ["),  # the fastest, not the best
        ({"good": (0.05, 1.0, 0.8)}, "good", "and faster, 1.25× ["),
        ({"fast": (0.0, 1.0, 0.8)}, "fast", "Use fast: no worse than adam by the margin (equivalent"),
        ({"fast": (0.0, 1.0, 0.8), "good": (0.05, 1.0, 0.7)}, "good", "Use good: better than adam"),
        ({"fast": (-0.05, 1.0, 0.8)}, "adam", "and fast, which is faster, is not shown to be as accurate (8 splits)"),
        ({"slow": (0.0, 2.0, 2.0)}, "adam", "Use adam: nothing is shown to be more accurate, and nothing is faster (8"),
        ({"tiny": (0.003, 2.0, 2.0)}, "tiny", ", by less than the margin, at 0.50× ["),
    ],
)
def test_the_fastest_of_what_is_shown_to_be_better_or_no_worse_and_faster(arms: Arms, arm: str, says: str) -> None:
    found = said(of(arms))
    assert found.arm == arm
    assert says in found.text


def test_undecided_arms_say_what_it_would_take_to_tell() -> None:
    found = of(ALIKE, blocks=5, run_sd=0.008, seed=5)
    (verdict,) = found.verdicts
    assert verdict.word == "inconclusive"
    assert f"(5 splits; sam would need about {verdict.blocks_needed} to tell)." in said(found).text


def test_a_single_run_and_a_missing_speed_are_said() -> None:
    found = said(of({}, blocks=1, speeds=False))
    assert found.arm == "adam"
    assert "no speed was measured (1 split; a single run says nothing about chance)" in found.text
    better = said(of({"good": (0.05, 2.0, 2.0)}, speeds=False))
    assert (better.arm, "; speed not measured (8 splits)" in better.text) == ("good", True)


@pytest.mark.parametrize(
    ("keep", "why"),
    [
        ({"sam"}, "the base optimizer is not among those compared"),
        ({"adam"}, "nothing is compared with adam"),
    ],
)
def test_without_a_base_or_anything_beside_it_nothing_is_recommended(keep: set[str], why: str) -> None:
    (found,) = compare([r for r in cell() if r.case.optimizer in keep]).cells
    assert said(found) == Recommendation(None, f"No recommendation: {why}.")


def test_a_base_whose_runs_all_failed_is_not_recommended() -> None:
    records = [r for r in cell() if r.case.optimizer != "adam"]
    records += [run(0.0, "adam", b, status="out-of-memory", reason="needs 9 GiB") for b in range(5)]
    (found,) = compare(records).cells
    assert said(found).arm is None
    assert "adam has no score (needs 9 GiB)" in said(found).text


def test_cells_without_any_score_say_why_together_and_each() -> None:
    def failed(dataset: str, reason: str) -> list[Record]:
        return [run(0.0, arm, 0, dataset=dataset, status="error", reason=reason) for arm in ("adam", "sam")]

    alike = compare([*failed("demo", "no such column"), *failed("bbbp", "no such column")])
    assert said(alike).text == "Over 2 cells: no recommendation: adam has no score (no such column)."
    apart = compare([*failed("demo", "no such column"), *failed("bbbp", "needs 9 GiB")])
    assert said(apart).text == "Over 2 cells: no recommendation: the reason is with each cell."
    shown = " ".join(text for _, texts in table(apart).verdicts for text in texts)
    assert "adam has no score (no such column)" in shown
    assert "adam has no score (needs 9 GiB)" in shown


def test_a_tuned_comparison_recommends_by_its_tuned_verdict_and_says_so() -> None:
    comparison = compare(tuned(lambda case: (0.9, 0.9) if case.arm != "sam" or not case.trial else (0.5, 0.5)))
    found = said(comparison)
    assert found.arm == "adam", "one number on all splits is no verdict"

    def better_when_tuned(case):  # type: ignore[no-untyped-def]
        luck = 0.001 * (case.split_seed % (3 if case.arm == "sam" else 2)) + 0.0007 * case.trial
        return (0.5 + luck, 0.5 + luck) if case.arm == "sam" and case.trial else (0.9 + luck, 0.9 + luck)

    comparison = compare(tuned(better_when_tuned))
    found = said(comparison)
    assert found.arm == "sam"
    assert "(5 splits, 4 trials each)" in found.text
    words = {(u.arm, u.reference): u.word for u in comparison.cells[0].tuning.untuned}  # type: ignore[union-attr]
    assert words["sam", "adam"] != "better"


def test_what_cannot_be_tuned_as_asked_for_recommends_nothing() -> None:
    few = tuned(trials=2, datasets=("esol",), models=("gcn",))
    comparison = compare([*tuned(trials=4), *few], Settings(trials=3))
    by_name = {c.dataset: said(c) for c in comparison.cells}
    assert by_name["esol"].arm is None
    assert "2 of 3 trials stored" in by_name["esol"].text
    assert by_name["demo"].arm is not None


def several(*effects: float) -> list[Record]:
    records: list[Record] = []
    for i, effect in enumerate(effects):
        arms = BASE | {"other": (effect, 1.0, 0.9)}
        records += cell(dataset=f"d{i}", arms=arms, blocks=8, run_sd=0.0005, seed=i)
    return records


@pytest.mark.parametrize(
    ("effects", "arm", "says"),
    [
        ((0.05, 0.05, 0.0), "other", "Over 3 cells: use other, in every one."),
        ((0.05, 0.05, 0.05, -0.05), "adam", "Over 4 cells: use adam; other for d0 / gcn, d1 / gcn, d2 / gcn."),
        ((-0.05, -0.05, 0.05), "adam", "Over 3 cells: use adam; other for d2 / gcn."),
        ((0.05,) * 5 + (-0.05,), "adam", "other for d0 / gcn, d1 / gcn, d2 / gcn and 2 more."),
    ],
)
def test_over_several_cells_one_is_named_that_is_worse_in_none(effects: tuple[float, ...], arm: str, says: str) -> None:
    found = said(compare(several(*effects)))
    assert found.arm == arm
    assert says in found.text


def test_a_loss_below_the_margin_is_named_and_so_is_a_gain() -> None:
    found = of({"less": (-0.004, 2.0, 2.0), "more": (0.004, 2.0, 2.0)}, run_sd=0.0003)
    by_arm = {v.arm: v for v in found.verdicts if v.role == "base"}
    assert [(by_arm[a].word, by_arm[a].within_margin) for a in ("less", "more")] == [("worse", True), ("better", True)]
    text = " ".join(found.sentences)
    assert "worse, but by less than the margin: less −0.00" in text
    assert "better, but by less than the margin: more +0.00" in text
    far = of({"less": (-0.05, 2.0, 2.0)})
    assert "worse: sam −0.049" in " ".join(far.sentences)


def test_a_clone_that_differs_by_a_billionth_shares_rank_front_and_best() -> None:
    records: list[Record] = []
    for i in range(4):
        made = cell(dataset=f"d{i}", seed=i)
        records += made
        for r in made:
            if r.case.optimizer == "sam":
                case = dataclasses.replace(r.case, optimizer="clone")
                accuracy = r.accuracy and dataclasses.replace(r.accuracy, test=r.accuracy.test + 1e-9)
                records.append(dataclasses.replace(r, key=f"{r.key[:-1]}x", case=case, accuracy=accuracy))
    comparison = compare(records)
    assert comparison.across is not None
    by_arm = {s.arm: s.mean_rank for s in comparison.across.standings}
    assert by_arm["sam"] == by_arm["clone"]
    for found in comparison.cells:
        sam, clone = (next(r for r in found.rows if r.arm == arm) for arm in ("sam", "clone"))
        assert ("accuracy" in sam.best) == ("accuracy" in clone.best)
        assert sam.front == clone.front


def test_tables_over_several_cells_say_which_are_tuned() -> None:
    both = tuned()
    other = [r for r in tuned(datasets=("esol",), models=("gcn",)) if not r.case.trial]
    mixed = render(compare([*both, *other]), "markdown").replace("\\", "")
    assert "demo / gcn: tuned with 4 trials each, chosen by validation; esol / gcn: settings as given" in mixed
    all_tuned = render(compare([*both, *tuned(datasets=("esol",), models=("gcn",))]), "markdown")
    assert "(their number), tuned with 4 trials each, chosen by validation; graphs/s" in all_tuned
    assert "**over 2 cells, tuned with 4 trials each, chosen by validation**" in all_tuned
