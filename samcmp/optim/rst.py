"""RST: Randomized Sharpness-Aware Training (Zhao et al. 2022), also known as SS-SAM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch.optim import Optimizer

from samcmp.optim.radius import Radius
from samcmp.optim.sam import SAM


class RST(SAM):
    """A SAM step with probability p, else a plain step. 1 + p passes in expectation; one parameter size.

    The draws come from a generator of this optimizer's own (numpy's default_rng, on the host), which is part of its
    state: data order and dropout are the same as without it, and all ranks draw alike.
    """

    def __init__(
        self, base: Optimizer, *, rho: float = 0.05, p: float = 0.5, seed: int = 0, radius: Radius | None = None
    ) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability, got {p}")
        super().__init__(base, rho=rho, radius=radius)
        self.p = p
        self.generator = np.random.default_rng(seed)

    def perturbs(self) -> bool:
        return bool(self.generator.random() < self.p)

    def extra_state(self) -> dict[str, Any]:
        return {"random": self.generator.bit_generator.state}

    def load_extra_state(self, own: Mapping[str, Any]) -> None:
        self.generator.bit_generator.state = own["random"]
