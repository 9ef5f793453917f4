"""Several cells together, against scipy and against the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from samcmp.analysis.aggregate import (
    critical_difference,
    friedman,
    geometric_mean,
    iqm,
    iqm_interval,
    performance_profile,
    profile_score,
    ranks,
    wilcoxon,
)

SCORES = np.random.default_rng(0).normal(size=(9, 5)).round(1)


def test_ranks_and_friedman_equal_scipys_ties_included() -> None:
    expected = stats.rankdata(-SCORES, axis=1)
    assert ranks(SCORES) == pytest.approx(expected)
    statistic, p = friedman(SCORES)
    reference = stats.friedmanchisquare(*SCORES.T)
    assert statistic == pytest.approx(reference.statistic)
    assert p == pytest.approx(reference.pvalue)


def test_arms_that_tie_everywhere_do_not_differ() -> None:
    assert friedman(np.ones((4, 3))) == (0.0, 1.0)


@pytest.mark.parametrize(("arms", "q"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_critical_difference_uses_the_table_of_demsar_2006(arms: int, q: float) -> None:
    assert critical_difference(14, arms) == pytest.approx(q * np.sqrt(arms * (arms + 1) / (6 * 14)), rel=5e-4)


def test_wilcoxon_equals_scipys_exact_test() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 5, 9, 20):
        d = rng.normal(0.3, 1.0, n)
        assert wilcoxon(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)


def test_wilcoxon_with_ties_counts_all_signs() -> None:
    d = np.array([1.0, 1.0, -1.0, 2.0, 2.0, 0.0, 3.0])
    size = stats.rankdata(np.abs(d[d != 0]))
    signs = np.array(np.meshgrid(*[[0, 1]] * len(size))).reshape(len(size), -1)
    sums = size @ signs
    observed = size[d[d != 0] > 0].sum()
    least = min(observed, size.sum() - observed)
    assert wilcoxon(d) == pytest.approx(2 * np.mean(sums <= least + 1e-9))
    assert wilcoxon([0.0, 0.0]) == 1.0


def test_performance_profile_and_score_are_their_definitions() -> None:
    costs = np.array([[1.0, 2.0, 8.0], [3.0, 1.5, np.inf], [2.0, 2.0, 2.0]])
    found = performance_profile(costs, [1.0, 2.0, 4.0])
    assert found.tolist() == [[2 / 3, 1.0, 1.0], [2 / 3, 1.0, 1.0], [1 / 3, 1 / 3, 1 / 3]]
    fine = np.linspace(1, 4, 300_001)
    area = np.trapezoid(performance_profile(costs, fine), fine, axis=1) / 3
    assert profile_score(costs) == pytest.approx(area, abs=1e-4)


def test_a_goal_that_nobody_reached_counts_for_nobody() -> None:
    assert profile_score(np.array([[np.inf, np.inf]])).tolist() == [0.0, 0.0]


def test_costs_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        profile_score([[0.0, 1.0]])


def test_iqm_is_scipys_trimmed_mean() -> None:
    for n in (1, 3, 4, 5, 8, 21):
        x = np.random.default_rng(n).normal(size=n)
        assert iqm(x) == pytest.approx(stats.trim_mean(x, 0.25))


def test_iqm_interval_resamples_within_cells() -> None:
    # two cells far apart with equal runs: nothing varies within a cell, so nothing varies at all
    found = iqm_interval([[0.0] * 4, [100.0] * 4], draws=500)
    assert found == type(found)(50.0, 50.0, 50.0)


@pytest.mark.parametrize("first", [1, 4, 5, 8])
def test_iqm_interval_equals_a_loop(first: int) -> None:
    strata = [np.random.default_rng(i).normal(size=first + i).round(1) for i in range(3)]
    found, other = (iqm_interval([s + shift for s in strata], draws=300, seed=7) for shift in (0.0, 1.0))
    assert (other.value, other.low) == pytest.approx((found.value + 1.0, (found.low or 0.0) + 1.0))
    stream = np.random.default_rng(7)
    drawn = np.concatenate([s[stream.integers(0, s.size, (300, s.size))] for s in strata], axis=1)
    slow = [stats.trim_mean(line, 0.25) for line in drawn]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))


def test_geometric_mean_of_speed_ratios() -> None:
    found = geometric_mean([1.5, 2.0, 1.8])
    assert found.value == pytest.approx(stats.gmean([1.5, 2.0, 1.8]))
    assert found.low is not None
    assert found.high is not None
    assert 1.5 <= found.low < found.value < found.high <= 2.0
    assert geometric_mean([1.5]).low is None
