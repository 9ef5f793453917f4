"""One step, one epoch, one evaluation, and which epoch counts. Knows closures, not clocks.

Every optimizer of a comparison sees the same initial weights, batch order and dropout: each has a stream of its own,
derived from the case's seed by name, and the dropout stream is set anew before every step, so that an optimizer which
takes two passes does not shift the next step's masks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from samcmp.graphs.batch import GraphBatch
from samcmp.images.batch import ImageBatch
from samcmp.training.tasks import better, mean_over_labels

if TYPE_CHECKING:
    from samcmp.records import Protocol as TrainingProtocol

Batch = GraphBatch | ImageBatch
Link = Callable[[Tensor], Tensor]


class Criterion(Protocol):
    """A masked mean loss: (G, T) predictions and (G, T) labels with NaN where missing -> scalar.

    Of a multiclass task predictions are (G, C), one a class, and everything else has T = 1.
    """

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor: ...

    def per_graph(self, prediction: Tensor, y: Tensor) -> Tensor: ...  # (G,)

    def elements(self, prediction: Tensor, y: Tensor) -> Tensor: ...  # (G, T)


class LossTerm(Protocol):
    """What SAF and MESA add to the loss."""

    def term(self, rows: Tensor, prediction: Tensor, y: Tensor, **known: Tensor) -> Tensor: ...

    def teacher(self) -> AbstractContextManager[None]: ...  # MESA only: holds its own weights in the model


def stream(seed: int, purpose: str) -> int:
    """Return the 63-bit seed of the named random stream of a case: weights, batches, dropout, optimizer."""
    digest = hashlib.sha256(f"samcmp-stream:{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class _Noted:
    """A criterion that remembers the predictions it saw, for loss terms on top of a model's own loss."""

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion
        self.seen: list[Tensor] = []

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor:
        self.seen.append(prediction)
        return self.criterion(prediction, y)

    def per_graph(self, prediction: Tensor, y: Tensor) -> Tensor:
        return self.criterion.per_graph(prediction, y)

    def elements(self, prediction: Tensor, y: Tensor) -> Tensor:
        return self.criterion.elements(prediction, y)

    @property
    def prediction(self) -> Tensor:
        return torch.stack(self.seen).mean(0) if len(self.seen) > 1 else self.seen[0]


def model_loss(model: nn.Module, batch: Batch, criterion: Criterion) -> Tensor:
    """Return the training loss of ``batch``, a scalar: the model's own where it has one (GROVER's two heads)."""
    own: Callable[..., Tensor] | None = getattr(model, "loss", None)
    if own is not None:
        return own(batch, criterion)
    prediction: Tensor = model(batch)  # (G, T)
    return criterion(prediction, batch.y)


class StepClosure:
    """What an optimizer's ``step`` calls: clear the gradients, forward, backward, return the loss.

    ``losses`` and ``on`` serve optimizers that select samples (ESAM, Du et al. 2022).
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        *,
        loss_power: int = 1,
        loss_term: LossTerm | None = None,
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.loss_power = loss_power
        self.loss_term = loss_term
        self.parameters = list(model.parameters())
        self.passes = 0  # gradient evaluations so far
        self.batch: Batch | None = None

    def _loss(self, batch: Batch, *, elements: bool = False) -> Tensor:
        """The loss, a scalar; with ``elements`` one for each label, (G, T), where the model's loss has such."""
        own = getattr(self.model, "loss_elements", None) if elements and self.loss_term is None else None
        if own is not None:
            losses: Tensor = own(batch, self.criterion)
            return losses
        if self.loss_term is None:
            return model_loss(self.model, batch, self.criterion)
        known = self._reference(batch)
        noted = _Noted(self.criterion)
        loss = model_loss(self.model, batch, noted)
        return loss + self.loss_term.term(batch.rows, noted.prediction, batch.y, **known)

    def _reference(self, batch: Batch) -> dict[str, Tensor]:
        """The predictions of a loss term's own weights (MESA's average), where it needs them: one forward pass."""
        if not getattr(self.loss_term, "needs_reference", False):
            return {}
        was_training = self.model.training
        self.model.eval()  # as the original: the average predicts without dropout, and takes nothing from its stream
        try:
            with torch.no_grad(), self.loss_term.teacher():  # type: ignore[union-attr]
                return {"reference": self.model(batch)}
        finally:
            self.model.train(was_training)

    def __call__(self) -> Tensor:
        batch = self._batch()
        if self.loss_power == 1:
            return self._backward(self._loss(batch))
        # The gradient of half the sum of l^2, as in the released SAM and GraphSAM closures: of the scalar loss, and in
        # GROVER, whose released loss is not reduced, of the loss of every label.
        losses = self._loss(batch, elements=True)
        self._backward(losses, weight=losses.detach())
        return mean_over_labels(losses.detach(), batch.y) if losses.dim() else losses.detach()

    def plain(self) -> Tensor:
        """As calling, but with the gradient of the mean loss, whatever ``loss_power`` is."""
        return self._backward(self._loss(self._batch()))

    def _batch(self) -> Batch:
        if self.batch is None:
            raise ValueError("set .batch before the optimizer's step")
        return self.batch

    def _backward(self, loss: Tensor, weight: Tensor | None = None) -> Tensor:
        self.passes += 1
        for p in self.parameters:
            p.grad = None
        loss.backward(weight)  # type: ignore[no-untyped-call]
        return loss.detach()

    @torch.no_grad()
    def losses(self) -> Tensor:
        """Return each graph's loss at the current weights, (G,), without gradients."""
        batch = self._batch()
        return self.criterion.per_graph(self.model(batch), batch.y)

    def on(self, keep: Tensor) -> Tensor:
        """As calling, but with the mean over the graphs in ``keep``, (G,) boolean.

        The graphs left out keep their place in the forward pass (a 0/1 weight on their labels): the gradient is that
        of the sub-batch, the saving of a smaller batch is not taken.
        """
        batch = self._batch()
        y = torch.where(keep[:, None], batch.y, torch.nan)  # (G, T)
        return self._backward(self._loss(replace(batch, y=y)))


