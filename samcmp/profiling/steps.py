"""Callables that take the steps of a block, each in the part of a training that it stands for."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from samcmp.training.loop import Batch, Trainer

EPOCHS = 30  # of the training that shares and schedules are those of; a profile case itself has none
LEAD = 4  # epochs that a loss term sees before it is timed: terms begin late and look back
GOLDEN = (math.sqrt(5) - 1) / 2
Counted = Sequence[tuple[int, int]]  # epoch and passes of steps


class Steps:
    """Steps of one trainer over the recorded list. The trainer goes on from block to block, as in training."""

    def __init__(self, trainer: Trainer, batches: Sequence[Batch], *, steps_per_epoch: int) -> None:
        self.trainer = trainer
        self.batches = batches
        self.steps_per_epoch = steps_per_epoch  # of the data: a radius must not decay by step
        self._begin_epoch(trainer.epochs)

    def _begin_epoch(self, epoch: int) -> None:
        term = self.trainer.recipe.loss_term
        if term is not None and hasattr(term, "start_epoch"):
            term.start_epoch(epoch)

    def __call__(self, first: int, steps: int) -> Sequence[int]:
        """Take ``steps`` steps from the ``first`` of the list on; return the passes of each."""
        return [self._step(i) for i in range(first, first + steps)]

    def _step(self, i: int) -> int:
        trainer = self.trainer
        before = trainer.closure.passes
        trainer.step(self.batches[i % len(self.batches)])
        if trainer.steps % self.steps_per_epoch == 0:
            self._end_epoch()
        return trainer.closure.passes - before

    def _end_epoch(self) -> None:
        trainer = self.trainer
        if trainer.epochs < EPOCHS:
            for scheduler in trainer.recipe.epoch_schedulers:
                scheduler.step()
        trainer.epochs += 1
        self._begin_epoch(trainer.epochs)

    def go_to_last_epochs(self) -> None:
        """Let a loss term see an epoch's end a few times with a step in each, and stand in the last epoch then."""
        self.trainer.epochs = EPOCHS - 1 - LEAD
        self._begin_epoch(self.trainer.epochs)
        for i in range(LEAD):
            self._step(i)
            self._end_epoch()


class FirstEpochSteps(Steps):
    """Steps of a trainer that other steps share, with its loss term in the first epoch."""

    def __call__(self, first: int, steps: int) -> Sequence[int]:
        self._begin_epoch(0)
        try:
            return super().__call__(first, steps)
        finally:
            self._begin_epoch(self.trainer.epochs)

    def _end_epoch(self) -> None:
        """Stay in the first epoch."""


class GradientsOnly:
    """Closure calls and nothing else: the cost of a gradient."""

    def __init__(self, trainer: Trainer, batches: Sequence[Batch]) -> None:
        self.trainer = trainer
        self.batches = batches

    def __call__(self, first: int, steps: int) -> Sequence[int]:
        import torch

        closure = self.trainer.closure
        for i in range(first, first + steps):
            torch.manual_seed(i)
            closure.batch = self.batches[i % len(self.batches)]
            closure()
        return [1] * steps


class SpreadSteps(Steps):
    """Steps of an optimizer that decides by its gradients and its clock: the clock visits the whole training.

    AE-SAM's threshold moves over the training and takes its share of two-pass steps with it, from about a sixth to
    five sixths. Consecutive steps lie a golden section of the training apart, so any stretch of them is spread evenly
    over its epochs; a step keeps its place within its epoch. Where an optimizer has no ``clock`` it trains as it comes.
    ``seen`` gets the epoch and the passes of every step, once running statistics have settled.
    """

    SETTLING: ClassVar[int] = 20  # steps until running statistics of gradients have forgotten how they began
    FEWEST: ClassVar[int] = 12  # steps that say anything about a share

    def __init__(
        self, trainer: Trainer, batches: Sequence[Batch], *, steps_per_epoch: int, seen: list[tuple[int, int]]
    ) -> None:
        super().__init__(trainer, batches, steps_per_epoch=steps_per_epoch)
        self.seen = seen
        self.has_clock = hasattr(trainer.optimizer, "clock")

    def _step(self, i: int) -> int:
        trainer, n = self.trainer, self.steps_per_epoch
        epoch = trainer.epochs
        if self.has_clock:
            place = len(self.seen) if trainer.steps >= self.SETTLING else trainer.steps
            epoch = int(GOLDEN * place % 1 * EPOCHS)
            trainer.optimizer.clock = epoch * n + trainer.steps % n
        passes = super()._step(i)
        if trainer.steps > self.SETTLING:
            self.seen.append((epoch, passes))
        return passes


def by_third(counted: Counted) -> tuple[float, ...]:
    """Return the mean passes of a step in the first, middle and last third of training; NaN where none was counted."""
    return tuple(statistics.fmean(third) if third else math.nan for third in _thirds(counted))


def standard_error(counted: Counted) -> float:
    """Return the standard error of the mean passes over the training."""
    thirds = _thirds(counted)
    if min(map(len, thirds)) < 2:
        return math.inf
    return math.sqrt(sum(statistics.variance(third) / len(third) for third in thirds)) / len(thirds)


def _thirds(counted: Counted) -> list[list[int]]:
    thirds: list[list[int]] = [[], [], []]
    for epoch, passes in counted:
        thirds[min(2, 3 * epoch // EPOCHS)].append(passes)
    return thirds
