"""SAM: Sharpness-Aware Minimization (Foret et al. 2020, Algorithm 1)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim.base import Context, Lines, SharpnessAware
from samcmp.optim.radius import Radius


class SAM(SharpnessAware):
    """ω = ∇L(θ + ρ g/‖g‖), g = ∇L(θ) on the same batch. Two passes a step; one parameter size while perturbed."""

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        radius: Radius | None = None,
        flat: bool = True,
        no_sync: Context | None = None,
    ) -> None:
        super().__init__(base, rho=rho, radius=radius, flat=flat, no_sync=no_sync)

    def perturbs(self) -> bool:
        """Whether this step is a SAM step; variants that spare some of them say which."""
        return True

    def lines(self) -> Lines:
        if self.perturbs():
            g = yield from self.clean_gradient()  # g = ∇L(θ)
            yield from self.updating_gradient(g)  # ω = ∇L(θ + ρ g/‖g‖)
        else:
            yield from self.updating_gradient()  # ω = ∇L(θ)
        self.descend()  # θ ← base(ω)
