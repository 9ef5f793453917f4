"""Speed ratios from the times of rounds: estimate and interval. Arrays in, numbers out."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from samcmp.analysis.comparison import Interval
from samcmp.analysis.paired import Array, vector


def ratio_interval(seconds: npt.ArrayLike, peer_seconds: npt.ArrayLike, *, alpha: float = 0.05) -> Interval:
    """Return how many times faster blocks of equal work ran than a peer's, round by round (rounds,).

    The estimate is the median of the within-round log ratios, its interval the percentile bootstrap over rounds.
    """
    a, b = vector(seconds), vector(peer_seconds)
    if a.size != b.size or (a <= 0.0).any() or (b <= 0.0).any():
        raise ValueError("times are paired round by round and must be positive")
    middle = median_interval(np.log(b) - np.log(a), alpha=alpha)
    if middle.low is None or middle.high is None:
        return Interval(math.exp(middle.value))
    return Interval(math.exp(middle.value), math.exp(middle.low), math.exp(middle.high))


def median_interval(values: npt.ArrayLike, *, alpha: float = 0.05) -> Interval:
    """Return the median with its percentile bootstrap interval, from the bootstrap's exact distribution.

    A resample's median is decided by which order statistics stand in its middle, and their probabilities follow from
    binomial ones (Efron 1979, section 3), so nothing is drawn: it is what infinitely many resamples would give.
    """
    x = np.sort(vector(values))
    value = float(np.median(x))
    if x.size < 2:
        return Interval(value)
    medians = ((x[:, None] + x[None, :]) / 2.0).ravel()
    order = np.argsort(medians, kind="stable")
    cumulative = np.cumsum(_middle_probabilities(x.size).ravel()[order])
    low, high = (
        float(medians[order[min(int(np.searchsorted(cumulative, p)), order.size - 1)]])
        for p in (alpha / 2.0, 1.0 - alpha / 2.0)
    )
    return Interval(value, low, high)


@functools.lru_cache(maxsize=64)
def _middle_probabilities(n: int) -> Array:
    """Return P(i, j) (n, n): that of n draws from n values the two in the middle are the i-th and the j-th smallest.

    For an odd n both are the same one. For an even n = 2m and i < j, m draws lie at or below i and m at or above j.
    """
    from scipy import special

    m = (n + 1) // 2
    at_most = np.arange(n + 1) / n
    # P(the m-th smallest draw is value i): m draws or more at or below i, but not at or below i - 1
    lower = np.diff(special.bdtrc(m - 1, n, at_most))
    if n % 2:
        return np.diag(lower)
    below = np.diff(at_most**m)  # the largest of m draws is value i
    above = below[::-1]
    table = np.triu(math.comb(n, m) * below[:, None] * above[None, :], k=1)
    table[np.diag_indices(n)] = lower - table.sum(axis=1)
    return table


def independent_ratio(
    seconds: npt.ArrayLike, before: npt.ArrayLike, *, draws: int = 10_000, seed: int = 0, alpha: float = 0.05
) -> Interval:
    """Return how many times faster work runs than before, from the times of two sessions that share no rounds.

    The ratio of median times; its interval the percentile bootstrap over each session's rounds.
    """
    a, b = vector(seconds), vector(before)
    if (a <= 0.0).any() or (b <= 0.0).any():
        raise ValueError("times must be positive")
    value = float(np.median(b) / np.median(a))
    if a.size < 2 or b.size < 2:
        return Interval(value)
    rng = np.random.default_rng(seed)
    mine = np.median(a[rng.integers(0, a.size, (draws, a.size))], axis=1)
    theirs = np.median(b[rng.integers(0, b.size, (draws, b.size))], axis=1)
    low, high = np.quantile(theirs / mine, [alpha / 2.0, 1.0 - alpha / 2.0])
    return Interval(value, float(low), float(high))
