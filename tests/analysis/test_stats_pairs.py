"""Paired differences against scipy and statsmodels, and their error rates by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from samcmp.analysis.comparison import Interval
from samcmp.analysis.gate import independent_spread
from samcmp.analysis.paired import (
    Adjusted,
    Difference,
    adjusted_interval,
    blocks_needed,
    holm,
    mean_interval,
    paired_difference,
    probability_better,
    standard_error,
    within_half_widths,
)
from samcmp.analysis.pareto import front_probability, pareto_front
from samcmp.analysis.power import detectable, limit
from samcmp.records import speed_word

D = np.array([0.012, -0.003, 0.008, 0.021, -0.006, 0.004, 0.010])


def test_without_correction_it_is_the_paired_t_test_of_scipy() -> None:
    found = paired_difference(D, margin=0.01)
    expected = stats.ttest_1samp(D, 0.0)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-10)
    low, high = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_correction_is_that_of_nadeau_and_bengio() -> None:
    # as scikit-learn's example of statistical comparison of models computes it
    n, n_train, n_test = len(D), 800, 100
    corrected = np.std(D, ddof=1) * math.sqrt(1 / n + n_test / n_train)
    t = D.mean() / corrected
    found = paired_difference(D, margin=0.01, test_over_train=n_test / n_train)
    assert found.se == pytest.approx(corrected)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), n - 1))


def test_equivalence_is_the_tost_of_statsmodels() -> None:
    found = paired_difference(D, margin=0.01)
    expected, lower, _ = ttost_paired(D, np.zeros_like(D), -0.01, 0.01)
    assert found.p_not_equivalent == pytest.approx(expected, rel=1e-10)
    assert found.p_inferior == pytest.approx(lower[1], rel=1e-10)


def test_noninferiority_agrees_with_the_printed_interval() -> None:
    for shift in np.linspace(-0.02, 0.02, 41):
        found = paired_difference(D + shift, margin=0.01, test_over_train=0.125)
        assert found.p_inferior is not None
        assert found.low is not None
        assert (found.p_inferior < 0.025) == (found.low > -0.01)


def test_a_single_block_has_no_interval() -> None:
    found = paired_difference([0.01], margin=0.01)
    assert found.mean == 0.01
    assert (found.sd, found.low, found.p, found.p_inferior) == (None, None, None, None)


def test_equal_runs_are_equivalent_and_not_better() -> None:
    found = paired_difference([0.0, 0.0, 0.0], margin=0.01)
    assert (found.p, found.sd) == (1.0, 0.0)
    assert found.p_inferior is not None
    assert found.p_not_equivalent is not None
    interval = alone(found)
    assert (interval.low, interval.high, interval.word(0.01)) == (0.0, 0.0, "equivalent")


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [[0.1, 0.2]]])
def test_nonsense_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        paired_difference(values, margin=0.01)
    with pytest.raises(ValueError, match="margin"):
        paired_difference([0.1], margin=-1.0)


def test_holm_equals_statsmodels() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.5, 0.04]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]) == []


def alone(test: Difference, margin: float = 0.01) -> Adjusted:
    """The interval of a single comparison, whose p-values need no adjustment."""
    assert test.p is not None
    assert test.p_inferior is not None
    assert test.p_not_equivalent is not None
    return adjusted_interval(
        test, p=test.p, p_inferior=test.p_inferior, p_not_equivalent=test.p_not_equivalent, margin=margin, comparisons=1
    )


@pytest.mark.parametrize(
    ("shift", "spread", "word"),
    [
        (0.02, 0.1, "better"), (-0.02, 0.1, "worse"), (0.0, 0.1, "equivalent"), (0.007, 1.0, "non-inferior"),
        (-0.005, 1.0, "inconclusive"), (-0.005, 0.1, "worse"),
    ],
)  # fmt: skip
def test_the_strongest_true_word_is_said(shift: float, spread: float, word: str) -> None:
    found = paired_difference(shift + spread * (D - D.mean()), margin=0.01)
    assert alone(found).word(0.01) == word


def test_a_single_comparison_has_the_interval_of_its_test() -> None:
    found = paired_difference(D - 0.02, margin=0.01, test_over_train=0.125)
    interval = alone(found)
    assert (interval.low, interval.high) == (found.low, found.high)
    assert not interval.low_excluded


@given(
    drawn=st.lists(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=3, max_size=6), min_size=1, max_size=8),
    scale=st.floats(-4, 0),
    margin=st.floats(1e-4, 1.0),
    factor=st.sampled_from([0.0, 0.125]),
)
@settings(max_examples=400, deadline=None)
def test_word_and_interval_never_disagree(
    drawn: list[list[float]], scale: float, margin: float, factor: float
) -> None:  # fmt: skip
    tests = [paired_difference(np.array(d) * 10**scale, margin=margin, test_over_train=factor) for d in drawn]
    adjusted = [holm([getattr(t, n) for t in tests]) for n in ("p", "p_inferior", "p_not_equivalent")]
    for test, p, p_inferior, p_apart in zip(tests, *adjusted, strict=True):
        found = adjusted_interval(
            test, p=p, p_inferior=p_inferior, p_not_equivalent=p_apart, margin=margin, comparisons=len(tests)
        )
        word = found.word(margin)
        # what Holm's method establishes is said, and better and worse are said of nothing else
        assert (word == "better") == (p < 0.05 and test.mean > 0.0)
        assert (word == "worse") == (p < 0.05 and test.mean < 0.0)
        if p_apart < 0.05:
            assert word in {"equivalent", "better", "worse"}
            assert -margin <= found.low <= found.high <= margin
        if p_inferior < 0.025:
            assert word != "inconclusive"
        # what is printed shows it
        assert found.low <= test.mean <= found.high
        if word in {"equivalent", "non-inferior", "inconclusive"}:
            assert found.low <= 0.0 <= found.high
        if word == "non-inferior":
            assert -margin <= found.low
            assert found.high >= margin
        if word == "inconclusive":
            assert found.low <= -margin
        # at least as wide as that of the comparison alone, up to what Holm's method cuts off
        assert test.low is not None
        assert test.high is not None
        assert found.low_excluded or found.low <= test.low
        assert found.high_excluded or found.high >= test.high


def test_the_intervals_of_a_cell_hold_together_and_its_words_err_in_at_most_5_per_cent() -> None:
    # six comparisons on five overlapping splits, on and beside the values that words are about
    rng = np.random.default_rng(5)
    margin, truth = 1.0, np.array([-1.0, -1.0, 0.0, 0.0, 1.0, -2.0])
    together = false = 0
    repetitions = 2000
    for _ in range(repetitions):
        tests = [paired_difference(d, margin=margin, test_over_train=0.125)
                 for d in truth[:, None] + 0.3 * correlated(rng, 6, 5, 0.1 / 0.9)]  # fmt: skip
        adjusted = [holm([getattr(t, n) for t in tests]) for n in ("p", "p_inferior", "p_not_equivalent")]
        holds = errs = False
        missed = []
        for test, real, p, p_inferior, p_apart in zip(tests, truth, *adjusted, strict=True):
            found = adjusted_interval(
                test, p=p, p_inferior=p_inferior, p_not_equivalent=p_apart, margin=margin, comparisons=6
            )
            word = found.word(margin)
            missed.append(not (found.low <= real <= found.high))
            errs |= (word == "better" and real <= 0.0) or (word == "worse" and real >= 0.0)
        holds = not any(missed)
        together += holds
        false += errs
    assert false / repetitions <= 0.05
    assert together / repetitions >= 0.93  # Bonferroni's 95 %, less what Holm's tests cut off wrongly


def correlated(rng: np.random.Generator, runs: int, blocks: int, rho: float) -> np.ndarray:
    """Differences (runs, blocks) of standard deviation 1 with equal correlation rho, as overlapping splits have."""
    shared = rng.standard_normal((runs, 1)) * math.sqrt(rho)
    return shared + rng.standard_normal((runs, blocks)) * math.sqrt(1 - rho)


def test_coverage_under_the_correlation_that_the_correction_assumes() -> None:
    # rho = n_test / (n_test + n_train) makes the corrected standard error the true one
    rng = np.random.default_rng(0)
    values = correlated(rng, 2000, 10, 0.1 / 0.9)
    covered, naive = 0, 0
    for d in values:
        found = paired_difference(d, margin=0.0, test_over_train=0.125)
        plain = paired_difference(d, margin=0.0)
        assert found.low is not None
        assert found.high is not None
        assert plain.low is not None
        assert plain.high is not None
        covered += found.low <= 0.0 <= found.high
        naive += plain.low <= 0.0 <= plain.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)
    assert naive / 2000 < 0.90  # what the correction is for


def test_same_against_same_is_called_better_or_worse_in_at_most_5_per_cent() -> None:
    # 200 comparisons of two arms that differ by chance alone, ten overlapping 80/10/10 splits each
    rng = np.random.default_rng(1)
    words = []
    for d in 0.01 * correlated(rng, 200, 10, 0.1 / 0.9):
        found = paired_difference(d, margin=0.01, test_over_train=0.125)
        words.append(alone(found).word(0.01))
    assert sum(word in {"better", "worse"} for word in words) <= 10


def test_a_true_loss_of_the_margin_is_called_noninferior_in_at_most_2_5_per_cent() -> None:
    rng = np.random.default_rng(2)
    found = [
        paired_difference(-0.01 + 0.01 * d, margin=0.01, test_over_train=0.125)
        for d in correlated(rng, 2000, 10, 0.1 / 0.9)
    ]
    share = np.mean([f.p_inferior is not None and f.p_inferior < 0.025 for f in found])
    assert share == pytest.approx(0.025, abs=0.011)


def test_blocks_needed_is_the_smallest_number_that_settles_it() -> None:
    n = blocks_needed(0.001, 0.01, margin=0.01, test_over_train=0.05)
    assert n is not None

    def half(j: int) -> float:
        return float(stats.t.ppf(0.975, j - 1)) * standard_error(0.01, j, test_over_train=0.05)

    assert half(n) < 0.011
    assert half(n - 1) >= 0.011


def test_overlap_can_make_every_number_of_splits_too_small() -> None:
    assert blocks_needed(0.0, 0.03, margin=0.01, test_over_train=0.125) is None


def test_detectable_difference_is_that_of_the_specification() -> None:
    assert detectable(25, test_over_train=0.125) == pytest.approx(1.19, abs=0.005)
    assert detectable(25, test_over_train=0.25) == pytest.approx(1.57, abs=0.005)
    assert detectable(1, test_over_train=0.125) == math.inf
    for n in (2, 3, 4, 5, 10, 100, 1000):
        df, critical = n - 1, special.stdtrit(n - 1, 0.975)
        expected = special.nctdtrinc(df, 0.2, critical) * math.sqrt(1 / n)
        assert detectable(n, test_over_train=0.0) == pytest.approx(expected, rel=1e-6)
    assert limit(test_over_train=0.125) == pytest.approx(detectable(5000, test_over_train=0.125), rel=2e-3)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 25])
def test_detectable_difference_has_80_per_cent_power_at_every_number_of_splits(n: int) -> None:
    rng = np.random.default_rng(n)
    least = detectable(n, test_over_train=0.125)
    # a standard deviation of 1 within correlated blocks, for which the corrected error is the true one
    d = least + correlated(rng, 20_000, n, 0.1 / 0.9) / math.sqrt(1 - 0.1 / 0.9)
    t = d.mean(axis=1) / (d.std(axis=1, ddof=1) * math.sqrt(1 / n + 0.125))
    assert np.mean(np.abs(t) > stats.t.ppf(0.975, n - 1)) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 25, 200])
@pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.01, 0.9)])
def test_detectable_difference_is_that_of_the_noncentral_t_of_statsmodels(n: int, alpha: float, power: float) -> None:
    # one tail: of the other, which adds less than 1e-6, statsmodels makes a NaN for few splits
    least = detectable(n, test_over_train=0.0, alpha=alpha, power=power)
    assert TTestPower().power(least, n, alpha / 2, alternative="larger") == pytest.approx(power, abs=1e-5)


@pytest.mark.parametrize(
    ("n", "ratio", "alpha", "power"),
    [(0, 0.1, 0.05, 0.8), (5, -0.1, 0.05, 0.8), (5, math.nan, 0.05, 0.8), (5, 0.1, 0.0, 0.8), (5, 0.1, 0.05, 1.0),
     (5, 0.1, 0.05, 0.01), (5, 0.1, math.nan, 0.8)],
)  # fmt: skip
def test_a_design_that_cannot_be_is_refused(n: int, ratio: float, alpha: float, power: float) -> None:
    with pytest.raises(ValueError, match=r"expected|counted"):
        detectable(n, test_over_train=ratio, alpha=alpha, power=power)


@pytest.mark.parametrize(
    ("mean", "sd", "margin", "needed"),
    [
        (0.0, 0.0, 0.0, None),  # exactly equal, and no margin to be equal within
        (0.0, 0.0, 0.01, 2),
        (-0.1, 0.0, 0.0, 2),
        (0.1, 0.0, 0.0, 2),
        (0.0, 0.01, 0.0, None),
        (-0.01, 0.0, 0.01, 2),
    ],
)
def test_blocks_needed_at_zero(mean: float, sd: float, margin: float, needed: int | None) -> None:
    assert blocks_needed(mean, sd, margin=margin, test_over_train=0.125) == needed


@pytest.mark.parametrize(
    ("mean", "sd", "margin"),
    [(math.nan, 0.1, 0.01), (0.0, math.nan, 0.01), (0.0, 0.1, math.nan), (0.0, -0.1, 0.01), (0.0, 0.1, -0.01),
     (math.inf, 0.1, 0.01)],
)  # fmt: skip
def test_blocks_needed_refuses_what_is_no_number(mean: float, sd: float, margin: float) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        blocks_needed(mean, sd, margin=margin, test_over_train=0.125)


def test_probability_of_outperforming_equals_a_long_bootstrap() -> None:
    d = np.array([0.1, -0.2, 0.0, 0.3, 0.4, -0.1, 0.2, 0.0])
    found = probability_better(d)
    value = np.where(d > 0, 1.0, np.where(d == 0, 0.5, 0.0))
    drawn = value[np.random.default_rng(0).integers(0, 8, (200_000, 8))].mean(axis=1)
    assert found.value == value.mean()
    assert (found.low, found.high) == tuple(np.quantile(drawn, [0.025, 0.975], method="inverted_cdf"))


def test_ratio_of_two_sessions_covers_the_true_ratio_at_its_level() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        now, before = rng.normal(1.0, 0.05, 20), rng.normal(1.2, 0.05, 20)
        low, high = independent_spread(now, before, draws=500)
        covered += low <= 1.2 / (np.median(before) / np.median(now)) <= high
    assert covered >= 180


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        (Interval(1.7, 1.6, 1.8), "faster"),
        (Interval(0.5, 0.49, 0.51), "slower"),
        (Interval(1.0, 0.99, 1.01), "same"),
        (Interval(1.02, 0.99, 1.05), "ambiguous"),
        (Interval(1.7), "ambiguous"),
    ],
)
def test_speed_needs_its_whole_interval_beyond_the_threshold(interval: Interval, word: str) -> None:
    assert speed_word(interval.low, interval.high) == word


def test_pareto_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    accuracy, speed = rng.integers(0, 6, 30), rng.integers(0, 6, 30)
    beaten = [
        any(
            accuracy[j] >= accuracy[i] and speed[j] >= speed[i] and (accuracy[j], speed[j]) != (accuracy[i], speed[i])
            for j in range(30)
        )
        for i in range(30)
    ]
    assert pareto_front(accuracy, speed).tolist() == [not b for b in beaten]


@pytest.mark.parametrize(
    ("accuracy", "speed", "front"),
    [
        ([], [], []),
        ([0.9], [1.0], [True]),
        ([math.nan], [1.0], [False]),
        ([math.nan, 0.8, 0.9], [9.0, 1.0, 2.0], [False, False, True]),
        ([0.9, 0.8], [math.nan, 1.0], [False, True]),
        ([0.9, 0.9, 0.8], [1.0, 1.0, 1.0], [True, True, False]),
        ([0.9, 0.8], [1.0, math.inf], [True, True]),
    ],
)
def test_pareto_front_of_ties_and_of_points_that_are_no_numbers(
    accuracy: list[float], speed: list[float], front: list[bool]
) -> None:
    assert pareto_front(accuracy, speed).tolist() == front


def test_pareto_front_refuses_vectors_of_unlike_length() -> None:
    with pytest.raises(ValueError, match="shapes"):
        pareto_front([0.9, 0.8], [1.0])


def test_front_probability_is_sure_of_the_fastest_and_undecided_between_equals() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.05, (10, 1))
    scores = 0.9 + hard + rng.normal(0, 0.001, (10, 3)) - np.array([0.0, 0.0, 0.05])
    scores[:, 1] -= scores[:, 1].mean() - scores[:, 0].mean()  # as good as the first on average, and slower
    found = front_probability(scores, np.log([2.0, 1.0, 3.0]), [0.001] * 3, test_over_train=0.125)
    assert found is not None
    assert found[2] == 1.0
    assert found[0] > 0.999
    assert found[1] == pytest.approx(0.5, abs=0.03)
    assert front_probability(scores[:1], [0, 0, 0], [0, 0, 0], test_over_train=0.1) is None


def test_within_block_intervals_leave_the_blocks_difficulty_out() -> None:
    rng = np.random.default_rng(0)
    easy = rng.normal(0, 0.01, (12, 4))
    hard = easy + rng.normal(0, 1.0, (12, 1))
    assert within_half_widths(hard) == pytest.approx(within_half_widths(easy))
    # two arms: the interval of the difference is sqrt(2) times theirs
    two = easy[:, :2]
    found = mean_interval(two[:, 0] - two[:, 1])
    assert found.high is not None
    assert within_half_widths(two)[0] * math.sqrt(2) == pytest.approx(found.high - found.value)
