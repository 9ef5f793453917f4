"""``compare --split-file``: trained and profiled on the file's rows, filed under its content."""

from __future__ import annotations

import json
from pathlib import Path

from samcmp.experiment.store import Store
from tests.commands import Run

WORDS = (
    *("compare", "--data", "data.csv", "--target", "y", "-m", "gcn", "-o", "adam", "--repeats", "2", "--epochs", "1"),
    *("--profile-seconds", "1", "--device", "cpu", "--jobs", "1", "--store", "st", "--plain"),
)


def write_split(first: int) -> None:
    rows = [*range(first, 40), *range(first)]
    Path("split.json").write_text(json.dumps({"train": rows[:30], "valid": rows[30:35], "test": rows[35:]}))


def test_a_split_file_is_compared_on_and_a_changed_one_is_another_comparison(run: Run) -> None:
    rows = [f"{'C' * (1 + i % 8)}{'O' * (i % 3)},{i}" for i in range(40)]
    Path("data.csv").write_text("\n".join(["smiles,y", *rows]))
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
