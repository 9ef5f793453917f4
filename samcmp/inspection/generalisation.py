"""Whether flatter weights go with better test scores over a set of runs: Kendall's τ_b, an association and no cause.

Andriushchenko et al. (ICML 2023) found it weak or reversed for such measures. τ_b is that of a measure with the test
score turned so that larger is better: below 0, flatter goes with better. Pooled over all runs it holds what splits do
to both; the mean of τ_b within splits does not.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from samcmp.errors import UsageError

LEAST = 5  # runs


@dataclass(frozen=True, slots=True)
class Point:
    """One run: what was measured at its weights, and its test score, larger is better."""

    split: Hashable
    measure: float
    score: float


@dataclass(frozen=True, slots=True)
class Association:
    """Rank correlations, -1 to 1; None where ties or too few runs leave no order."""

    runs: int
    pooled: float | None
    within: float | None  # mean over splits
    splits: int  # that the mean is over


def too_few(runs: int, *, where: str) -> UsageError:
    """Build the error for fewer than :data:`LEAST` runs."""
    return UsageError(
        f"{runs} runs are too few for a rank correlation", where=where, remedy=f"Take --repeats {LEAST} or more."
    )


def association(points: Sequence[Point]) -> Association:
    """Return Kendall's τ_b pooled and within splits. Runs without a finite measure and score do not count.

    Raises ValueError for fewer than five runs."""
    finite = [p for p in points if math.isfinite(p.measure) and math.isfinite(p.score)]
    if len(finite) < LEAST:
        raise ValueError(f"{len(finite)} runs are too few for a rank correlation")
    by_split: dict[Hashable, list[Point]] = {}
    for point in finite:
        by_split.setdefault(point.split, []).append(point)
    within = [tau for group in by_split.values() if (tau := tau_b(group)) is not None]
    return Association(len(finite), tau_b(finite), sum(within) / len(within) if within else None, len(within))


def tau_b(points: Sequence[Point]) -> float | None:
    """Return τ_b = (C - D) / √((P - T_x)(P - T_y)) of P pairs, C of them concordant and D discordant, T tied in one.

    None where all of one side are tied. Source: Kendall (1945).
    """
    from scipy.stats import kendalltau

    if len(points) < 2:
        return None
    tau = float(kendalltau([p.measure for p in points], [p.score for p in points]).statistic)
    return None if math.isnan(tau) else tau
