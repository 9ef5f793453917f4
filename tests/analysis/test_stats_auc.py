"""ROC-AUC on one test set, against scikit-learn and against the definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from samcmp.analysis.auc import bootstrap_auc, bootstrap_error, delong
from samcmp.analysis.comparison import Interval


def labels_and_scores(n: int = 120, *, seed: int = 0, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(float)
    common = rng.normal(size=n)
    a = y + common + 0.5 * rng.normal(size=n)
    b = 0.7 * y + common + 0.5 * rng.normal(size=n)
    if ties:
        a, b = np.round(a), np.round(b)
    return y, a, b


def slow_delong_variance(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """DeLong et al. 1988 as printed: structural components from all pairs."""

    def psi(x: float, z: float) -> float:
        return 1.0 if x > z else 0.5 if x == z else 0.0

    v10, v01 = [], []
    for s in (a, b):
        pos, neg = s[y == 1], s[y == 0]
        table = np.array([[psi(x, z) for z in neg] for x in pos])
        v10.append(table.mean(axis=1))
        v01.append(table.mean(axis=0))
    covariance = np.cov(v10) / len(v10[0]) + np.cov(v01) / len(v01[0])
    return float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])


@pytest.mark.parametrize("ties", [False, True])
def test_delong_gives_the_aucs_and_the_variance_of_the_printed_definition(ties: bool) -> None:
    y, a, b = labels_and_scores(ties=ties)
    found = delong(y, a, b)
    assert found.first == pytest.approx(roc_auc_score(y, a), abs=1e-12)
    assert found.second == pytest.approx(roc_auc_score(y, b), abs=1e-12)
    assert found.se**2 == pytest.approx(slow_delong_variance(y, a, b), rel=1e-10)


def test_delong_of_equal_scores_finds_no_difference() -> None:
    y, a, _ = labels_and_scores()
    found = delong(y, a, a)
    assert found.difference.value == 0.0
    assert found.p == 1.0


def test_delong_rejects_a_true_null_at_its_level() -> None:
    rejected = sum(delong(*null_pair(seed)).p < 0.05 for seed in range(400))
    assert 8 <= rejected <= 34  # 20 expected; outside lies less than 1 in 500


def null_pair(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(150) < 0.4).astype(float)
    common = y + rng.normal(size=150)
    return y, common + 0.5 * rng.normal(size=150), common + 0.5 * rng.normal(size=150)


def test_bootstrap_of_one_task_agrees_with_delong() -> None:
    y, a, b = labels_and_scores(300)
    boot, test = bootstrap_auc(y, a, b), delong(y, a, b)
    assert boot.value == pytest.approx(test.difference.value, abs=1e-12)
    assert boot.low == pytest.approx(test.difference.low, abs=0.008)
    assert boot.high == pytest.approx(test.difference.high, abs=0.008)


def test_bootstrap_equals_a_loop_over_sklearn_on_the_same_resamples() -> None:
    rng = np.random.default_rng(3)
    y = (rng.random((40, 2)) < 0.4).astype(float)
    y[rng.random((40, 2)) < 0.2] = np.nan
    a, b = np.round(rng.normal(size=(40, 2)), 1), np.round(rng.normal(size=(40, 2)), 1)
    draws = 60
    rare = min((0, 1), key=lambda t: min((y[:, t] == 0).sum(), (y[:, t] == 1).sum()))
    strata = np.nan_to_num(y[:, rare], nan=2.0)
    stream = np.random.default_rng(0)
    counts = np.zeros((draws, 40), dtype=int)
    for value in np.unique(strata):
        rows = np.flatnonzero(strata == value)
        counts[:, rows] = stream.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=draws)
    slow = []
    for weights in counts:
        rows = np.repeat(np.arange(40), weights)
        gaps = []
        for task in (0, 1):
            known = rows[~np.isnan(y[rows, task])]
            if len(set(y[known, task])) == 2:
                truth = y[known, task]
                gaps.append(roc_auc_score(truth, a[known, task]) - roc_auc_score(truth, b[known, task]))
        slow.append(np.mean(gaps))
    found = bootstrap_auc(y, a, b, draws=draws, seed=0)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=1e-12)


@pytest.mark.parametrize("squared", [True, False])
def test_bootstrap_of_errors_starts_from_the_difference_of_rmse_or_mae(squared: bool) -> None:
    rng = np.random.default_rng(1)
    y, a, b = rng.normal(size=(3, 50))
    power = 2 if squared else 1

    def error(x: np.ndarray) -> float:
        return float(np.mean(np.abs(x - y) ** power) ** (1 / power))

    found = bootstrap_error(y, a, b, squared=squared, draws=500)
    assert found.value == pytest.approx(error(b) - error(a))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_bootstrap_interval_covers_the_true_difference_at_its_level() -> None:
    covered = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        y = rng.normal(size=80)
        a, b = y + rng.normal(size=80), y + 1.2 * rng.normal(size=80)
        found = bootstrap_error(y, a, b, squared=True, draws=400)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.2 <= found.high
    assert 131 <= covered <= 150  # 95 % is 142.5; below 131 lies less than 1 in 1,000


@pytest.mark.parametrize("truth", [[0, 0, 0, 1], [0, 1, 2, 1], [1, 1, 1, 1]])
def test_delong_refuses_labels_it_cannot_test(truth: list[int]) -> None:
    with pytest.raises(ValueError, match="two molecules of each class"):
        delong(truth, [1, 2, 3, 4], [4, 3, 2, 1])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([1, 2, math.nan, 4], [4, 3, 2, 1]),
        ([1, 2, 3, 4], [math.nan] * 4),
        ([1, 2, 3], [4, 3, 2]),
        ([[1]] * 4, [[2]] * 4),
    ],
)
def test_delong_refuses_scores_that_are_no_numbers(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="scores"):
        delong([0, 0, 1, 1], first, second)


def test_delong_of_constant_scores_is_a_half_on_both_sides_and_no_difference() -> None:
    found = delong([0, 0, 1, 1], [3.0] * 4, [-1.0] * 4)
    assert (found.first, found.second, found.difference, found.p) == (0.5, 0.5, Interval(0.0, 0.0, 0.0), 1.0)


@pytest.mark.parametrize("other", [[1.0, 1.0, 1.0, 1.0], [4.0, 3.0, 2.0, 1.0]])
def test_delong_gives_no_interval_where_unlike_aucs_have_no_variance(other: list[float]) -> None:
    found = delong([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0], other)
    assert found.first == 1.0
    assert (found.difference.low, found.difference.high, found.p) == (None, None, None)


def test_delong_takes_infinite_scores_in_their_order() -> None:
    found = delong([0, 0, 1, 1], [-math.inf, 2.0, 1.0, math.inf], [1.0, 3.0, 2.0, 4.0])
    assert (found.first, found.difference.value) == (0.75, 0.0)


def test_auc_differences_are_antisymmetric() -> None:
    y, a, b = labels_and_scores(60)
    for one, other in itertools.permutations((a, b)):
        assert delong(y, one, other).difference.value == -delong(y, other, one).difference.value
