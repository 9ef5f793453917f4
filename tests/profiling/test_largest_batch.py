"""The largest batch that fits."""

from __future__ import annotations

import pytest

from samcmp.profiling.largest_batch import FINE, Largest, Tried, search


def limited(limit: int):  # type: ignore[no-untyped-def]
    asked: list[int] = []

    def attempt(size: int) -> Tried:
        asked.append(size)
        return Tried(size, size <= limit, 1000 * size if size <= limit else None, "out of memory")

    return attempt, asked


@pytest.mark.parametrize("limit", [1, 5, 31, 32, 100, 777, 1630])
def test_the_answer_fits_and_an_eighth_more_does_not(limit: int) -> None:
    attempt, asked = limited(limit)
    found, reason, tried = search(attempt, start=32, most=1631)
    assert found is not None
    assert found <= limit
    assert limit < found + max(1, found // FINE) + 1
    assert reason == "out of memory"
    assert len(asked) == len(tried) <= 14
    assert len(set(asked)) == len(asked)


def test_the_whole_training_set_may_fit() -> None:
    attempt, asked = limited(10_000)
    assert search(attempt, start=32, most=200)[:2] == (200, "the whole training set")
    assert max(asked) == 200


def test_where_nothing_fits_it_says_so() -> None:
    attempt, _ = limited(0)
    found, reason, tried = search(attempt, start=32, most=100)
    assert found is None
    assert "no batch fits" in Largest("sam", found, reason, tried).sentence


def test_the_sentence_names_the_limit_and_the_peaks() -> None:
    attempt, _ = limited(64)
    found, reason, tried = search(attempt, start=32, most=100)
    sentence = Largest("sam", found, reason, tried).sentence
    assert "largest batch 64" in sentence
    assert "32: 0 MiB" in sentence
