"""SAM: Sharpness-Aware Minimization (Foret et al. 2020, Algorithm 1)."""

from __future__ import annotations

from samcmp.optim.base import Lines, SharpnessAware


class SAM(SharpnessAware):
    """ω = ∇L(θ + ρ g/‖g‖), g = ∇L(θ) on the same batch. Two passes a step; one parameter size while perturbed."""

    def perturbs(self) -> bool:
        """Whether this step is a SAM step; variants that spare some of them say which."""
        return True

    def lines(self) -> Lines:
        if self.perturbs():
            g = yield from self.clean_gradient()  # g = ∇L(θ)
            yield from self.updating_gradient(g, release=True)  # ω = ∇L(θ + ρ g/‖g‖)
        else:
            yield from self.updating_gradient()  # ω = ∇L(θ)
        self.base_step()  # θ ← base(ω)
