"""Two models on the samples of one test set: DeLong's and McNemar's tests, bootstraps. Arrays in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samcmp.analysis.comparison import Interval
from samcmp.analysis.paired import Array

CHUNK = 4_000_000  # numbers of one intermediate array


@dataclass(frozen=True, slots=True)
class AucDifference:
    """Two ROC-AUCs on the same molecules."""

    first: float
    second: float
    difference: Interval
    se: float
    p: float | None  # two-sided; None, and no interval, where two unlike AUCs have no variance to judge them by


def delong(truth: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, *, alpha: float = 0.05) -> AucDifference:
    """Compare two correlated ROC-AUCs (DeLong et al. 1988) in O(n log n) by midranks (Sun and Xu 2014).

    ``truth`` (n,) is 0 or 1, the scores (n,) are higher for 1; equal scores count half. Raises ValueError with fewer
    than two of a class or a score that is NaN.
    """
    from scipy import special

    y = np.asarray(truth)
    positive, negative = y == 1, y == 0
    m, n = int(positive.sum()), int(negative.sum())
    if m < 2 or n < 2 or m + n != y.size:
        raise ValueError("DeLong's test needs labels 0 and 1 and two molecules of each class")
    scores = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    if scores.shape != (2, y.size) or np.isnan(scores).any():
        raise ValueError("DeLong's test needs two scores of each molecule that are numbers")
    every = np.stack([midranks(s) for s in scores])
    v10 = np.stack([(r[positive] - midranks(s[positive])) / n for r, s in zip(every, scores, strict=True)])
    v01 = np.stack([1.0 - (r[negative] - midranks(s[negative])) / m for r, s in zip(every, scores, strict=True)])
    aucs = v10.mean(axis=1)
    covariance = np.cov(v10) / m + np.cov(v01) / n
    variance = float(covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1])
    se = math.sqrt(max(0.0, variance))
    difference = float(aucs[0] - aucs[1])
    interval = Interval(difference)
    p = None
    if se > 0.0 or difference == 0.0:
        half = float(special.ndtri(1.0 - alpha / 2.0)) * se
        interval = Interval(difference, difference - half, difference + half)
        p = 2.0 * float(special.ndtr(-abs(difference) / se)) if se > 0.0 else 1.0
    return AucDifference(float(aucs[0]), float(aucs[1]), interval, se, p)


def midranks(values: npt.ArrayLike) -> Array:
    """Return ranks from 1, ties by their mean rank."""
    x = np.asarray(values, dtype=np.float64)
    ordered = np.sort(x)
    left = np.searchsorted(ordered, x, side="left")
    right = np.searchsorted(ordered, x, side="right")
    ranks: Array = (left + right + 1) / 2.0
    return ranks


def bootstrap_auc(
    truth: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    draws: int = 10_000,
    seed: int = 0,
    alpha: float = 0.05,
) -> Interval:
    """Return the difference of two task-averaged ROC-AUCs with its stratified paired bootstrap interval.

    Arrays are (molecules, tasks), ``truth`` 0, 1 or NaN. Molecules are drawn jointly for both models and all tasks,
    within the two classes of the task whose smaller class is smallest, so that it stays defined; a task that a
    resample leaves with one class is left out of both averages there. Raises ValueError if no task has two classes.
    """
    y, a, b = (_table(x) for x in (truth, first, second))
    tasks = [t for t in range(y.shape[1]) if {0.0, 1.0} <= set(y[:, t].tolist())]
    if not tasks:
        raise ValueError("no task has molecules of both classes")
    rarest = min(tasks, key=lambda t: min((y[:, t] == 0).sum(), (y[:, t] == 1).sum()))
    whole = np.ones((1, y.shape[0]))
    value = float(_mean_difference(whole, y, a, b, tasks=tasks)[0])
    differences = [
        _mean_difference(weights, y, a, b, tasks=tasks)
        for weights in _resamples(np.nan_to_num(y[:, rarest], nan=2.0), draws=draws, seed=seed)
    ]
    low, high = np.nanquantile(np.concatenate(differences), [alpha / 2.0, 1.0 - alpha / 2.0])
    return Interval(value, float(low), float(high))


def bootstrap_error(
    truth: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    squared: bool,
    draws: int = 10_000,
    seed: int = 0,
    alpha: float = 0.05,
) -> Interval:
    """Return how much smaller the first model's RMSE (``squared``) or MAE is, averaged over tasks, with its interval.

    Molecules are drawn jointly for both models and all tasks; missing targets (NaN) count for neither.
    """
    y, a, b = (_table(x) for x in (truth, first, second))
    known = ~np.isnan(y)
    losses = [np.where(known, (y - x) ** 2 if squared else np.abs(y - x), 0.0) for x in (a, b)]

    def smaller(weights: Array) -> Array:
        count = np.maximum(weights @ known, 1e-300)
        means = [weights @ loss / count for loss in losses]
        if squared:
            means = [np.sqrt(mean) for mean in means]
        better: Array = (means[1] - means[0]).mean(axis=1)
        return better

    value = float(smaller(np.ones((1, y.shape[0])))[0])
    differences = [smaller(weights) for weights in _resamples(np.zeros(y.shape[0]), draws=draws, seed=seed)]
    low, high = np.quantile(np.concatenate(differences), [alpha / 2.0, 1.0 - alpha / 2.0])
    return Interval(value, float(low), float(high))


def mcnemar(
    truth: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    draws: int = 10_000,
    seed: int = 0,
    alpha: float = 0.05,
) -> tuple[Interval, float]:
    """Return the difference of two accuracies on the same samples with its paired bootstrap interval, and the p-value
    of McNemar's exact test (McNemar 1947): of the samples that one alone has right, is it half of them?

    ``truth`` are numbers of classes (n,), NaN where missing, ``first`` and ``second`` probabilities (n, C).
    """
    from scipy.stats import binomtest

    y = np.asarray(truth, dtype=np.float64)
    known = ~np.isnan(y)
    right = [np.asarray(p)[known].argmax(axis=1) == y[known] for p in (first, second)]
    n, mine, theirs = int(known.sum()), int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    counts = np.random.default_rng(seed).multinomial(n, np.array([mine, theirs, n - mine - theirs]) / n, size=draws)
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / n, [alpha / 2.0, 1.0 - alpha / 2.0])
    p = float(binomtest(mine, mine + theirs).pvalue) if mine + theirs else 1.0
    return Interval((mine - theirs) / n, float(low), float(high)), p


def _table(values: npt.ArrayLike) -> Array:
    x = np.asarray(values, dtype=np.float64)
    return x[:, None] if x.ndim == 1 else x


def _resamples(strata: Array, *, draws: int, seed: int) -> Iterator[Array]:
    """Yield how often each molecule is drawn, (chunk, molecules), the size of every stratum kept."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    chunk = max(1, CHUNK // strata.size)
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        weights = np.zeros((count, strata.size))
        for rows in members:
            weights[:, rows] = rng.multinomial(rows.size, np.full(rows.size, 1.0 / rows.size), size=count)
        yield weights


