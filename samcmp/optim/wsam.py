"""WSAM: weighted sharpness-aware minimization (Yue et al., KDD 2023, Algorithms 1 and 2)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim.base import Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.tensors import axpby_, norm


class WSAM(SharpnessAware):
    """a = γ/(1−γ); decoupled: base(g), then θ ← θ − lr·a(g_p − g); coupled: base(ω), ω = g + a(g_p − g).

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
    ) -> None:
        if not 0 <= gamma < 1:
            raise ValueError(f"gamma weighs the sharpness and must be in [0, 1), got {gamma}")
        super().__init__(base, rho=rho, radius=radius)
        self.a, self.decoupled = gamma / (1 - gamma), decoupled

    def lines(self) -> Lines:
        g = yield from self.clean_gradient(keep=True)  # g = ∇L(θ)
        g_p = yield from self.updating_gradient(g)  # g_p = ∇L(θ + ρ g/‖g‖)
        length = norm(g)
        a = self.a * (length > 0).to(length.dtype)  # g = 0, perhaps because it overflowed: there is no g_p − g
        axpby_(1, g_p, -1.0, g)  # g_p − g, in g_p's place
        for param, part in zip(self.params, g, strict=True):
            param.grad = part
        if not self.decoupled:
            axpby_(1, g, a, g_p)  # ω = g + a (g_p − g)
        self.base_step()  # θ ← base(g), or base(ω)
        if self.decoupled:
            lr = [group["lr"] for group in self.param_groups for _ in group["params"]]
            axpby_(1, self.params, [-rate * a for rate in lr], g_p)  # θ ← θ − lr a (g_p − g)
