"""Situations that users met, through the command line: a wrong result was shown, or a right one could not be had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samcmp.experiment.store import Store
from tests.cli.fuzzing import CARD
from tests.commands import TINY, Run, tiny

RINGS = ("c1ccccc1", "C1CC1", "C1CCC1", "C1CCCC1", "C1CCCCC1", "c1ccoc1", "c1ccsc1", "c1ccncc1", "C1CCNCC1", "C1COC1")
SMILES = [f"{'C' * (i % 7 + 1)}{tail}" for i in range(24) for tail in ("O", "N", "Cl", "c1ccccc1", "C(=O)O")]
MINE = ("--data", "mine.csv", "--target", "y", "-m", "gcn", "-o", "adam", "-o", "graphsam")


def write(path: str, labels: list[str], *, header: str = "smiles,y", smiles: list[str] = SMILES) -> Path:
    """Write a table with a label (or several, with commas) for each of the first molecules."""
    rows = "".join(f"{molecule},{label}\n" for molecule, label in zip(smiles, labels, strict=False))
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(f"{header}\n{rows}")
    return Path(path)


def compared(run: Run, *words: str) -> tuple[str, dict[str, object]]:
    """Compare; return what was said of progress, and the only cell of what was found now."""
    code, out, err = run("compare", *words, *TINY[2:], "--plain", "--store", "st", "--format", "json")
    assert code == 0, err
    (cell,) = json.loads(out)["cells"]
    return err, cell


def mean_of_base(cell: dict[str, object]) -> float:
    rows = cell["rows"]
    assert isinstance(rows, list)
    return float(next(row["score"]["mean"] for row in rows if row["role"] == "base"))


@pytest.mark.parametrize("fixed", [False, True], ids=["a file", "a file with its SHA-256"])
def test_a_cards_changed_file_target_or_metric_is_another_comparison(run: Run, fixed: bool) -> None:
    import hashlib

    def put(card: str, factor: int) -> None:
        table = write("cards/mine.csv", [f"{factor * (i % 9)},{i % 5}" for i in range(60)], header="smiles,y,z")
        digest = hashlib.sha256(table.read_bytes()).hexdigest()
        Path("cards/mine.toml").write_text(card + f'sha256 = ["{digest}"]\n' * fixed)

    words = ("--cards", "cards", "-d", "mine", *MINE[4:])
    put(CARD, 1)
    _, first = compared(run, *words)
    put(CARD, 1000)
    said, large = compared(run, *words)
    assert "4 training runs" in said
    assert mean_of_base(large) > 100 * mean_of_base(first)
    other = CARD.replace('["y"]', '["z"]').replace('"rmse"', '"mae"')
    put(other, 1000)
    said, of_z = compared(run, *words)
    assert "4 training runs" in said
    assert (of_z["metric"], large["metric"]) == ("mae", "rmse")
    assert mean_of_base(of_z) < 100
    put(CARD, 1)
    said, again = compared(run, *words)
    assert "training run" not in said  # what was kept is found again
    assert mean_of_base(again) == mean_of_base(first)


def test_a_table_edited_in_mid_run_is_noticed_and_nothing_is_filed_under_the_old_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write("mine.csv", [str(i % 9 / 3) for i in range(60)])
    good = table.read_text()
    edited = write("edited.csv", [str(100 * (i % 9)) for i in range(60)]).read_text()
    words = ("compare", *MINE, *tiny("--repeats", "6")[2:], "--plain", "--store", "st")
    add = Store.add

    def add_and_edit(self: Store, *given: object) -> Path:
        kept = add(self, *given)  # type: ignore[arg-type]
        if sum(r.case.kind == "train" for r in self.records()) == 3:
            table.write_text(edited)
        return kept

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", add_and_edit)
        code, _, err = run(*words)
    assert code == 2
    assert "mine.csv: was changed since this comparison began" in err
    trained = [r for r in Store(Path("st")).records() if r.case.kind == "train"]
    assert len(trained) == 3
    table.write_text(good)
    code, _, err = run(*words)
    assert code == 0, err
    assert "9 training runs" in err
    scores = [r.accuracy.test for r in Store(Path("st")).records() if r.accuracy]
    assert len(scores) == 12
    assert max(scores) < 10  # none is of the labels times a hundred


def test_two_tables_of_one_name_in_one_store_keep_their_own_speeds(run: Run) -> None:
    large = [f"{'CC(N)C(=O)NCC(=O)N' * 12}{molecule}" for molecule in SMILES]
    write("small/data.csv", [str(i % 9) for i in range(60)])
    write("large/data.csv", [str(i % 9) for i in range(60)], smiles=large)
    speeds = {}
    for which in ("small", "large"):
        _, cell = compared(run, "--data", f"{which}/data.csv", *MINE[2:])
        rows: list[dict[str, object]] = cell["rows"]  # type: ignore[assignment]
        speeds[which] = [row["graphs_per_second"] for row in rows]
    assert not set(speeds["small"]) & set(speeds["large"])
    code, out, err = run("report", "--store", "st", "--format", "json")
    assert code == 0, err
    cells = json.loads(out)["cells"]
    assert sorted([row["graphs_per_second"] for row in cell["rows"]] for cell in cells) == sorted(speeds.values())
    assert len({cell["name"] for cell in cells}) == 2


@pytest.mark.parametrize("split", ["scaffold", "scaffold-balanced", "random"])
def test_molecules_of_impossible_valence_are_left_out_and_said(run: Run, split: str) -> None:
    wrong = ["FC(F)(F)(F)C", "CN(C)(C)(C)C", "O(C)(C)C", "CF(C)"]
    write(
        "mine.csv",
        [str(i / 10) for i in range(60)],
        smiles=[*wrong, *(f"{'C' * (i // 10)}{RINGS[i % 10]}" for i in range(60))],
    )
    code, out, err = run("train", *MINE[:8], "--epochs", "1", "--device", "cpu", "--split", split)
    assert code == 0, err
    assert "4 of 60 rows skipped" in " ".join(out.split())
    code, out, err = run("fetch", "--audit", *MINE[:4], "--format", "json")
    assert code == 0, err
    assert json.loads(out)["molecules"] == 56


@pytest.mark.parametrize("positives", [3, 6, 12])
def test_a_stratified_split_gives_a_rare_class_to_every_part(run: Run, positives: int) -> None:
    write("mine.csv", [str(int(i >= 100 - positives)) for i in range(100)])
    _, cell = compared(run, *MINE, "--split", "stratified")
    assert cell["metric"] == "roc-auc"


@pytest.mark.parametrize("positives", [1, 2])
def test_a_class_too_rare_for_every_part_is_refused_without_naming_the_split_in_use(run: Run, positives: int) -> None:
    write("mine.csv", [str(int(i >= 100 - positives)) for i in range(100)])
    code, _, err = run("compare", *MINE, *TINY[2:], "--split", "stratified")
    assert code == 2
    assert "training, validation and test need one each" in err
    assert "--split stratified" not in err


def test_rows_that_are_skipped_decide_neither_the_task_nor_its_labels(run: Run) -> None:
    path = write("mine.csv", [str(i % 2) for i in range(60)])
    path.write_text(path.read_text() + "?,-1\n,999\n[1000C],text\n")
    for more in ((), ("--task", "classification")):
        code, out, err = run("train", *MINE[:8], "--epochs", "1", "--device", "cpu", *more)
        assert code == 0, err
        assert "test roc-auc" in out
        assert "3 of 63 rows skipped" in " ".join(out.split())


def test_the_same_molecule_in_training_and_test_is_said(run: Run) -> None:
    write("mine.csv", [str(i) for i in range(60)], smiles=[SMILES[i % 20] for i in range(60)])
    code, out, err = run("compare", *MINE, *TINY[2:], "--store", "st")
    assert code == 0, err
    for text in (out, run("report", "--store", "st")[1]):
        assert "test molecules are in training or validation, too" in " ".join(text.split())


@pytest.mark.parametrize("unit", ["e-13", "e-9", "e24"])
def test_values_of_any_size_are_learnt_from_and_shown_in_a_few_figures(run: Run, unit: str) -> None:
    write("mine.csv", [f"{1 + i % 8}{unit}" for i in range(60)])
    code, out, err = run("compare", *MINE, *TINY[2:])
    assert code == 0, err
    assert "0000000" not in out


def test_how_many_tasks_could_be_scored_is_said(run: Run) -> None:
    labels = [",".join(str(int(i % 20 == k or (k == 0 and i % 2))) for k in range(5)) for i in range(60)]
    write("mine.csv", labels, header="smiles,a,b,c,d,e")
    targets = [word for name in "abcde" for word in ("--target", name)]
    code, out, err = run("compare", *MINE[:2], *targets, *MINE[4:], *TINY[2:], "--store", "st")
    assert code == 0, err
    for text in (out, run("report", "--store", "st")[1]):
        assert " of 5 tasks scored" in " ".join(text.split())