def _mean_difference(weights: Array, y: Array, a: Array, b: Array, *, tasks: list[int]) -> Array:
    differences = [_weighted_auc(weights, y[:, t], a[:, t]) - _weighted_auc(weights, y[:, t], b[:, t]) for t in tasks]
    with np.errstate(invalid="ignore"):
        stacked = np.stack(differences)
    defined = ~np.isnan(stacked)
    count = np.where(defined.any(axis=0), defined.sum(axis=0), np.nan)
    mean: Array = np.where(defined, stacked, 0.0).sum(axis=0) / count
    return mean


def _weighted_auc(weights: Array, y: Array, scores: Array) -> Array:
    """Return every resample's AUC: pairs in the right order and half the ties, by cumulative weights."""
    known = ~np.isnan(y)
    order = np.argsort(scores[known], kind="stable")
    s, label = scores[known][order], y[known][order]
    w = weights[:, known][:, order]
    below = np.concatenate([np.zeros((w.shape[0], 1)), np.cumsum(w * (label == 0), axis=1)], axis=1)
    positive = np.flatnonzero(label == 1)
    left = np.searchsorted(s, s[positive], side="left")
    right = np.searchsorted(s, s[positive], side="right")
    right_pairs = (w[:, positive] * (below[:, left] + below[:, right])).sum(axis=1) / 2.0
    pairs = w[:, positive].sum(axis=1) * below[:, -1]
    auc: Array = np.where(pairs > 0, right_pairs / np.where(pairs > 0, pairs, 1.0), np.nan)
    return auc
