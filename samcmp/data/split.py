"""What a split is, however it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samcmp.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAMES = ("random", "cv5", "scaffold", "scaffold-balanced", "stratified", "fixed", "file", "column")
PARTS = ("train", "valid", "test")
OTHER_NAMES = {"training": "train", "val": "valid", "validation": "valid", "dev": "valid", "testing": "test"}
Parts = tuple[Sequence[int], Sequence[int], Sequence[int]]  # rows of train, valid and test


def part_of(text: str, *, where: str) -> str:
    """Return the part that a word of another tool means. Raises DataError for one that means none."""
    word = text.strip().lower()
    part = OTHER_NAMES.get(word, word)
    if part not in PARTS:
        shown = ascii(text if len(text) <= 60 else text[:57] + "...")
        raise DataError(f"{shown} is no part of a split", where=where, remedy="The parts are train, valid and test.")
    return part


@dataclass(frozen=True, eq=False)
class Split:
    """Which rows of the published file train, validate and test."""

    name: str
    seed: int
    fold: int | None
    train: NDArray[np.int64]  # rows, ascending
    valid: NDArray[np.int64]
    test: NDArray[np.int64]
    hash: str  # 64 hexadecimal digits
    dataset: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Name the split as reports do: ``esol/random/0 b56100ad601891af``."""
        fold = "" if self.fold is None else f"/{self.fold}"
        return f"{self.dataset}/{self.name}/{self.seed}{fold} {self.hash[:16]}"
