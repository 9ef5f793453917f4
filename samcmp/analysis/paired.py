"""Paired differences, intervals, tests and the Pareto front: arrays in, numbers out.

Differences are signed so that positive means that the first of the two is better, whatever the metric. Every number
is a function of arrays; nothing here knows what an optimizer is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samcmp.analysis.comparison import Interval, Word
from samcmp.profiling.ratios import t_quantile

Array = npt.NDArray[np.float64]
ALIKE = 1e-6  # of the largest score: a difference that nobody ranks by
MOST_BLOCKS = 1000  # beyond this nobody repeats a training run


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean paired difference over J blocks and what it says against zero and against a margin."""

    n: int
    mean: float
    median: float
    sd: float | None  # None: a single block
    se: float | None
    low: float | None  # two-sided, level 1 - alpha
    high: float | None
    p: float | None  # H0: the difference is 0, two-sided
    p_inferior: float | None  # H0: the first is worse by the margin or more, one-sided
    p_not_equivalent: float | None  # H0: they differ by the margin or more: the larger of two one-sided tests


def standard_error(sd: float, n: int, *, test_over_train: float) -> float:
    """Return SD * sqrt(1/J + n_test/n_train), the corrected resampled form (Nadeau and Bengio 2003, eq. 9).

    Splits of one dataset overlap, so blocks are correlated; the second term is what more blocks cannot remove.
    With ``test_over_train=0`` it is the ordinary standard error of independent blocks.
    """
    return sd * math.sqrt(1.0 / n + test_over_train)


def mean_interval(values: npt.ArrayLike, *, test_over_train: float = 0.0, alpha: float = 0.05) -> Interval:
    """Return the mean over blocks with its corrected resampled t interval (no limits for a single block)."""
    x = vector(values)
    mean = float(x.mean())
    if x.size < 2:
        return Interval(mean)
    half = t_quantile(1.0 - alpha / 2.0, x.size - 1) * standard_error(
        float(x.std(ddof=1)), x.size, test_over_train=test_over_train
    )
    return Interval(mean, mean - half, mean + half)


def within_half_widths(scores: npt.ArrayLike, *, test_over_train: float = 0.0, alpha: float = 0.05) -> Array:
    """Return half-widths (K,) of the means of K arms over J blocks, with what a block does to all arms taken out.

    Cousineau-Morey intervals (Morey 2008): each block's mean over the arms is removed, and the variance scaled by
    K / (K - 1) for it; the standard error is the corrected resampled one. Needs two blocks and two arms.
    """
    x = np.asarray(scores, dtype=np.float64)
    blocks, arms = x.shape
    if blocks < 2 or arms < 2:
        raise ValueError("within-block intervals need two blocks and two arms or more")
    variance = (x - x.mean(axis=1, keepdims=True)).var(axis=0, ddof=1) * arms / (arms - 1)
    half: Array = t_quantile(1.0 - alpha / 2.0, blocks - 1) * np.sqrt(variance * (1.0 / blocks + test_over_train))
    return half


def paired_difference(
    differences: npt.ArrayLike, *, margin: float, test_over_train: float = 0.0, alpha: float = 0.05
) -> Difference:
    """Test paired differences (J,), positive = the first is better, by the corrected resampled t, df = J - 1.

    Nadeau and Bengio 2003; for repeated folds Bouckaert and Frank 2004. Non-inferiority is the one-sided test
    against -margin, equivalence two one-sided tests (Schuirmann 1987). Raises ValueError for an empty array, a
    value that is not finite or a margin below zero.
    """
    d = vector(differences)
    if not margin >= 0.0:
        raise ValueError(f"a margin is a distance and must be >= 0, got {margin}")
    mean, median = float(d.mean()), float(np.median(d))
    if d.size < 2:
        return Difference(1, mean, median, None, None, None, None, None, None, None)
    df = d.size - 1
    sd = float(d.std(ddof=1))
    # d.mean() of equal numbers is off by a rounding, and so is the deviation: equal means a deviation of zero
    if np.ptp(d) == 0.0:
        sd, mean = 0.0, float(d[0])
    se = standard_error(sd, d.size, test_over_train=test_over_train)
    half = t_quantile(1.0 - alpha / 2.0, df) * se
    p = 2.0 * _t_above(abs(mean), se=se, df=df)
    p_inferior = _t_above(mean + margin, se=se, df=df)
    p_superior = _t_above(margin - mean, se=se, df=df)
    return Difference(
        d.size, mean, median, sd, se, mean - half, mean + half, p, p_inferior, max(p_inferior, p_superior)
    )


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down method (Holm 1979); compare each with the level as it is."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted = [0.0] * len(p)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


@dataclass(frozen=True, slots=True)
class Adjusted:
    """An interval that holds together with those of the other comparisons; a limit may be known to be excluded."""

    low: float
    high: float
    low_excluded: bool = False
    high_excluded: bool = False

    def above(self, value: float) -> bool:
        return self.low > value or (self.low == value and self.low_excluded)

    def below(self, value: float) -> bool:
        return self.high < value or (self.high == value and self.high_excluded)

    def word(self, margin: float) -> Word:
        """Read the strongest statement off the interval: against zero, else against the margin."""
        if self.above(0.0) or self.below(0.0):
            return "better" if self.above(0.0) else "worse"
        if self.above(-margin):
            return "equivalent" if self.below(margin) else "non-inferior"
        return "inconclusive"


