"""What a watched training says: how gradients and directions change, whether they point where SAM's do, and whether
the two conjectures of Wang et al. (2024) hold.

Letters as in :mod:`samcmp.inspection.watch`. All quantities are of single steps with their own batches, in training
mode, over all trained parameters as one vector.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from samcmp.inspection import Parts
from samcmp.inspection.watch import EPSILON, EPSILON_BEFORE, G_BEFORE, OMEGA, OMEGA_BEFORE, G, Steps

Array = NDArray[np.float64]
PAIRS = {"g": (G, G_BEFORE), "epsilon": (EPSILON, EPSILON_BEFORE), "omega": (OMEGA, OMEGA_BEFORE)}
EQUAL = 1e-6  # of a loss: float32 tells smaller differences from rounding no more
LEAST = 5  # steps of an epoch, for a rank correlation within it
THIRDS = ("first", "middle", "last")


def of_steps(steps: Steps, steps_per_epoch: int) -> Parts:
    """Return norms, changes, pairs and conjectures of T steps.

    Arrays, (T,), NaN where a quantity is not there (no true gradient, no step after, a zero vector): ``norm_*``,
    ``change_*`` and ``unit_change_*`` of g, epsilon and omega; ``cos_next`` = cos(g_{t+1}, ω_t); ``cos_direction`` =
    cos(ε̂_t, g_t); ``loss``, ``sam_loss`` and ``distance`` = ‖ε̂ - ε̂ˢ‖ of the steps that the conjectures compare;
    ``rho``, ``epoch``, ``approximated``.
    """
    arrays = _arrays(steps, steps_per_epoch)
    scalars: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name in ("g", "epsilon", "omega"):
        for kind in ("norm", "change", "unit_change"):
            values = arrays[f"{kind}_{name}"]
            _put(f"{kind}_{name}", _median(values), _why_no(name, steps), scalars, missing)
    _pairs("next", arrays["cos_next"], "no step has a true gradient after it", scalars, missing)
    perturbed = bool(arrays["norm_epsilon"].any())
    unperturbed = "no perturbed step has a true gradient" if perturbed else "no step is perturbed"
    _pairs("direction", arrays["cos_direction"], unperturbed, scalars, missing)
    approximated = arrays["approximated"].astype(bool)
    exact = "every perturbed step made a pass at its unperturbed weights"
    why = exact if perturbed else unperturbed
    _pairs("direction_approximated", np.where(approximated, arrays["cos_direction"], np.nan), why, scalars, missing)
    if not approximated.any():
        reason = why
    elif np.isnan(steps.rho).all():
        reason = "the optimizer has no single radius"
    else:
        reason = "no approximated step with a true gradient has one global radius rho and a loss without terms"
    _conjectures(arrays, reason, scalars, missing)
    return Parts(scalars, arrays, missing, steps.passes)


def _arrays(steps: Steps, steps_per_epoch: int) -> dict[str, Array]:
    gram, count = steps.gram, len(steps.gram)
    length = np.sqrt(np.clip(np.einsum("tii->ti", gram), 0, None)).reshape(count, 6)
    true, before = steps.true, np.concatenate([[False], steps.true[:-1]])[:count]
    arrays: dict[str, Array] = {}
    for name, (now, last) in PAIRS.items():
        known = true if name == "g" else np.ones(count, bool)
        both = known & (before if name == "g" else np.arange(count) > 0)
        arrays[f"norm_{name}"] = np.where(known, length[:, now], np.nan)
        squared = length[:, now] ** 2 + length[:, last] ** 2 - 2 * gram[:, now, last]
        arrays[f"change_{name}"] = _of_next(np.where(both, np.sqrt(np.clip(squared, 0, None)), np.nan))
        turned = 2 - 2 * _cosine(gram, length, now, last)
        arrays[f"unit_change_{name}"] = _of_next(np.where(both, np.sqrt(np.clip(turned, 0, None)), np.nan))
    follows = true & (np.arange(count) > 0)
    arrays["cos_next"] = _of_next(np.where(follows, _cosine(gram, length, G, OMEGA_BEFORE), np.nan))
    arrays["cos_direction"] = np.where(true, _cosine(gram, length, EPSILON, G), np.nan)
    perturbed = length[:, EPSILON] > 0
    arrays["approximated"] = (perturbed & ~steps.at_theta).astype(np.float64)
    arrays["loss"], arrays["sam_loss"], arrays["rho"] = steps.loss, steps.sam_loss, steps.rho
    apart = length[:, EPSILON] * np.sqrt(np.clip(2 - 2 * arrays["cos_direction"], 0, None))  # both as long as ε̂
    arrays["distance"] = np.where(np.isfinite(steps.loss), apart, np.nan)
    arrays["epoch"] = np.arange(count, dtype=np.float64) // max(1, steps_per_epoch)
    return arrays


def _of_next(values: Array) -> Array:
    """Move what is known of a step and the one before to the earlier of the two."""
    return np.concatenate([values[1:], [np.nan]])[: len(values)]


def _cosine(gram: Array, length: Array, a: int, b: int) -> Array:
    """cos of two of the vectors at each step, NaN where one is zero."""
    product = length[:, a] * length[:, b]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(product > 0, np.clip(gram[:, a, b] / product, -1.0, 1.0), np.nan)


def _median(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan


def _why_no(name: str, steps: Steps) -> str:
    if not len(steps.gram):
        return "no step was taken"
    return "no true gradient was taken" if name == "g" and not steps.true.any() else "no two steps with such vectors"


def _pairs(name: str, cosines: Array, why: str, scalars: dict[str, float], missing: dict[str, str]) -> None:
    """The share of cosines >= 0 and their mean: over all steps, and over each third of the training."""
    parts = {"": cosines, **dict(zip((f"_{third}" for third in THIRDS), np.array_split(cosines, 3), strict=True))}
    for ending, values in parts.items():
        there = values[~np.isnan(values)]
        for kind, value in (("pairs", there >= 0), ("cos", there)):
            key = f"{kind}_{name}{ending}"
            _put(key, float(np.mean(value)) if len(there) else math.nan, why, scalars, missing)
    scalars[f"steps_{name}"] = float(np.count_nonzero(~np.isnan(cosines)))


def _conjectures(arrays: Mapping[str, Array], why: str, scalars: dict[str, float], missing: dict[str, str]) -> None:
    """C1: how often, and by how much, the loss at θ + ε̂ is at least that at SAM's θ + ε̂ˢ; C2: see :func:`_ranks`."""
    difference = arrays["loss"] - arrays["sam_loss"]
    told = np.isfinite(difference) & (np.abs(difference) >= EQUAL * np.abs(arrays["loss"]))
    there = difference[told]
    scalars["conjecture_steps"] = float(len(there))
    _put("c1_share", float(np.mean(there > 0)) if len(there) else math.nan, why, scalars, missing)
    _put("c1_difference", float(np.mean(there)) if len(there) else math.nan, why, scalars, missing)
    ranks = _ranks(np.abs(difference), arrays["distance"], np.where(told, arrays["epoch"], np.nan))
    few = f"no epoch has {LEAST} steps to compare" if len(there) else why
    _put("c2_spearman", float(np.mean(ranks)) if ranks else math.nan, few, scalars, missing)
    scalars["c2_epochs"] = float(len(ranks))


def _ranks(difference: Array, distance: Array, epoch: Array) -> list[float]:
    """Spearman's correlation of |L(θ+ε̂) - L(θ+ε̂ˢ)| and ‖ε̂ - ε̂ˢ‖ within each epoch: a radius that shrinks from epoch
    to epoch would correlate them by itself."""
    from scipy.stats import spearmanr

    found = []
    for one in np.unique(epoch[~np.isnan(epoch)]):
        inside = epoch == one
        if np.count_nonzero(inside) >= LEAST:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a constant has no ranks: NaN
                found.append(float(spearmanr(difference[inside], distance[inside]).statistic))
    return [value for value in found if not math.isnan(value)]


def _put(name: str, value: float, why: str, scalars: dict[str, float], missing: dict[str, str]) -> None:
    if math.isfinite(value):
        scalars[name] = value
    else:
        missing[name] = why
