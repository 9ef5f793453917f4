"""Rank correlation of a measure with the test score, pooled and within splits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from samcmp.inspection.generalisation import Point, association, tau_b


def test_tau_is_scipys_with_and_without_ties() -> None:
    rng = np.random.default_rng(0)
    for high in (4, 1000):
        x, y = rng.integers(0, high, 12), rng.integers(0, high, 12)
        points = [Point(0, float(a), float(b)) for a, b in zip(x, y, strict=True)]
        assert tau_b(points) == pytest.approx(kendalltau(x, y).statistic)


def test_pooled_and_within_splits_may_point_in_opposite_ways() -> None:
    points = [Point(s, 10.0 * s + k, 10.0 * s - k) for s in range(3) for k in range(3)]
    made = association(points)
    assert made.within == -1.0
    assert made.pooled is not None
    assert made.pooled > 0.4
    assert (made.runs, made.splits) == (9, 3)


def test_ties_and_lone_runs_leave_no_order() -> None:
    made = association([Point(k, 1.0, float(k)) for k in range(5)])
    assert (made.pooled, made.within, made.splits) == (None, None, 0)


def test_four_runs_are_too_few_and_what_is_no_number_does_not_count() -> None:
    with pytest.raises(ValueError, match="4 runs are too few"):
        association([*(Point(0, float(k), float(k)) for k in range(4)), Point(0, float("nan"), 1.0)])
