"""The small training that an optimizer's promises are tried on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from samcmp.conformance.report import NotApplicable

Build = Callable[[torch.optim.Optimizer], Any]
STEPS_PER_EPOCH = 3  # of the trial's training, for optimizers that count epochs
STEPS = 8


class Net(nn.Module):
    """4 -> 40 -> 1 tanh network with a parameter that takes no part (its gradient is None)."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 40, dtype=dtype), nn.Linear(40, 1, dtype=dtype)
        self.unused = nn.Parameter(torch.ones(3, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.outer(torch.tanh(self.inner(x)))
        return out  # (G, 1)


class Closure:
    """The closure of the protocol over one batch: call it, ask it for losses, or let it keep samples."""

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self.model, self.optimizer = model, optimizer
        self.x = self.y = torch.empty(0)
        self.calls = 0
        self.raises_at: int | None = None
        self.watch: Callable[[], None] = lambda: None

    def __call__(self, keep: Tensor | None = None) -> Tensor:
        self.watch()
        self.optimizer.zero_grad()
        each = functional.binary_cross_entropy_with_logits(self.model(self.x), self.y, reduction="none")
        loss: Tensor = each.mean() if keep is None else each[keep].mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.calls += 1
        if self.calls == self.raises_at:
            raise InterruptedError("the closure was told to raise")
        return loss.detach()

    def on(self, keep: Tensor) -> Tensor:
        return self(keep)

    @torch.no_grad()
    def losses(self) -> Tensor:
        return functional.binary_cross_entropy_with_logits(self.model(self.x), self.y, reduction="none")[:, 0]


@dataclass
class Run:
    """A model, the optimizer under trial, its closure."""

    model: nn.Module
    recipe: Any
    closure: Closure

    @property
    def net(self) -> Net:
        if not isinstance(self.model, Net):
            raise TypeError("this run has a model of its own")
        return self.model

    @property
    def optimizer(self) -> Any:
        return getattr(self.recipe, "optimizer", self.recipe)

    def step(self, t: int) -> int:
        """Take step ``t`` on its batch and return how many gradients it took."""
        self.closure.x, self.closure.y = batch(t, next(self.model.parameters()).dtype)
        before = self.closure.calls
        self.optimizer.step(self.closure)
        for scheduler in getattr(self.recipe, "step_schedulers", ()):
            scheduler.step()
        if (t + 1) % STEPS_PER_EPOCH == 0:
            for scheduler in getattr(self.recipe, "epoch_schedulers", ()):
                scheduler.step()
        return self.closure.calls - before

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


def batch(t: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return the inputs (16, 4) and labels (16, 1) of step ``t``."""
    draw = torch.Generator().manual_seed(1000 + t)
    x = torch.randn(16, 4, generator=draw, dtype=torch.float64)
    y = (x.sum(1, keepdim=True) + torch.randn(16, 1, generator=draw, dtype=torch.float64) > 0).double()
    return x.to(dtype), y.to(dtype)


def adam(parameters: Any, lr: float = 1e-2) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr)


def sgd(parameters: Any, lr: float = 0.05) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


@dataclass(eq=False)
class Subject:
    """An optimizer under trial: how it is built, and what it says about itself."""

    build: Build
    rho_zero: Build | None = None  # builds it with rho = 0, where its constructor names rho
    passes: Sequence[int] | None = None  # promised gradients of the first steps, STEPS_PER_EPOCH steps an epoch
    reads_host: bool = False  # decides by a device value, and says so
    extra: dict[str, Any] = field(default_factory=dict)

    def run(
        self,
        base: Callable[..., torch.optim.Optimizer] = adam,
        *,
        model: nn.Module | None = None,
        groups: Callable[[nn.Module], Any] = lambda model: model.parameters(),
        **settings: Any,
    ) -> Run:
        """Make a model with the trial's first weights and the optimizer over it."""
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        net = Net() if model is None else model
        recipe = self.build(base(groups(net), **settings))
        return Run(net, recipe, Closure(net, getattr(recipe, "optimizer", recipe)))

    def two_phase(self, run: Run) -> Any:
        """Return the optimizer if it offers the two-phase form."""
        optimizer = run.optimizer
        if not all(hasattr(type(optimizer), name) for name in ("perturbed", "finish", "needs_clean")):
            raise NotApplicable("no two-phase form (perturbed, finish, needs_clean)")
        return optimizer


def same(a: Sequence[Tensor], b: Sequence[Tensor], *, within: float = 0.0) -> bool:
    """Tell whether two sets of weights are equal, bit for bit or within a distance."""
    return all(torch.equal(x, y) or bool((x - y).abs().max() <= within) for x, y in zip(a, b, strict=True))


def train(run: Run, steps: int = STEPS, *, first: int = 0) -> list[Tensor]:
    """Take ``steps`` steps and return the weights after them."""
    for t in range(first, first + steps):
        run.step(t)
    return run.weights()


def finite(weights: Sequence[Tensor]) -> bool:
    return all(bool(torch.isfinite(w).all()) for w in weights)
