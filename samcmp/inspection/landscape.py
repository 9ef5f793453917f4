"""The loss along random directions from the weights (Li et al., NeurIPS 2018): L(θ + x D), x in [-1, 1].

D is Gaussian. With ``filter`` every row of a matrix has the norm of the weights' row, and biases, gains and other
tensors of one dimension have no part in it, as in Li et al. (Section 4), so that networks whose layers differ in scale
can be compared; with ``gaussian`` D stays as it was drawn, in all tensors. Weights of one shape share their draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from samcmp.inspection import Context, Parts
from samcmp.inspection.weights import MeanLoss, Vector, norm, of_context, scaled
from samcmp.training.loop import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["filter", "gaussian"]
Say = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Tell nobody about progress."""


def measure(context: Context) -> Parts:
    """Measure the landscape of a run's weights."""
    s = context.settings
    return landscape(
        of_context(context), points=s.points, directions=s.directions, kind=s.direction, seed=context.seed,
        say=context.say,
    )  # fmt: skip


def direction(theta: Vector, number: int, *, kind: Kind = "filter", seed: int = 0) -> list[Tensor]:
    """Return direction D of that number: the same draw for all weights of one shape, scaled to ``theta``.

    With ``filter`` row i of a matrix becomes d_i ‖θ_i‖/‖d_i‖, d_i being all that belongs to output i, and a tensor of
    one dimension 0 (Li et al. 2018, Section 4); with ``gaussian`` all is as it was drawn.
    """
    generator = torch.Generator().manual_seed(stream(seed, f"direction-{number}"))
    drawn = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) for p in theta]
    return drawn if kind == "gaussian" else [_filtered(d, p) for d, p in zip(drawn, theta, strict=True)]


def _filtered(d: Tensor, p: Tensor) -> Tensor:
    """Rescale each row of ``d`` to the norm of the weights' row; a vector becomes 0."""
    if p.dim() < 2:
        return torch.zeros_like(d)
    dims = tuple(range(1, p.dim()))
    length = torch.linalg.vector_norm(d, dim=dims, keepdim=True)
    wanted = torch.linalg.vector_norm(p, dim=dims, keepdim=True)
    out: Tensor = d * (wanted / length.clamp(min=torch.finfo(d.dtype).tiny))
    return out


def landscape(
    loss: MeanLoss, *, points: int = 21, directions: int = 5, kind: Kind = "filter", seed: int = 0, say: Say = silent
) -> Parts:
    """Measure L(θ + x D) for each direction D.

    Returns the arrays ``x`` (P,) and ``losses`` (K, P), and the scalars ``loss``, L(θ), ``gradient_norm``,
    ``weight_norm`` and ``rise``: L(θ ± D) - L(θ), the mean over directions and both signs; all but the norms in units
    of the loss. Costs K (P - 1) mean losses,
    one more and a gradient. Raises ValueError for an even number of points: x = 0 is one of them.
    """
    x = grid(points)
    losses = np.empty((directions, points))
    losses[:, points // 2] = here = loss.loss()
    scalars = norms(loss) | {"loss": here}
    for k in range(directions):
        D = direction(loss.theta, k, kind=kind, seed=seed)
        for i in np.flatnonzero(x):
            with loss.at(scaled(float(x[i]), D)):
                losses[k, i] = loss.loss()
            say(k * points + int(i) + 1, directions * points)
    scalars["rise"] = float((losses[:, [0, -1]] - here).mean())
    return loss.parts(scalars, {"x": x, "losses": losses})


def norms(loss: MeanLoss) -> dict[str, float]:
    """Return L(θ), ‖∇L(θ)‖ and ‖θ‖: weights of an early stop are no minima, and their gradient says so."""
    value, g = loss.loss_and_gradient()
    return {"loss": value, "gradient_norm": norm(g), "weight_norm": norm(loss.theta)}


def grid(points: int) -> NDArray[np.float64]:
    """Return ``points`` places over [-1, 1]. Raises ValueError for an even number, which has none at 0."""
    if points < 3 or points % 2 == 0:
        raise ValueError(f"an odd number of points, 3 or more, has one at 0; got {points}")
    half = points // 2
    return np.arange(-half, half + 1) / half
