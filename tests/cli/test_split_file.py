"""``compare --split-file``: trained and profiled on the file's rows, filed under its content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samcmp.experiment.store import Store
from tests.commands import Run

WORDS = (
    *("compare", "--data", "data.csv", "--target", "y", "-m", "gcn", "-o", "adam", "--repeats", "2", "--epochs", "1"),
    *("--profile-seconds", "1", "--device", "cpu", "--jobs", "1", "--store", "st", "--plain"),
)


def write_split(first: int) -> None:
    rows = [*range(first, 40), *range(first)]
    Path("split.json").write_text(json.dumps({"train": rows[:30], "valid": rows[30:35], "test": rows[35:]}))


def write_data() -> None:
    rows = [f"{'C' * (1 + i % 8)}{'O' * (i % 3)},{i}" for i in range(40)]
    Path("data.csv").write_text("\n".join(["smiles,y", *rows]))


def write_several() -> list[list[int]]:
    """Write chemprop's list of several splits; return the test rows of each."""
    tests = [[*range(k, k + 5)] for k in (0, 10, 20)]
    several = [{"train": [r for r in range(35) if r not in test], "val": "35-39", "test": test} for test in tests]
    Path("several.json").write_text(json.dumps(several))
    return tests


def test_every_split_of_a_file_with_several_is_a_block_of_one_cell(run: Run) -> None:
    write_data()
    tests = write_several()
    words = [word for word in WORDS if word not in {"--repeats", "2"}]
    code, out, err = run(*words, "-o", "sam", "--split-file", "several.json")
    assert code == 0, err
    assert "the split file holds 3 splits: every optimizer is run on each of them" in err
    assert "6 training runs and 1 profile session" in err
    kept = Store(Path("st"))
    for number, test in enumerate(tests):
        records = [r for r in kept.records() if r.case.kind == "train" and r.case.split_seed == number]
        assert {r.case.optimizer for r in records} == {"adam", "sam"}
        assert all(kept.predictions(r.key)["rows"].tolist() == test for r in records)
    assert all(f"data/file/{number} " in out for number in range(3))
    (cell,) = json.loads(run("report", "--store", "st", "--format", "json")[1])["cells"]
    assert len(cell["splits"]) == 3
    assert all(row["graphs_per_second"] for row in cell["rows"])
    code, out, _ = run(*words, "-o", "sam", "--split-file", "several.json", "--repeats", "2", "--dry-run")
    assert "12 training runs, 6 in the store, 6 to do" in out


@pytest.mark.parametrize(("fold", "said"), [(None, "has 3 splits, and train runs one"), ("3", "has the splits 0 to 2")])
def test_train_asks_which_of_several_splits_is_meant(run: Run, fold: str | None, said: str) -> None:
    write_data()
    write_several()
    more = () if fold is None else ("--fold", fold)
    code, _, err = run("train", "--data", "data.csv", "--target", "y", "--split-file", "several.json", *more)
    assert code == 2
    assert said in err


def test_train_runs_the_split_that_is_named_and_compare_finds_it(run: Run) -> None:
    write_data()
    write_several()
    words = ("--data", "data.csv", "--target", "y", "-m", "gcn", "--epochs", "1", "--device", "cpu", "--store", "st")
    code, out, err = run("train", *words, "-o", "adam", "--split-file", "several.json", "--fold", "1")
    assert code == 0, err
    assert "data/file/1" in out
    code, out, err = run("compare", *words, "-o", "adam", "--split-file", "several.json", "--dry-run")
    assert code == 0, err
    assert "3 training runs, 1 in the store, 2 to do" in out


def test_a_split_file_is_compared_on_and_a_changed_one_is_another_comparison(run: Run) -> None:
    write_data()
    hashes = []
    for first in (0, 10, 0):
        write_split(first)
        code, out, err = run(*WORDS, "--split-file", "split.json")
        assert code == 0, err
        assert "data/file/0" in out
        hashes.append({r.split_hash for r in Store(Path("st")).records()})
        assert ("2 training runs" in err) == (len(hashes) < 3)
    assert [len(each) for each in hashes] == [1, 2, 2]
    assert {r.case.split for r in Store(Path("st")).records()} == {"file"}
    code, out, _ = run("report", "--store", "st")
    assert code == 0
    assert out.count("data (split ") >= 2
