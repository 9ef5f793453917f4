"""Speed ratios from within-round pairs: estimate, interval, verdict, and the noise that decides when to stop.

Plain numpy, no clock and no device. A *log ratio* is ``log(t_reference / t_arm)`` of two blocks of one round:
positive means that the arm is faster.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from samcmp.records import SpeedWord, speed_word

Floats = NDArray[np.float64]

NORMAL = 1.96  # standard errors in half a 95 % interval
_FEW = 6  # below this no signed-rank interval reaches 95 %


@dataclass(frozen=True, slots=True)
class Ratio:
    """A speed ratio (above 1: faster than the reference) with its 95 % interval."""

    ratio: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval's width in logarithms: 0.005 is half a per cent; infinite where there is no interval."""
        if not (self.low > 0 and math.isfinite(self.high)):
            return math.inf
        return (math.log(self.high) - math.log(self.low)) / 2

    @property
    def word(self) -> SpeedWord:
        return speed_word(self.low, self.high)

    def widened(self, error: float) -> Ratio:
        """Return the ratio with an independent standard error of its logarithm in the interval, too."""
        if not error or not (self.low > 0 and math.isfinite(self.high)):
            return self
        middle, extra = math.log(self.ratio), NORMAL * error
        low = middle - math.hypot(middle - math.log(self.low), extra)
        high = middle + math.hypot(math.log(self.high) - middle, extra)
        return replace(self, low=math.exp(low), high=math.exp(high))


def ratio(log_ratios: Floats, *, level: float = 0.95) -> Ratio:
    """Estimate a speed ratio from one log ratio a round.

    Hodges and Lehmann 1963: the median of all pairwise means, with the interval that inverts Wilcoxon's signed-rank
    test, interpolated between its two nearest attainable levels. It needs only that a disturbance hits either of the
    two blocks equally often, which the random order of a round gives, and a burst moves it no more than a median.
    With fewer than six rounds no such interval exists and Student's t on the mean stands in; with one round there is
    none at all, and the interval is (0, inf).
    """
    values = np.sort(np.asarray(log_ratios, dtype=np.float64))
    n = len(values)
    if n == 0:
        raise ValueError("a ratio needs at least one round")
    if not np.isfinite(values).all():
        raise ValueError("a log ratio must be finite")
    if n == 1:
        return Ratio(math.exp(values[0]), 0.0, math.inf)
    if n < _FEW:
        return _student(values, level=level)
    means = np.sort(_walsh(values))
    low, high = _signed_rank_interval(means, n, level=level)
    return Ratio(math.exp(float(np.median(means))), math.exp(low), math.exp(high))


def across(log_ratios: Sequence[float]) -> Ratio:
    """Estimate a speed ratio from one estimate a process: their mean, with Student's t over processes."""
    return _student(np.asarray(log_ratios, dtype=np.float64), level=0.95)


def _walsh(values: Floats) -> Floats:
    """Return the means of all pairs i <= j, n(n+1)/2 of them."""
    i, j = np.triu_indices(len(values))
    means: Floats = (values[i] + values[j]) / 2
    return means


def _student(values: Floats, *, level: float) -> Ratio:
    n = len(values)
    middle = float(values.mean())
    spread = float(values.std(ddof=1)) / math.sqrt(n)
    half = t_quantile(0.5 + level / 2, n - 1) * spread
    return Ratio(math.exp(middle), _exp(middle - half), _exp(middle + half))


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def t_quantile(p: float, df: int) -> float:
    """Return the t with P(T <= t) = p of Student's t."""
    from scipy.special import stdtrit  # here: plans and errors do without the time that its import takes

    return float(stdtrit(df, p))


@functools.lru_cache(maxsize=256)
def _signed_rank_cdf(n: int) -> Floats:
    """Return P(V <= v), v = 0 .. n(n+1)/2, of Wilcoxon's signed-rank statistic under symmetry."""
    total = n * (n + 1) // 2
    if n > 100:
        from scipy.special import ndtr

        v = np.arange(total + 1)
        normal: Floats = ndtr((v + 0.5 - total / 2) / math.sqrt(total * (2 * n + 1) / 12))
        return normal
    mass = np.zeros(total + 1)
    mass[0] = 1.0
    for rank in range(1, n + 1):
        mass[rank:] = (mass[rank:] + mass[: total + 1 - rank]) / 2
        mass[:rank] /= 2
    cumulated: Floats = np.cumsum(mass)
    return cumulated


def _signed_rank_interval(means: Floats, n: int, *, level: float) -> tuple[float, float]:
    """Cut as many pairwise means from either end as keep the level, and the fraction of the next one."""
    tail = (1 - level) / 2
    cdf = _signed_rank_cdf(n)
    cut = int(np.searchsorted(cdf, tail, side="right"))  # first v with P(V <= v) > tail: (W_cut, ...) covers >= level
    if cut == 0:
        return float(means[0]), float(means[-1])
    outside, beyond = float(cdf[cut - 1]), float(cdf[cut])
    part = (tail - outside) / (beyond - outside)
    low = means[cut - 1] + part * (means[cut] - means[cut - 1])
    high = means[-cut] - part * (means[-cut] - means[-cut - 1])
    return float(low), float(high)


def noise(seconds: Floats) -> float:
    """Return the relative spread of block times, robust to bursts: 1.4826 MAD / median."""
    middle = float(np.median(seconds))
    return float(1.4826 * np.median(np.abs(seconds - middle)) / middle)


def noise_is_stable(log_ratios: Floats, *, window: int = 64, tolerance: float = 0.05) -> bool:
    """Tell whether more rounds have stopped to change the noise estimate (nvbench's rule: SD below 5 % of the mean)."""
    n = len(log_ratios)
    if n < window + 8:
        return False
    running = np.array([np.std(log_ratios[:k], ddof=1) for k in range(n - window + 1, n + 1)])
    mean = float(running.mean())
    return mean == 0.0 or float(running.std(ddof=1)) < tolerance * mean
