"""S2-SAM: single-step sharpness-aware minimization (Ji et al., NeurIPS 2024, Algorithm 1)."""

from __future__ import annotations

from samcmp.optim.base import Lines, SharpnessAware
from samcmp.optim.tensors import copy_


class S2SAM(SharpnessAware):
    """ω_t = ∇L(θ + ρ ω_{t−1}/‖ω_{t−1}‖), nothing at t = 0. One pass; one parameter size of state, one perturbed.

    It is GraphSAM with β = 0 and without an anchor.
    """

    def lines(self) -> Lines:
        last = self.own("omega")
        omega = yield from self.updating_gradient(last)  # ω_t = ∇L(θ + ρ ω_{t−1}/‖ω_{t−1}‖)
        copy_(last, omega)
        self.base_step()  # θ ← base(ω_t)
