"""S2-SAM: single-step sharpness-aware minimization (Ji et al., NeurIPS 2024, Algorithm 1)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim import vectors
from samcmp.optim.base import Context, Lines, SharpnessAware
from samcmp.optim.radius import Radius


class S2SAM(SharpnessAware):
    """ω_t = ∇L(θ + ρ ω_{t−1}/‖ω_{t−1}‖), nothing at t = 0. One pass; one parameter size of state, one perturbed.

    It is GraphSAM with β = 0 and without an anchor.
    """

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
        self.numbers["length"] = None

    def lines(self) -> Lines:
        last = self.keep("omega")
        length = self.numbers["length"]  # ‖ω_{t−1}‖
        omega = yield from self.updating_gradient(last, length=length)  # ω_t = ∇L(θ + ρ ω_{t−1}/‖ω_{t−1}‖)
        self.numbers["length"] = vectors.copy_measured_(self.space, last, omega)
        self.descend()  # θ ← base(ω_t)
