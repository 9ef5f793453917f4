"""Radius rules: how far, and in which metric, a direction is climbed.

A rule turns a direction d into θ + ε. It is a small object apart from the optimizers and from the rho
schedules, so that every optimizer works with every rule and every schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from samcmp.optim import vectors
from samcmp.optim.space import Space
from samcmp.optim.vector import Vector
from samcmp.optim.vectors import Length

WeightPredicate = Callable[[Tensor], bool]


class Radius(Protocol):
    """Writes θ + ε(d) over all parameters: ``home`` holds θ, and what the parameters hold is undefined before.

    ``rho`` has one radius for each param group; ``length`` is ‖d‖ where it is known.
    """

    def climb(
        self, space: Space, home: Vector, direction: Vector, *, rho: Sequence[float], length: Length | None = None
    ) -> None: ...


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

    def climb(
        self, space: Space, home: Vector, direction: Vector, *, rho: Sequence[float], length: Length | None = None
    ) -> None:
        length = vectors.length(direction) if length is None else length
        vectors.sum_(space, space.theta, home, direction, divisor=length + self.delta, values=rho)


@dataclass(frozen=True)
class BallPerTensor:
    """ε_k = ρ d_k / (‖d_k‖ + δ): a ball of radius ρ for every tensor."""

    def climb(
        self, space: Space, home: Vector, direction: Vector, *, rho: Sequence[float], length: Length | None = None
    ) -> None:
        vectors.copy_(space, space.theta, home)
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

    def climb(
        self, space: Space, home: Vector, direction: Vector, *, rho: Sequence[float], length: Length | None = None
    ) -> None:
        # T, and then T²d, are built where θ + ε will be and in one more vector: nothing else is needed.
        scaled: list[Tensor | None] = [None] * len(space.params)
        for k, (theta, start, d) in enumerate(zip(space.theta.parts, home.parts, direction.parts, strict=True)):
            if theta is not None and start is not None and d is not None:
                if self.weights(space.params[k]):
                    torch.abs(start, out=theta).add_(self.eta)
                else:
                    theta.fill_(1)
                scaled[k] = d * theta  # Td
        direction = Vector(scaled, layout=space.layout)
        divisor = vectors.length(direction) + self.delta  # ‖Td‖
        for theta, part in zip(space.theta.parts, scaled, strict=True):
            if theta is not None and part is not None:
                part.mul_(theta)  # T²d
        vectors.sum_(space, space.theta, home, direction, divisor=divisor, values=rho)


def _add_part(theta: Tensor, step: Tensor, length: Tensor, value: float) -> None:
    theta.add_(torch.where(torch.isfinite(length), step, 0), alpha=value)
