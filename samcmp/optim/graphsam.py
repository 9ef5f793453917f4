"""GraphSAM (Wang et al., ICLR 2024, Algorithm 1 and Equations 3 and 4) and GraphSAM-K."""

from __future__ import annotations

from typing import Literal

from torch.optim import Optimizer

from samcmp.optim.base import Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.tensors import DELTA, axpby_, norm, norms


class GraphSAM(SharpnessAware):
    """ε = ρ d/‖d‖; d = ∇L(θ) at the first step of an epoch, then d ← β d + (1−β) ω/‖ω‖ with the ω of each step.

    ``anchor_every`` is the number of steps in an epoch; ``K`` anchors in every K-th epoch only (GraphSAM-K).
    ``anchor="raw"`` is the paper's: the gradient's length decides how long it outweighs the average, and under a loss
    scale ``grad_scaler`` must be attached; ``"unit"`` anchors at g/‖g‖. 1 + 1/(K·anchor_every) passes a step; one
    parameter size of state and one while perturbed.
    """

    syncs_clean = True  # the anchor stays for a whole epoch
    scale_free = False  # and its length counts

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        beta: float = 0.99,
        anchor_every: int,
        K: int = 1,
        anchor: Literal["raw", "unit"] = "raw",
        norm: Literal["global", "tensor"] = "global",
        radius: Radius | None = None,
    ) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f"beta is the share of the old direction and must be in [0, 1], got {beta}")
        if anchor_every < 1 or K < 1:
            raise ValueError(f"anchor_every and K count steps and epochs, from 1, got {anchor_every} and {K}")
        if anchor not in ("raw", "unit"):
            raise ValueError(f"anchor is 'raw' or 'unit', got {anchor!r}")
        if norm not in ("global", "tensor"):
            raise ValueError(f"norm is 'global' or 'tensor', got {norm!r}")
        super().__init__(base, rho=rho, radius=radius)
        self.beta, self.period, self.anchor, self.norm = beta, anchor_every * K, anchor, norm
        self.numbers["anchored"] = -1  # the period of the last anchor

    def lines(self) -> Lines:
        d = self.own("d", precise=True)
        if self.clock // self.period != self.numbers["anchored"]:
            g = yield from self.clean_gradient()  # g = ∇L(θ)
            axpby_(0, d, 1.0 if self.anchor == "raw" else 1 / (norm(g) + DELTA), g)  # d ← g, or g/‖g‖
            del g
            self.numbers["anchored"] = self.clock // self.period
        omega = yield from self.updating_gradient(d)  # ω = ∇L(θ + ρ d/‖d‖)
        lengths = norm(omega) if self.norm == "global" else norms(omega)  # ‖ω‖, or of each tensor
        beta = self.beta
        if isinstance(lengths, list):
            axpby_(beta, d, [(1 - beta) / (length + DELTA) for length in lengths], omega)
        else:
            axpby_(beta, d, (1 - beta) / (lengths + DELTA), omega)  # d ← β d + (1−β) ω/‖ω‖
        self.base_step()  # θ ← base(ω)
