"""What splits, training and reports need to know of a dataset in memory, whatever its rows are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samcmp.data.cards import Kind
    from samcmp.records import Holds


class Samples(Protocol):
    """M samples with T labels each, in the order of the file: :class:`samcmp.data.molecules.Molecules` or
    :class:`samcmp.data.images.Images`."""

    @property
    def name(self) -> str: ...
    @property
    def holds(self) -> Holds: ...
    @property
    def rows(self) -> NDArray[np.int64]:
        """(M,) row of the published file, ascending."""

    @property
    def y(self) -> NDArray[np.float64]:
        """(M, T) NaN where a label is missing; of a multiclass task the number of the class."""

    @property
    def tasks(self) -> tuple[str, ...]: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def metric(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]:
        """Of a multiclass task the names of its classes, by number; else empty."""

    @property
    def dataset_hash(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def file_rows(self) -> int: ...
    @property
    def unused(self) -> frozenset[int]:
        """Rows of the file that hold nothing usable, or that the card leaves out."""

    @property
    def parts(self) -> tuple[str, ...] | None:
        """(M,) part of the split that the file itself gives, "" for none."""

    @property
    def frozen(self) -> bool: ...
    @property
    def repeats(self) -> Mapping[int, int]:
        """Place of a sample that occurred before -> place where it occurred first."""

    def __len__(self) -> int: ...