def adjusted_interval(
    test: Difference, *, p: float, p_inferior: float, p_not_equivalent: float, margin: float, comparisons: int,
    alpha: float = 0.05,
) -> Adjusted:  # fmt: skip
    """Return a tested difference's interval that agrees with its Holm-adjusted p-values, so that words are read off it.

    Bonferroni's simultaneous interval, each at level 1 - alpha / comparisons, cut at 0 and at the margin where Holm's
    method, which rejects at least as much, excludes what lies beyond: simultaneous limits that belong to Holm's method
    end at the rejected value, too (Strassburger and Bretz 2008, Guilbaud 2008). Better or worse: the two-sided test at
    alpha. Non-inferior: one-sided at alpha / 2. Equivalent: two one-sided tests at alpha (Schuirmann 1987).
    """
    half = t_quantile(1.0 - alpha / (2.0 * comparisons), test.n - 1) * (test.se or 0.0)
    low, high, floor, ceiling = test.mean - half, test.mean + half, -math.inf, math.inf
    if p_not_equivalent < alpha:
        floor, ceiling = -margin, margin
    if p_inferior < alpha / 2.0:
        floor = -margin
    if p < alpha and test.mean > 0.0:
        floor = max(floor, 0.0)
    elif p < alpha and test.mean < 0.0:
        ceiling = min(ceiling, 0.0)
    return Adjusted(max(low, floor), min(high, ceiling), low <= floor, high >= ceiling)


def blocks_needed(
    mean: float, sd: float, *, margin: float, test_over_train: float, comparisons: int = 1, alpha: float = 0.05
) -> int | None:
    """Return the fewest blocks that would settle it if mean and SD stay as they are; None where no number would.

    Settled is: the interval clears -margin from above (non-inferior) or zero from below (worse). With several
    ``comparisons`` the level is Bonferroni's, at least as strict as Holm's. Raises ValueError for a number that is
    not finite, or an SD or margin below zero.
    """
    if not (math.isfinite(mean) and 0.0 <= sd < math.inf and 0.0 <= margin < math.inf):
        raise ValueError(f"mean, SD >= 0 and margin >= 0 are finite numbers, got {mean}, {sd} and {margin}")
    gap = max(mean + margin, -mean)
    level = 1.0 - alpha / (2.0 * comparisons)

    def settles(n: int) -> bool:
        return t_quantile(level, n - 1) * standard_error(sd, n, test_over_train=test_over_train) < gap

    if not settles(MOST_BLOCKS):
        return None
    low, high = 1, MOST_BLOCKS  # the half-width falls with n: bisect
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settles(middle) else (middle, high)
    return high


def probability_better(differences: npt.ArrayLike, *, alpha: float = 0.05) -> Interval:
    """Return P(A > B) = mean[1(d > 0) + 1/2 1(d = 0)] with its percentile bootstrap interval (Bouthillier et al. 2021).

    A resample's value depends only on how many wins, ties and losses it drew, so the bootstrap distribution is the
    J-fold convolution of one block's and is computed exactly: what infinitely many resamples would give.
    """
    d = vector(differences)
    ties, wins = float(np.mean(d == 0.0)), float(np.mean(d > 0.0))
    value = wins + 0.5 * ties
    if d.size < 2:
        return Interval(value)
    one = np.array([1.0 - wins - ties, ties, wins])
    halves = np.ones(1)
    for _ in range(d.size):
        halves = np.convolve(halves, one)
    cumulative = np.cumsum(halves)
    top = 2 * d.size
    low = min(int(np.searchsorted(cumulative, alpha / 2.0)), top) / top
    high = min(int(np.searchsorted(cumulative, 1.0 - alpha / 2.0)), top) / top
    return Interval(value, low, high)


def alike(scores: npt.ArrayLike) -> Array:
    """Make scores of one row that differ by less than :data:`ALIKE` of its largest one number (cells, arms)."""
    x = np.array(scores, dtype=np.float64)
    for row in x:
        for before, after in itertools.pairwise(np.argsort(row)):
            if row[after] - row[before] <= ALIKE * np.nanmax(np.abs(row)):
                row[after] = row[before]
    return x


def vector(values: npt.ArrayLike) -> Array:
    """Return ``values`` as a vector of finite numbers. Raises ValueError where they are none."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError("expected one or more finite numbers in one dimension")
    return x


def _t_above(distance: float, *, se: float, df: int) -> float:
    """Return P(T > distance / se); a half where both are zero, since nothing then speaks for either side."""
    from scipy import special  # here: plans and errors do without the time that its import takes

    if distance == 0.0:
        return 0.5
    return float(special.stdtr(df, -distance / se if se > 0.0 else -math.copysign(math.inf, distance)))
