"""Parts of a split: which molecules have a label, which are in two parts, and how rare classes are spread."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samcmp.data import coverage, molecules, splits
from samcmp.data.molecules import Molecules
from samcmp.data.split import Split
from samcmp.errors import DataError


def classes(y: list[float], smiles: list[str] | None = None) -> Molecules:
    rows = np.arange(len(y), dtype=np.int64)
    texts = tuple(smiles or ["C" * (i + 1) for i in range(len(y))])
    labels = np.array(y, dtype=np.float64)[:, None]
    digest = molecules.hash_of("made-up", rows, smiles=texts, y=labels)
    return Molecules("made-up", rows, texts, labels, ("y",), "classification", "roc-auc", digest)


def split_of(train: list[int], valid: list[int], test: list[int]) -> Split:
    return Split("made-up", 0, None, np.array(train), np.array(valid), np.array(test), "0" * 64)


def test_a_molecule_in_two_parts_is_counted_however_it_is_written() -> None:
    found = classes([0, 1, 0, 1, 0, 1], ["CCO", "c1ccccc1", "CCN", "OCC", "CCCC", "C1=CC=CC=C1"])
    assert coverage.coverage(found, split_of([0, 2], [1], [3, 4, 5])).repeated == 2
    assert coverage.coverage(found, split_of([0, 3], [1, 5], [2, 4])).repeated == 0


def test_labels_are_counted_part_by_part_and_said_where_some_are_missing() -> None:
    found = classes([0, 1, np.nan, np.nan, 0, np.nan])
    one = coverage.coverage(found, split_of([0, 1, 2], [3], [4, 5]))
    assert (one.sizes, one.labelled) == ((3, 1, 2), (2, 0, 1))
    assert coverage.sentences([one]) == (
        "molecules with a label: 2 of 3 for training, 0 of 1 for validation, 1 of 2 for the test",
    )
    assert coverage.sentences([replace(one, labelled=one.sizes)]) == ()


@settings(max_examples=60, deadline=None)
@given(n=st.integers(20, 150), rare=st.integers(3, 30), seed=st.integers(0, 99), value=st.sampled_from([0.0, 1.0]))
def test_stratified_parts_have_both_classes_where_each_has_three_rows(
    n: int, rare: int, seed: int, value: float
) -> None:
    rare = min(rare, n // 2)
    y = np.full(n, 1.0 - value)
    y[np.random.default_rng(seed).permutation(n)[:rare]] = value
    found = classes(y.tolist())
    split = splits.make(found, "stratified", seed=seed)
    splits.check_parts(found, split)
    parts = (split.train, split.valid, split.test)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert [len(part) for part in parts] == [n - 2 * (n // 10), n // 10, n // 10]


def test_a_stratified_split_whose_blocks_spread_the_classes_is_left_as_it_is() -> None:
    y = [float(i % 3 == 0) for i in range(100)]
    found, values = classes(y), classes(y)
    plain = replace(values, kind="regression")
    assert splits.make(found, "stratified", seed=1).hash == splits.make(plain, "stratified", seed=1).hash


@pytest.mark.parametrize("split", sorted({*splits.NAMES} - {"cv5"}))
def test_a_remedy_never_names_the_split_in_use(split: str) -> None:
    lacking = classes([1.0] + [0.0] * 39)
    with pytest.raises(DataError, match="holds a single class") as caught:
        splits.check_parts(lacking, replace(split_of([0, 1], [2, 3], [4, 5]), name=split))
    assert f"--split {split}" not in str(caught.value.remedy)
    assert "stratified" not in str(caught.value.remedy)  # one row of a class cannot be in three parts


def test_stratified_is_the_remedy_where_it_helps() -> None:
    found = classes([1.0] * 3 + [0.0] * 37)
    with pytest.raises(DataError) as caught:
        splits.check_parts(found, replace(split_of([0, 1, 2, 3], [4, 5], [6, 7]), name="random"))
    assert "--split stratified" in str(caught.value.remedy)
    splits.check_parts(found, splits.make(found, "stratified"))
