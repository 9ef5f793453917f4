"""LookSAM (Liu et al. 2022, Algorithm 1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim import vectors
from samcmp.optim.base import Context, Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.vector import Vector


class LookSAM(SharpnessAware):
    """t % k = 0: ω = g_s = ∇L(θ + ρ g/‖g‖), g_v = g_s − (⟨g, g_s⟩/‖g‖²) g; else ω = g + α (‖g‖/‖g_v‖) g_v.

    Norms and inner products run over all parameters; ``per_tensor`` takes them tensor by tensor, as two public
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
        flat: bool = True,
        no_sync: Context | None = None,
    ) -> None:
        if k < 1:
            raise ValueError(f"k counts steps, from 1, got {k}")
        if norm not in ("global", "tensor"):
            raise ValueError(f"norm is 'global' or 'tensor', got {norm!r}")
        super().__init__(base, rho=rho, radius=radius, flat=flat, no_sync=no_sync)
        self.k, self.alpha, self.norm = k, alpha, norm
        # A tensor of one element has no part across its gradient: there g_v is rounding, which 1e-8 keeps small.
        self.floor = 0.0 if norm == "global" else 1e-8
        self.numbers["refreshed"] = -1

    def lines(self) -> Lines:
        g_v = self.keep("g_v")
        if self.clock // self.k != self.numbers["refreshed"]:
            g = yield from self.clean_gradient()  # g = ∇L(θ)
            kept = self.hold(g)
            g_s = yield from self.updating_gradient(kept)  # ω = g_s = ∇L(θ + ρ g/‖g‖)
            self._project(g_v, g_s, kept)  # g_v = g_s − (⟨g, g_s⟩/‖g‖²) g
            self.numbers["refreshed"] = self.clock // self.k
        else:
            g = yield from self.updating_gradient()  # g = ∇L(θ)
            self._reuse(g, g_v)  # ω = g + α (‖g‖/‖g_v‖) g_v
        self.descend()  # θ ← base(ω)

    def _project(self, g_v: Vector, g_s: Vector, g: Vector) -> None:
        vectors.copy_(self.space, g_v, g_s)
        for v, s, clean in self._pieces(g_v, g_s, g):
            overlap = vectors.dot(self.space, s, clean)
            vectors.add_(self.space, v, clean, divisor=vectors.dot(self.space, clean, clean) / overlap, values=-1.0)

    def _reuse(self, g: Vector, g_v: Vector) -> None:
        for part, v in self._pieces(g, g_v):
            length = vectors.norm(v)
            # infinite where g = 0 or g_v = 0: nothing is added
            divisor = torch.where(length > 0, (length + self.floor) / vectors.norm(part), torch.inf)
            vectors.add_(self.space, part, v, divisor=divisor, values=self.alpha)

    def _pieces(self, *vs: Vector) -> list[tuple[Vector, ...]]:
        """The vectors themselves, or one tensor of them at a time."""
        if self.norm == "global":
            return [vs]
        count = len(self.space.params)
        present = [k for k in range(count) if all(v.parts[k] is not None for v in vs)]

        def only(v: Vector, k: int) -> Vector:
            parts: list[Tensor | None] = [None] * count
            parts[k] = v.parts[k]
            return Vector(parts)

        return [tuple(only(v, k) for v in vs) for k in present]
