"""Draws of a tuned comparison: fixed, nested, alike for every optimizer, shifted from block to block."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samcmp.analysis.draws import Choice, Range, Ranges, dimensions, draw, positions, radical_inverse, search_name

SHARED: Ranges = {"learning_rate": Range(0.1, 10), "weight_decay": Range(1e-6, 1e-3)}
SAM: Ranges = {**SHARED, "rho": Range(0.001, 0.2)}
ASAM: Ranges = {**SHARED, "rho": Range(0.01, 2.0)}
PINNED = [
    {},
    {"learning_rate": 0.1519, "rho": 0.003427, "weight_decay": 0.00013},
    {"learning_rate": 4.804, "rho": 0.02004, "weight_decay": 0.0005176},
]
WHERE = {"dataset": "demo", "model": "gcn", "block": "random/0/seed0"}


def test_the_radical_inverse_mirrors_the_digits() -> None:
    assert [radical_inverse(i, 2) for i in range(1, 8)] == [0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]
    assert [radical_inverse(i, 3) for i in (1, 2, 3, 5)] == pytest.approx([1 / 3, 2 / 3, 1 / 9, 7 / 9], abs=1e-15)


def test_the_draws_are_those_of_the_rule_for_good() -> None:
    assert [draw(SAM, i, **WHERE) for i in (0, 1, 2)] == PINNED


def test_what_all_optimizers_tune_is_drawn_alike_and_own_settings_lie_at_the_same_place_of_their_ranges() -> None:
    for trial in range(1, 16):
        base, sam, asam = (draw(ranges, trial, **WHERE) for ranges in (SHARED, SAM, ASAM))
        assert all(base[name] == sam[name] == asam[name] for name in base)
        assert asam["rho"] == pytest.approx(10 * sam["rho"], rel=2e-3)  # both are rounded to four digits


def test_another_block_model_or_dataset_draws_other_values() -> None:
    places = [WHERE, {**WHERE, "block": "random/1/seed1"}, {**WHERE, "model": "dmpnn"}, {**WHERE, "dataset": "esol"}]
    for one, other in itertools.combinations([draw(SAM, 1, **place) for place in places], 2):
        assert all(one[name] != other[name] for name in one)


@given(st.floats(1e-8, 1e3), st.floats(1.01, 1e6), st.integers(1, 200), st.text(max_size=20))
def test_a_draw_lies_in_its_range_where_its_position_says(low: float, ratio: float, i: int, block: str) -> None:
    ranges: Ranges = {**SHARED, "rho": Range(low, low * ratio)}
    value = draw(ranges, i, dataset="d", model="m", block=block)["rho"]
    assert low * (1 - 1e-3) <= value <= low * ratio * (1 + 1e-3)
    u = positions(ranges, i, dataset="d", model="m", block=block)["rho"]
    assert ratio**u == pytest.approx(value / low, rel=1e-3)


def test_a_list_is_a_choice_and_each_of_its_values_comes_up() -> None:
    values = [draw({"rho": Choice((1, 2, "x"))}, i, **WHERE)["rho"] for i in range(1, 10)]
    assert sorted(map(str, set(values))) == ["1", "2", "x"]
    assert max(values.count(v) for v in set(values)) <= 4  # evenly, as the sequence spreads


def test_own_settings_come_second_and_further_ones_after_weight_decay() -> None:
    own = dimensions({"lam": Range(1, 2), "t": Range(1, 2), **SHARED})
    assert own == {"learning_rate": 0, "lam": 1, "weight_decay": 2, "t": 3}
    assert dimensions(SHARED) == {"learning_rate": 0, "weight_decay": 2}


def test_the_name_of_a_search_is_that_of_its_ranges_whatever_their_order() -> None:
    assert search_name(SAM) == search_name(dict(reversed(SAM.items())))
    others = [search_name(r) for r in (SAM, ASAM, SHARED, {**SAM, "rho": Choice((0.001, 0.2))})]
    assert len(set(others)) == 4
