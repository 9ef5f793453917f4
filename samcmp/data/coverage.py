"""What the parts of a split rest on: molecules with a label, and molecules that are in two parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from samcmp.data.screen import screen
from samcmp.records import Coverage

if TYPE_CHECKING:
    from samcmp.data.molecules import Molecules
    from samcmp.data.split import Split


def coverage(molecules: Molecules, split: Split) -> Coverage:
    """Count labelled molecules in each part, and test molecules that are in another part, too."""
    positions = [np.searchsorted(molecules.rows, rows) for rows in (split.train, split.valid, split.test)]
    labelled = np.isfinite(molecules.y).any(axis=1)  # (M,)
    repeats = screen(molecules.smiles, strict=not molecules.frozen).repeats
    train, valid, test = ([repeats.get(i, i) for i in part.tolist()] for part in positions)
    n_train, n_valid, n_test = (int(np.count_nonzero(np.take(labelled, part))) for part in positions)
    seen = {*train, *valid}
    return Coverage(
        sizes=(len(train), len(valid), len(test)),
        labelled=(n_train, n_valid, n_test),
        repeated=sum(first in seen for first in test),
    )


def sentences(coverages: Sequence[Coverage]) -> tuple[str, ...]:
    """Say what one or several splits of a dataset rest on, as far as it is unusual."""
    if not coverages:
        return ()
    said = []
    if any(one.labelled != one.sizes for one in coverages):
        parts = ", ".join(
            f"{span([one.labelled[k] for one in coverages])} of {span([one.sizes[k] for one in coverages])} {part}"
            for k, part in enumerate(("for training", "for validation", "for the test"))
        )
        said.append(f"molecules with a label: {parts}")
    if any(one.repeated for one in coverages):
        test = span([one.sizes[2] for one in coverages])
        said.append(
            f"{span([one.repeated for one in coverages])} of {test} test molecules are in training or validation, too, "
            "by canonical SMILES: the score is partly of molecules that were seen; scaffold splits keep them together"
        )
    return tuple(said)


def span(values: Sequence[int]) -> str:
    """Write a number that may vary from split to split: ``5`` or ``5 to 7``."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
