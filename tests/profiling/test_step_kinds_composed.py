"""The time of a mean step put together from its two kinds, against whole trainings of the same optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from samcmp import optim
from samcmp.profiling import rounds
from samcmp.profiling.rounds import Part, Rounds, TimedArm
from tests.profiling.world import World

N, EPOCHS = 20, 30
GRADIENT, BASE_STEP = 0.010, 0.003  # seconds


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "collected", contextlib.nullcontext)
    monkeypatch.setattr(rounds, "collect", lambda: None)


class Simulated:
    """The steps of a real optimizer on four numbers, each gradient at a price in simulated time."""

    def __init__(self, world: World, name: str, replaced: Mapping[str, Any]) -> None:
        self.world = world
        self.parameter = torch.nn.Parameter(torch.ones(4))
        base = torch.optim.Adam([self.parameter], lr=1e-3)
        lengths = {"steps_per_epoch": N, "epochs": EPOCHS}
        lengths |= {key: value for key, value in replaced.items() if key in lengths}
        settings = {key: value for key, value in replaced.items() if key not in lengths}
        self.optimizer = optim.build(name, base, **lengths, seed=0, settings=settings).optimizer
        self.passes = 0
        self.factor = 1.0

    def closure(self) -> torch.Tensor:
        self.passes += 1
        self.world.work(GRADIENT * self.factor)
        self.parameter.grad = torch.ones(4)
        return torch.zeros(())

    def run(self, first: int, count: int) -> Sequence[int]:
        self.factor = self.world.factor()
        taken = []
        for _ in range(count):
            before = self.passes
            self.optimizer.step(self.closure)
            self.world.work(BASE_STEP * self.factor)
            taken.append(self.passes - before)
        return taken


@pytest.mark.parametrize(
    ("name", "period", "steps"),
    [
        *(("graphsam", N, steps) for steps in (1, 3, 8, 16)),
        ("graphsam-released", N, 8),
        ("graphsam-k", 2 * N, 8),
        ("late-sam", EPOCHS * N, 8),
        ("looksam", 8, 3),
        ("sam-k", 8, 5),
        ("sam-k-skip", 8, 7),
    ],
)
def test_a_composed_step_costs_what_a_step_of_whole_periods_costs(name: str, period: int, steps: int) -> None:
    world = World(noise=0.002)
    entry = optim.entry(name)
    assert entry.kinds is not None
    assert entry.kinds.share is not None
    share = entry.kinds.share(entry.settings, N, EPOCHS)

    def from_the_start(first: int, count: int) -> Sequence[int]:
        return Simulated(world, name, {}).run(first, count)

    one, two = (Simulated(world, name, kind) for kind in (entry.kinds.one_pass, entry.kinds.two_pass))
    for kind in (one, two):
        kind.run(0, 1)
    whole = TimedArm("whole", (Part(from_the_start, period),))
    composed = TimedArm("composed", (Part(one.run, steps, 1 - share), Part(two.run, max(1, steps // 4), share)))
    session = Rounds([whole, composed], world.clock(), seconds=400).run()
    assert session.rounds >= 6
    found = session.ratio("composed", "whole")
    assert found.ratio == pytest.approx(1.0, abs=3e-3)
    assert found.low <= 1.0 + 1e-3
    assert found.high >= 1.0 - 1e-3
