"""The loss over two random directions from the weights (Li et al., NeurIPS 2018): L(θ + x D_0 + y D_1)."""

from __future__ import annotations

import numpy as np

from samcmp.inspection import Context, Parts
from samcmp.inspection.landscape import Kind, Say, direction, grid, norms, silent
from samcmp.inspection.weights import MeanLoss, combined, of_context

SIDE = 25  # points in each direction


def measure(context: Context) -> Parts:
    """Measure the surface around a run's weights."""
    return surface(of_context(context), kind=context.settings.direction, seed=context.seed, say=context.say)


def surface(loss: MeanLoss, *, points: int = SIDE, kind: Kind = "filter", seed: int = 0, say: Say = silent) -> Parts:
    """Measure L(θ + x D_0 + y D_1), x and y in [-1, 1]; the directions are the landscape's first two.

    Returns the arrays ``x`` (P,), of both axes, and ``losses`` (P, P), a row for each y, and the scalars ``loss``,
    ``gradient_norm`` and ``weight_norm`` of θ. Costs P² mean losses and a gradient. Raises ValueError for an even
    number of points.
    """
    x = grid(points)
    D0, D1 = (direction(loss.theta, k, kind=kind, seed=seed) for k in (0, 1))
    losses = np.empty((points, points))
    for j, y in enumerate(x):
        for i, along in enumerate(x):
            with loss.at(combined(float(along), D0, float(y), D1)):
                losses[j, i] = loss.loss()
        say(j + 1, points)
    scalars = norms(loss) | {"loss": float(losses[points // 2, points // 2])}
    return loss.parts(scalars, {"x": x, "losses": losses})
