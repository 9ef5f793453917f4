"""MSAM: momentum-SAM (Becker et al. 2024, Algorithm 1)."""

from __future__ import annotations

from torch.optim import Optimizer

from samcmp.optim.base import Context, Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.vector import Vector

MOMENTUM_KEYS = ("exp_avg", "momentum_buffer")  # Adam's family, SGD


class MSAM(SharpnessAware):
    """ω = ∇L(θ − ρ v/‖v‖), v the base optimizer's momentum; nothing at the first step. One pass; one parameter size.

    The step that the base is about to take goes along −v: this perturbs in the opposite sense of SAM's gradient.
    ``momentum`` names the entry of the base's state; by default Adam's or SGD's.
    """

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        momentum: str | None = None,
        radius: Radius | None = None,
        flat: bool = True,
        no_sync: Context | None = None,
    ) -> None:
        super().__init__(base, rho=rho, radius=radius, flat=flat, no_sync=no_sync)
        self.momentum = momentum

    def lines(self) -> Lines:
        v = self._momentum()
        yield from self.updating_gradient(v, sign=-1.0)  # ω = ∇L(θ − ρ v/‖v‖)
        self.descend()  # θ ← base(ω)

    def _momentum(self) -> Vector:
        keys = MOMENTUM_KEYS if self.momentum is None else (self.momentum,)
        parts = []
        for param in self.space.params:
            state = self.base.state.get(param, {})
            found = [state[key] for key in keys if state.get(key) is not None]
            if state and not found:
                raise ValueError(
                    f"the state of {type(self.base).__name__} has no {' or '.join(keys)}: "
                    "MSAM needs a base with momentum, or the name of its entry in `momentum`"
                )
            parts.append(found[0] if found else None)
        return Vector(parts, layout=self.space.layout)
