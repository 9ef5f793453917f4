"""How much the loss can rise close to the weights: m-sharpness and its adaptive form.

    m-sharpness   mean over batches of L_B(θ + δ) - L_B(θ), δ = r g_B / ‖g_B‖      (Foret et al., ICLR 2021)
    adaptive      the same with δ = R |θ|⊙u / ‖u‖, u = |θ|⊙g_B, R = 10 r           (Kwon et al., ICML 2021)

g_B = ∇L_B(θ), every batch counting by its labels, as in the mean loss. The first depends on the scale of the weights
(Dinh et al. 2017), the second does not. Both δ solve the linearised problem; beside the first stands the best of five
steps of projected ascent in the same ball, and its first-order part r ‖g_B‖, which is not zero where training was
stopped early: such weights are no minima.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from samcmp.inspection import Context, Parts
from samcmp.inspection.curvature import curvature
from samcmp.inspection.landscape import Say, norms, silent
from samcmp.inspection.weights import MeanLoss, combined, norm, of_context, scaled

STEPS = 5
ADAPTIVE = 10.0  # times the radius: Kwon et al. (2021) take ten times SAM's


def measure(context: Context) -> Parts:
    """Measure the sharpness of a run's weights, and the curvature of the loss there."""
    loss = of_context(context)
    close = sharpness(loss, radius=context.settings.radius, say=lambda done, total: context.say(done, 6 * total))
    bent = curvature(loss, seed=context.seed, say=lambda done, total: context.say(total + 5 * done, 6 * total))
    return Parts(
        {**close.scalars, **bent.scalars}, {**close.arrays, **bent.arrays}, {**close.missing, **bent.missing},
        bent.passes,  # of both
    )  # fmt: skip


def sharpness(loss: MeanLoss, *, radius: float = 0.05, steps: int = STEPS, say: Say = silent) -> Parts:
    """Measure both sharpnesses within ``radius`` of the weights, one radius for all that are compared.

    Args:
        radius: r, the length of δ; the adaptive δ has ‖δ/|θ|‖ = 10 r.
        steps: of the projected ascent, the first of which is the δ of m-sharpness.

    Returns the scalars ``m_sharpness``, ``m_sharpness_ascent``, ``first_order``, ``adaptive_sharpness``, the arrays of
    the same names, a number a batch (B,), with ``share`` of the labels (B,), and the scalars ``loss``,
    ``gradient_norm`` and ``weight_norm``; sharpnesses are in units of the loss. Costs, in passes over the batches,
    ``steps`` gradients and one more, and two losses.
    """
    rows = []
    for share, one in loss.single():
        rows.append((share, *_of_batch(one, radius, steps)))
        say(len(rows), len(loss.batches))
    names = ("share", "m_sharpness", "m_sharpness_ascent", "first_order", "adaptive_sharpness")
    arrays = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    means = {name: float(arrays["share"] @ arrays[name]) for name in names[1:]}
    return loss.parts(norms(loss) | means, arrays, why="the loss within the radius")


def _of_batch(loss: MeanLoss, r: float, steps: int) -> tuple[float, float, float, float]:
    here, g = loss.loss_and_gradient()
    size = norm(g)
    delta = scaled(r / size if size else 0.0, g)
    rises = []
    for step in range(steps):
        with loss.at(delta):
            if step + 1 == steps:
                rises.append(loss.loss() - here)
            else:
                there, slope = loss.loss_and_gradient()
                rises.append(there - here)
                delta = _ascended(delta, slope, r)
    magnitude = [p.abs() for p in loss.theta]
    u = [a * part for a, part in zip(magnitude, g, strict=True)]
    length = norm(u)
    factor = ADAPTIVE * r / length if length else 0.0
    with loss.at([factor * a * part for a, part in zip(magnitude, u, strict=True)]):
        adaptive = loss.loss() - here
    # not the built-in max: a rise that is no number is not passed over
    return rises[0], float(np.max(rises)), r * size, adaptive


def _ascended(delta: list[Tensor], slope: list[Tensor], r: float) -> list[Tensor]:
    """One step of length r along the gradient, projected onto the ball of radius r."""
    size = norm(slope)
    new = combined(1.0, delta, r / size if size else 0.0, slope)
    length = norm(new)
    return scaled(min(1.0, r / length), new) if length else new
