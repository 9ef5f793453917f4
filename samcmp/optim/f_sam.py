"""F-SAM: friendly sharpness-aware minimization (Li et al., CVPR 2024, Algorithm 1)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim.base import Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.tensors import axpby_, copy_


class FSAM(SharpnessAware):
    """ω = ∇L(θ + ρ d/‖d‖), d = g − σm, m ← λm + (1−λ)g, d₀ = g₀. Two passes; one parameter size of state, two more.

    As in the authors' code d takes the m of the steps before; for σ = 1 the direction is the paper's.
    """

    scale_free = False

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        sigma: float = 1.0,
        lmbda: float = 0.9,
        radius: Radius | None = None,
    ) -> None:
        if not 0 <= lmbda < 1:
            raise ValueError(f"lmbda is the share of the old average and must be in [0, 1), got {lmbda}")
        super().__init__(base, rho=rho, radius=radius)
        self.sigma, self.lmbda = sigma, lmbda
        self.numbers["begun"] = False

    def lines(self) -> Lines:
        g = yield from self.clean_gradient()  # g = ∇L(θ)
        m = self.own("m", precise=True)
        d = [None if part is None else part.clone() for part in g]  # d₀ = g₀
        if self.numbers["begun"]:
            axpby_(1, d, -self.sigma, m)  # d = g − σ m
            axpby_(self.lmbda, m, 1 - self.lmbda, g)  # m ← λ m + (1−λ) g
        else:
            copy_(m, g)  # m₀ = g₀
            self.numbers["begun"] = True
        g.clear()
        yield from self.updating_gradient(d, release=True)  # ω = ∇L(θ + ρ d/‖d‖)
        self.base_step()  # θ ← base(ω)
