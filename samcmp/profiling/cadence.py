"""How many gradient evaluations each step of an optimizer takes, found by running it on a toy at no cost.

SAM variants differ in rhythm: LookSAM repeats every k steps, GraphSAM once an epoch, late SAM changes near the end,
RST draws, AE-SAM looks at gradients. What must be timed follows from the rhythm alone, so it is found by running the
real optimizer on four numbers with drawn gradients and counting its calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

LONGEST_PERIOD = 16  # longer rhythms are composed from parts
_TAIL_STEPS_PER_EPOCH = 4
_SETTLED = 4  # steps after which a twin built for an epoch of one step is in its rhythm

Kind = Literal["periodic", "rare", "late", "drawn", "data-dependent"]
Build = Callable[[torch.optim.Optimizer, int, int], Any]  # (base, steps per epoch, epochs) -> Recipe


@dataclass(frozen=True, slots=True)
class Cadence:
    """The rhythm of one optimizer.

    ``shares`` (passes -> share of the steps of a training) is None where it depends on the data. ``twin_share`` is,
    for rare and late kinds, the share of the unusual steps in an optimizer built for epochs of one step.
    """

    kind: Kind
    period: int = 1
    shares: Mapping[int, float] | None = None
    twin_share: float = 0.0
    twin_epochs: int = 1

    @property
    def mean_passes(self) -> float | None:
        return None if self.shares is None else sum(passes * share for passes, share in self.shares.items())

    @property
    def usual(self) -> int:
        """Gradient evaluations of the commonest step."""
        shares = self.shares or {1: 1.0}
        return max(shares, key=lambda passes: shares[passes])

    @property
    def unusual_share(self) -> float:
        return 0.0 if self.shares is None else 1 - self.shares[self.usual]


class _Toy:
    """A closure with drawn gradients that counts its calls; samples can be selected as in a real one."""

    def __init__(self, parameter: Tensor, *, seed: int) -> None:
        self.parameter = parameter
        self.generator = torch.Generator().manual_seed(seed)
        self.passes = 0

    def __call__(self) -> Tensor:
        self.passes += 1
        self.parameter.grad = torch.randn(self.parameter.shape, generator=self.generator)
        return torch.rand((), generator=self.generator)

    def losses(self) -> Tensor:
        return torch.rand(8, generator=self.generator)

    def on(self, keep: Tensor) -> Tensor:
        return self()


def passes_of(build: Build, *, steps: int, steps_per_epoch: int, epochs: int, seed: int = 0) -> list[int]:
    """Run an optimizer on a toy and return the gradient evaluations of each of its first ``steps`` steps."""
    parameter = torch.nn.Parameter(torch.ones(4))
    recipe = build(torch.optim.Adam([parameter], lr=1e-3), steps_per_epoch, epochs)
    toy = _Toy(parameter, seed=seed)
    found = []
    for step in range(1, steps + 1):
        before = toy.passes
        recipe.optimizer.step(toy)
        for scheduler in recipe.step_schedulers:
            scheduler.step()
        if step % steps_per_epoch == 0:
            for scheduler in recipe.epoch_schedulers:
                scheduler.step()
        found.append(toy.passes - before)
    return found


def of(build: Build, *, steps_per_epoch: int, epochs: int) -> Cadence:
    """Find the rhythm of the optimizer that ``build`` makes."""
    n = steps_per_epoch
    window = min(2 * n, n * epochs) + 2 * LONGEST_PERIOD + 1
    sequence = passes_of(build, steps=window, steps_per_epoch=n, epochs=epochs)
    again = passes_of(build, steps=window, steps_per_epoch=n, epochs=epochs, seed=1)
    if again != sequence:
        return Cadence("data-dependent")
    late = _late(build, epochs=epochs)
    if late is not None:
        return late
    period = _period(sequence, start=1)
    if period is not None:
        return _periodic(sequence, period, total=n * epochs)
    usual = Counter(sequence).most_common(1)[0][0]
    if all(i % n == 0 for i, passes in enumerate(sequence) if passes != usual):
        return _rare(build, sequence, usual, steps_per_epoch=n, epochs=epochs)
    return Cadence("drawn", shares=_shares(passes_of(build, steps=n * epochs, steps_per_epoch=n, epochs=epochs)))


def _shares(sequence: Sequence[int]) -> dict[int, float]:
    return {passes: count / len(sequence) for passes, count in sorted(Counter(sequence).items())}


def _period(sequence: Sequence[int], *, start: int) -> int | None:
    """Return the shortest period that holds from ``start`` on (first steps may differ: nothing is kept yet)."""
    for period in range(1, LONGEST_PERIOD + 1):
        if all(a == b for a, b in zip(sequence[start:], sequence[start + period :], strict=False)):
            return period
    return None


def _periodic(sequence: Sequence[int], period: int, *, total: int) -> Cadence:
    shares = Counter(_shares(sequence[1 : 1 + period]))
    if sequence[0] != sequence[period]:  # an only anchor, at the first step of the training
        shares = Counter({passes: share * (1 - 1 / total) for passes, share in shares.items()})
        shares[sequence[0]] += 1 / total  # type: ignore[assignment]
    return Cadence("periodic", period, dict(sorted(shares.items())))


def _late(build: Build, *, epochs: int) -> Cadence | None:
    """Find a change of rhythm towards the end of training, on a training with epochs of four steps."""
    n = _TAIL_STEPS_PER_EPOCH
    whole = passes_of(build, steps=n * epochs, steps_per_epoch=n, epochs=epochs)
    usual = whole[1] if len(whole) > 1 else whole[0]
    changed = [i for i, passes in enumerate(whole) if i and passes != usual]
    if not changed or changed != list(range(changed[0], len(whole))):
        return None
    share = len(changed) / len(whole)
    shares = {usual: 1 - share, whole[-1]: share}
    twin = passes_of(build, steps=_SETTLED + 8, steps_per_epoch=1, epochs=1)[_SETTLED:]
    return Cadence("late", 1, shares, twin_share=sum(p != usual for p in twin) / len(twin))


def _rare(build: Build, sequence: Sequence[int], usual: int, *, steps_per_epoch: int, epochs: int) -> Cadence:
    """Steps that differ come at the beginning of (some) epochs only: a twin with one-step epochs shows them often."""
    total = steps_per_epoch * epochs
    if total > len(sequence):
        sequence = passes_of(build, steps=total, steps_per_epoch=steps_per_epoch, epochs=epochs)
    cycle = 2 * LONGEST_PERIOD
    twin = passes_of(build, steps=cycle + _SETTLED, steps_per_epoch=1, epochs=cycle + _SETTLED)[_SETTLED:]
    share = sum(p != usual for p in twin) / len(twin)
    period = _period(twin, start=0) or 1
    return Cadence("rare", period, _shares(sequence[:total]), twin_share=share, twin_epochs=cycle + _SETTLED)
