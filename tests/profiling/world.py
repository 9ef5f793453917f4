"""A simulated machine: work takes the time the world says, with noise, drift, bursts and throttling, in no time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from samcmp.profiling.clocks import HostClock
from samcmp.profiling.rounds import Part, TimedArm


@dataclass
class World:
    """Time that passes only when something works.

    ``noise`` is the relative spread of a block, ``drift`` the relative slow-down per simulated second, ``burst`` the
    chance that a neighbour takes the machine at a block, for a few blocks in a row.
    """

    seed: int = 0
    noise: float = 0.005
    drift: float = 0.0
    burst: float = 0.0
    nanoseconds: int = 0
    throttled: bool = False
    _left: int = 0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def now(self) -> int:
        return self.nanoseconds

    def clock(self) -> HostClock:
        return HostClock(self.now, cpu_counter=self.now)

    def factor(self) -> float:
        slow = 1 + self.drift * self.nanoseconds / 1e9
        if self._left == 0 and self.burst and self.rng.random() < self.burst:
            self._left = int(self.rng.geometric(0.4))
        if self._left:
            self._left -= 1
            slow *= 1 + float(self.rng.exponential(0.3))
        if self.throttled:
            slow *= 1.5
        return slow * math.exp(float(self.rng.normal(0, self.noise)))

    def work(self, seconds: float) -> None:
        self.nanoseconds += round(seconds * 1e9)


def steady(world: World, name: str, step_seconds: float, *, steps: int = 4) -> TimedArm:
    """An arm whose steps all cost the same."""

    def run(first: int, count: int) -> Sequence[int]:
        factor = world.factor()
        for _ in range(count):
            world.work(step_seconds * factor)
        return [1] * count

    return TimedArm(name, (Part(run, steps),))


def patterned(world: World, name: str, passes: Sequence[int], *, steps: int) -> TimedArm:
    """An arm whose steps take one or two gradients of 10 ms, in a sequence that repeats."""
    position = 0

    def run(first: int, count: int) -> Sequence[int]:
        nonlocal position
        factor = world.factor()
        taken = []
        for _ in range(count):
            p = passes[position % len(passes)]
            position += 1
            world.work(p * 0.01 * factor)
            taken.append(p)
        return taken

    return TimedArm(name, (Part(run, steps),))
