"""The loss and the test score on the straight line between two trained models (Goodfellow et al., ICLR 2015).

    θ(α) = θ_A + α (θ_B - θ_A), α in [-0.5, 1.5]        barrier = max over α in [0, 1] of L(θ(α)) - chord(α)

with the chord (1 - α) L(θ_A) + α L(θ_B) (Frankle et al., ICML 2020). Hidden units are not matched: the two began with
the same weights, and the units of one stand where those of the other do. Buffers of real numbers, such as running
statistics of batch normalisation, are interpolated as the weights are, so that both ends are the models themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from samcmp.inspection import Context, Parts
from samcmp.inspection.landscape import Say, norms, silent
from samcmp.inspection.weights import MeanLoss, norm, of_context
from samcmp.training import tasks
from samcmp.training.loop import predict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samcmp.training.setup import Setup


def measure(context: Context) -> Parts:
    """Measure the line from a run's weights to those of the other run of its pair."""
    if context.other is None:
        raise ValueError("a path needs the weights of two runs")
    loss = of_context(context)

    def score() -> float:
        loss.passes.forward += len(context.test)
        return _score(context)

    return path(loss, context.other, points=context.settings.points, score=score, say=context.say)


def _score(context: Context) -> float:
    """The test score at the weights that the model holds; NaN where a prediction is no finite number."""
    setup: Setup = context.setup
    raw = predict(context.model, context.test, link=setup.criterion.link).numpy()
    if not np.isfinite(raw).all():
        return float("nan")
    y = setup.samples.y[setup.test_positions.numpy()]
    prediction = raw if setup.standardizer is None else setup.standardizer.undo(raw)
    return tasks.score(setup.task.metric, y, prediction).mean


def alphas(points: int) -> list[float]:
    """Return the places on the line: evenly over [-0.5, 1.5], and both ends of the chord."""
    even = np.linspace(-0.5, 1.5, points).round(12)
    return [float(a) for a in np.union1d(even, [0.0, 1.0])]


def path(
    loss: MeanLoss,
    other: Mapping[str, Tensor],
    *,
    points: int = 21,
    score: Callable[[], float] | None = None,
    say: Say = silent,
) -> Parts:
    """Measure L and the score from the weights of ``loss``, θ_A, to ``other``, θ_B, a model's ``state_dict``.

    Args:
        score: the test score at the weights that the model holds when it is called; NaN where there is none.

    Returns the arrays ``alpha`` (P,), ``losses`` (P,) and ``scores`` (P,), the scalars ``barrier`` and ``distance``,
    ‖θ_A - θ_B‖, and L, ‖∇L‖ and ‖θ‖ of θ_A. Costs P mean losses, P scores and a gradient. Raises ValueError where
    ``other`` is of another model.
    """
    ends = _ends(loss, other)
    distance = norm([b - a for p, a, b in ends if p.requires_grad])
    scalars = norms(loss) | {"distance": distance}
    at = alphas(points)
    losses, scores = [], []
    for alpha in at:
        with _between(ends, alpha):
            losses.append(loss.loss())
            if score is not None:
                scores.append(score())
        say(len(losses), len(at))
    arrays = {"alpha": np.array(at), "losses": np.array(losses)}
    if score is not None:
        arrays["scores"] = np.array(scores)
    scalars["barrier"] = barrier(arrays["alpha"], arrays["losses"])
    return loss.parts(scalars, arrays)


def barrier(alpha: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """Return the largest height of the losses (P,) above the chord between α = 0 and 1, in units of the loss.

    NaN where one of them is not finite.
    """
    inside = (alpha >= 0) & (alpha <= 1)
    a, L = alpha[inside], losses[inside]
    with np.errstate(invalid="ignore"):
        return float((L - (1 - a) * L[0] - a * L[-1]).max())


def _ends(loss: MeanLoss, other: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What moves: each tensor of the model, its value at A and its value at B."""
    trained = [(name, p) for name, p in loss.model.named_parameters() if p.requires_grad]
    moving = [*trained, *((name, b) for name, b in loss.model.named_buffers() if b.is_floating_point())]
    for name, held in moving:
        if name not in other and not held.requires_grad:
            continue  # a buffer that is not saved with the weights
        if name not in other or other[name].shape != held.shape:
            raise ValueError(f"the two are not of one model: {name} is in one of them only, or of another shape")
    return [(held, held.detach().clone(), other[name].to(held)) for name, held in moving if name in other]


@contextmanager
def _between(ends: list[tuple[Tensor, Tensor, Tensor]], alpha: float) -> Iterator[None]:
    """Hold the model at θ(α), exactly A at 0 and B at 1; it is A again afterwards, whatever ended the block."""
    try:
        _write((held, torch.lerp(a, b, alpha)) for held, a, b in ends)
        yield
    finally:
        try:
            _write((held, a) for held, a, _ in ends)
        except BaseException:  # ^C between two copies
            _write((held, a) for held, a, _ in ends)
            raise


@torch.no_grad()
def _write(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    for held, value in pairs:
        held.copy_(value)
