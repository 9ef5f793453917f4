"""Ratios, intervals, verdicts: against known answers and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samcmp.profiling import ratios
from samcmp.profiling.ratios import noise, noise_is_stable, ratio
from samcmp.records import speed_word


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.03, 1.10, "faster"),
        (0.90, 0.95, "slower"),
        (0.99, 1.01, "same"),
        (1.00, 1.03, "ambiguous"),
        (1.01, 1.10, "ambiguous"),
        (0.0, math.inf, "ambiguous"),
        (1.0201, 5, "faster"),
        (0.981, 1.0199, "same"),
    ],
)
def test_the_word_follows_the_interval_and_the_margin(low: float, high: float, said: str) -> None:
    assert speed_word(low, high) == said
    unbounded = (None if low == 0.0 else low, None if math.isinf(high) else high)  # as JSON has it
    assert speed_word(*unbounded) == said


def test_swapping_arm_and_reference_swaps_faster_and_slower() -> None:
    x = np.random.default_rng(0).normal(0.1, 0.02, 15)
    a, b = ratio(x), ratio(-x)
    assert a.ratio == pytest.approx(1 / b.ratio)
    assert a.low == pytest.approx(1 / b.high)
    assert (a.word, b.word) == ("faster", "slower")


def test_the_estimate_is_the_median_of_all_pairwise_means() -> None:
    x = np.array([0.3, -0.1, 0.2, 0.9, 0.05, 0.11, -0.4])
    means = [(x[i] + x[j]) / 2 for i in range(7) for j in range(i, 7)]
    assert math.log(ratio(x).ratio) == pytest.approx(float(np.median(means)), abs=1e-15)


@pytest.mark.parametrize("n", [6, 7, 10, 25, 60])
def test_an_interval_end_is_where_wilcoxons_test_turns(n: int) -> None:
    """Just outside the interval the test rejects at 5 %, just inside it does not: the inverted test, by scipy's."""
    from scipy.stats import wilcoxon

    x = np.random.default_rng(n).normal(0, 0.01, n)
    low = math.log(ratio(x).low)
    means = np.sort([(x[i] + x[j]) / 2 for i in range(n) for j in range(i, n)])
    below, above = means[means < low - 1e-12], means[means > low + 1e-12]
    inside = (above[0] + above[1]) / 2
    assert wilcoxon(x - inside, method="exact").pvalue > 0.05 - 1e-9
    if len(below) > 1:
        outside = (below[-1] + below[-2]) / 2
        assert wilcoxon(x - outside, method="exact").pvalue < 0.05 + 1e-9


@pytest.mark.parametrize("n", [2, 3, 5, 6, 8, 12, 30])
def test_the_interval_covers_the_truth_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = sum(r.low <= 1 <= r.high for r in (ratio(rng.normal(0, 0.02, n)) for _ in range(2000)))
    assert 0.935 <= hits / 2000 <= 0.965


def test_one_burst_does_not_move_the_estimate() -> None:
    x = np.full(11, 0.1) + np.random.default_rng(1).normal(0, 0.001, 11)
    hit = x.copy()
    hit[4] += 3.0
    assert ratio(hit).ratio == pytest.approx(ratio(x).ratio, rel=2e-3)
    assert abs(math.exp(hit.mean()) / ratio(x).ratio - 1) > 0.2  # a mean would have moved


def test_a_single_round_has_no_interval() -> None:
    r = ratio(np.array([0.2]))
    assert (r.low, r.high, r.word, r.half_width) == (0.0, math.inf, "ambiguous", math.inf)


@pytest.mark.parametrize("bad", [[], [0.1, math.nan], [math.inf]])
def test_nonsense_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="ratio"):
        ratio(np.array(bad))


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=20), st.floats(-0.5, 0.5))
def test_a_common_factor_shifts_estimate_and_interval_alike(values: list[float], shift: float) -> None:
    x = np.array(values)
    a, b = ratio(x), ratio(x + shift)
    factor = math.exp(shift)
    assert b.ratio == pytest.approx(a.ratio * factor, rel=1e-9)
    assert b.low == pytest.approx(a.low * factor, rel=1e-9)
    assert b.high == pytest.approx(a.high * factor, rel=1e-9)


def test_the_normal_approximation_meets_the_exact_distribution() -> None:
    exact, total = ratios._signed_rank_cdf(100), 100 * 101 // 2
    from scipy.special import ndtr

    v = np.arange(total + 1)
    approximate = ndtr((v + 0.5 - total / 2) / math.sqrt(total * 201 / 12))
    assert np.abs(exact - approximate).max() < 2e-3


def test_noise_is_relative_and_robust() -> None:
    t = np.random.default_rng(0).normal(2.0, 0.02, 400)
    assert noise(t) == pytest.approx(0.01, rel=0.2)
    t[:40] *= 3
    assert noise(t) == pytest.approx(0.01, rel=0.3)


def test_noise_counts_as_stable_only_after_it_has_been_watched_long() -> None:
    x = np.random.default_rng(0).normal(0, 0.02, 400)
    assert not noise_is_stable(x[:50])
    assert noise_is_stable(x)
    growing = x * np.linspace(1, 6, 400)
    assert not noise_is_stable(growing[:120])
