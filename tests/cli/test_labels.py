"""Labels that no model can learn from or be scored by: refused straight after reading, before anything is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import Run
from tests.test_house import modules_after

ALKANOLS = [f"{'C' * i}O" for i in range(1, 41)]


def csv(labels: list[object]) -> str:
    path = Path("mine.csv")
    rows = [f"{smiles},{label}" for smiles, label in zip(ALKANOLS, labels, strict=False)]
    path.write_text("\n".join(["smiles,y", *rows]) + "\n")
    return str(path.absolute())


USELESS: dict[str, tuple[list[object], str]] = {
    "a single positive": ([int(i == 7) for i in range(40)], "column 'y' is 1 in row 7 only"),
    "two negatives": ([int(i not in (7, 9)) for i in range(40)], "column 'y' is 0 in rows 7 and 9 only"),
    "one class": ([1] * 40, "all labels are of one class (1)"),
    "equal numbers": ([2.5] * 40, "all labels are equal (2.5)"),
    "a label of 1e308": ([1e308, *range(39)], "row 0, column 'y': 1e+308 is beyond"),
    "a label of -1e308": ([*range(39), -1e308], "row 39, column 'y': -1e+308 is beyond"),
    "an infinite label": ([*range(39), "inf"], "row 39, column 'y': 'inf' is not a finite number"),
    "two rows": ([0, 1], "2 usable rows cannot be split"),
    "no label": ([""] * 40, "all labels are missing"),
}


@pytest.mark.parametrize("command", ["train", "compare", "profile"])
@pytest.mark.parametrize("case", USELESS)
def test_useless_labels_are_refused_before_any_run_with_the_row(run: Run, command: str, case: str) -> None:
    labels, says = USELESS[case]
    code, _, err = run(command, "--data", csv(labels), "--target", "y")
    assert code == 2
    assert f"mine.csv: {says}" in err
    assert not Path(".samcmp").exists()


def test_useless_labels_are_refused_without_importing_more_than_reading_them_takes(in_empty_folder: Path) -> None:
    assert modules_after("compare", "--data", csv([1] * 40), "--target", "y") == {"pandas", "rdkit"}


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([int(i < 4) for i in range(40)], "the test part holds a single class"),
        ([i if i in (1, 5, 9) else "" for i in range(40)], "the test part holds no label"),
    ],
)
@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_split_that_cannot_be_scored_is_refused_before_any_run(
    run: Run, command: str, labels: list[object], says: str
) -> None:
    code, _, err = run(command, "--data", csv(labels), "--target", "y", "--device", "cpu")
    assert code == 2
    assert "split mine/random/0" in err
    assert says in err
    assert list(Path(".samcmp").rglob("*.json")) == []


def test_an_audit_of_what_cannot_be_split_shows_it_all_the_same_and_says_so(run: Run) -> None:
    code, out, _ = run("fetch", "--audit", "--data", csv([0, 1]), "--target", "y")
    assert code == 0
    assert "2 usable rows cannot be split" in out


@pytest.mark.parametrize(("one", "zero"), [("yes", "no"), ("True", "False")])
def test_how_words_were_read_as_labels_is_said_wherever_results_are_shown(run: Run, one: str, zero: str) -> None:
    data = csv([one if i % 2 else zero for i in range(40)])
    said = f"column 'y': {one.lower()} is read as 1, {zero.lower()} as 0"
    common = ("--data", data, "--target", "y", "--split", "stratified", "--epochs", "1", "--device", "cpu")
    assert said in " ".join(run("train", *common, "-o", "adam")[1].split())
    few = ("-o", "adam", "-o", "sam", "--repeats", "2", "--profile-seconds", "1", "--jobs", "1")
    code, out, err = run("compare", *common, *few)
    assert code == 0
    assert said in err
    assert said in " ".join(out.split())
    assert said in " ".join(run("report")[1].split())
