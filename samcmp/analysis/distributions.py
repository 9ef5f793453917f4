"""The few distribution functions that a verdict needs, for whole degrees of freedom and without scipy.

Importing scipy.special costs as much as reading a thousand Records; degrees of freedom here are always whole, for
which finite sums exist (Abramowitz and Stegun 1964, 26.7.3, 26.7.4, 26.4.4, 26.4.5).
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

NORMAL = NormalDist()


def t_central(t: float, df: int) -> float:
    """Return P(\\|T\\| <= \\|t\\|) of Student's t (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    _whole(df)
    if math.isinf(t):
        return 1.0
    theta = math.atan(abs(t) / math.sqrt(df))
    sine, cosine = math.sin(theta), math.cos(theta)
    if df == 1:
        return 2.0 * theta / math.pi
    odd = df % 2
    term = cosine if odd else 1.0
    total = term
    for k in range(2 + odd, df - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2.0 / math.pi * (theta + sine * total) if odd else sine * total


def t_above(t: float, df: int) -> float:
    """Return P(T > t) of Student's t."""
    central = t_central(t, df)
    return 0.5 - 0.5 * central if t >= 0 else 0.5 + 0.5 * central


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: int) -> float:
    """Return the t with P(T <= t) = p. Raises ValueError unless 0 < p < 1."""
    if not 0.0 < p < 1.0:
        raise ValueError(f"p is a probability strictly between 0 and 1, got {p}")
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    low, high = 0.0, 2.0
    while 1.0 - t_above(high, df) < p:
        low, high = high, 2.0 * high
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if 1.0 - t_above(middle, df) < p:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def chi2_above(x: float, df: int) -> float:
    """Return P(X > x) of the chi-squared distribution (Abramowitz and Stegun 1964, 26.4.4 and 26.4.5)."""
    _whole(df)
    if x <= 0.0:
        return 1.0
    half = 0.5 * x
    if df % 2 == 0:
        term, total = math.exp(-half), 0.0
        for j in range(df // 2):
            total += term
            term *= half / (j + 1)
        return min(1.0, total)
    total = math.erfc(math.sqrt(half))
    term = math.exp(-half) * math.sqrt(half) * 2.0 / math.sqrt(math.pi)
    for j in range(1, df // 2 + 1):
        total += term
        term *= half / (j + 0.5)
    return min(1.0, total)


def normal_above(z: float) -> float:
    """Return P(Z > z) of the standard normal distribution."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


@lru_cache(maxsize=256)
def range_quantile(p: float, groups: int) -> float:
    """Return the p-quantile of the range of ``groups`` standard normals (the studentized range, infinite df).

    Solves groups * integral of phi(z) (Phi(z) - Phi(z - q))^(groups - 1) dz = p by bisection.
    """
    if groups < 2:
        raise ValueError(f"a range needs two groups or more, got {groups}")
    z = np.linspace(-8.0, 8.0, 1601)
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    upper = _normal_cdf(z)
    low, high = 0.0, 20.0
    for _ in range(60):
        q = 0.5 * (low + high)
        inside = density * (upper - _normal_cdf(z - q)) ** (groups - 1)
        if groups * float(np.trapezoid(inside, z)) < p:
            low = q
        else:
            high = q
    return 0.5 * (low + high)


def _normal_cdf(
    z: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in z.tolist()])


def _whole(df: int) -> None:
    if df < 1 or df != int(df):
        raise ValueError(f"degrees of freedom are a whole number from 1 on, got {df}")
