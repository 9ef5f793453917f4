"""Which trial of a tuned comparison counts, and what tuning is worth: chosen per split, by validation alone.

Arrays: J splits, n trials (trial 0 first, the settings as given); valid and test are (J, n), NaN where a run failed.
``sign`` is 1 where a larger score is better, else -1. No test score of a trial that was not chosen leaves this module
except inside :func:`best_of_n`'s mean over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def chosen(valid: Array, *, sign: int) -> NDArray[np.int64]:
    """The trial of each split with the best validation score; ties to the earlier one, failed runs lose.

    Args:
        valid: (..., n).

    Returns:
        (...,) number of the trial, or -1 where every trial failed.
    """
    score = np.where(np.isnan(valid), -np.inf, sign * valid)
    best = score.argmax(axis=-1)
    return np.where(np.isneginf(score).all(axis=-1), -1, best)


def trials_of_equal_cost(costs: Mapping[str, float], trials: int) -> dict[str, int]:
    """How many trials each arm may use where all spend alike: the cheapest keeps ``trials``, none gets less than one.

    Args:
        costs: of one run of each arm, in any one unit (gradient passes, seconds).
    """
    least = min(costs.values())
    return {arm: max(1, math.floor(trials * least / cost + 1e-9)) for arm, cost in costs.items()}


def best_of_n(valid: Array, test: Array, *, sign: int) -> Array:
    """Expected test score of the trial chosen among trial 0 and m others, for m = 0 .. n - 1.

    The m are drawn from the R = n - 1 others without replacement (Tang et al. 2020, after Dodge et al. 2019), so the
    curve goes from the default's score to the tuned one. A trial wins a draw of which it is the best: with r others
    validating worse and trial 0 worse, C(r, m - 1) of the C(R, m) draws; trial 0 with q others worse, C(q, m).

    Args:
        valid, test: (n,) of one split and arm; a failed run is NaN in both.

    Returns:
        (n,) NaN where trial 0 failed and no other trial is certain to be drawn.
    """
    score = np.where(np.isnan(valid), -np.inf, sign * valid)
    rest = len(score) - 1
    worse = np.array([_later(score, i) for i in range(len(score))])  # others than trial 0 that lose to trial i
    curve = np.empty(len(score))
    for m in range(rest + 1):
        draws = math.comb(rest, m)
        weights = [math.comb(int(worse[0]), m) / draws]
        for i in range(1, rest + 1):
            beats_default = score[i] > score[0]
            weights.append(math.comb(int(worse[i]), m - 1) / draws if m and beats_default else 0.0)
        used = np.array(weights) > 0
        curve[m] = float(np.dot(np.array(weights)[used], test[used]))
    return curve


def _later(score: Array, i: int) -> int:
    """How many of the trials 1 .. n - 1, ``i`` aside, lose to trial ``i``; of equal ones the earlier wins."""
    wins = [score[j] < score[i] or (score[j] == score[i] and j > i) for j in range(1, len(score)) if j != i]
    return sum(wins)
