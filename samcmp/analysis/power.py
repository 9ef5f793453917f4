"""What a design can detect before it is run: light, so that a plan prints at once."""

from __future__ import annotations

import math

from samcmp.analysis.distributions import NORMAL, t_quantile


def detectable(n: int, *, test_over_train: float, sd: float = 1.0, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest mean difference that n paired splits find with the given power, in units of ``sd``.

    (t_{1-alpha/2} + t_power) * SE with df = J - 1 and the corrected resampled standard error (Nadeau and Bengio
    2003): 1.19 SD for 25 random 80/10/10 splits. ``sd`` is that of the paired differences. Infinite for one split.
    Raises ValueError for a count below one, a negative ratio or a level outside (0, 1).
    """
    if n < 1 or test_over_train < 0.0:
        raise ValueError(f"splits are counted from 1 and n_test/n_train is >= 0, got {n} and {test_over_train}")
    if n == 1:
        return math.inf
    quantiles = t_quantile(1.0 - alpha / 2.0, n - 1) + t_quantile(power, n - 1)
    return quantiles * sd * math.sqrt(1.0 / n + test_over_train)


def floor(*, test_over_train: float, sd: float = 1.0, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the difference that no number of splits of this shape goes below: ``detectable`` for J to infinity."""
    return (NORMAL.inv_cdf(1.0 - alpha / 2.0) + NORMAL.inv_cdf(power)) * sd * math.sqrt(test_over_train)
