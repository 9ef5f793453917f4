"""The mean training loss as a function of the weights, and the weights as one vector, one tensor a parameter.

The vector is all trained parameters: a weight that two layers share counts once, a frozen one is not in it, and one
that the loss does not reach has the gradient 0. Buffers, such as the running statistics of batch normalisation, stay
those of the weights while the weights are displaced: they are not trained, and evaluation reads them as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from samcmp.inspection import Parts
from samcmp.training.loop import model_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samcmp.inspection import Context
    from samcmp.training.loop import Batch, Criterion

Vector = Sequence[Tensor]


def dot(x: Vector, y: Vector) -> float:
    """Return ⟨x, y⟩ over all elements, summed in float64."""
    parts = [torch.dot(a.reshape(-1).double(), b.reshape(-1).double()) for a, b in zip(x, y, strict=True)]
    return float(torch.stack(parts).sum()) if parts else 0.0


def norm(x: Vector) -> float:
    """Return ‖x‖₂ over all elements, in float64."""
    parts = [torch.linalg.vector_norm(a, dtype=torch.float64) for a in x]
    return float(torch.linalg.vector_norm(torch.stack(parts))) if parts else 0.0


def scaled(a: float, x: Vector) -> list[Tensor]:
    """Return a x, in the precision of x."""
    return [a * part for part in x]


def combined(a: float, x: Vector, b: float, y: Vector) -> list[Tensor]:
    """Return a x + b y, in the precision of x."""
    return [a * s + b * t for s, t in zip(x, y, strict=True)]


@dataclass(slots=True)
class Passes:
    """What a measurement cost, in batches."""

    forward: int = 0  # losses without a gradient
    gradient: int = 0  # forward and backward

    @property
    def weighted(self) -> float:
        """A forward pass is about a third of a forward and backward one."""
        return self.gradient + self.forward / 3


class MeanLoss:
    """L(θ): the mean loss of fixed batches in evaluation mode, as a function of the model's trained parameters.

    It is the loss that the model is trained with, without dropout and without what an optimizer adds. Every label
    counts equally (a batch without any is left out), so that the size of batches changes nothing but rounding. A model
    that draws random numbers in evaluation mode, too, draws the same ones at every call, and nothing from the caller's
    streams.

    Args:
        batches: held, on the model's device.
        passes: to count in, where several share one count.

    Raises ValueError where there is no batch, no label or no trained parameter.
    """

    def __init__(
        self, model: nn.Module, batches: Iterable[Batch], criterion: Criterion, *, passes: Passes | None = None
    ) -> None:
        self.model = model
        self.batches = tuple(batch for batch in batches if _labels(batch))
        self.criterion = criterion
        self.parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.passes = Passes() if passes is None else passes
        if not self.batches:
            raise ValueError("a mean loss needs a batch with a label")
        if not self.parameters:
            raise ValueError("the model has no trained parameter")
        labels = [_labels(batch) for batch in self.batches]
        self.shares = [count / sum(labels) for count in labels]
        self.theta = [p.detach().clone() for p in self.parameters]  # the weights that every measurement starts from

    def loss(self) -> float:
        """Return L at the weights as they are; it may be infinite or no number."""
        with self._evaluating(), torch.no_grad():
            losses = [model_loss(self.model, batch, self.criterion).double() for batch in self.batches]
        self.passes.forward += len(self.batches)
        return self._mean(losses)

    def gradient(self) -> list[Tensor]:
        """Return ∇L at the weights as they are, a tensor a parameter; ``.grad`` is left alone."""
        return self.loss_and_gradient()[1]

    def loss_and_gradient(self) -> tuple[float, list[Tensor]]:
        """Return L and ∇L at the weights as they are, of one pass over the batches."""
        total = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        losses = []
        with self._evaluating(), _differentiable(self.model):
            for share, batch in zip(self.shares, self.batches, strict=True):
                loss = model_loss(self.model, batch, self.criterion)
                parts: Sequence[Tensor | None] = [None] * len(total)
                if loss.requires_grad:
                    parts = torch.autograd.grad(loss, self.parameters, allow_unused=True)
                for into, part in zip(total, parts, strict=True):
                    if part is not None:
                        into.add_(part, alpha=share)
                losses.append(loss.detach().double())
        self.passes.gradient += len(self.batches)
        return self._mean(losses), total

    def _mean(self, losses: Sequence[Tensor]) -> float:
        return float(torch.stack(list(losses)).cpu() @ torch.tensor(self.shares, dtype=torch.float64))

    @contextmanager
    def at(self, displacement: Vector) -> Iterator[None]:
        """Hold the weights at θ + δ; they are θ again afterwards, bit for bit, whatever ended the block."""
        with self.holding([p + d for p, d in zip(self.theta, displacement, strict=True)]):
            yield

    @contextmanager
    def holding(self, weights: Vector) -> Iterator[None]:
        """Hold the weights at ``weights``; they are θ again afterwards, bit for bit, whatever ended the block."""
        try:
            self._write(weights)
            yield
        finally:
            try:
                self.restore()
            except BaseException:  # ^C between two copies
                self.restore()
                raise

    def parts(
        self, scalars: Mapping[str, float], arrays: Mapping[str, NDArray[Any]], *, why: str = "the loss"
    ) -> Parts:
        """Return what was measured with what it cost; where a scalar is no finite number, ``why`` is not.

        A scalar that is not there has a reason, and an array with gaps has one, too.
        """
        missing = {name: f"{why} is no finite number there" for name, x in scalars.items() if not math.isfinite(x)}
        for name, values in arrays.items():
            if bad := int((~np.isfinite(values)).sum()) if values.dtype.kind == "f" else 0:
                missing[name] = f"{bad} of {values.size} are no finite numbers: {why} is not"
        whole = {name: value for name, value in scalars.items() if name not in missing}
        return Parts(whole, dict(arrays), missing, self.passes.weighted / len(self.batches))

    def restore(self) -> None:
        """Give the weights θ."""
        self._write(self.theta)

    def single(self) -> Iterator[tuple[float, MeanLoss]]:
        """Return the loss of every batch alone, L_B, with the batch's share of all labels."""
        for share, batch in zip(self.shares, self.batches, strict=True):
            yield share, MeanLoss(self.model, [batch], self.criterion, passes=self.passes)

    @torch.no_grad()
    def _write(self, weights: Vector) -> None:
        torch._foreach_copy_(self.parameters, list(weights))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode and one random stream; the modes of all modules and the caller's streams come back."""
        modes = [(module, module.training) for module in self.model.modules()]
        device = self.parameters[0].device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            self.model.eval()
            try:
                yield
            finally:
                for module, training in modes:
                    module.training = training


def of_context(context: Context) -> MeanLoss:
    """Return the mean training loss that a measurement is of: over the chosen molecules. Raises ValueError."""
    return MeanLoss(context.model, context.train, context.setup.criterion)


def _labels(batch: Batch) -> int:
    return int((~batch.y.isnan()).sum())


def _differentiable(model: nn.Module) -> Any:
    """Where cuDNN's recurrent layers would refuse a gradient in evaluation mode: torch's own kernels."""
    refused = any(isinstance(module, nn.RNNBase) and next(module.parameters()).is_cuda for module in model.modules())
    return torch.backends.cudnn.flags(enabled=False) if refused else nullcontext()
