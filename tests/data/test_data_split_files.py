"""Splits in files: written and read back, and refused where rows do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samcmp.data import cards, molecules, splitfile, splits
from samcmp.data.molecules import Molecules
from samcmp.data.user_table import user_card
from samcmp.errors import DataError, UsageError, WriteError


@pytest.fixture(scope="module")
def demo() -> Molecules:
    return molecules.load(cards.find("demo"))


@pytest.mark.parametrize("name", ["split.json", "split.csv"])
@pytest.mark.parametrize("split", ["random", "scaffold"])
def test_a_saved_split_comes_back_with_the_same_hash(name: str, split: str, demo: Molecules, tmp_path: Path) -> None:
    made = splits.make(demo, split, seed=0)
    splitfile.save(made, tmp_path / name, dataset_hash=demo.dataset_hash)
    again = splits.make(demo, "file", file=tmp_path / name)
    assert again.hash == made.hash
    assert [p.name for p in tmp_path.iterdir()] == [name]


def put(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "split.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"train": [0, 1], "valid": [1], "test": [2]}, "row 1 is in train and in valid"),
        ({"train": [0, 0], "valid": [1], "test": [2]}, "row 0 is twice in train"),
        ({"train": [0], "valid": [1], "test": [1128]}, "row 1128 in test is out of range"),
        ({"train": [-1], "valid": [1], "test": [2]}, "row -1 in train is out of range"),
        ({"train": [0], "valid": [1]}, "'test' is missing"),
        ({"train": [0], "valid": [], "test": [1]}, "'valid' is missing or empty"),
        ({"train": [0], "valid": [True], "test": [1]}, "list of row numbers"),
        ({"train": [0], "valid": [1.5], "test": [1]}, "list of row numbers"),
        ({"train": [0], "valid": [1], "val": [1], "test": [2]}, "given twice"),
        ([[0], [1]], "not a JSON object"),
        ([{"train": [0], "val": [1], "test": [2]}, 7], "not a JSON object"),
        ({"train": "0-5", "val": "9-6", "test": [7]}, "'9-6' is no range of rows"),
        ({"train": "0-5", "val": "6,x", "test": [7]}, "'x' is no range of rows"),
        ({"train": "0-999999999999", "val": "6", "test": [7]}, "is no range of rows"),
        ({"train": "0-5", "val": "5", "test": [7]}, "row 5 is in train and in valid"),
        ('{"train": [0', "not JSON"),
        ({"dataset_hash": "f" * 64, "train": [0], "valid": [1], "test": [2]}, "saved for the dataset hash"),
    ],
)
def test_json_that_does_not_fit_is_refused(content: object, said: str, demo: Molecules, tmp_path: Path) -> None:
    path = put(tmp_path, content)
    with pytest.raises(DataError, match=said) as caught:
        splits.make(demo, "file", file=path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("row,part\n0,train\n1,valid\n2,exam\n", "line 4: 'exam' is no part"),
        ("row,part\nx,train\n", "line 2: 'x' is no row number"),
        ("row,fold\n0,train\n", "no column 'part'"),
        ("part,fold\n0,train\n", "no column 'row'"),
    ],
)
def test_csv_that_does_not_fit_is_refused(content: str, said: str, demo: Molecules, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        splits.make(demo, "file", file=path)


def test_other_names_of_the_validation_part_are_understood(demo: Molecules, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("row,part\n0,Train\n1,val\n2,test\n")
    split = splits.make(demo, "file", file=path)
    assert (split.train.tolist(), split.valid.tolist(), split.test.tolist()) == ([0], [1], [2])


FORMS = {  # one split as other tools write it
    "object.json": json.dumps({"train": [0, 1, 2, 3], "val": [4], "test": [5, 6]}),
    "chemprop-lists.json": json.dumps([{"train": [0, 1, 2, 3], "val": [4], "test": [5, 6]}]),
    "chemprop-ranges.json": json.dumps([{"train": "0-2, 3", "val": "4", "test": "5-6"}]),
    "three-lists.json": json.dumps([[0, 1, 2, 3], [4], [5, 6]]),
    "with-a-mark.json": "\ufeff" + json.dumps({"Train": [0, 1, 2, 3], "Validation": [4], "TEST": [5, 6]}),
    "table.csv": "row,part\n" + "".join(f"{i},{p}\n" for i, p in enumerate(["train"] * 4 + ["val"] + ["test"] * 2)),
    "table.tsv": "index\tsplit\n"
    + "".join(f"{i}\t{p}\n" for i, p in enumerate(["TRAIN"] * 4 + ["dev"] + ["testing"] * 2)),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_split_files_of_other_tools_are_read(name: str, demo: Molecules, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(FORMS[name], encoding="utf-8")
    split = splits.make(demo, "file", file=path)
    assert (split.train.tolist(), split.valid.tolist(), split.test.tolist()) == ([0, 1, 2, 3], [4], [5, 6])


def test_each_of_several_splits_in_a_file_is_read_by_its_number(demo: Molecules, tmp_path: Path) -> None:
    several = [{"train": f"{k}-{k + 9}", "val": [k + 10], "test": [k + 11, k + 12]} for k in range(3)]
    path = put(tmp_path, several)
    assert splitfile.count(path.read_bytes(), path) == 3
    made = [splits.make(demo, "file", seed=number, file=path) for number in range(3)]
    assert [split.train.tolist() for split in made] == [list(range(k, k + 10)) for k in range(3)]
    assert len({split.hash for split in made}) == 3
    with pytest.raises(DataError, match="holds 3 splits and no number 3"):
        splits.make(demo, "file", seed=3, file=path)
    several[1]["val"] = several[1]["test"]
    with pytest.raises(DataError, match=r"split\.json, split 1: row 12 is in valid and in test"):
        splits.make(demo, "file", seed=1, file=put(tmp_path, several))


def test_a_file_that_holds_one_partition_twice_is_refused(demo: Molecules, tmp_path: Path) -> None:
    one = {"train": "0-9", "val": "10", "test": "11"}
    path = put(tmp_path, [one, {**one, "train": "9,0-8"}])
    with pytest.raises(UsageError, match="are the same partition") as caught:
        splits.refuse_repeats([splits.make(demo, "file", seed=number, file=path) for number in range(2)])
    assert "Leave one of them out of the file" in str(caught.value)


def test_molecules_in_no_part_are_counted_and_said(demo: Molecules, tmp_path: Path) -> None:
    split = splits.make(demo, "file", file=put(tmp_path, {"train": "0-99", "valid": "100-119", "test": "120-139"}))
    assert "988 of 1,128 molecules are in no part of the split and are not used" in split.notes


def test_a_split_of_the_whole_file_leaves_out_the_rows_that_hold_no_molecule(tmp_path: Path) -> None:
    data = tmp_path / "my.csv"
    data.write_text("smiles,y\n" + "".join(f"{'?' if i == 3 else 'C' * (i + 1)},{i}\n" for i in range(20)))
    own = molecules.load(user_card(data, "smiles", ["y"]))
    split = splits.make(own, "file", file=put(tmp_path, {"train": "0-15", "valid": "16-17", "test": "18-19"}))
    assert 3 not in split.train.tolist()
    assert any("1 rows of the split are left out" in note for note in split.notes)


def with_column(tmp_path: Path, words: list[str]) -> Molecules:
    path = tmp_path / "my.csv"
    path.write_text("smiles,y,set\n" + "".join(f"{'C' * (i + 1)},{i},{word}\n" for i, word in enumerate(words)))
    return molecules.load(user_card(path, "smiles", ["y"], split_column="set"))


def test_a_split_column_gives_the_parts(tmp_path: Path) -> None:
    split = splits.make(with_column(tmp_path, ["Train"] * 6 + ["VAL", "test", "", "training"]), "column")
    assert (split.train.tolist(), split.valid.tolist(), split.test.tolist()) == ([0, 1, 2, 3, 4, 5, 9], [6], [7])
    assert "1 of 10 molecules are in no part of the split and are not used" in split.notes


def test_a_word_that_is_no_part_names_its_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'set', row 2: 'fold3' is no part of a split"):
        with_column(tmp_path, ["train"] * 2 + ["fold3"] + ["test"] * 8)


def test_a_split_column_without_a_validation_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'valid' is missing or empty"):
        splits.make(with_column(tmp_path, ["train"] * 6 + ["test"] * 5), "column")


def test_a_row_that_is_not_used_is_refused(demo: Molecules, tmp_path: Path) -> None:
    small = molecules.subset(demo, 100)
    unused = min(set(range(int(small.rows[-1]))) - set(small.rows.tolist()))
    rows = small.rows.tolist()
    path = put(tmp_path, {"train": [unused], "valid": rows[:1], "test": rows[1:2]})
    with pytest.raises(DataError, match="not among the molecules that are used"):
        splits.make(small, "file", file=path)


def test_a_missing_split_file_is_named(demo: Molecules, tmp_path: Path) -> None:
    for name in ("no.json", "no.csv"):
        with pytest.raises(DataError, match="no such file"):
            splits.make(demo, "file", file=tmp_path / name)


def test_the_split_file_and_the_split_name_belong_together(demo: Molecules, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belong together"):
        splits.make(demo, "file")
    with pytest.raises(UsageError, match="belong together"):
        splits.make(demo, "random", file=tmp_path / "x.json")


def test_a_folder_that_cannot_be_written_is_named(demo: Molecules, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="a part of the path is a file"):
        splitfile.save(splits.make(demo, "random"), tmp_path / "file" / "x.json", dataset_hash=demo.dataset_hash)
