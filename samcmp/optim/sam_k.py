"""SAM-k and SAM-One: a SAM direction for several steps (Wang et al. 2024, Section 4.1; Liu et al. 2022)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim.base import Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.sam import SAM
from samcmp.optim.tensors import copy_


class SAMk(SharpnessAware):
    """ω = ∇L(θ + ρ d/‖d‖), d the clean gradient of the last step t with t % k = 0; ``k=None`` is SAM-One.

    The direction is kept, not ε, so that ρ's schedule and the radius rule act on every step. 1 + 1/k passes a step;
    one parameter size of state and one while perturbed.
    """

    def __init__(self, base: Optimizer, *, rho: float = 0.05, k: int | None = 8, radius: Radius | None = None) -> None:
        if k is not None and k < 1:
            raise ValueError(f"k counts steps, from 1, got {k}")
        super().__init__(base, rho=rho, radius=radius)
        self.k = k
        self.numbers["refreshed"] = -1  # the period of the last clean gradient

    def lines(self) -> Lines:
        d = self.own("d")
        period = 0 if self.k is None else self.clock // self.k
        if period != self.numbers["refreshed"]:
            g = yield from self.clean_gradient()  # g = ∇L(θ)
            copy_(d, g)  # d ← g
            del g
            self.numbers["refreshed"] = period
        yield from self.updating_gradient(d)  # ω = ∇L(θ + ρ d/‖d‖)
        self.base_step()  # θ ← base(ω)


class SAMOne(SAMk):
    """SAM-k with one clean gradient in the whole training."""

    def __init__(self, base: Optimizer, *, rho: float = 0.05, radius: Radius | None = None) -> None:
        super().__init__(base, rho=rho, k=None, radius=radius)


class SAMkSkip(SAM):
    """A SAM step when t % k = 0, a plain step otherwise: LookSAM's baseline. 1 + 1/k passes; one parameter size."""

    def __init__(self, base: Optimizer, *, rho: float = 0.05, k: int = 8, radius: Radius | None = None) -> None:
        if k < 1:
            raise ValueError(f"k counts steps, from 1, got {k}")
        super().__init__(base, rho=rho, radius=radius)
        self.k = k

    def perturbs(self) -> bool:
        return self.clock % self.k == 0
