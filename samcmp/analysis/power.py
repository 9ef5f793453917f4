"""What a design can detect before it is run: Student's t in plain Python, since a plan waits for no library."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from statistics import NormalDist

STEPS = (2000, 200)  # of Simpson's rule, for seven digits: with up to three degrees of freedom, and with more


def detectable(n: int, *, test_over_train: float, sd: float = 1.0, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest mean difference that n paired splits find with the given power, in units of ``sd``.

    The test statistic is noncentral t with df = J - 1 and noncentrality difference / SE, the corrected resampled
    standard error (Nadeau and Bengio 2003): 1.19 SD for 25 random 80/10/10 splits. ``sd`` is that of the paired
    differences. Infinite for one split. Raises ValueError for a count below one, a negative ratio, or unless
    0 < alpha < power < 1.
    """
    if n < 1 or not test_over_train >= 0.0:
        raise ValueError(f"splits are counted from 1 and n_test/n_train is >= 0, got {n} and {test_over_train}")
    if not 0.0 < alpha < power < 1.0:
        raise ValueError(f"expected 0 < alpha < power < 1, got {alpha} and {power}")
    return math.inf if n == 1 else _noncentrality(n - 1, alpha, power) * sd * math.sqrt(1.0 / n + test_over_train)


@functools.cache
def _noncentrality(df: int, alpha: float, power: float) -> float:
    """The noncentrality at which Student's t exceeds its two-sided critical value with the given power."""
    critical = _root(lambda c: _t_below(c, 0.0, df) - (1.0 - alpha / 2.0))
    return _root(lambda shift: (1.0 - power) - _t_below(critical, shift, df))


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function of a positive number is zero."""
    low, high = 0.0, 1.0
    while rising(high) < 0.0:
        low, high = high, 2.0 * high
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if rising(middle) < 0.0 else (low, middle)
    return high


def _t_below(c: float, shift: float, df: int) -> float:
    """P(T <= c) of noncentral t: the mean of Phi(c u - shift) over u = sqrt(chi-squared / df), by Simpson's rule."""
    total = 0.0
    density, step = _chi(df)
    for i, (u, height) in enumerate(density):
        weight = 1 if i in (0, len(density) - 1) else 4 if i % 2 else 2
        total += weight * height * math.erfc((shift - c * u) / math.sqrt(2.0))
    return total * step / 6.0  # Phi is erfc / 2


@functools.cache
def _chi(df: int) -> tuple[list[tuple[float, float]], float]:
    """The density of sqrt(chi-squared / df), eight standard deviations to either side, and the step between points."""
    constant = math.log(2.0) + df / 2.0 * math.log(df / 2.0) - math.lgamma(df / 2.0)
    width, steps = 8.0 / math.sqrt(2.0 * df), STEPS[df > 3]
    low = max(1e-12, 1.0 - width)
    step = (1.0 + width - low) / steps
    points = (low + i * step for i in range(steps + 1))
    return [(u, math.exp(constant + (df - 1) * math.log(u) - df * u * u / 2.0)) for u in points], step


def limit(*, test_over_train: float, sd: float = 1.0, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the difference that no number of splits of this shape goes below: ``detectable`` for J to infinity."""
    quantile = NormalDist().inv_cdf
    return (quantile(1.0 - alpha / 2.0) + quantile(power)) * sd * math.sqrt(test_over_train)
