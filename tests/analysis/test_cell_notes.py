"""What the scores of a cell rest on is said, and what too small a test part cannot show is not claimed."""

from __future__ import annotations

import dataclasses

import pytest

from samcmp.analysis.build import compare
from samcmp.analysis.comparison import Cell, Verdict
from samcmp.analysis.numbers import WIDEST, form_for, signed
from samcmp.records import Coverage, Record, from_json, to_json
from samcmp.report import render
from tests.report.made import run


def only(records: list[Record]) -> Cell:
    (cell,) = compare(records).cells
    return cell


def verdict(records: list[Record], arm: str = "sam") -> Verdict:
    return next(v for v in only(records).verdicts if (v.arm, v.role) == (arm, "base"))


def resting_on(record: Record, **changes: object) -> Record:
    assert record.accuracy is not None
    return dataclasses.replace(record, accuracy=dataclasses.replace(record.accuracy, **changes))  # type: ignore[arg-type]


def otherwise(record: Record) -> Record:
    """The same score by another way: other losses."""
    history = tuple(dataclasses.replace(epoch, train_loss=epoch.train_loss + 0.1) for epoch in record.history)
    return dataclasses.replace(record, history=history)


@pytest.mark.parametrize("gain", [0.0, 0.1, -0.1])
@pytest.mark.parametrize("blocks", [2, 5])
def test_one_difference_on_all_splits_is_no_verdict_where_the_runs_differ(gain: float, blocks: int) -> None:
    records = [run(0.7 + 0.05 * b, "adam", b) for b in range(blocks)]
    records += [otherwise(run(0.7 + 0.05 * b + gain, "sam", b)) for b in range(blocks)]
    found = verdict(records)
    assert found.word == "inconclusive"
    assert (found.low, found.high, found.p_holm) == (None, None, None)
    assert f"one difference on all {blocks} splits" in str(found.why)
    assert "too small" in render(compare(records), "markdown")


def test_runs_that_are_equal_in_every_epoch_are_equivalent() -> None:
    records = [run(0.7 + 0.05 * b, arm, b) for b in range(3) for arm in ("adam", "sam")]
    found = verdict(records)
    assert (found.word, found.why) == ("equivalent", "the runs are equal in every epoch")
    assert "sam 0.000 [0.000, 0.000], the runs are equal in every epoch" in " ".join(only(records).sentences)


def test_an_arm_without_a_verdict_does_not_weaken_the_others() -> None:
    def records(*arms: str) -> list[Record]:
        made = [run(0.7 + 0.05 * b, "adam", b) for b in range(5)]
        made += [otherwise(run(0.72 + 0.05 * b + 0.001 * (b % 3), "sam", b)) for b in range(5)]
        return made + [otherwise(run(0.7 + 0.05 * b, arm, b)) for arm in arms for b in range(5)]

    assert verdict(records("graphsam")).p == verdict(records()).p
    alone, beside = (next(v for v in only(r).verdicts if v.arm == "sam") for r in (records(), records("graphsam")))
    # graphsam against sam is tested, too; graphsam against adam is not
    assert (alone.comparisons, beside.comparisons) == (1, 2)


def test_tasks_and_classes_are_said_where_they_are_few() -> None:
    tasks = {"a": 0.7, "b": None, "c": None}
    records = [
        resting_on(run(0.7, arm, b, per_task=tasks), tasks_scored=1 + b, tasks_total=3, smallest_class=1 + b)
        for arm in ("adam", "sam")
        for b in range(2)
    ]
    text = "\n".join(only(records).notes)
    assert "1 to 2 of 3 tasks scored" in text
    assert "smallest class of a scored task: 1 to 2 test molecules" in text
    plenty = [run(0.7, arm, b) for arm in ("adam", "sam") for b in range(2)]
    assert not any("scored" in note for note in only(plenty).notes)


def test_labels_and_repeated_molecules_are_said_by_every_format() -> None:
    records = [
        resting_on(run(0.7 + 0.1 * b, arm, b), coverage=Coverage((240, 30, 30), (50, 6, 4 + b), 8 + b))
        for arm in ("adam", "sam")
        for b in range(2)
    ]
    comparison = compare(records)
    for said in (
        "molecules with a label: 50 of 240 for training, 6 of 30 for validation, 4 to 5 of 30 for the test",
        "8 to 9 of 30 test molecules are in training or validation, too",
    ):
        assert any(said in note for note in comparison.cells[0].notes)
        assert said in render(comparison, "markdown").replace("\\", "")
        assert said in render(comparison, "json")


def test_a_record_without_coverage_is_read_and_says_nothing_of_it() -> None:
    old = to_json(run(0.7))
    del old["accuracy"]["coverage"]
    record = from_json(Record, old)
    assert not any("label" in note for note in only([record]).notes)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0.000"),
        (0.8123, "0.812"),
        (9.5, "9.500"),
        (123.456, "123.5"),
        (123_456.7, "123456.7"),
        (0.0123, "0.01230"),
        (0.000218, "0.000218"),
        (2.18e-9, "2.18e-09"),
        (1.019e-13, "1.02e-13"),
        (3.5141e24, "3.51e+24"),
        (1e30, "1.00e+30"),
    ],
)
def test_a_number_of_any_size_has_three_figures_and_few_characters(value: float, said: str) -> None:
    assert f"{value:{form_for([value])}}" == said
    assert len(said) <= WIDEST
    assert signed(-value, form_for([value])) == ("−" + said if value else said).replace("-", "−")
