"""The time of a mean step from blocks that are not whole periods."""

from __future__ import annotations

import numpy as np
import pytest

from samcmp.profiling.clocks import Timed
from samcmp.profiling.composed import Composer, relative_cost


def block(step_seconds: list[float], passes: list[int]) -> Timed:
    total = sum(step_seconds)
    return Timed(total, total, total, total, tuple(step_seconds), tuple(passes))


def test_whole_periods_are_block_time_over_steps() -> None:
    composer = Composer([1.0], whole=True, shares=None)
    assert composer.step_seconds([(block([2, 1, 1, 1], [2, 1, 1, 1]),)]) == pytest.approx([1.25])


def test_parts_are_weighted() -> None:
    composer = Composer([0.98, 0.02], whole=True, shares=None)
    rounds = [(block([1.0] * 8, [1] * 8), block([2.2] * 2, [2] * 2))]
    assert composer.step_seconds(rounds) == pytest.approx([0.98 + 0.044])


def test_each_round_is_brought_to_the_mixture_of_the_whole_session() -> None:
    """Four rounds with 0, 1, 2 and 4 two-pass steps of four, twice as slow in the last: t follows the slowness only."""
    mixed = [([1, 1, 1, 1], 1.0), ([2, 1, 1, 1], 1.0), ([2, 2, 1, 1], 1.0), ([2, 2, 2, 2], 2.0)]
    rounds = [(block([speed * p for p in passes], passes),) for passes, speed in mixed]
    share = 7 / 16
    assert Composer([1.0], whole=False, shares=None).step_seconds(rounds) == pytest.approx(
        [(1 + share) * speed for _, speed in mixed]
    )


def test_declared_shares_replace_those_that_were_taken() -> None:
    rounds = [(block([2, 1], [2, 1]),)]
    assert Composer([1.0], whole=False, shares={1: 0.9, 2: 0.1}).step_seconds(rounds) == pytest.approx([1.1])


def test_a_kind_of_step_that_was_never_seen_counts_by_its_gradients() -> None:
    rounds = [(block([1, 1], [1, 1]),)]
    assert Composer([1.0], whole=False, shares={1: 0.5, 2: 0.5}).step_seconds(rounds) == pytest.approx([1.5])


def test_the_cost_of_a_kind_is_taken_within_blocks_so_drift_does_not_enter() -> None:
    blocks = [block([k * 1.0, k * 1.9], [1, 2]) for k in np.linspace(1, 3, 9)]
    blocks += [block([k * 1.0, k * 1.0], [1, 1]) for k in np.linspace(3, 9, 9)]
    assert relative_cost(blocks)[2] == pytest.approx(1.9)


def test_no_rounds_give_no_times() -> None:
    assert len(Composer([1.0], whole=True, shares=None).step_seconds([])) == 0
