"""F-SAM: friendly sharpness-aware minimization (Li et al., CVPR 2024, Algorithm 1)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim import vectors
from samcmp.optim.base import Context, Lines, SharpnessAware
from samcmp.optim.radius import Radius


class FSAM(SharpnessAware):
    """ω = ∇L(θ + ρ d/‖d‖), d = g − σm, m ← λm + (1−λ)g, d₀ = g₀. Two passes; one parameter size of state, one more.

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
        flat: bool = True,
        no_sync: Context | None = None,
    ) -> None:
        if not 0 <= lmbda < 1:
            raise ValueError(f"lmbda is the share of the old average and must be in [0, 1), got {lmbda}")
        super().__init__(base, rho=rho, radius=radius, flat=flat, no_sync=no_sync)
        self.sigma, self.lmbda = sigma, lmbda
        self.numbers["begun"] = False

    def lines(self) -> Lines:
        g = yield from self.clean_gradient()  # g = ∇L(θ)
        m = self.keep("m", precise=True)
        sane = vectors.one_if_finite(vectors.norm(g))
        if self.numbers["begun"]:
            # d = g − σm is built in g's place, and g = d + σm is put into m from there: no third buffer.
            vectors.axpy_(self.space, g, m, -self.sigma)  # d = g − σ m
            vectors.multiply_(m, self.lmbda + (1 - self.lmbda) * self.sigma)
            vectors.add_(self.space, m, g, divisor=sane, values=1 - self.lmbda)  # m ← λ m + (1−λ) g
        else:
            vectors.average_(self.space, m, g, share=1.0)
            self.numbers["begun"] = True
        yield from self.updating_gradient(g)  # ω = ∇L(θ + ρ d/‖d‖)
        self.descend()  # θ ← base(ω)
