"""Radius rules: how far, and in which metric, a direction is climbed.

A rule turns a direction d into ε and adds it to θ. It is a small object apart from the optimizers and from the rho
schedules, so that every optimizer works with every rule and every schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from samcmp.optim import vectors
from samcmp.optim.space import Space, Vector

WeightPredicate = Callable[[Tensor], bool]


class Radius(Protocol):
    """Adds ε(d) to the parameters in place. ``rho`` has one radius for each param group; ``length`` is ‖d‖ if known."""

    def climb(self, space: Space, direction: Vector, *, rho: Sequence[float], length: Tensor | None = None) -> None: ...


def is_weight(param: Tensor) -> bool:
    """Tell matrices and convolutions, which ASAM scales, from biases and norm scales by their dimensions.

    Kwon et al.'s code asks for "weight" in the parameter's name; an optimizer sees tensors, not names, so pass your
    own predicate where a one-dimensional weight (LayerNorm's) is to be scaled too.
    """
    return param.dim() > 1


def every_tensor(param: Tensor) -> bool:
    """Count every parameter as a weight (davda54's and pytorch-optimizer's ASAM)."""
    return True


@dataclass(frozen=True)
class Ball:
    """ε = ρ d / (‖d‖ + δ), one norm over all parameters (Foret et al. 2020, Eq. 2)."""

    delta: float = vectors.DELTA

    def climb(self, space: Space, direction: Vector, *, rho: Sequence[float], length: Tensor | None = None) -> None:
        self.climb_from(space.theta, space, direction, rho=rho, length=length)

    def climb_from(
        self, home: Vector, space: Space, direction: Vector, *, rho: Sequence[float], length: Tensor | None = None
    ) -> None:
        """θ ← home + ε: every parameter is written, whatever it held."""
        length = vectors.norm(direction) if length is None else length
        vectors.add_(space, space.theta, direction, divisor=length + self.delta, values=rho, start=home)


@dataclass(frozen=True)
class BallPerTensor:
    """ε_k = ρ d_k / (‖d_k‖ + δ): a ball of radius ρ for every tensor."""

    def climb(self, space: Space, direction: Vector, *, rho: Sequence[float], length: Tensor | None = None) -> None:
        for k, (theta, d) in enumerate(zip(space.theta.parts, direction.parts, strict=True)):
            if theta is not None and d is not None:
                own = torch.linalg.vector_norm(d) + vectors.DELTA
                _add_part(theta, d / own, own, rho[space.group_of[k]])


@dataclass(frozen=True)
class Adaptive:
    """ε = ρ T²d / (‖Td‖ + δ), T = |θ| + η on weights and 1 elsewhere (Kwon et al. 2021, Eq. 6).

    With η = 0 a tensor of zeros is never moved.
    """

    eta: float = 0.01
    weights: WeightPredicate = is_weight
    delta: float = vectors.DELTA

    def __post_init__(self) -> None:
        if not self.eta >= 0:
            raise ValueError(f"eta is added to |θ| and must be >= 0, got {self.eta}")

    def climb(self, space: Space, direction: Vector, *, rho: Sequence[float], length: Tensor | None = None) -> None:
        scaled = Vector([None if d is None else self._scaled(space, k, d) for k, d in enumerate(direction.parts)])
        divisor = vectors.norm(scaled) + self.delta  # ‖Td‖
        for k, part in enumerate(scaled.parts):
            if part is not None:
                part.copy_(self._scaled(space, k, part))  # T²d, tensor by tensor: no second buffer
        vectors.add_(space, space.theta, scaled, divisor=divisor, values=rho)

    def _scaled(self, space: Space, k: int, d: Tensor) -> Tensor:
        """Return T_k d_k."""
        theta = space.params[k]
        return d * (theta.detach().abs() + self.eta) if self.weights(theta) else d.clone()


def _add_part(theta: Tensor, step: Tensor, length: Tensor, value: float) -> None:
    theta.add_(torch.where(torch.isfinite(length), step, 0), alpha=value)
