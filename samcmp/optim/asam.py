"""ASAM: Adaptive Sharpness-Aware Minimization (Kwon et al. 2021, Algorithm 1)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim.radius import Adaptive, WeightPredicate, is_weight
from samcmp.optim.sam import SAM


class ASAM(SAM):
    """SAM with ε = ρ T²g/‖Tg‖, T = |θ| + η on weights, 1 elsewhere. Two passes a step; three parameter sizes.

    ``weights`` tells which parameters are scaled; the default takes those with more than one dimension, as the
    authors' code takes those called "weight". With η = 0 a tensor of zeros never moves.
    """

    def __init__(
        self, base: Optimizer, *, rho: float = 0.5, eta: float = 0.01, weights: WeightPredicate = is_weight
    ) -> None:
        super().__init__(base, rho=rho, radius=Adaptive(eta, weights))
