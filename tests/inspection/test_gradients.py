"""Pairs, changes and conjectures of steps whose vectors are written down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samcmp.inspection.gradients import of_steps
from samcmp.inspection.watch import Steps


def steps(g: Any, epsilon: Any, omega: Any, *, at_theta: Any, loss: Any = None, sam_loss: Any = None) -> Steps:
    vectors = [np.asarray(v, dtype=float) for v in (g, epsilon, omega)]
    count = len(vectors[0])
    gram = np.zeros((count, 6, 6))
    for t in range(count):
        rows = []
        for v in vectors:
            rows += [v[t], v[t - 1] if t else np.zeros_like(v[0])]
        gram[t] = np.array(rows) @ np.array(rows).T
    nothing = np.full(count, np.nan)
    return Steps(
        gram, np.ones(count, bool), np.asarray(at_theta, bool), nothing if loss is None else np.asarray(loss, float),
        nothing if sam_loss is None else np.asarray(sam_loss, float), np.full(count, 0.1), 0.0,
    )  # fmt: skip


THREE = steps(
    g=[[1, 0], [-1, 1], [0, 2]],
    epsilon=[[0.1, 0], [0.1, 0], [0, 0]],  # the anchor, borrowed, and none: a zero vector
    omega=[[2, 1], [0, 3], [1, 1]],
    at_theta=[True, False, True],
)


def test_three_steps_by_hand() -> None:
    made = of_steps(THREE, 3)
    # (a): g_1·ω_0 = -1, g_2·ω_1 = 6; (b): ε̂_0·g_0 > 0 at the anchor, ε̂_1·g_1 < 0, and ε̂_2 = 0 counts in no class
    np.testing.assert_allclose(made.arrays["cos_next"], [-1 / np.sqrt(10), 1.0, np.nan])
    np.testing.assert_allclose(made.arrays["cos_direction"], [1.0, -1 / np.sqrt(2), np.nan])
    assert made.scalars["pairs_next"] == 0.5
    assert made.scalars["pairs_direction"] == 0.5
    assert made.scalars["pairs_direction_approximated"] == 0.0
    assert made.scalars["steps_direction"] == 2
    assert made.arrays["approximated"].tolist() == [0, 1, 0]


def test_changes_are_of_whole_and_of_unit_vectors() -> None:
    made = of_steps(THREE, 3)
    np.testing.assert_allclose(made.arrays["change_g"], [np.sqrt(5), np.sqrt(2), np.nan])
    np.testing.assert_allclose(made.arrays["change_epsilon"], [0.0, 0.1, np.nan], atol=1e-9)
    turned = np.linalg.norm(np.array([-1, 1]) / np.sqrt(2) - [1, 0])
    np.testing.assert_allclose(made.arrays["unit_change_g"][0], turned)
    assert made.scalars["norm_omega"] == pytest.approx(np.median(np.linalg.norm([[2, 1], [0, 3], [1, 1]], axis=1)))


def test_what_is_not_there_has_its_reason() -> None:
    adam = of_steps(steps(g=[[1, 0]] * 4, epsilon=[[0, 0]] * 4, omega=[[1, 0]] * 4, at_theta=[True] * 4), 2)
    assert "pairs_direction" not in adam.scalars
    assert adam.missing["pairs_direction"] == adam.missing["c1_share"] == "no step is perturbed"
    assert adam.scalars["pairs_next"] == 1.0
    sam = of_steps(steps(g=[[1, 0]] * 4, epsilon=[[1, 0]] * 4, omega=[[1, 0]] * 4, at_theta=[True] * 4), 2)
    assert sam.scalars["pairs_direction"] == 1.0
    assert "unperturbed weights" in sam.missing["pairs_direction_approximated"]


def test_the_conjectures_by_hand() -> None:
    angles = np.radians([10, 20, 30, 40, 50, 5, 15, 25, 35, 45])
    epsilon = 0.1 * np.stack([np.cos(angles), np.sin(angles)], 1)
    # the gap grows with the distance in both epochs; one difference is rounding, and is left out
    gap = np.array([0.1, 0.2, 0.3, 0.4, 0.5, -0.01, 0.02, 0.03, 0.04, 1e-9])
    made = of_steps(
        steps(
            g=[[1, 0]] * 10,
            epsilon=epsilon,
            omega=[[1, 0]] * 10,
            at_theta=[False] * 10,
            loss=1 + gap,
            sam_loss=[1] * 10,
        ),
        5,
    )
    assert made.scalars["conjecture_steps"] == 9
    assert made.scalars["c1_share"] == pytest.approx(8 / 9)
    assert made.scalars["c1_difference"] == pytest.approx(gap[:9].mean())
    assert made.scalars["c2_spearman"] == pytest.approx(1.0)
    assert made.scalars["c2_epochs"] == 1  # the second has four steps left
    np.testing.assert_allclose(made.arrays["distance"], 0.1 * 2 * np.sin(angles / 2))


def test_a_radius_that_shrinks_from_epoch_to_epoch_correlates_nothing_by_itself() -> None:
    generator = np.random.default_rng(0)
    angles = generator.uniform(0.1, 1.0, 400)
    rho = np.repeat([1.0, 0.1, 0.01, 0.001], 100)
    epsilon = rho[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    gap = rho * generator.uniform(0.1, 1.0, 400)  # as large as the radius, whatever the angle
    still = [[1, 0]] * 400
    made = of_steps(steps(still, epsilon, still, at_theta=[False] * 400, loss=1 + gap, sam_loss=[1] * 400), 100)
    assert abs(made.scalars["c2_spearman"]) < 0.15
