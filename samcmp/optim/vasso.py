"""VaSSO: variance-suppressed sharpness-aware optimization (Li & Giannakis 2023, Equation 6)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim.base import Lines, SharpnessAware
from samcmp.optim.radius import Ball, Radius
from samcmp.optim.tensors import axpby_, copy_

DELTA = 1e-7  # the authors' code adds it to the norm


class VaSSO(SharpnessAware):
    """ω = ∇L(θ + ρ d/‖d‖), d ← (1−ϑ)d + ϑg, d₀ = g₀. Two passes; one parameter size of state, one while perturbed."""

    scale_free = False

    def __init__(self, base: Optimizer, *, rho: float = 0.05, theta: float = 0.9, radius: Radius | None = None) -> None:
        if not 0 < theta <= 1:
            raise ValueError(f"theta is the share of the new gradient and must be in (0, 1], got {theta}")
        super().__init__(base, rho=rho, radius=Ball(DELTA) if radius is None else radius)
        self.theta = theta
        self.numbers["begun"] = False

    def lines(self) -> Lines:
        g = yield from self.clean_gradient()  # g = ∇L(θ)
        d = self.own("d", precise=True)
        if self.numbers["begun"]:
            axpby_(1 - self.theta, d, self.theta, g)  # d ← (1−ϑ) d + ϑ g
        else:
            copy_(d, g)  # d₀ = g₀
            self.numbers["begun"] = True
        del g
        yield from self.updating_gradient(d)  # ω = ∇L(θ + ρ d/‖d‖)
        self.base_step()  # θ ← base(ω)
