"""Where in a training a step lies decides what it costs: the clock and the loss terms are taken there."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from samcmp.profiling.arms import Arm, MemorySubject, recorded
from samcmp.profiling.ratios import Ratio
from samcmp.profiling.steps import EPOCHS, SpreadSteps, by_third, standard_error
from samcmp.records import Case, Protocol, Record, Throughput
from samcmp.report.profile import mean_of
from samcmp.training.setup import Options, Setup, assemble

N = 7  # steps an epoch
SETTLING = SpreadSteps.SETTLING


def case(name: str) -> Case:
    return Case("profile", "demo", "gcn", name, Protocol(epochs=1, batch_size=16, subset=80))


@pytest.fixture(scope="module")
def setup() -> Setup:
    return assemble(case("adam"), Options())


def prepared(name: str, setup: Setup) -> Arm:
    arm = Arm("0" * 64, case(name))
    arm.prepare(setup, recorded(setup))
    return arm


class ByTheClock:
    """A trainer whose optimizer takes a second pass with a probability that grows with its clock from 0 to 1."""

    def __init__(self) -> None:
        self.optimizer = SimpleNamespace(clock=0)
        self.recipe = SimpleNamespace(loss_term=None, epoch_schedulers=())
        self.closure = SimpleNamespace(passes=0)
        self.steps = self.epochs = 0
        self.clocks: list[int] = []

    def step(self, batch: Any) -> None:
        self.clocks.append(self.optimizer.clock)
        due = math.sqrt(2) * self.steps % 1 < self.optimizer.clock / (N * EPOCHS)
        self.closure.passes += 2 if due else 1
        self.optimizer.clock += 1
        self.steps += 1


Seen = list[tuple[int, int]]


def spread(steps: int, trainer: Any = None) -> tuple[Seen, ByTheClock]:
    """Let a trainer settle and take ``steps`` steps that count."""
    trainer = trainer or ByTheClock()
    seen: Seen = []
    SpreadSteps(trainer, [None], steps_per_epoch=N, seen=seen)(0, SETTLING + steps)  # type: ignore[list-item]
    return seen, trainer


def test_the_share_of_a_clocked_optimizer_is_the_whole_trainings_and_not_the_beginnings() -> None:
    seen, _ = spread(N * EPOCHS)
    assert len(seen) == N * EPOCHS
    assert sum(passes for _, passes in seen) / len(seen) == pytest.approx(1.5, abs=0.05)
    assert by_third(seen) == pytest.approx((1 + 1 / 6, 1.5, 1 + 5 / 6), abs=0.12)


@pytest.mark.parametrize("steps", [12, 30])
def test_a_short_stretch_visits_every_third_alike(steps: int) -> None:
    seen, _ = spread(steps)
    visits = [sum(3 * epoch // EPOCHS == third for epoch, _ in seen) for third in range(3)]
    assert max(visits) - min(visits) <= 2


def test_stretches_of_trainers_that_were_built_anew_go_on_where_the_last_one_ended() -> None:
    seen: Seen = []
    for _ in range(5):
        SpreadSteps(ByTheClock(), [None], steps_per_epoch=N, seen=seen)(0, SETTLING + 6)  # type: ignore[arg-type,list-item]
    assert [epoch for epoch, _ in seen] == [epoch for epoch, _ in spread(30)[0]]


def test_a_step_keeps_its_place_within_the_epoch() -> None:
    _, trainer = spread(60)
    assert [clock % N for clock in trainer.clocks] == [i % N for i in range(SETTLING + 60)]
    assert max(trainer.clocks) > 0.9 * N * EPOCHS


def test_what_the_shares_leave_open_shrinks_with_the_steps_that_were_seen() -> None:
    few, many = standard_error(spread(60)[0]), standard_error(spread(600)[0])
    assert 0 < many < few / 2
    assert standard_error(spread(2)[0]) == math.inf


def test_an_optimizer_without_a_clock_is_said_to_be_seen_at_the_beginning_only() -> None:
    trainer: Any = ByTheClock()
    trainer.optimizer = SimpleNamespace()

    def step(batch: Any) -> None:
        trainer.closure.passes += 1
        trainer.steps += 1

    trainer.step = step
    first, middle, last = by_third(spread(40, trainer)[0])
    assert first == 1.0
    assert math.isnan(middle)
    assert math.isnan(last)


def test_aesams_share_is_counted_over_the_whole_training(setup: Setup) -> None:
    arm = prepared("ae-sam", setup)
    ticks = iter(range(10_000))
    arm.count_kinds(lambda: next(ticks), seconds=SETTLING + 8 * setup.steps_per_epoch)
    first, _, last = by_third(arm.counted)
    assert last > first + 0.2  # the threshold falls by two standard deviations
    assert arm.shares[1] == sum(passes == 2 for _, passes in arm.counted) / len(arm.counted)


def test_a_budget_without_time_for_counting_still_counts_the_fewest_steps(setup: Setup) -> None:
    arm = prepared("ae-sam", setup)
    arm.count_kinds(lambda: 0.0 if not arm.counted else 1.0, seconds=0.5)
    assert len(arm.counted) == SpreadSteps.FEWEST
    assert math.isfinite(standard_error(arm.counted))


@pytest.mark.parametrize("name", ["sam-k", "sam-k-skip", "looksam", "ae-sam", "rst", "graphsam", "late-sam"])
def test_each_kind_of_step_is_timed_in_blocks_of_its_own(name: str, setup: Setup) -> None:
    one, two = prepared(name, setup).timed(6).parts
    assert one.share + two.share == 1.0
    for first in (0, 40):  # late-sam's end would come within
        assert set(one.run(first, EPOCHS * setup.steps_per_epoch if name == "late-sam" else 6)) == {1}
        assert set(two.run(first, 6)) == {2}


def test_steps_are_taken_in_the_proportion_of_a_training(setup: Setup) -> None:
    arm = prepared("looksam", setup)
    before = [steps.trainer.steps for steps in arm.steps]
    assert arm.take(4) == 8
    assert [steps.trainer.steps - n for steps, n in zip(arm.steps, before, strict=True)] == [7, 1]


def test_mesas_epochs_without_and_with_its_teacher_count_by_their_share(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = prepared("mesa", setup)
    late, early = arm.timed(6).parts
    assert (late.share, early.share) == pytest.approx((24 / 30, 6 / 30))
    taught: list[bool] = []
    closure = arm.steps[0].trainer.closure
    usual = closure._reference
    monkeypatch.setattr(closure, "_reference", lambda batch: taught.append(bool(found := usual(batch))) or found)
    late.run(0, 2)
    early.run(0, 2)
    late.run(2, 2)
    assert taught == [True, True, False, False, True, True]


def test_saf_looks_back_when_it_is_timed(setup: Setup) -> None:
    term = prepared("saf", setup).steps[0].trainer.recipe.loss_term
    assert term.epoch > term.begin
    assert len(term.finished) == term.gap


@pytest.mark.parametrize(("name", "passes"), [("late-sam", 2), ("rst", 2), ("adam", 1)])
def test_memory_is_weighed_as_late_in_training(name: str, passes: int, setup: Setup) -> None:
    subject = MemorySubject(setup, case(name), recorded(setup), steps=3)
    subject.run()
    assert subject.trainer.closure.passes == 3 * passes


def test_mesas_memory_is_weighed_with_its_teacher(setup: Setup) -> None:
    assert MemorySubject(setup, case("mesa"), recorded(setup), steps=1).trainer.recipe.loss_term.needs_reference


def test_an_interval_grows_by_what_the_shares_leave_open_and_keeps_its_middle() -> None:
    narrow = Ratio(1.5, 1.49, 1.51)
    assert narrow.widened(0.0) == narrow
    wide = narrow.widened(0.02)
    assert wide.ratio == 1.5
    assert math.log(wide.high / 1.5) == pytest.approx(math.hypot(math.log(1.51 / 1.5), 1.96 * 0.02))
    assert math.log(1.5 / wide.low) == pytest.approx(math.hypot(math.log(1.5 / 1.49), 1.96 * 0.02))


COUNTED = {"share_is": "counted", "two_pass_share": 0.42, "counted_steps": 90}


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"step_kinds": {**COUNTED, "passes_by_third": [1.1, 1.5, 1.9]}}, "42% of its steps take two passes, counted"),
        ({"step_kinds": {**COUNTED, "passes_by_third": [1.1, 1.5, 1.9]}}, "compare` takes the share that its training"),
        ({"step_kinds": {**COUNTED, "passes_by_third": [1.1, None, math.nan]}}, "(1.10, n/a, n/a passes"),
        ({"step_kinds": {"share_is": "declared", "two_pass_share": 0.125}}, "12.50% of its steps take two passes"),
        ({"step_kinds": {"first_epochs_share": 0.2}}, "20% of the steps come before its term"),
        ({"step_kinds": {}, "undeclared_passes": [1, 3]}, "steps of 1 to 3 passes, timed as they came"),
        ({"step_kinds": {}, "undeclared_passes": None}, None),
        ({}, None),
    ],
)
def test_the_output_says_of_which_steps_a_speed_is_the_mean(details: dict[str, Any], words: str | None) -> None:
    speed = Throughput(1.0, 1.0, 1, 1, (1.0,), 1, "budget", details=details)
    said = mean_of(Record("0" * 64, case("adam"), "ok", throughput=speed))
    assert (said is None) if words is None else words in str(said)
