"""MSAM: momentum-SAM (Becker et al. 2024, Algorithm 1)."""

from __future__ import annotations

from torch import Tensor
from torch.optim import SGD, Optimizer

from samcmp.optim.base import Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.tensors import negative

MOMENTUM_KEYS = ("exp_avg", "momentum_buffer")  # Adam's family, SGD
RHO_SGD, RHO_ADAM = 0.3, 1.0  # the authors'


class MSAM(SharpnessAware):
    """ω = ∇L(θ − ρ v/‖v‖), v the base optimizer's momentum; nothing at the first step. One pass; two parameter sizes.

    The step that the base is about to take goes along −v: this perturbs in the opposite sense of SAM's gradient.
    ``rho`` is by default the authors': 0.3 around SGD, 1 around every other base (they have AdamW). ``momentum``
    names the entry of the base's state; by default Adam's or SGD's.
    """

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float | None = None,
        momentum: str | None = None,
        radius: Radius | None = None,
    ) -> None:
        if rho is None:
            rho = RHO_SGD if isinstance(base, SGD) else RHO_ADAM
        super().__init__(base, rho=rho, radius=radius)
        self.momentum = momentum

    def lines(self) -> Lines:
        v = self._momentum()
        yield from self.updating_gradient(negative(v), release=True)  # ω = ∇L(θ − ρ v/‖v‖)
        self.base_step()  # θ ← base(ω)

    def _momentum(self) -> list[Tensor | None]:
        keys = MOMENTUM_KEYS if self.momentum is None else (self.momentum,)
        v: list[Tensor | None] = []
        for param in self.params:
            state = self.base.state.get(param, {})
            kept = [state[key] for key in keys if state.get(key) is not None]
            if state and not kept:
                raise ValueError(
                    f"the state of {type(self.base).__name__} has no {' or '.join(keys)}: "
                    "MSAM needs a base with momentum, or the name of its entry in `momentum`"
                )
            v.append(kept[0] if kept else None)
        return v
