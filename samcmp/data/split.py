"""What a split is, however it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
