"""How often tuning makes two equally good optimizers look different: the rule in use, and those that are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from samcmp.analysis.draws import radical_inverse
from samcmp.analysis.tuning import chosen

Array = NDArray[np.float64]
TRIALS = 8


def false_claims(difference: Array, *, test_to_train: float = 0.0) -> float:
    """Share of experiments (rows) whose corrected resampled t claims a difference at 5 % (Nadeau and Bengio 2003)."""
    n = difference.shape[1]
    t = difference.mean(1) / np.sqrt(difference.var(1, ddof=1) * (1 / n + test_to_train))
    return float(np.mean(np.abs(t) > stats.t.ppf(0.975, n - 1)))


def test_scores(valid: Array, test: Array) -> Array:
    return np.take_along_axis(test, chosen(valid, sign=1)[..., None], -1)[..., 0]


test_scores.__test__ = False  # type: ignore[attr-defined]


def mirrored(splits: int, *, own_shifts: bool, repetitions: int = 4000) -> float:
    """Two optimizers as good as each other whose best settings lie elsewhere, tuned on the same draws."""
    rng = np.random.default_rng(splits)
    sequence = np.array([[radical_inverse(i, base) for base in (2, 3)] for i in range(1, TRIALS)])
    shifts = rng.random((repetitions, splits if own_shifts else 1, 1, 2))
    drawn = np.broadcast_to((sequence + shifts) % 1, (repetitions, splits, TRIALS - 1, 2))
    u = np.concatenate([np.full((repetitions, splits, 1, 2), 0.5), drawn], axis=2)
    scores = []
    for optimum in (0.3, 0.7):
        run = -0.4 * ((u - optimum) ** 2).sum(-1) + 0.006 * rng.standard_normal(u.shape[:3])
        valid, test = (run + 0.012 * rng.standard_normal(run.shape) for _ in range(2))
        scores.append(test_scores(valid, test))
    return false_claims(scores[0] - scores[1])


def test_draws_shifted_for_every_split_claim_a_difference_in_at_most_six_per_cent() -> None:
    assert mirrored(5, own_shifts=True) <= 0.06
    assert mirrored(25, own_shifts=True) <= 0.06


def test_the_same_draws_on_every_split_would_claim_one_in_more_than_fifteen_per_cent() -> None:
    assert mirrored(5, own_shifts=False) > 0.15
    assert mirrored(25, own_shifts=False) > 0.15


def without_effect(splits: int, *, by_test: bool, repetitions: int = 400) -> tuple[float, float]:
    """Settings that change nothing, 2,000 molecules, overlapping 80/10/10 splits: false claims and mean gain.

    By test, one optimizer alone is tuned, as a sweep whose best test score is reported; by validation, both are.
    """
    rng = np.random.default_rng(7 * splits + by_test)
    molecules, part = 2000, 200
    differences = np.empty((repetitions, splits))
    gains = np.empty((repetitions, splits))
    for r in range(repetitions):
        difficulty = 0.3 * rng.standard_normal(molecules)  # of a molecule, for every model
        order = np.argsort(rng.random((splits, molecules)), axis=1)
        for j in range(splits):
            rows = order[j, : 2 * part]
            noise = 0.17 * rng.standard_normal((2, TRIALS, 2 * part))
            scores = (difficulty[rows] + noise).reshape(2, TRIALS, 2, part).mean(-1)
            valid, test = scores[..., 0], scores[..., 1]
            tuned = test_scores(test if by_test else valid, test)
            other = test[1, 0] if by_test else tuned[1]
            differences[r, j] = tuned[0] - other
            gains[r, j] = tuned[0] - test[0, 0]
    return false_claims(differences, test_to_train=1 / 8), float(gains.mean())


def test_a_choice_by_validation_claims_nothing_and_has_no_bias() -> None:
    for splits in (5, 25):
        claims, bias = without_effect(splits, by_test=False, repetitions=400 if splits == 5 else 150)
        assert claims <= 0.05
        assert abs(bias) < 0.001


def test_a_choice_by_test_score_claims_what_is_not_there() -> None:
    claims, bias = without_effect(5, by_test=True)
    assert claims > 0.30
    assert bias > 0.009
