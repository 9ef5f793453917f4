"""Passes come from training runs, and a speed is at the share of two-pass steps that they had; both are said."""

from __future__ import annotations

import dataclasses

import pytest

from samcmp.analysis.build import compare
from samcmp.analysis.comparison import Cell, Row
from samcmp.records import Record
from tests.report.made import ARMS, cell, profile, run

STEPS = 25  # an epoch: 800 molecules in batches of 32
ONE, TWO = 0.010, 0.018  # seconds of a step


def mixed(optimizer: str, share: float, **more: float) -> Record:
    """A profile of blocks of 8 steps, its two kinds at ``share``."""
    record = profile(optimizer, [8 * (ONE * (1 - share) + TWO * share)] * 12, passes=1 + share, peers=tuple(ARMS))
    speed = record.throughput
    assert speed is not None
    kinds = {"two_pass_share": share, "one_pass_seconds": ONE, "two_pass_seconds": TWO, "share_is": "counted"}
    return dataclasses.replace(
        record,
        throughput=dataclasses.replace(
            speed,
            ratio_to={"adam": (0.5, 0.49, 0.51), "sam": (1.0, None, 1.02)},
            details={"step_kinds": kinds, **more},
        ),
    )


def trained(optimizer: str, passes: list[int]) -> list[Record]:
    """A run for each number of gradient evaluations an epoch."""
    made = []
    for block, count in enumerate(passes):
        record = run(0.8, optimizer, block)
        made.append(
            dataclasses.replace(record, history=tuple(dataclasses.replace(e, passes=count) for e in record.history))
        )
    return made


def compared(records: list[Record], optimizer: str) -> tuple[Cell, Row]:
    (found,) = compare([*cell(), *records]).cells
    return found, next(row for row in found.rows if row.optimizer == optimizer)


@pytest.mark.parametrize("passes", [[25, 25], [30, 41], [36, 35], [50, 50]])
def test_passes_are_those_of_training(passes: list[int]) -> None:
    _, row = compared([*trained("ae-sam", passes), mixed("ae-sam", 1.0)], "ae-sam")
    assert row.passes_per_step == sum(passes) / (2 * STEPS)


@pytest.mark.parametrize("profiled", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("count", [25, 35, 50])
def test_a_speed_is_at_trainings_share_whatever_the_profiles_was(profiled: float, count: int) -> None:
    share = count / STEPS - 1
    _, row = compared([*trained("ae-sam", [count]), mixed("ae-sam", profiled)], "ae-sam")
    seconds = ONE * (1 - share) + TWO * share
    before = ONE * (1 - profiled) + TWO * profiled
    assert row.graphs_per_second == pytest.approx(1000 / (8 * seconds))
    base = row.speed_to["base"]
    assert (base.value, base.low, base.high) == pytest.approx(tuple(r * before / seconds for r in (0.5, 0.49, 0.51)))
    assert row.speed_to["sam"].low is None
    assert row.block_seconds == pytest.approx([8 * seconds] * 12)


def test_the_bound_is_taken_at_trainings_passes() -> None:
    records = [*trained("ae-sam", [35]), mixed("ae-sam", 1.0, gradient_seconds=0.008, fixed_seconds=0.002)]
    _, row = compared(records, "ae-sam")
    assert row.efficiency == pytest.approx((0.002 + 1.4 * 0.008) / (ONE * 0.6 + TWO * 0.4))


def test_both_counts_are_said_where_they_differ() -> None:
    found, _ = compared([*trained("ae-sam", [35]), mixed("ae-sam", 1.0)], "ae-sam")
    (said,) = [note for note in found.notes if "passes a step" in note and note.startswith("ae-sam")]
    assert said.startswith("ae-sam: 1.40 passes a step in training, 2.00 in the profile")
    assert "at the share that training had" in said


def test_equal_counts_are_not_said_and_change_nothing() -> None:
    record = mixed("rst", 0.4)
    found, row = compared([*trained("rst", [35]), record], "rst")
    assert not any(note.startswith("rst") for note in found.notes)
    assert record.throughput is not None
    assert row.graphs_per_second == pytest.approx(record.throughput.graphs_per_second)


def test_an_optimizer_that_declares_no_kinds_keeps_the_profiles_speed_and_gets_trainings_passes() -> None:
    record = profile("user", [1.0] * 12, passes=1.0, peers=tuple(ARMS))
    found, row = compared([*trained("user", [35]), record], "user")
    assert row.passes_per_step == 1.4
    assert record.throughput is not None
    assert row.graphs_per_second == record.throughput.graphs_per_second
    assert any("speeds and ratios are the profile's" in note for note in found.notes)


def test_without_runs_that_finished_the_profiles_count_stands() -> None:
    failed = run(0.8, "ae-sam", 0, status="error", reason="no")
    for records in ([], [failed]):
        _, row = compared([*records, mixed("ae-sam", 0.7)], "ae-sam")
        assert row.passes_per_step == pytest.approx(1.7)
