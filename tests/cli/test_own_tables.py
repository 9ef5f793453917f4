"""A table of one's own through the commands: a run or one clear refusal, and what was left out is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.commands import TINY, Run

SMILES = [f"{'C' * (i % 7 + 1)}{tail}" for i in range(40) for tail in ("O", "N", "Cl", "c1ccccc1", "C(=O)O")]
CELLS = st.sampled_from(
    [*SMILES[:8], "", "?", "[1000C]", "C1=[NH]CCC1", "[CH200]", "0", "1", "NA", "1_0", "\uff11", "1e-13", "1,5", "yes"]
)


def put(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def table(labels: list[str], *, extra: str = "") -> str:
    rows = "".join(f"{SMILES[i]},{label}\n" for i, label in enumerate(labels))
    return f"smiles,y\n{rows}{extra}"


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    kind=st.sampled_from(["classes", "values", "mixed"]),
    wrong=st.lists(st.tuples(CELLS, CELLS), max_size=8),
    cut=st.integers(0, 3),
    delimiter=st.sampled_from([",", "\t", ";"]),
    split=st.sampled_from(["random", "scaffold", "scaffold-balanced", "stratified"]),
    command=st.sampled_from(["train", "fetch"]),
)
def test_any_table_ends_in_a_run_or_one_clear_refusal(
    run: Run, kind: str, wrong: list[tuple[str, str]], cut: int, delimiter: str, split: str, command: str
) -> None:
    label = {"classes": lambda i: i % 2, "values": lambda i: i / 8, "mixed": lambda i: i % 3}[kind]
    rows = [*((SMILES[i], str(label(i))) for i in range(30)), *wrong]
    lines = [f"smiles{delimiter}y", *(f'"{smiles}"{delimiter}"{y}"' for smiles, y in rows)]
    name = put("mine.csv", "\n".join(lines)[: -cut or None])
    words = {
        "train": ("-m", "gcn", "-o", "adam", "--epochs", "1", "--device", "cpu", "--split", split),
        "fetch": ("--audit",),
    }
    code, out, err = run(command, "--data", name, "--target", "y", *words[command])
    assert code in {0, 2}
    assert "Traceback" not in out + err
    if code == 2:
        assert err.splitlines()[-2].startswith("error: ")  # what and where, then the remedy


def said(run: Run, text: str, *more: str) -> tuple[str, str]:
    """What compare and then report say of a table, in one line each."""
    name = put("mine.csv", text)
    words = ("--data", name, "--target", "y", "-m", "gcn", "-o", "adam", "-o", "sam", *TINY[2:], *more)
    code, out, err = run("compare", *words)
    assert code == 0, err
    code, report, _ = run("report")
    assert code == 0
    return " ".join(out.split()), " ".join(report.split())


def test_what_was_left_out_and_why_is_said_by_compare_and_report(run: Run) -> None:
    text = table([str(i % 2) for i in range(60)], extra="?,999\nC1=[NH]CCC1,-1\n")
    for words in said(run, text):
        assert "2 of 62 rows skipped; the first is row 60: RDKit cannot read the SMILES '?'" in words
        assert "guessed to be classification" in words


def test_few_labels_are_said_by_compare_and_report(run: Run) -> None:
    labels = [str(i / 10) if i % 3 == 0 else "" for i in range(120)]
    for words in said(run, table(labels)):
        assert "molecules with a label: " in words
        assert " of 12 for the test" in words


def test_tiny_values_are_learnt_from_and_written_with_three_figures(run: Run) -> None:
    for words in said(run, table([f"{1 + i % 9}e-13" for i in range(60)])):
        assert "e-13 ±" in words
        assert "0.0000000" not in words


def test_a_split_column_is_a_split_of_its_own(run: Run) -> None:
    rows = "".join(
        f"{SMILES[i]},{i / 10},{'train' if i < 30 else 'val' if i < 36 else 'TEST' if i < 42 else ''}\n"
        for i in range(50)
    )
    name = put("mine.csv", f"smiles,y,set\n{rows}")
    words = ("--data", name, "--target", "y", "-m", "gcn", "-o", "adam", "--epochs", "1", "--device", "cpu")
    code, out, err = run("train", *words, "--split-column", "set")
    assert code == 0, err
    flat = " ".join(out.split())
    assert "mine/column/0" in flat
    assert "30 train, 6 valid, 6 test" in flat
    assert "8 of 50 molecules are in no part of the split and are not used" in flat
    code, _, err = run("train", *words, "--split-column", "fold")
    assert code == 2
    assert "there is no column 'fold'" in err


@pytest.mark.parametrize(
    "more", [("--split", "scaffold"), ("--split-file", "x.json"), ("--split", "file"), ("--split", "random")]
)
def test_a_split_column_and_another_split_contradict_each_other(run: Run, more: tuple[str, ...]) -> None:
    Path("x.json").write_text(json.dumps({"train": [0], "valid": [1], "test": [2]}))
    name = put("mine.csv", "smiles,y,set\n" + "".join(f"{SMILES[i]},{i},train\n" for i in range(20)))
    code, _, err = run("train", "--data", name, "--target", "y", "--split-column", "set", *more)
    assert code == 2
    assert "contradict each other" in err


def test_a_split_column_without_a_table_is_refused(run: Run) -> None:
    code, _, err = run("train", "--split-column", "set")
    assert code == 2
    assert "--split-column describe a file of your own" in err
    code, _, err = run("train", "--split", "column")
    assert code == 2
    assert "--split-column" in err


@pytest.mark.parametrize("words", [("compare",), ("train",), ("fetch", "--audit")])
def test_a_table_named_as_a_dataset_is_told_its_option(run: Run, words: tuple[str, ...]) -> None:
    place = ("-d", "mine.csv") if words[0] != "fetch" else ("mine.csv",)
    code, _, err = run(*words, *place)
    assert (code, "--data mine.csv --target COLUMN" in " ".join(err.split())) == (2, True), err


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--smiles-column", "smile", "--target", "y"), "--smiles-column"),
        (("--target", "z"), "--target"),
        (("--target", "y", "--split", "column", "--split-column", "part"), "--split-column"),
    ],
)
def test_a_missing_column_names_the_option_that_asks_for_it(run: Run, words: tuple[str, ...], option: str) -> None:
    Path("t.csv").write_text("smiles,y\nCCO,1\nCC,2\n")
    code, _, err = run("compare", "--data", "t.csv", *words)
    assert (code, f"Name one with {option}." in " ".join(err.split())) == (2, True), err
