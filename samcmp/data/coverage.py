"""What the parts of a split rest on: samples with a label, and samples that are in two parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from samcmp.records import Coverage, Holds

if TYPE_CHECKING:
    from samcmp.data.samples import Samples
    from samcmp.data.split import Split

_ALIKE = {  # how two samples are known to be one, and what keeps them together
    "molecules": "by canonical SMILES: the score is partly of molecules that were seen; scaffold splits keep them "
    "together",
    "images": "byte for byte: the score is partly of images that were seen",
}


def coverage(samples: Samples, split: Split) -> Coverage:
    """Count labelled samples in each part, and test samples that are in another part, too."""
    positions = [np.searchsorted(samples.rows, rows) for rows in (split.train, split.valid, split.test)]
    labelled = np.isfinite(samples.y).any(axis=1)  # (M,)
    repeats = samples.repeats
    train, valid, test = ([repeats.get(i, i) for i in part.tolist()] for part in positions)
    n_train, n_valid, n_test = (int(np.count_nonzero(np.take(labelled, part))) for part in positions)
    seen = {*train, *valid}
    return Coverage(
        sizes=(len(train), len(valid), len(test)),
        labelled=(n_train, n_valid, n_test),
        repeated=sum(first in seen for first in test),
    )


def sentences(coverages: Sequence[Coverage], *, holds: Holds = "molecules") -> tuple[str, ...]:
    """Say what one or several splits of a dataset rest on, as far as it is unusual."""
    if not coverages:
        return ()
    said = []
    if any(one.labelled != one.sizes for one in coverages):
        parts = ", ".join(
            f"{span([one.labelled[k] for one in coverages])} of {span([one.sizes[k] for one in coverages])} {part}"
            for k, part in enumerate(("for training", "for validation", "for the test"))
        )
        said.append(f"{holds} with a label: {parts}")
    if any(one.repeated for one in coverages):
        test = span([one.sizes[2] for one in coverages])
        said.append(
            f"{span([one.repeated for one in coverages])} of {test} test {holds} are in training or validation, too, "
            f"{_ALIKE[holds]}"
        )
    return tuple(said)


def span(values: Sequence[int]) -> str:
    """Write a number that may vary from split to split: ``5`` or ``5 to 7``."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
