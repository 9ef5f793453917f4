"""ESAM: Efficient Sharpness-Aware Minimization (Du et al., ICLR 2022, Algorithm 1)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim.base import Ask, Closure, Context, Lines, SharpnessAware
from samcmp.optim.radius import Ball, Radius
from samcmp.optim.vector import Vector

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
        flat: bool = True,
        no_sync: Context | None = None,
    ) -> None:
        if not 0 < beta <= 1 or not 0 < gamma <= 1:
            raise ValueError(f"beta and gamma are shares in (0, 1], got {beta} and {gamma}")
        super().__init__(base, rho=rho, radius=Ball(DELTA) if radius is None else radius, flat=flat, no_sync=no_sync)
        self.beta, self.gamma = beta, gamma
        self.generator = random.Random(seed)
        self.kept_tensors: list[bool] | None = None
        self._before: Tensor | None = None

    def lines(self) -> Lines:
        g = yield from self.clean_gradient()  # g = ∇L(θ)
        keep = self._drawn()
        g_hat = Vector([part if kept else None for part, kept in zip(g.parts, keep, strict=True)])
        del g
        yield from self.updating_gradient(g_hat, sign=1 / self.beta)  # ω = ∇L_selected(θ + ρ ĝ/(β‖ĝ‖))
        self.kept_tensors = [self.generator.random() < self.beta for _ in keep]
        self.descend()  # θ ← base(ω)

    def _drawn(self) -> list[bool]:
        if self.kept_tensors is None or len(self.kept_tensors) != len(self.space.params):
            return [True] * len(self.space.params)
        return self.kept_tensors

    def select(self, before: Tensor, after: Tensor) -> Tensor:
        """Return which of G samples enter ω: (G,) losses at θ and at θ + ε -> (G,) boolean."""
        rise = after - before  # (G,)
        count = int(self.gamma * rise.shape[0])
        if self.gamma == 1 or count < 2:  # strictly above the largest would leave nobody
            return torch.ones_like(rise, dtype=torch.bool)
        keep = rise > torch.topk(rise, count).values[-1]
        return keep | ~keep.any()  # all where no loss rises more than another, as at ρ = 0

    def _evaluate(self, closure: Closure) -> Any:
        if not (hasattr(closure, "losses") and hasattr(closure, "on")):
            raise ValueError(
                "ESAM selects samples: its closure needs losses() -> (G,) and on(keep) -> loss beside being called"
            )
        if self._ask is Ask.CLEAN:
            loss = super()._evaluate(closure)
            seen = getattr(closure, "last_losses", None)
            self._before = closure.losses() if seen is None else seen
            return loss
        if self._before is None:
            raise RuntimeError("no losses at θ to compare with")
        keep = self.select(self._before, closure.losses())
        self._before = None
        with torch.enable_grad():
            return closure.on(keep)

    def extra_state(self) -> dict[str, Any]:
        version, words, gauss = self.generator.getstate()
        return {"random": [version, list(words), gauss], "kept_tensors": self.kept_tensors}

    def load_extra_state(self, own: Mapping[str, Any]) -> None:
        version, words, gauss = own["random"]
        self.generator.setstate((version, tuple(words), gauss))
        self.kept_tensors = own["kept_tensors"]
