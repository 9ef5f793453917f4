"""GSAM: surrogate gap guided sharpness-aware minimization (Zhuang et al., ICLR 2022, Algorithm 1)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim import vectors
from samcmp.optim.base import Context, Lines, SharpnessAware
from samcmp.optim.radius import Radius


class GSAM(SharpnessAware):
    """ω = g_p − α g_⊥, g_p = ∇L(θ + ρ g/‖g‖), g_⊥ = g − (⟨g, g_p⟩/‖g_p‖²) g_p. Two passes; two parameter sizes.

    The paper ties ρ to the learning rate: :class:`samcmp.optim.ProportionalRho`.
    """

    syncs_clean = True  # g enters ω
    scale_free = False

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        alpha: float = 0.4,
        radius: Radius | None = None,
        flat: bool = True,
        no_sync: Context | None = None,
    ) -> None:
        super().__init__(base, rho=rho, radius=radius, flat=flat, no_sync=no_sync)
        self.alpha = alpha

    def lines(self) -> Lines:
        g = self.hold((yield from self.clean_gradient()))  # g = ∇L(θ)
        g_p = yield from self.updating_gradient(g)  # g_p = ∇L(θ + ρ g/‖g‖)
        # g_⊥ is built in g's place; a divisor of ⟨g, g_p⟩ = 0 is infinite and adds nothing
        overlap = vectors.dot(self.space, g, g_p)
        vectors.add_(self.space, g, g_p, divisor=vectors.dot(self.space, g_p, g_p) / overlap, values=-1.0)
        sane = vectors.one_if_finite(vectors.norm(g))
        vectors.add_(self.space, g_p, g, divisor=sane, values=-self.alpha)  # ω = g_p − α g_⊥
        self.descend()  # θ ← base(ω)
