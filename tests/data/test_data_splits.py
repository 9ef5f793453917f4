"""split-v1: every hash and vector of the specification, and what the partitions promise."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samcmp.data import cards, molecules, splits
from samcmp.data.molecules import Molecules, hash_of, keys
from samcmp.errors import DataError, UsageError
from tests.places import MIRROR, needs_mirror

# name: dataset hash, random/0, random/1, cv5/0 fold 0, scaffold, scaffold-balanced/0, partition
TABLE = """
bbbp 56d68d2598f6de78188e73786f98089e8d70ebc358eee02b8b3f2daddf7428d7 efc6def58a467240 e32062df22f4f105 9428ab1729de0fcf 68eb3f84ed14c4f0 ed89fec1c7846112 1e748cd0a1a22ebe
tox21 7213ef9a5e201bd21642a0a01824b808a27ec317124d487c4d76d8ca3b94947d 9164579641dc7577 087debde4c01e691 c8f5b0c01819018a 637a112045a416ed 3e20fd2e13eb4878 5d1c5dc4d8ff42db
sider 5a83afe71d3b7956539c83d3814d899fa3dbc41e54c6da35d2a96d951920e82c cafc5b57a1ddf305 0e780f3df5fce93a f4f8a16382f60a66 5ef05dab3454eb3c 324b852794bc2b6a 3666dd60c99e2602
clintox 1f0f8bb38b4bdf99defe0e8a47a43834a0f98dd228aedb1deb4d8c698cfe0409 6f3e9a3cb4b6759d 7bcc12ab94cec50f 1173aac190331730 85a65571bc4e1094 eba6cc13817b3e27 41a1edcf46d2bb2b
esol 6c12f38bf540fb974b280c049de7171781f8f6a570c98c120d05582a9050d243 b56100ad601891af 9d316145cd6dfce4 e5625cfed1ceaf10 ffe11bfcf5beafb7 f9999fae5d34caa5 f0fcac679bc57ef1
lipo 99e3c5c4b8fdc4871e9fa26d721c119716d65871d6fff0c4889e5134d99c2904 f6a0996cec8a5928 c04402247d67d5a8 c1ec18e1a4d25832 ae9ae724f388d43a cf2a8400a2ddd7bb f04e98371f91023f
bace 60b1b9fc5efc88ba8e5d444f21efcaf99effb8e93dfc4ea00758ad69fa55fcd5 9ab3208e9a669617 4cf31780f8253d86 c05c7102200d4d30 2ca5c77f313a1f95 54d2b68240e85175 c171b3c88d289d54
qm7 0da8228189e90f0a69c9440cd4fd6a5d48d6eb037023332dfe0346167193768c 4455ae8e0480bdd9 99a8bd447477414e ef23a37a38d32a91 8f6d3fa9f1989956 891c7dc22665173e 44f1818b9a14d60e
qm8 e911da5603131d07a441958e7d9266f2bb322eeb9cff87cf78d49a398dcb5f2b 59e1e11561e86fa2 ecdc746752c12ef0 6d53f0d704686024 73ea176e667defaa 72df332495571ad7 2686325c6a18a76c
freesolv 7592e6f575d778c681e23fd636da2b1583060578b15ce838f8614f90e330bf60 18016d3b8242ef03 9358ab993949d366 2b04d4eedc642f22 40db31b28225d678 d48b135a0ca22b33 3854ad37e2ed311b
"""  # noqa: E501
ROWS = [line.split() for line in TABLE.strip().splitlines()]


def made_up(n: int, *, tasks: int = 1) -> Molecules:
    """n molecules without any chemistry: splits other than scaffold look at rows and labels only."""
    rows = np.arange(n, dtype=np.int64)
    smiles = tuple("C" * (i + 1) for i in range(n))
    y = np.sin(np.arange(n * tasks, dtype=np.float64)).reshape(n, tasks)
    names = tuple(f"t{i}" for i in range(tasks))
    digest = hash_of("made-up", rows, smiles=smiles, y=y)
    return Molecules("made-up", rows, smiles, y, names, "regression", "rmse", digest)


@needs_mirror
@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_hashes_of_the_specification_are_reproduced(row: list[str]) -> None:
    name, dataset, random0, random1, fold0, scaffold, balanced, partition = row
    found = molecules.load(cards.find(name), source=MIRROR)
    assert found.dataset_hash == dataset
    assert splits.make(found, "random", seed=0).hash[:16] == random0
    assert splits.make(found, "random", seed=1).hash[:16] == random1
    assert splits.make(found, "cv5", seed=0, fold=0).hash[:16] == fold0
    assert splits.partition_hash(splits.scaffold_groups(found))[:16] == partition
    by_scaffold = splits.make(found, "scaffold")
    assert by_scaffold.hash[:16] == scaffold
    assert by_scaffold.notes == ()
    assert splits.make(found, "scaffold-balanced", seed=0).hash[:16] == balanced


def test_key_of_the_specification() -> None:
    (key,) = keys("random", 0, rows=[0])
    assert key.hex() == "d13048057ab6baa5320751ae1e5fa4ae14a30161a61f6d7a1598b66ad20dda4a"


def test_ten_rows_are_ordered_as_in_the_specification() -> None:
    assert splits.by_key(list(range(10)), "random", seed=0) == [9, 5, 3, 2, 8, 7, 4, 0, 1, 6]
    split = splits.make(made_up(10), "random", seed=0)
    assert (split.valid.tolist(), split.test.tolist()) == ([1], [6])


def test_toy_hashes_of_the_specification() -> None:
    y = np.array([[-0.77], [np.nan], [-0.0]])
    dataset = hash_of("toy", np.arange(3), smiles=("CCO", "C", "c1ccccc1"), y=y)
    assert dataset == "7e870bb162d30c2de380a9d8dc862585f7e804eae16307be125610407c8c8854"
    found = splits.split_hash(dataset, [0], valid=[1], test=[2])
    assert found == "594e13373f000ce4216792ab776ee14de7a60734978db4b664cc6b48e75aa922"


@needs_mirror
def test_first_rows_of_esol_are_those_of_the_specification() -> None:
    split = splits.make(molecules.load(cards.find("esol"), source=MIRROR), "random", seed=0)
    assert split.test[:8].tolist() == [6, 11, 34, 36, 42, 82, 87, 90]
    assert split.valid[:8].tolist() == [0, 1, 10, 27, 32, 39, 40, 45]
    assert str(split) == "esol/random/0 b56100ad601891af"


@needs_mirror
def test_line_ends_do_not_change_a_dataset_and_either_published_qm7_is_accepted(tmp_path: Path) -> None:
    bbbp, qm7 = cards.find("bbbp"), cards.find("qm7")
    unix = (MIRROR / bbbp.file_name).read_bytes().replace(b"\r\n", b"\n")
    (tmp_path / "BBBP.csv").write_bytes(unix)
    copy = replace(bbbp, sha256=(), data=tmp_path / "BBBP.csv")
    assert molecules.load(copy).dataset_hash == ROWS[0][1]
    dos = (MIRROR / qm7.file_name).read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "qm7.csv").write_bytes(dos)
    assert hashlib.sha256(dos).hexdigest() == qm7.sha256[1]
    assert molecules.load(replace(qm7, data=tmp_path / "qm7.csv")).dataset_hash == qm7.dataset_hash


@pytest.mark.parametrize("n", [10, 19, 101, 1128])
@pytest.mark.parametrize("name", ["random", "stratified", "fixed", "cv5"])
def test_every_row_is_in_exactly_one_part(name: str, n: int) -> None:
    for fold in range(5) if name == "cv5" else [None]:
        split = splits.make(made_up(n), name, seed=3, fold=fold)
        everything = np.concatenate([split.train, split.valid, split.test])
        assert sorted(everything.tolist()) == list(range(n))


def test_random_has_the_sizes_of_deepchem() -> None:
    split = splits.make(made_up(1128), "random", seed=0)
    assert (len(split.train), len(split.valid), len(split.test)) == (int(0.8 * 1128), 113, 113)


def test_cross_validation_tests_every_molecule_once() -> None:
    folds = [splits.make(made_up(103), "cv5", seed=1, fold=k) for k in range(5)]
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested.tolist()) == list(range(103))
    assert {len(fold.valid) for fold in folds} == {10}


def test_stratified_parts_have_like_labels() -> None:
    found = made_up(2000)
    split = splits.make(found, "stratified", seed=0)
    y = found.y[:, 0]
    spread = [abs(y[part].mean() - y.mean()) for part in (split.train, split.valid, split.test)]
    assert max(spread) < 0.01
    assert (len(split.train), len(split.valid), len(split.test)) == (1600, 200, 200)


def test_stratified_needs_one_complete_task() -> None:
    with pytest.raises(UsageError, match="one task without missing labels"):
        splits.make(made_up(30, tasks=2), "stratified")


def test_scaffold_keeps_groups_whole() -> None:
    grouped = replace(made_up(40), groups=np.arange(40) % 20)
    for name in ("scaffold", "scaffold-balanced"):
        split = splits.make(grouped, name, seed=2)
        groups = [set((part % 20).tolist()) for part in (split.train, split.valid, split.test)]
        assert not groups[0] & groups[1]
        assert not groups[0] & groups[2]
        assert not groups[1] & groups[2]


def test_another_partition_of_scaffolds_is_said() -> None:
    found = replace(made_up(40), groups=np.arange(40) // 2, partition="0" * 16)
    (note,) = splits.make(found, "scaffold").notes
    assert "groups scaffolds differently" in note


def test_repeating_a_split_is_refused() -> None:
    found = made_up(50)
    different = [splits.make(found, "random", seed=seed) for seed in range(5)]
    splits.refuse_repeats(different)
    with pytest.raises(UsageError, match="same partition") as caught:
        splits.refuse_repeats([*different, splits.make(found, "random", seed=2)])
    assert "--split fixed" in str(caught.value)


@pytest.mark.parametrize("name", ["fixed", "scaffold"])
def test_a_split_that_is_one_partition_by_definition_may_repeat_and_says_what_that_measures(name: str) -> None:
    found = replace(made_up(50), groups=np.arange(50) // 2)
    (note,) = splits.refuse_repeats([splits.make(found, name, seed=0) for _ in range(5)])
    assert "spread of the model seed only" in note
    assert splits.refuse_repeats([splits.make(found, name, seed=0)]) == ()


def test_seeds_give_different_splits_and_equal_seeds_equal_ones() -> None:
    found = made_up(200)
    hashes = [splits.make(found, "random", seed=seed).hash for seed in (0, 1, 0)]
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize("n", [2, 5])
def test_too_few_molecules_are_refused(n: int) -> None:
    with pytest.raises(DataError, match="would be empty"):
        splits.make(made_up(n), "random")


def test_unknown_split_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'scaffold'"):
        splits.make(made_up(20), "scafold")


@pytest.mark.parametrize(("name", "fold"), [("cv5", None), ("random", 1), ("cv5", 5), ("cv5", -1)])
def test_folds_belong_to_cross_validation(name: str, fold: int | None) -> None:
    with pytest.raises(UsageError, match="folds 0 to 4"):
        splits.make(made_up(20), name, fold=fold)
