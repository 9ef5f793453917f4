"""The largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from samcmp.profiling import largest_batch
from samcmp.profiling.largest_batch import FINE, search
from samcmp.records import Case, Protocol
from samcmp.training.setup import Options


def limited(limit: int) -> tuple[Callable[[int], str | None], list[int]]:
    asked: list[int] = []

    def refused(size: int) -> str | None:
        asked.append(size)
        return None if size <= limit else f"out of memory at {size}"

    return refused, asked


@pytest.mark.parametrize("limit", [1, 5, 31, 32, 100, 777, 1630])
def test_the_answer_fits_and_an_eighth_more_does_not(limit: int) -> None:
    refused, asked = limited(limit)
    found, reason = search(refused, start=32, most=1631)
    assert found is not None
    assert found <= limit
    assert limit < found + max(1, found // FINE) + 1
    assert reason.startswith("out of memory")
    assert len(set(asked)) == len(asked) <= 14


def test_the_whole_training_set_may_fit() -> None:
    refused, asked = limited(10_000)
    assert search(refused, start=32, most=200) == (200, "the whole training set")
    assert max(asked) == 200


def test_where_nothing_fits_the_smallest_that_was_tried_is_the_limit() -> None:
    assert search(limited(0)[0], start=32, most=100) == (None, "out of memory at 1")


def test_the_sentence_names_the_limit_and_the_peaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(setup: object, case: Case, size: int) -> int:
        if size > 20:
            raise MemoryError
        return size << 20

    monkeypatch.setattr(largest_batch, "_peak", peak)
    case = Case("profile", "demo", "gcn", "sam", Protocol(epochs=1, batch_size=8, subset=80))
    sentence = largest_batch.sentence({"0" * 64: case}, Options())
    assert sentence == "sam: largest batch 20 (out of memory at 22; peaks 8: 8 MiB, 16: 16 MiB, 20: 20 MiB)"
