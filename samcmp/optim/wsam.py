"""WSAM: weighted sharpness-aware minimization (Yue et al., KDD 2023, Algorithms 1 and 2)."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from samcmp.optim import vectors
from samcmp.optim.base import Context, Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.vector import Vector


class WSAM(SharpnessAware):
    """a = γ/(1−γ); decoupled: base(g), then θ ← θ − lr·a(g_p − g); coupled: ω = a g_p + (1−a) g.

    g_p = ∇L(θ + ρ g/‖g‖). Two passes; two parameter sizes. γ = 0.5 weighs as SAM does, γ = 0.9 is the paper's.
    """

    syncs_clean = True  # g enters the update
    scale_free = False

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        gamma: float = 0.9,
        decoupled: bool = True,
        radius: Radius | None = None,
        flat: bool = True,
        no_sync: Context | None = None,
    ) -> None:
        if not 0 <= gamma < 1:
            raise ValueError(f"gamma weighs the sharpness and must be in [0, 1), got {gamma}")
        super().__init__(base, rho=rho, radius=radius, flat=flat, no_sync=no_sync)
        self.a, self.decoupled = gamma / (1 - gamma), decoupled

    def lines(self) -> Lines:
        g = self.hold((yield from self.clean_gradient()))  # g = ∇L(θ)
        g_p = yield from self.updating_gradient(g)  # g_p = ∇L(θ + ρ g/‖g‖)
        vectors.replace_overflow_(self.space, g, g_p)  # an overflown g under a loss scale: this step is SAM's
        vectors.axpy_(self.space, g_p, g, -1.0)  # g_p − g, in g_p's place
        if not self.decoupled:
            vectors.scaled_sum_(self.space, g_p, g, self.a)  # ω = g + a (g_p − g)
            self.descend()  # θ ← base(ω)
            return
        for param, grad in zip(self.space.params, g.parts, strict=True):
            param.grad = grad
        self.descend()  # θ ← base(g)
        self._descend(g_p)  # θ ← θ − lr a (g_p − g)

    def _descend(self, sharpness: Vector) -> None:
        for param, part, group in zip(self.space.params, sharpness.parts, self.space.group_of, strict=True):
            lr = self.param_groups[group]["lr"]
            if part is None:
                continue
            if isinstance(lr, torch.Tensor):
                param.addcmul_(part, lr.to(param.device, param.dtype), value=-self.a)
            else:
                param.add_(part, alpha=-lr * self.a)
