"""The time of a mean step put together from kinds of steps, against whole epochs of the same optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from samcmp import optim
from samcmp.profiling import cadence, rounds
from samcmp.profiling.clocks import Mark
from samcmp.profiling.contenders import composed
from samcmp.profiling.rounds import Contender, Part, Rounds, Session
from tests.profiling.world import World

N = 20  # steps an epoch: no block of 8 is a whole one
GRADIENT, BASE_STEP = 0.010, 0.003  # seconds


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "collected", contextlib.nullcontext)
    monkeypatch.setattr(rounds, "collect", lambda: None)


class Simulated:
    """The steps of a real optimizer on four numbers, each gradient at a price in simulated time."""

    def __init__(self, world: World, name: str, *, steps_per_epoch: int, epochs: int) -> None:
        self.world, self.steps_per_epoch = world, steps_per_epoch
        self.parameter = torch.nn.Parameter(torch.ones(4))
        base = torch.optim.Adam([self.parameter], lr=1e-3)
        self.recipe = optim.build(name, base, steps_per_epoch=steps_per_epoch, epochs=epochs, seed=0)
        self.passes = self.steps = 0
        self.factor = 1.0

    def closure(self) -> torch.Tensor:
        self.passes += 1
        self.world.work(GRADIENT * self.factor)
        self.parameter.grad = torch.ones(4)
        return torch.zeros(())

    def run(self, first: int, count: int, mark: Mark) -> Sequence[int]:
        self.factor = self.world.factor()
        taken = []
        for _ in range(count):
            before = self.passes
            self.recipe.optimizer.step(self.closure)
            self.world.work(BASE_STEP * self.factor)
            mark()
            self.steps += 1
            if self.steps % self.steps_per_epoch == 0:
                for scheduler in self.recipe.epoch_schedulers:
                    scheduler.step()
            taken.append(self.passes - before)
        return taken


def held_against_whole(
    name: str, *, period: int, steps: int, contender: Callable[..., Contender] = composed
) -> Session:
    """Time whole periods beside what a session composes of blocks of ``steps`` steps."""
    world = World(noise=0.002)

    def made(steps_per_epoch: int = N, epochs: int = 30) -> Simulated:
        return Simulated(world, name, steps_per_epoch=steps_per_epoch, epochs=epochs)

    def build(base: Any, steps_per_epoch: int, epochs: int) -> Any:
        return optim.build(name, base, steps_per_epoch=steps_per_epoch, epochs=epochs, seed=0)

    rhythm = cadence.of(build, steps_per_epoch=N, epochs=30)
    assert rhythm.kind in ("rare", "late")

    def from_the_start(first: int, count: int, mark: Mark) -> Sequence[int]:
        return made().run(first, count, mark)

    twin = made(1, rhythm.twin_epochs)
    whole = Contender("whole", (Part(from_the_start, period),))
    parts = contender("composed", made().run, twin.run, rhythm, steps=steps)
    return Rounds([whole, parts], world.clock(), seconds=400).run()


@pytest.mark.parametrize(
    ("name", "period", "steps"),
    [
        *(("graphsam", N, steps) for steps in (1, 3, 8, 16)),
        ("graphsam-released", N, 8),
        ("graphsam-k", 2 * N, 8),
        ("late-sam", 30 * N, 8),
    ],
)
def test_a_composed_step_costs_what_a_step_of_whole_periods_costs(name: str, period: int, steps: int) -> None:
    found = held_against_whole(name, period=period, steps=steps).ratio("composed", "whole")
    assert found.rounds >= 6
    assert found.ratio == pytest.approx(1.0, abs=3e-3)
    assert found.low <= 1.0 + 1e-3
    assert found.high >= 1.0 - 1e-3
