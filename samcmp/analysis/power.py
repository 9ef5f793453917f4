"""What a design can detect before it is run."""

from __future__ import annotations

import math
from statistics import NormalDist


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
    if n == 1:
        return math.inf
    from scipy import special  # here, because a plan prints the limit below without it

    df, critical = n - 1, special.stdtrit(n - 1, 1.0 - alpha / 2.0)
    return float(special.nctdtrinc(df, 1.0 - power, critical)) * sd * math.sqrt(1.0 / n + test_over_train)


def limit(*, test_over_train: float, sd: float = 1.0, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the difference that no number of splits of this shape goes below: ``detectable`` for J to infinity."""
    quantile = NormalDist().inv_cdf
    return (quantile(1.0 - alpha / 2.0) + quantile(power)) * sd * math.sqrt(test_over_train)
