"""LookSAM (Liu et al. 2022, Algorithm 1)."""

from __future__ import annotations

from typing import Literal

from torch.optim import Optimizer

from samcmp.optim.base import Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.tensors import Vector, axpby_, copy_, dot, norm, ratio

ROUNDING = 1e-8  # the public per-tensor codes add it to ‖g_v‖: on one element g_v is nothing but rounding


class LookSAM(SharpnessAware):
    """t % k = 0: ω = g_s = ∇L(θ + ρ g/‖g‖), g_v = g_s − (⟨g, g_s⟩/‖g‖²) g; else ω = g + α (‖g‖/‖g_v‖) g_v.

    Norms and inner products run over all parameters; ``norm="tensor"`` takes them tensor by tensor, as two public
    implementations do. 1 + 1/k passes a step; one parameter size of state and two in a refresh.
    """

    syncs_clean = True  # g_v is added to later gradients on every rank

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        k: int = 5,
        alpha: float = 0.7,
        norm: Literal["global", "tensor"] = "global",
        radius: Radius | None = None,
    ) -> None:
        if k < 1:
            raise ValueError(f"k counts steps, from 1, got {k}")
        if norm not in ("global", "tensor"):
            raise ValueError(f"norm is 'global' or 'tensor', got {norm!r}")
        super().__init__(base, rho=rho, radius=radius)
        self.k, self.alpha, self.norm = k, alpha, norm
        self.numbers["refreshed"] = -1  # the period of the last g_v

    def lines(self) -> Lines:
        g_v = self.own("g_v")
        if self.clock // self.k != self.numbers["refreshed"]:
            g = yield from self.clean_gradient(keep=True)  # g = ∇L(θ)
            g_s = yield from self.updating_gradient(g)  # ω = g_s = ∇L(θ + ρ g/‖g‖)
            copy_(g_v, g_s)
            for v, s, part in self._pieces(g_v, g_s, g):
                axpby_(1, v, -ratio(dot(part, s), dot(part, part)), part)  # g_v = g_s − (⟨g, g_s⟩/‖g‖²) g
            self.numbers["refreshed"] = self.clock // self.k
        else:
            g = yield from self.updating_gradient()  # g = ∇L(θ)
            small = 0.0 if self.norm == "global" else ROUNDING
            for part, v in self._pieces(g, g_v):
                axpby_(1, part, self.alpha * ratio(norm(part), norm(v) + small), v)  # ω = g + α (‖g‖/‖g_v‖) g_v
        self.base_step()  # θ ← base(ω)

    def _pieces(self, *vs: Vector) -> list[tuple[Vector, ...]]:
        """Return the vectors themselves, or one tensor of them at a time."""
        if self.norm == "global":
            return [vs]
        return [tuple([part] for part in parts) for parts in zip(*vs, strict=True)]
