"""Radius rules: how far, and in which metric, a direction is followed.

A rule adds ε(d) to the weights. It is a small object apart from the optimizers and from the rho schedules, so that
every optimizer works with every rule and every schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from samcmp.optim.tensors import DELTA, axpby_, norm, norms

WeightPredicate = Callable[[Tensor], bool]


class Radius(Protocol):
    """θ ← θ + ε(d), in place; ``rho`` has the radius of each tensor's param group."""

    def perturb_(self, theta: Sequence[Tensor], d: Sequence[Tensor], rho: Sequence[float]) -> None: ...


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

    delta: float = DELTA

    def perturb_(self, theta: Sequence[Tensor], d: Sequence[Tensor], rho: Sequence[float]) -> None:
        axpby_(1, theta, over(rho, norm(d) + self.delta), d)  # θ + ρ d/‖d‖


@dataclass(frozen=True)
class BallPerTensor:
    """ε_k = ρ d_k / (‖d_k‖ + δ): a ball of radius ρ for every tensor."""

    def perturb_(self, theta: Sequence[Tensor], d: Sequence[Tensor], rho: Sequence[float]) -> None:
        axpby_(1, theta, [r / (length + DELTA) for r, length in zip(rho, norms(d), strict=True)], d)


@dataclass(frozen=True)
class Adaptive:
    """ε = ρ T²d / (‖Td‖ + δ), T = |θ| + η on weights and 1 elsewhere (Kwon et al. 2021, Eq. 6).

    With η = 0 a tensor of zeros is never moved. Takes two more parameter sizes while it works.
    """

    eta: float = 0.01
    weights: WeightPredicate = is_weight
    delta: float = DELTA

    def __post_init__(self) -> None:
        if not self.eta >= 0:
            raise ValueError(f"eta is added to |θ| and must be >= 0, got {self.eta}")

    def perturb_(self, theta: Sequence[Tensor], d: Sequence[Tensor], rho: Sequence[float]) -> None:
        T = [p.abs().add_(self.eta) if self.weights(p) else torch.ones_like(p) for p in theta]
        step = torch._foreach_mul(list(d), T)  # T d
        length = norm(step) + self.delta  # ‖T d‖
        torch._foreach_mul_(step, T)  # T² d
        axpby_(1, theta, over(rho, length), step)  # θ + ρ T²d/‖Td‖


def over(rho: Sequence[float], length: Tensor) -> Tensor | list[Tensor]:
    """Return ρ/length: one coefficient where all param groups have the same ρ, else one for each tensor."""
    quotients = {r: r / length for r in set(rho)}
    return quotients[rho[0]] if len(quotients) == 1 else [quotients[r] for r in rho]
