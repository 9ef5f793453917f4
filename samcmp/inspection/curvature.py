"""Eigenvalues and trace of the Hessian of the mean loss, by differences of gradients.

    H v ≈ ‖v‖ (∇L(θ + h u) - ∇L(θ - h u)) / 2h, u = v / ‖v‖, h = 0.01

This is the central difference, whose error is of the order of h². h, a distance between weights, is part of the
definition. With ReLU the loss is piecewise smooth and its pointwise Hessian says little: what is
measured is the curvature over a distance of h. Nothing is differentiated twice, so that a model whose layers allow one
derivative only, or hide their second one, cannot give a wrong product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from samcmp.inspection import Parts
from samcmp.inspection.landscape import Say, silent
from samcmp.inspection.weights import MeanLoss, Vector, combined, dot, norm, scaled
from samcmp.training.loop import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

H = 0.01
STEPS = PROBES = 10
WHY = "a gradient beside the weights"
CONVERGED = 0.05  # largest residual of an eigenvalue, as a share of it


def product(loss: MeanLoss, v: list[Tensor], *, h: float = H) -> list[Tensor]:
    """Return H v, a tensor a parameter as v has; 0 for v = 0. Costs two gradients.

    Args:
        h: distance from the weights at which the gradients are taken, whatever the length of v.
    """
    length = norm(v)
    if not length:
        return [torch.zeros_like(part) for part in v]
    step = scaled(h / length, v)
    with loss.at(step):
        ahead = loss.gradient()
    with loss.at(scaled(-1.0, step)):
        behind = loss.gradient()
    return combined(length / (2 * h), ahead, -length / (2 * h), behind)


def curvature(
    loss: MeanLoss, *, h: float = H, steps: int = STEPS, probes: int = PROBES, seed: int = 0, say: Say = silent
) -> Parts:
    """Measure the largest and the smallest eigenvalue and the trace of the Hessian.

    Eigenvalues: Lanczos (1950) with full reorthogonalisation, then the Rayleigh quotient y·Hy of the Ritz vector y and
    its residual ‖Hy - λy‖; where that is above 5 % of |λ| there is no number. Trace: the mean of z·Hz over Rademacher
    vectors z (Hutchinson 1989) with its standard error.

    Returns the scalars ``lambda_max``, ``lambda_min``, each with ``..._residual`` (a share of |λ|), ``trace`` and
    ``trace_error``, and the array ``probes`` (K,), of each z; all but shares in units of the loss over weight². Costs
    2 (steps + 2 + probes) gradients. ``probes`` is 2 or more.
    """
    total = steps + 2 + probes
    scalars, missing = _extremes(loss, h=h, steps=steps, seed=seed, say=lambda done, _: say(done, total))
    values = np.empty(probes)
    for k in range(probes):
        values[k] = _probe(loss, k, h=h, seed=seed)
        say(steps + 3 + k, total)
    with np.errstate(invalid="ignore"):
        error = float(values.std(ddof=1)) / math.sqrt(probes)
    made = loss.parts(scalars | {"trace": float(values.mean()), "trace_error": error}, {"probes": values}, why=WHY)
    return Parts(made.scalars, made.arrays, {**made.missing, **missing}, made.passes)


def _probe(loss: MeanLoss, number: int, *, h: float, seed: int) -> float:
    """z·Hz of the Rademacher vector of that number, the same for all weights of one shape."""
    generator = torch.Generator().manual_seed(stream(seed, f"probe-{number}"))
    z = [(2.0 * torch.randint(2, p.shape, generator=generator) - 1.0).to(p) for p in loss.theta]
    return dot(z, product(loss, z, h=h))


def _extremes(loss: MeanLoss, *, h: float, steps: int, seed: int, say: Say) -> tuple[dict[str, float], dict[str, str]]:
    """The two extreme eigenvalues with their residuals, and why one of them is not there."""
    scalars: dict[str, float] = {}
    missing: dict[str, str] = {}
    V, T = _lanczos(loss, h=h, steps=steps, seed=seed, say=say)
    if not np.isfinite(T).all():
        return {}, dict.fromkeys(("lambda_max", "lambda_min"), f"{WHY} is no finite number")
    _, S = np.linalg.eigh(T)  # ascending
    for name, s in (("lambda_max", S[:, -1]), ("lambda_min", S[:, 0])):
        y = _sum(s, V)
        y = scaled(1.0 / norm(y), y)
        Hy = product(loss, y, h=h)
        value = dot(y, Hy)
        residual = norm(combined(1.0, Hy, -value, y))
        share = residual / abs(value) if value else (0.0 if not residual else math.inf)
        if share <= CONVERGED:
            scalars |= {name: value, f"{name}_residual": share}
        else:
            text = f"{100 * share:.3g} %" if math.isfinite(share) else "more than 100 %"
            missing[name] = f"not converged: after {len(V)} Lanczos steps its residual is {text} of it, not at most 5 %"
    return scalars, missing


def _sum(s: NDArray[np.float64], V: Sequence[Vector]) -> list[Tensor]:
    """Σ_k s_k v_k."""
    total = scaled(float(s[0]), V[0])
    for coefficient, v in zip(s[1:], V[1:], strict=True):
        total = combined(1.0, total, float(coefficient), v)
    return total


def _lanczos(
    loss: MeanLoss, *, h: float, steps: int, seed: int, say: Say
) -> tuple[list[list[Tensor]], NDArray[np.float64]]:
    """Orthonormal vectors V and the tridiagonal T = VᵀHV, (K, K), K steps or fewer where the space is exhausted."""
    generator = torch.Generator().manual_seed(stream(seed, "lanczos"))
    v = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) for p in loss.theta]
    V = [scaled(1.0 / norm(v), v)]
    alpha: list[float] = []
    beta: list[float] = []
    smallest = torch.finfo(loss.theta[0].dtype).eps ** 0.75  # of a step that is more than rounding
    for _ in range(min(steps, sum(p.numel() for p in loss.theta))):
        w = product(loss, V[-1], h=h)
        alpha.append(dot(V[-1], w))
        say(len(alpha), steps)
        for _ in range(2):  # twice is enough (Parlett 1998, Section 6.9)
            for v in V:
                w = combined(1.0, w, -dot(v, w), v)
        length = norm(w)
        if not length > smallest * max(map(abs, [*alpha, *beta])) or not math.isfinite(alpha[-1]):
            break
        beta.append(length)
        V.append(scaled(1.0 / length, w))
    K = len(alpha)
    return V[:K], np.diag(alpha) + np.diag(beta[: K - 1], 1) + np.diag(beta[: K - 1], -1)
