"""VaSSO: variance-suppressed sharpness-aware optimization (Li & Giannakis 2023, Equation 6)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim import vectors
from samcmp.optim.base import Context, Lines, SharpnessAware
from samcmp.optim.radius import Ball, Radius

DELTA = 1e-7  # the authors' code adds it to the norm


class VaSSO(SharpnessAware):
    """ω = ∇L(θ + ρ d/‖d‖), d ← (1−ϑ)d + ϑg, d₀ = g₀. Two passes; one parameter size of state, one while perturbed."""

    scale_free = False

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        theta: float = 0.9,
        radius: Radius | None = None,
        flat: bool = True,
        no_sync: Context | None = None,
    ) -> None:
        if not 0 < theta <= 1:
            raise ValueError(f"theta is the share of the new gradient and must be in (0, 1], got {theta}")
        super().__init__(base, rho=rho, radius=Ball(DELTA) if radius is None else radius, flat=flat, no_sync=no_sync)
        self.theta = theta
        self.numbers["begun"] = False

    def lines(self) -> Lines:
        g = yield from self.clean_gradient()  # g = ∇L(θ)
        d = self.keep("d", precise=True)
        share = self.theta if self.numbers["begun"] else 1.0
        vectors.average_(self.space, d, g, share=share)  # d ← (1−ϑ) d + ϑ g
        del g
        self.numbers["begun"] = True
        yield from self.updating_gradient(d)  # ω = ∇L(θ + ρ d/‖d‖)
        self.descend()  # θ ← base(ω)
