"""A speed is called impossible where its gradients need longer beyond all noise, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from samcmp.profiling.arms import GRADIENT
from samcmp.profiling.session_records import implausible, least_time
from samcmp.records import Throughput


def warned(seconds: Mapping[str, Any], *, passes: float = 2.0) -> list[str]:
    """The warnings about ``sam`` from the times of a mean step in each round."""
    results = SimpleNamespace(
        base="adam", sam="sam", bound=None, session=None, memory={}, step_seconds=lambda name: seconds[name]
    )
    least = least_time(results, SimpleNamespace(name="sam"), passes=passes)  # type: ignore[arg-type]
    speed = Throughput(1.0, passes, 1, 1, (1.0,), 1, "budget", details={"least_time": least, "step_kinds": {}})
    return implausible(results, {"sam": speed})  # type: ignore[arg-type]


def rounds(middle: float, noise: float, seed: int) -> np.ndarray:
    drawn: np.ndarray = middle * np.exp(noise * np.random.default_rng(seed).standard_normal(12))
    return drawn


@pytest.mark.parametrize("noise", [0.001, 0.1])
def test_two_passes_that_share_a_fixed_cost_are_possible(noise: float) -> None:
    # a base step of 1.0, 0.9 of it a gradient, a fifth of which is paid once a step: 1.06 of the gradient-count bound
    seconds = {"adam": rounds(1.0, noise, 0), GRADIENT: rounds(0.9, noise, 1), "sam": rounds(1.72, noise, 2)}
    assert warned(seconds) == []


def test_noise_alone_makes_nothing_impossible() -> None:
    for seed in range(0, 300, 3):
        seconds = {
            "adam": rounds(1.0, 0.2, seed),
            GRADIENT: rounds(1.0, 0.2, seed + 1),
            "sam": rounds(2.0, 0.2, seed + 2),
        }
        assert warned(seconds) == []


def test_a_single_round_has_no_interval_and_no_warning() -> None:
    assert warned({"adam": np.ones(1), GRADIENT: np.ones(1), "sam": np.full(1, 0.5)}) == []


@pytest.mark.parametrize(("took", "passes"), [(1.2, 2.0), (0.9, 1.0), (1.0, 1.5)])
def test_less_time_than_the_gradients_need_is_said_with_the_numbers(took: float, passes: float) -> None:
    seconds = {"adam": rounds(1.0, 0.01, 0), GRADIENT: rounds(0.9, 0.01, 1), "sam": rounds(took, 0.01, 2)}
    (said,) = warned(seconds, passes=passes)
    assert said.startswith("sam: its gradients need 1.")
    assert said.endswith("of the time it took: faster than they allow")
