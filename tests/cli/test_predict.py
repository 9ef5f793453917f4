"""A trained model is used from its file: predict gives what the test score was of, and refuses what it cannot know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from samcmp.experiment.store import Store
from samcmp.records import Record
from samcmp.training import modelfile
from tests.backbones.test_user_model import GOOD
from tests.commands import Run

TRAIN = ("--subset", "60", "--batch-size", "8", "--epochs", "2", "--device", "cpu", "--store", "s")
DEMO = Path(modelfile.__file__).parents[1] / "datasets" / "demo.csv"


def trained(run: Run, *words: str, save: str = "m.safetensors") -> Record:
    code, _, err = run("train", *TRAIN, "--save", save, *words)
    assert code == 0, err
    return max(Store(Path("s")).records(), key=lambda record: record.created)


def predicted(run: Run, *words: str) -> pd.DataFrame:
    code, _, err = run("predict", *words, "--output", "out.csv", "--device", "cpu")
    assert code == 0, err
    return pd.read_csv("out.csv")


def stored(record: Record) -> dict[str, Any]:
    found = Store(Path("s")).predictions(record.key)
    assert found is not None
    return found


@pytest.mark.parametrize("model", ["gcn", "dmpnn", "cmpnn"])
def test_predictions_are_those_that_the_test_score_is_of(run: Run, model: str) -> None:
    record = trained(run, "-m", model, "-o", "sam")
    before = stored(record)
    out = predicted(run, "m.safetensors", "--data", str(DEMO))
    assert len(out) == 1128
    np.testing.assert_allclose(out["predicted_logS"][before["rows"]], before["prediction"][:, 0], rtol=1e-6, atol=1e-6)


def test_probabilities_of_every_target_come_back_in_the_order_of_the_rows(run: Run) -> None:
    table = pd.read_csv(DEMO).head(200)
    rng = np.random.default_rng(0)
    table["toxic"], table["odd name"] = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    table.to_csv("mine.csv", index=False)
    words = ("--data", "mine.csv", "--target", "toxic", "--target", "odd name", "-m", "gcn", "-o", "adam")
    record = trained(run, *words)
    before = stored(record)
    table.iloc[::-1].to_csv("new.csv", index=False)
    out = predicted(run, "m.safetensors", "--data", "new.csv").iloc[::-1].reset_index(drop=True)
    both = out[["predicted_toxic", "predicted_odd name"]].to_numpy()
    np.testing.assert_allclose(both[before["rows"]], before["prediction"], rtol=1e-6, atol=1e-6)
    assert ((both > 0) & (both < 1)).all()


def test_rows_that_cannot_be_read_are_empty_with_their_reason(run: Run) -> None:
    trained(run, "-m", "gcn", "-o", "adam")
    Path("new.csv").write_text("id,smiles\n1,CCO\n2,not a molecule\n=3,\n4,c1ccccc1\n5,CN(C)(C)(C)C\n")
    out = predicted(run, "m.safetensors", "--data", "new.csv")
    assert out["id"].tolist() == ["1", "2", "'=3", "4", "5"]
    assert out["predicted_logS"].isna().tolist() == [False, True, True, False, False]
    assert "has a blank inside" in out["problem"][1]
    assert out["problem"][2] == "the SMILES is empty"
    assert out["problem"][4].endswith("read without the check, as in the training data")
    pd.read_csv(DEMO).head(60).to_csv("mine.csv", index=False)
    trained(run, "-m", "gcn", "-o", "adam", "--data", "mine.csv", "--target", "logS")
    out = predicted(run, "m.safetensors", "--data", "new.csv")
    assert out["predicted_logS"].isna().tolist() == [False, True, True, False, True]
    assert out["problem"].isna().tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("ending", [".tsv", ".parquet", ".csv.gz"])
def test_every_form_of_table_is_read_and_three_are_written(run: Run, ending: str) -> None:
    trained(run, "-m", "gcn", "-o", "adam")
    table = pd.DataFrame({"mol": ["CCO", "CCN"], "x": [1.5, 2.5]})
    into = f"new{ending}"
    if ending == ".parquet":
        table.to_parquet(into)
    else:
        table.to_csv(into, index=False, sep="\t" if ending == ".tsv" else ",")
    out = f"out{ending.removesuffix('.gz')}"
    words = ("predict", "m.safetensors", "--data", into, "--smiles-column", "mol", "--output", out, "--device", "cpu")
    code, _, err = run(*words)
    assert code == 0, err
    made = pd.read_parquet(out) if ending == ".parquet" else pd.read_csv(out, sep="\t" if ending == ".tsv" else ",")
    assert made["x"].astype(float).tolist() == [1.5, 2.5]
    assert made["predicted_logS"].notna().all()


def test_several_models_are_a_mean_and_a_spread(run: Run) -> None:
    Path("best").mkdir()
    for seed in range(3):
        trained(run, "-m", "gcn", "-o", "adam", "--seed", str(seed), save=f"best/{seed}.safetensors")
    Path("new.csv").write_text("smiles\nCCO\nCCCCCCC\n")
    each = [predicted(run, f"best/{seed}.safetensors", "--data", "new.csv")["predicted_logS"] for seed in range(3)]
    out = predicted(run, "best", "--data", "new.csv", "--batch-size", "1")
    np.testing.assert_allclose(out["predicted_logS"], np.mean(each, axis=0), rtol=1e-5)
    np.testing.assert_allclose(out["spread_logS"], np.std(each, axis=0, ddof=1), rtol=1e-4)


def test_a_users_model_runs_only_where_it_is_named_and_is_the_same(run: Run) -> None:
    Path("mine.py").write_text(GOOD)
    record = trained(run, "-m", "mine.py:Mine", "-o", "adam")
    Path("mine.py").rename("moved.py")
    words = ("predict", "m.safetensors", "--data", str(DEMO), "--device", "cpu", "--output", "out.csv")
    code, _, err = run(*words)
    assert (code, "--model-file mine.py" in err) == (2, True)
    code, _, err = run(*words, "--model-file", "moved.py")
    assert code == 0, err
    before = stored(record)
    out = pd.read_csv("out.csv")["predicted_logS"]
    np.testing.assert_allclose(out[before["rows"]], before["prediction"][:, 0], rtol=1e-6, atol=1e-6)
    Path("moved.py").write_text(f"{GOOD}\nEXTRA = 1\n")
    code, _, err = run(*words, "--model-file", "moved.py")
    assert (code, "is not the code of Mine that the model was trained with" in err) == (2, True)


def changed(**said: Any) -> bytes:
    """The model file with other words about itself."""
    tensors, old = load_file("m.safetensors"), json.loads(description())
    path = Path("changed.safetensors")
    save_file(tensors, path, metadata={modelfile.KEY: json.dumps({**old, **said})})
    return path.read_bytes()


def description() -> str:
    data = Path("m.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return str(header["__metadata__"][modelfile.KEY])


def with_tensors(change: Any) -> bytes:
    tensors = load_file("m.safetensors")
    change(tensors)
    save_file(tensors, "changed.safetensors", metadata={modelfile.KEY: description()})
    return Path("changed.safetensors").read_bytes()


def poisoned(tensors: dict[str, torch.Tensor]) -> None:
    next(iter(tensors.values())).view(-1)[0] = torch.nan


def reshaped(tensors: dict[str, torch.Tensor]) -> None:
    name = next(iter(tensors))
    tensors[name] = torch.zeros(1, 1)


HOSTILE: dict[str, tuple[Any, str]] = {
    "text": (lambda: b"not a model", "is not a model file of samcmp"),
    "empty": (lambda: b"", "is not a model file of samcmp"),
    "pickle": (lambda: b"\x80\x04cos\nsystem\n.", "is not a model file of samcmp"),
    "huge header": (lambda: (1 << 60).to_bytes(8, "little") + b'{"a":1}', "its header claims"),
    "cut short": (lambda: Path("m.safetensors").read_bytes()[:-100], "damaged"),
    "nested header": (lambda: (200_000).to_bytes(8, "little") + b'{"a":' + b"[" * 200_000, "damaged"),
    "weights alone": (lambda: save_weights(), "does not say which model"),
    "another form": (lambda: changed(format=2, samcmp="9.9.9"), "pip install samcmp==9.9.9"),
    "another code": (lambda: changed(code="0" * 64, samcmp="9.9.9"), "pip install samcmp==9.9.9"),
    "unknown model": (lambda: changed(model="\x1b[2Jgone"), "not in this catalogue"),
    "unknown key": (lambda: changed(surprise=1), "surprise"),
    "wrong type": (lambda: changed(targets="logS"), "targets"),
    "no target": (lambda: changed(targets=[]), "targets"),
    "no scale": (lambda: changed(mean=None, std=None), "do not fit the targets"),
    "scale of zero": (lambda: changed(std=[0.0]), "a standard deviation that is none"),
    "unknown setting": (lambda: changed(model_settings={"evil": 1}), "unknown model setting 'evil'"),
    "huge setting": (lambda: changed(model_settings={"hidden": 10**7}), "shape"),
    "other features": (lambda: changed(columns={"atoms": "grover"}), "it reads the features"),
    "not a number": (lambda: with_tensors(poisoned), "not finite"),
    "another shape": (lambda: with_tensors(reshaped), "has the shape (1, 1)"),
    "a tensor gone": (lambda: with_tensors(lambda t: t.pop(next(iter(t)))), "is missing"),
    "a tensor more": (lambda: with_tensors(lambda t: t.update(more=torch.zeros(1))), "is not one of its model"),
}


def save_weights() -> bytes:
    save_file(load_file("m.safetensors"), "weights.safetensors")
    return Path("weights.safetensors").read_bytes()


def test_a_hostile_file_is_one_clear_error(run: Run) -> None:
    trained(run, "-m", "gcn", "-o", "adam")
    Path("new.csv").write_text("smiles\nCCO\n")
    for what, (made, words) in HOSTILE.items():
        Path("h.safetensors").write_bytes(made())
        code, out, err = run("predict", "h.safetensors", "--data", "new.csv", "--device", "cpu")
        assert (code, out) == (2, ""), (what, out, err)
        assert words in " ".join(err.split()), (what, err)
        assert "\x1b" not in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gone.safetensors",), "gone.safetensors: cannot be read"),
        (("m.safetensors", "--smiles-column", "smile"), "Did you mean 'smiles'?"),
        (("m.safetensors", "--model-file", "x.py"), "of the catalogue's model gcn"),
        (("m.safetensors", "--output", "no/such/folder.csv/x.csv"), ""),
        (("empty",), "holds no .safetensors file"),
        (("m.safetensors", "other.safetensors"), "predicts other (regression)"),
    ],
    ids=" ".join,
)
def test_wrong_words_are_refused_before_anything_is_predicted(run: Run, words: tuple[str, ...], said: str) -> None:
    trained(run, "-m", "gcn", "-o", "adam")
    Path("empty").mkdir()
    save_file(
        load_file("m.safetensors"),
        "other.safetensors",
        metadata={modelfile.KEY: json.dumps({**json.loads(description()), "targets": ["other"]})},
    )
    Path("new.csv").write_text("smiles,predicted_other\nCCO,1\n")
    code, _, err = run("predict", *words, "--data", "new.csv", "--device", "cpu")
    assert (code, said in err) == ((2, True) if said else (0, True)), err


def test_a_missing_model_is_named_before_a_missing_table(run: Run) -> None:
    code, _, err = run("predict", "gone.safetensors", "--data", "gone.csv", "--device", "cpu")
    assert (code, "gone.safetensors: cannot be read" in err) == (2, True), err


def test_a_column_of_that_name_is_not_overwritten_and_no_molecule_is_no_table(run: Run) -> None:
    trained(run, "-m", "gcn", "-o", "adam")
    Path("new.csv").write_text("smiles,predicted_logS\nCCO,1\n")
    code, _, err = run("predict", "m.safetensors", "--data", "new.csv", "--device", "cpu")
    assert (code, "a column 'predicted_logS' already" in err) == (2, True)
    Path("new.csv").write_text("smiles,x\nnonsense,1\n")
    code, _, err = run("predict", "m.safetensors", "--data", "new.csv", "--device", "cpu")
    assert (code, "new.csv: no row has a usable molecule" in err) == (2, True)


@pytest.mark.parametrize("name", ["out.csv.gz", "out.xlsx", "out.tsv.zip", "out.parquet.gz", "out.JSON"])
def test_predictions_go_into_no_file_whose_name_says_another_format(run: Run, name: str) -> None:
    code, _, err = run("predict", "m.safetensors", "--data", "new.csv", "--output", name)
    assert (code, f"--output {name}: {Path(name).suffix} is no format of predictions" in err) == (2, True)
    assert not Path(name).exists()


def test_a_model_file_serves_as_initial_weights_too(run: Run) -> None:
    trained(run, "-m", "gcn", "-o", "adam")
    trained(run, "-m", "gcn", "-o", "adam", "--init-from", "m.safetensors", save="n.safetensors")


COMPARE = ("compare", "-m", "gcn", "-o", "adam", "-o", "sam", *TRAIN, "--repeats", "2", "--profile-seconds", "1")


def test_each_splits_winner_is_kept_and_trained_again_where_no_model_was(run: Run) -> None:
    code, _, err = run(*COMPARE, "--jobs", "1", "--save-best", "best")
    assert code == 0, err
    files = sorted(path.name for path in Path("best").iterdir())
    assert len(files) == 2
    records = {r.key: r for r in Store(Path("s")).records() if r.case.kind == "train"}
    first = {name: (Path("best") / name).read_bytes() for name in files}
    for name in files:
        said, _ = modelfile.read(Path("best") / name)
        won = records[said.record]
        rivals = [r.accuracy.valid for r in records.values() if r.case.block == won.case.block and r.accuracy]
        assert won.accuracy is not None
        assert (won.accuracy.valid, won.accuracy.test) == (min(rivals), said.test)
        out = predicted(run, f"best/{name}", "--data", str(DEMO))
        before = stored(won)
        np.testing.assert_allclose(
            out["predicted_logS"][before["rows"]], before["prediction"][:, 0], rtol=1e-6, atol=1e-6
        )
        (Path("best") / name).unlink()
    code, out, _ = run(*COMPARE, "--save-best", "best", "--dry-run")
    assert (code, "of 2 winners in the store no model was kept" in " ".join(out.split())) == (0, True)
    code, _, err = run(*COMPARE, "--jobs", "1", "--save-best", "best")
    assert (code, "2 winners trained again" in err) == (0, True)
    again = {name: modelfile.read(Path("best") / name) for name in files}
    for name, data in first.items():
        Path("old.safetensors").write_bytes(data)
        _, tensors = modelfile.read(Path("old.safetensors"))
        assert all(torch.equal(tensors[key], again[name][1][key]) for key in tensors)
    code, _, err = run(*COMPARE, "--jobs", "1", "--save-best", "best")
    assert (code, "trained again" in err) == (0, False)
    assert "other model" not in err
    (Path("best") / files[0]).rename("best/of-an-older-comparison.safetensors")
    code, _, err = run(*COMPARE, "--jobs", "1", "--save-best", "best")
    assert (code, "best holds 1 other model, too" in err) == (0, True)
