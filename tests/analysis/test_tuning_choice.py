"""The choice among trials: by validation alone, at equal numbers or costs, and what it is worth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from samcmp.analysis.tuning import best_of_n, chosen, trials_of_equal_cost

NAN = math.nan


@pytest.mark.parametrize(
    ("valid", "sign", "trial"),
    [
        ([0.7, 0.9, 0.8], 1, 1),
        ([0.7, 0.9, 0.8], -1, 0),
        ([0.8, 0.9, 0.9], 1, 1),  # a tie goes to the earlier
        ([0.9, 0.9], 1, 0),
        ([NAN, 0.1, 0.2], 1, 2),  # a failed run was tried and loses
        ([NAN, NAN], 1, -1),
    ],
)
def test_the_best_validation_score_is_chosen(valid: list[float], sign: int, trial: int) -> None:
    assert chosen(np.array(valid), sign=sign) == trial


def test_each_split_chooses_for_itself() -> None:
    assert chosen(np.array([[1.0, 2.0], [2.0, 1.0], [NAN, NAN]]), sign=1).tolist() == [1, 0, -1]


@pytest.mark.parametrize(
    ("costs", "trials", "expected"),
    [
        ({"adam": 1.0, "sam": 2.0, "graphsam": 1.03}, 8, {"adam": 8, "sam": 4, "graphsam": 7}),
        ({"adam": 3.0, "sam": 100.0}, 8, {"adam": 8, "sam": 1}),  # never none
        ({"adam": 0.1, "sam": 0.1 * 2}, 8, {"adam": 8, "sam": 4}),  # rounding costs no trial
    ],
)
def test_at_equal_cost_the_dearer_arm_tries_less(
    costs: dict[str, float], trials: int, expected: dict[str, int]
) -> None:
    assert trials_of_equal_cost(costs, trials) == expected


def enumerated(valid: NDArray[np.float64], test: NDArray[np.float64], sign: int) -> list[float]:
    """The same by trying every subset."""
    curve = []
    for m in range(len(valid)):
        scores = []
        for drawn in itertools.combinations(range(1, len(valid)), m):
            taken = [0, *drawn]
            scores.append(test[taken[int(chosen(valid[taken], sign=sign))]])
        curve.append(float(np.mean(scores)))
    return curve


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.booleans(), st.sampled_from([1, -1]))
def test_the_best_of_n_curve_is_the_mean_over_all_subsets(seed: int, n: int, ties: bool, sign: int) -> None:
    rng = np.random.default_rng(seed)
    valid = rng.integers(0, 4, n).astype(float) if ties else rng.standard_normal(n)
    test = rng.standard_normal(n)
    curve = best_of_n(valid, test, sign=sign)
    np.testing.assert_allclose(curve, enumerated(valid, test, sign), atol=1e-12)
    assert curve[0] == test[0]
    assert curve[-1] == pytest.approx(test[chosen(valid, sign=sign)], abs=1e-12)


def test_a_failed_trial_is_tried_and_loses_in_the_curve() -> None:
    valid, test = np.array([0.5, NAN, 0.7]), np.array([0.4, NAN, 0.8])
    np.testing.assert_allclose(best_of_n(valid, test, sign=1), [0.4, 0.6, 0.8], atol=1e-15)
