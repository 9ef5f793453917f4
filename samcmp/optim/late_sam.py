"""Late SAM: SAM in the last part of training only (Zhou et al., ICLR 2025)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim.radius import Radius
from samcmp.optim.sam import SAM


class LateSAM(SAM):
    """Plain steps until step ``start``, SAM steps from there on. 1 + f passes, f the share of late steps."""

    def __init__(self, base: Optimizer, *, start: int, rho: float = 0.05, radius: Radius | None = None) -> None:
        if start < 0:
            raise ValueError(f"start is a step and must be >= 0, got {start}")
        super().__init__(base, rho=rho, radius=radius)
        self.start = start

    def perturbs(self) -> bool:
        return self.clock >= self.start