@dataclass(frozen=True, slots=True)
class EpochSums:
    """What one epoch came to. ``loss`` is the mean over samples of what their step returned."""

    loss: float
    steps: int
    samples: int
    passes: int


class Trainer:
    """A model, an optimizer and a closure, one step at a time.

    Args:
        recipe: a :class:`samcmp.optim.Recipe`.
        lr_schedule: learning rate after k steps, as :func:`learning_rate` makes it; None leaves the rate alone.
        dropout_seed: the stream that is set before every step.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Any,
        *,
        criterion: Criterion,
        loss_power: int = 1,
        lr_schedule: Callable[[int], float] | None = None,
        dropout_seed: int = 0,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.optimizer = recipe.optimizer
        self.closure = StepClosure(
            model,
            criterion,
            loss_power=max(loss_power, recipe.loss_power),
            loss_term=recipe.loss_term,
        )
        self.lr_schedule = lr_schedule
        self.dropout_seed = dropout_seed
        self.steps = 0
        self.epochs = 0

    def step(self, batch: Batch) -> Tensor:
        """Take one optimizer step on ``batch`` and return its loss, a scalar on the device."""
        # step k of every optimizer starts from the same dropout stream, however many passes step k-1 took
        torch.manual_seed((self.dropout_seed + self.steps) & 0x7FFF_FFFF_FFFF_FFFF)
        if self.lr_schedule is not None:
            rate = self.lr_schedule(self.steps + 1)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        self.closure.batch = batch
        loss = self.optimizer.step(self.closure)
        if loss is None:
            raise TypeError(
                f"{type(self.optimizer).__name__}.step(closure) returned nothing: return what closure() gave"
            )
        for scheduler in self.recipe.step_schedulers:
            scheduler.step()
        self.steps += 1
        return torch.as_tensor(loss)

    def epoch(self, batches: Iterable[Batch]) -> EpochSums:
        """Train on every batch once. The host reads the losses once, at the end."""
        self.model.train()
        if self.recipe.loss_term is not None and hasattr(self.recipe.loss_term, "start_epoch"):
            self.recipe.loss_term.start_epoch(self.epochs)
        before = self.closure.passes
        losses: list[Tensor] = []
        sizes: list[int] = []
        for batch in batches:
            losses.append(self.step(batch).detach())
            sizes.append(batch.size)
        for scheduler in self.recipe.epoch_schedulers:
            scheduler.step()
        self.epochs += 1
        # a short last batch counts by its samples
        weights = torch.tensor(sizes, dtype=torch.float64) / max(1, sum(sizes))
        mean = float(torch.stack(losses).double().cpu() @ weights) if losses else math.nan
        return EpochSums(mean, len(losses), sum(sizes), self.closure.passes - before)


@torch.no_grad()
def predict(model: nn.Module, batches: Iterable[Batch], *, link: Link) -> Tensor:
    """Return the model's predictions for every sample of ``batches``, (M, T) or (M, C) float64 on the host.

    ``link`` turns raw outputs into probabilities (classification) or is the identity.
    """
    was_training = model.training
    model.eval()
    try:
        own: Callable[..., Tensor] | None = getattr(model, "predict", None)
        parts = [own(batch, link) if own is not None else link(model(batch)) for batch in batches]
    finally:
        model.train(was_training)
    return torch.cat(parts).double().cpu()


@dataclass(slots=True)
class Selection:
    """Which epoch counts: the best validation score, ties to the earlier."""

    metric: str
    epoch: int = -1
    valid: float = math.nan

    def offer(self, epoch: int, valid: float) -> bool:
        """Say whether ``epoch`` is the best so far. A score that is not a number never is."""
        best = not math.isnan(valid) and (self.epoch < 0 or better(self.metric, valid, self.valid))
        if best:
            self.epoch, self.valid = epoch, valid
        return best


# ---------------------------------------------------------------------------------------------- learning rates


def learning_rate(
    name: str,
    *,
    protocol: TrainingProtocol,
    train_size: int,
    dataset: str = "",
) -> Callable[[int], float]:
    """Return the learning rate as a function of the step t = 1, 2, ... Raises KeyError for an unknown name."""
    return SCHEDULES[name](protocol, train_size, dataset)


def _noam(p: TrainingProtocol, train_size: int, dataset: str) -> Callable[[int], float]:
    """Linear warm-up, then geometric decay over all steps (chemprop's NoamLR; GraphSAM, A.4)."""
    return _warm_then_geometric(p, steps_per_epoch=math.ceil(train_size / p.batch_size), epochs=p.epochs)


def _noam_released(p: TrainingProtocol, train_size: int, dataset: str) -> Callable[[int], float]:
    """As the released code builds it: whole batches only, and 30 epochs whatever the run's length."""
    return _warm_then_geometric(p, steps_per_epoch=max(1, train_size // p.batch_size), epochs=30)


def _warm_then_geometric(p: TrainingProtocol, *, steps_per_epoch: int, epochs: int) -> Callable[[int], float]:
    total = epochs * steps_per_epoch  # T
    warm = min(int(p.warmup_epochs * steps_per_epoch), total)  # w

    def rate(t: int) -> float:
        if t <= warm:
            return p.initial_lr + t * (p.peak_lr - p.initial_lr) / warm
        if t <= total:
            return p.peak_lr * math.pow(p.final_lr / p.peak_lr, (t - warm) / (total - warm))
        return p.final_lr

    return rate


# warm-up factors of the released CoMPT settings; 0.1 where it has none
_COMPT_FACTOR = {"bbbp": 0.2, "tox21": 0.1, "sider": 0.2, "clintox": 0.15, "esol": 0.1, "freesolv": 0.15, "lipo": 0.15}


def _compt_adam_released(p: TrainingProtocol, train_size: int, dataset: str) -> Callable[[int], float]:
    """The released Adam arm: factor d^-1/2 min(t^-1/2, t W^-3/2), d = 256, W = 30 epochs of whole batches."""
    factor = _COMPT_FACTOR.get(dataset, 0.1)
    warm = 30 * max(1, train_size // p.batch_size)  # W
    return lambda t: float(factor * 256**-0.5 * min(t**-0.5, t * warm**-1.5))


def _cosine(p: TrainingProtocol, train_size: int, dataset: str) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine from the peak to 0 (Loshchilov and Hutter, ICLR 2017, equation 5)."""
    steps_per_epoch = math.ceil(train_size / p.batch_size)
    total = p.epochs * steps_per_epoch  # T
    warm = min(int(p.warmup_epochs * steps_per_epoch), total)  # w

    def rate(t: int) -> float:
        if t <= warm:
            return p.initial_lr + t * (p.peak_lr - p.initial_lr) / warm
        return p.peak_lr * (1 + math.cos(math.pi * min(1.0, (t - 1 - warm) / max(1, total - warm)))) / 2

    return rate


def _constant(p: TrainingProtocol, train_size: int, dataset: str) -> Callable[[int], float]:
    return lambda t: p.peak_lr


SCHEDULES: dict[str, Callable[[TrainingProtocol, int, str], Callable[[int], float]]] = {
    "noam": _noam,
    "constant": _constant,
    "cosine": _cosine,
    "noam-released": _noam_released,
    "compt-adam-released": _compt_adam_released,
}
