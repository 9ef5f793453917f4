"""Callables that take the steps of a block, each in the part of a training that it stands for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from samcmp.profiling.clocks import Mark

if TYPE_CHECKING:
    from samcmp.graphs.batch import GraphBatch
    from samcmp.training.loop import Trainer

EPOCHS = 30  # of the training that shares and schedules are those of; a profile case itself has none
LEAD = 4  # epochs that a loss term sees before it is timed: terms begin late and look back
GOLDEN = (math.sqrt(5) - 1) / 2
SETTLING = 20  # steps until running statistics of gradients have forgotten how they began


class Runner:
    """Steps of one trainer over the recorded list. The trainer goes on from block to block, as in training."""

    def __init__(self, trainer: Trainer, batches: Sequence[GraphBatch], *, steps_per_epoch: int) -> None:
        self.trainer = trainer
        self.batches = batches
        self.steps_per_epoch = steps_per_epoch
        self._begin_epoch(trainer.epochs)

    def _begin_epoch(self, epoch: int) -> None:
        term = self.trainer.recipe.loss_term
        if term is not None and hasattr(term, "start_epoch"):
            term.start_epoch(epoch)

    def __call__(self, first: int, steps: int, mark: Mark) -> Sequence[int]:
        return [self._step(i, mark) for i in range(first, first + steps)]

    def _step(self, i: int, mark: Mark) -> int:
        trainer = self.trainer
        before = trainer.closure.passes
        trainer.step(self.batches[i % len(self.batches)])
        mark()
        if trainer.steps % self.steps_per_epoch == 0:
            self._turn()
        return trainer.closure.passes - before

    def _turn(self) -> None:
        trainer = self.trainer
        if trainer.epochs < EPOCHS:
            for scheduler in trainer.recipe.epoch_schedulers:
                scheduler.step()
        trainer.epochs += 1
        self._begin_epoch(trainer.epochs)

    def pass_epochs(self, count: int) -> None:
        """Go through ``count`` epochs with a step in each."""
        for i in range(count):
            self._step(i, lambda: None)
            self._turn()


class EarlyRunner(Runner):
    """Steps of a trainer that another runner shares, with its loss term in the first epoch."""

    def __call__(self, first: int, steps: int, mark: Mark) -> Sequence[int]:
        self._begin_epoch(0)
        try:
            return super().__call__(first, steps, mark)
        finally:
            self._begin_epoch(self.trainer.epochs)

    def _turn(self) -> None:
        """Stay in the first epoch."""


class SpreadRunner(Runner):
    """Steps of an optimizer that decides by its gradients and its clock: the clock visits the whole training.

    AE-SAM's threshold moves over the training and takes its share of two-pass steps with it, from about a sixth to
    five sixths. Consecutive steps lie a golden section of the training apart, so any stretch of them is spread evenly
    over its epochs; a step keeps its place within its epoch. Where an optimizer has no ``clock`` it trains as it comes.
    ``seen`` gets the epoch and the passes of every step, once running statistics have settled.
    """

    def __init__(
        self,
        trainer: Trainer,
        batches: Sequence[GraphBatch],
        *,
        steps_per_epoch: int,
        seen: list[tuple[int, int]],
    ) -> None:
        super().__init__(trainer, batches, steps_per_epoch=steps_per_epoch)
        self.seen = seen
        self.has_clock = hasattr(trainer.optimizer, "clock")

    def _step(self, i: int, mark: Mark) -> int:
        trainer, n = self.trainer, self.steps_per_epoch
        epoch = trainer.epochs
        if self.has_clock:
            place = len(self.seen) if trainer.steps >= SETTLING else trainer.steps
            epoch = int(GOLDEN * place % 1 * EPOCHS)
            trainer.optimizer.clock = epoch * n + trainer.steps % n
        passes = super()._step(i, mark)
        if trainer.steps > SETTLING:
            self.seen.append((epoch, passes))
        return passes


class GradientRunner:
    """Closure calls and nothing else: the price of a gradient."""

    def __init__(self, trainer: Trainer, batches: Sequence[GraphBatch]) -> None:
        self.trainer = trainer
        self.batches = batches

    def __call__(self, first: int, steps: int, mark: Mark) -> Sequence[int]:
        import torch

        closure = self.trainer.closure
        for i in range(first, first + steps):
            torch.manual_seed(i)
            closure.batch = self.batches[i % len(self.batches)]
            closure()
            mark()
        return [1] * steps
