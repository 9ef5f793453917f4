"""GraphSAM (Wang et al., ICLR 2024, Algorithm 1 and Equations 3 and 4) and GraphSAM-K."""

from __future__ import annotations

from typing import Literal

from torch.optim import Optimizer

from samcmp.optim import vectors
from samcmp.optim.base import Context, Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.vector import Vector

_SMALLEST_DECAY = 1e-6  # of the deferred factor; far from where float32 loses digits


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
        flat: bool = True,
        no_sync: Context | None = None,
    ) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f"beta is the share of the old direction and must be in [0, 1], got {beta}")
        if anchor_every < 1 or K < 1:
            raise ValueError(f"anchor_every and K count steps and epochs, from 1, got {anchor_every} and {K}")
        if anchor not in ("raw", "unit"):
            raise ValueError(f"anchor is 'raw' or 'unit', got {anchor!r}")
        if norm not in ("global", "tensor"):
            raise ValueError(f"norm is 'global' or 'tensor', got {norm!r}")
        super().__init__(base, rho=rho, radius=radius, flat=flat, no_sync=no_sync)
        self.beta, self.period, self.anchor, self.norm = beta, anchor_every * K, anchor, norm
        self.numbers |= {
            "anchored": -1,
            "decay": 1.0,
            "length": None,
        }  # period of the last anchor; d is decay · kept["d"]

    def lines(self) -> Lines:
        d = self.keep("d", precise=True)
        if self.clock // self.period != self.numbers["anchored"]:
            g = yield from self.clean_gradient()  # g = ∇L(θ)
            self._anchor(d, g)  # d ← g
            del g
        omega = yield from self.updating_gradient(d, length=self.numbers["length"])  # ω = ∇L(θ + ρ d/‖d‖)
        self._average(d, omega)  # d ← β d + (1−β) ω/‖ω‖
        self.descend()  # θ ← base(ω)

    def _anchor(self, d: Vector, g: Vector) -> None:
        length = vectors.norm(g)
        if self.anchor == "unit":
            divisor = length + vectors.DELTA
        else:  # an overflown gradient anchors nowhere
            divisor = vectors.one_if_finite(length)
        vectors.zero_(d)
        vectors.add_(self.space, d, g, divisor=divisor, values=1.0)
        self.numbers |= {"anchored": self.clock // self.period, "decay": 1.0, "length": None}

    def _average(self, d: Vector, omega: Vector) -> None:
        # Only the direction matters to ε, so the decay of d is deferred: one pass over memory fewer a step.
        decay = self.numbers["decay"] * self.beta
        if decay < _SMALLEST_DECAY:  # at once where β = 0
            vectors.multiply_(d, decay)
            decay = 1.0
        self.numbers["decay"] = decay
        if self.norm == "tensor":
            vectors.add_units_(d, omega, (1 - self.beta) / decay)
            self.numbers["length"] = None
            return
        length, share = vectors.length(omega) + vectors.DELTA, (1 - self.beta) / decay
        self.numbers["length"] = vectors.add_measured_(self.space, d, omega, divisor=length, value=share)
