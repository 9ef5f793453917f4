"""Where in a training a step lies decides what it costs: the clock and the loss terms are taken there."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from samcmp.profiling.contenders import Arm, MemorySubject, recorded
from samcmp.profiling.ratios import Ratio
from samcmp.profiling.runners import EPOCHS, SETTLING, SpreadRunner
from samcmp.profiling.shares import by_third, error
from samcmp.records import Case, Protocol, Record, Throughput
from samcmp.report.profile import mixture
from samcmp.training.setup import Options, Setup, assemble

N = 7  # steps an epoch


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
    SpreadRunner(trainer, [None], steps_per_epoch=N, seen=seen)(0, SETTLING + steps, lambda: None)  # type: ignore[list-item]
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
        SpreadRunner(ByTheClock(), [None], steps_per_epoch=N, seen=seen)(0, SETTLING + 6, lambda: None)  # type: ignore[arg-type,list-item]
    assert [epoch for epoch, _ in seen] == [epoch for epoch, _ in spread(30)[0]]


def test_a_step_keeps_its_place_within_the_epoch() -> None:
    _, trainer = spread(60)
    assert [clock % N for clock in trainer.clocks] == [i % N for i in range(SETTLING + 60)]
    assert max(trainer.clocks) > 0.9 * N * EPOCHS


def test_what_the_shares_leave_open_shrinks_with_the_steps_that_were_seen() -> None:
    few, many = error(spread(60)[0]), error(spread(600)[0])
    assert 0 < many < few / 2
    assert error(spread(2)[0]) == math.inf


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


def test_aesam_is_timed_over_the_whole_training(setup: Setup) -> None:
    arm = prepared("ae-sam", setup)
    arm.take(0, SETTLING + 8 * setup.steps_per_epoch, lambda: None)
    first, _, last = by_third(arm.seen)
    assert last > first + 0.2  # the threshold falls by two standard deviations


def test_mesas_epochs_without_and_with_its_teacher_count_by_their_share(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = prepared("mesa", setup)
    late, early = arm.contender(6).parts
    assert (late.weight, early.weight) == pytest.approx((24 / 30, 6 / 30))
    taught: list[bool] = []
    closure = arm.trainer.closure
    usual = closure._reference
    monkeypatch.setattr(closure, "_reference", lambda batch: taught.append(bool(found := usual(batch))) or found)
    late.run(0, 2, lambda: None)
    early.run(0, 2, lambda: None)
    late.run(2, 2, lambda: None)
    assert taught == [True, True, False, False, True, True]


def test_a_session_longer_than_a_training_leaves_the_late_steps_to_their_own_blocks(setup: Setup) -> None:
    arm = prepared("late-sam", setup)
    assert set(arm.take(0, (EPOCHS + 2) * setup.steps_per_epoch, lambda: None)) == {1}
    assert set(arm.take_aside(0, 8, lambda: None)) == {2}


def test_saf_looks_back_when_it_is_timed(setup: Setup) -> None:
    term = prepared("saf", setup).trainer.recipe.loss_term
    assert term.epoch > term.begin
    assert len(term.finished) == term.gap


@pytest.mark.parametrize(("name", "passes"), [("late-sam", 2), ("adam", 1)])
def test_memory_is_weighed_as_late_in_training(name: str, passes: int, setup: Setup) -> None:
    subject = MemorySubject(setup, case(name), recorded(setup), steps=3)
    subject.run()
    assert subject.trainer.closure.passes == 3 * passes


def test_mesas_memory_is_weighed_with_its_teacher(setup: Setup) -> None:
    assert MemorySubject(setup, case("mesa"), recorded(setup), steps=1).trainer.recipe.loss_term.needs_reference


def test_an_interval_grows_by_what_the_shares_leave_open_and_keeps_its_middle() -> None:
    narrow = Ratio(1.5, 1.49, 1.51, 20, "")
    assert narrow.widened(0.0) == narrow
    wide = narrow.widened(0.02)
    assert wide.ratio == 1.5
    assert math.log(wide.high / 1.5) == pytest.approx(math.hypot(math.log(1.51 / 1.5), 1.96 * 0.02))
    assert math.log(1.5 / wide.low) == pytest.approx(math.hypot(math.log(1.5 / 1.49), 1.96 * 0.02))


@pytest.mark.parametrize(
    ("rhythm", "words"),
    [
        ({"kind": "data-dependent", "by_third": [1.1, 1.5, 1.9], "steps": 90}, "1.10, 1.50, 1.90 passes"),
        ({"kind": "data-dependent", "by_third": [1.1, None, None], "steps": 9}, "beginning of training only"),
        ({"kind": "late", "shares": {"1": 0.8, "2": 0.2}}, "last 20% of the steps take 2 passes"),
        ({"kind": "periodic", "early_share": 0.2}, "20% of the steps come before its term"),
        ({"kind": "periodic", "shares": {"2": 1.0}}, None),
    ],
)
def test_the_output_says_of_which_steps_a_speed_is_the_mean(rhythm: dict[str, Any], words: str | None) -> None:
    details = {"rhythm": {"training_epochs": EPOCHS, **rhythm}}
    speed = Throughput(1.0, 1.0, 1, 1, (1.0,), 1, "budget", details=details)
    said = mixture(Record("0" * 64, case("adam"), "ok", throughput=speed))
    assert (said is None) if words is None else words in str(said)
