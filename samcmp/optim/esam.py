"""ESAM: Efficient Sharpness-Aware Minimization (Du et al., ICLR 2022, Algorithm 1)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim.base import Closure, Lines, SharpnessAware
from samcmp.optim.radius import Ball, Radius

DELTA = 1e-7  # the authors' code adds it to the norm


class ESAM(SharpnessAware):
    """ε = ρ ĝ/(β‖ĝ‖), ĝ the gradient on randomly kept tensors; ω on the samples whose loss ε raises most.

    Stochastic weight perturbation keeps each tensor with probability β (all in the first step); the selection keeps
    samples whose rise of the loss is strictly above the ⌊γb⌋-th largest, as in the authors' code. The closure offers
    ``losses() -> (G,)`` at the current weights and ``on(keep) -> loss``; in the two-phase form call :meth:`select`.
    2 gradients and 2 forward passes a step (1 if the closure remembers ``last_losses``); one parameter size.
    """

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        beta: float = 0.6,
        gamma: float = 0.5,
        seed: int = 0,
        radius: Radius | None = None,
    ) -> None:
        if not 0 < beta <= 1 or not 0 < gamma <= 1:
            raise ValueError(f"beta and gamma are shares in (0, 1], got {beta} and {gamma}")
        super().__init__(base, rho=rho, radius=Ball(DELTA) if radius is None else radius)
        self.beta, self.gamma = beta, gamma
        self.generator = random.Random(seed)
        self.kept_tensors: list[bool] = []
        self._losses_at_theta: Tensor | None = None

    def lines(self) -> Lines:
        g = yield from self.clean_gradient()  # g = ∇L(θ)
        if len(self.kept_tensors) != len(g):
            self.kept_tensors = [True] * len(g)
        g_hat = [part if kept else None for part, kept in zip(g, self.kept_tensors, strict=True)]
        g.clear()
        rho = [r / self.beta for r in self.rhos]
        yield from self.updating_gradient(g_hat, rho=rho, release=True)  # ω = ∇L_selected(θ + ρ ĝ/(β‖ĝ‖))
        self.kept_tensors = [self.generator.random() < self.beta for _ in self.kept_tensors]
        self.base_step()  # θ ← base(ω)

    def select(self, before: Tensor, after: Tensor) -> Tensor:
        """Return which of G samples enter ω: (G,) losses at θ and at θ + ε -> (G,) boolean."""
        rise = after - before  # (G,)
        count = int(self.gamma * rise.shape[0])
        if self.gamma == 1 or count < 2:  # strictly above the largest would leave nobody
            return torch.ones_like(rise, dtype=torch.bool)
        keep = rise > torch.topk(rise, count).values[-1]
        return keep | ~keep.any()  # all where no loss rises more than another, as at ρ = 0

    def call(self, closure: Closure) -> Any:
        if not (hasattr(closure, "losses") and hasattr(closure, "on")):
            raise ValueError(
                "ESAM selects samples: its closure needs losses() -> (G,) and on(keep) -> loss beside being called"
            )
        if not self.second_pass:
            loss = closure()
            remembered = getattr(closure, "last_losses", None)
            self._losses_at_theta = closure.losses() if remembered is None else remembered
            return loss
        before, self._losses_at_theta = self._losses_at_theta, None
        if before is None:
            raise RuntimeError("there are no losses at θ to compare with")
        return closure.on(self.select(before, closure.losses()))

    def extra_state(self) -> dict[str, Any]:
        version, words, gauss = self.generator.getstate()
        return {"random": [version, list(words), gauss], "kept_tensors": self.kept_tensors}

    def load_extra_state(self, own: Mapping[str, Any]) -> None:
        version, words, gauss = own["random"]
        self.generator.setstate((version, tuple(words), gauss))
        self.kept_tensors = list(own["kept_tensors"])
