"""GSAM: surrogate gap guided sharpness-aware minimization (Zhuang et al., ICLR 2022, Algorithm 1)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim.base import Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.tensors import axpby_, dot, ratio


class GSAM(SharpnessAware):
    """ω = g_p − α g_⊥, g_p = ∇L(θ + ρ g/‖g‖), g_⊥ = g − (⟨g, g_p⟩/‖g_p‖²) g_p. Two passes; two parameter sizes.

    The paper ties ρ to the learning rate: :class:`samcmp.optim.ProportionalRho`.
    """

    syncs_clean = True  # g enters ω
    scale_free = False

    def __init__(self, base: Optimizer, *, rho: float = 0.05, alpha: float = 0.4, radius: Radius | None = None) -> None:
        super().__init__(base, rho=rho, radius=radius)
        self.alpha = alpha

    def lines(self) -> Lines:
        g = yield from self.clean_gradient(keep=True)  # g = ∇L(θ)
        g_p = yield from self.updating_gradient(g)  # g_p = ∇L(θ + ρ g/‖g‖)
        axpby_(1, g, -ratio(dot(g, g_p), dot(g_p, g_p)), g_p)  # g_⊥ = g − (⟨g, g_p⟩/‖g_p‖²) g_p
        axpby_(1, g_p, -self.alpha, g)  # ω = g_p − α g_⊥
        self.base_step()  # θ ← base(ω)
