"""The Python interface: light to import, one way with the command line, errors in its own words."""

from __future__ import annotations

import io
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import samcmp
from samcmp.analysis.comparison import Comparison
from samcmp.api.arguments import overrides, table
from samcmp.errors import UsageError
from samcmp.experiment.store import Store
from samcmp.inspection import work
from tests.commands import Run
from tests.places import ROOT

FLAGS = (
    "--dataset", "demo", "--model", "gcn", "-o", "adam", "-o", "sam", "--subset", "60", "--epochs", "1",
    "--repeats", "2", "--profile-seconds", "1", "--device", "cpu", "--jobs", "1",
)  # fmt: skip
SAME: dict[str, Any] = {
    "dataset": "demo", "model": "gcn", "optimizers": ["adam", "sam"], "subset": 60, "epochs": 1, "repeats": 2,
    "profile_seconds": 1, "device": "cpu", "jobs": 1,
}  # fmt: skip


def test_importing_samcmp_loads_none_of_its_libraries_and_dir_names_the_functions() -> None:
    program = (
        "import sys, time; began = time.perf_counter(); import samcmp; spent = time.perf_counter() - began\n"
        "assert not {'torch', 'pandas', 'numpy', 'rdkit', 'typer', 'rich'} & set(sys.modules)\n"
        "assert {'compare', 'train', 'profile', 'inspect', 'predict', 'datasets'} <= set(dir(samcmp))\n"
        "assert callable(samcmp.compare) and callable(samcmp.datasets)\n"
        "assert not {'torch', 'pandas', 'rdkit'} & set(sys.modules)\n"
        "print(spent)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert float(done.stdout) < 0.05


def test_no_module_has_the_name_of_a_function_that_it_would_replace_once_it_is_imported() -> None:
    names = {name for _, name, _ in pkgutil.iter_modules(samcmp.__path__)}
    assert "inspection" in names
    assert not names & set(samcmp.__all__)


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="compair"):
        _ = samcmp.compair  # type: ignore[attr-defined]


def comparison_of(run: Run) -> Comparison:
    from samcmp.analysis.comparison import from_json_text

    code, out, err = run("compare", *FLAGS, "--format", "json")
    assert code == 0, err
    return from_json_text(out)


def test_what_python_has_run_is_found_by_the_command_line_and_its_frames_say_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from samcmp.cli import execute

    result = samcmp.compare(**SAME)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "4 training runs" in printed.err
    monkeypatch.setattr(execute, "run", None)  # nothing is left to do
    assert comparison_of(run) == result.comparison
    assert samcmp.compare(**SAME, progress=False).comparison == result.comparison
    assert capsys.readouterr().err == ""

    # frames: a row a run, an arm, a verdict
    assert list(result.runs["arm"].value_counts().sort_index()) == [2, 2]
    assert set(result.runs["status"]) == {"ok"}
    assert result.runs["chosen"].all()
    trained = {record.key for record in Store(Path(".samcmp")).records() if record.case.kind == "train"}
    assert set(result.runs["key"]) == trained
    cell = result.comparison.cells[0]
    means = result.runs.groupby("arm")["test"].mean()
    assert {row.arm: row.score.mean for row in cell.rows if row.score} == pytest.approx(dict(means))
    assert {row.arm: row.graphs_per_second for row in cell.rows} == dict(
        zip(result.speeds["arm"], result.speeds["graphs_per_second"], strict=True)
    )
    assert [(v.arm, v.reference, v.word) for v in cell.verdicts] == list(
        result.verdicts[["arm", "reference", "word"]].itertuples(index=False, name=None)
    )
    assert list(result.arms["arm"]) == [row.arm for row in cell.rows]
    assert result.recommendation == result.comparison.recommendation
    assert result.recommendation is not None

    # the page on them names every column of runs and of speeds, and no column that is not there
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for name, frame in (("runs", result.runs), ("speeds", result.speeds), ("verdicts", result.verdicts)):
        part = page.partition(f"`result.{name}`: one row")[2].partition("`result.")[0]
        named = {word for line in part.splitlines() if line.startswith("| `") for word in ticked(line.split("|")[1])}
        named |= {f"{word}{end}" for word in named for end in ("_low", "_high") if word.startswith("speed_to_")}
        assert named - {"_low", "_high"} <= set(frame.columns)
        if name != "verdicts":
            said = {"cell", "dataset", "model", "optimizer", "arm", "device", "parameters"}
            assert set(frame.columns) - said <= named, name

    # text, HTML, figures
    assert result.recommendation.text in " ".join(result.table().split())
    assert repr(result) == result.table()
    html = result._repr_html_()
    assert "<table>" in html
    assert "graphs/s" in html
    assert result.render("csv").splitlines()[0].startswith("cell,")
    figure = result.figure("curves")
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert result.figure("front", width="84mm").get_size_inches()[0] == pytest.approx(84 / 25.4)
    with pytest.raises(UsageError, match="pie"):
        result.figure("pie")
    with pytest.raises(UsageError, match="against="):
        result.figure("differences", against="adam")


def ticked(text: str) -> list[str]:
    return re.findall(r"`([a-z_]+)`", text)


def test_what_the_command_line_has_run_is_not_run_again_in_python(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from samcmp.cli import execute

    comparison = comparison_of(run)
    monkeypatch.setattr(execute, "run", None)  # nothing is left to do
    assert samcmp.compare(**SAME, progress=False).comparison == comparison


def test_a_script_without_a_guard_runs_once_though_its_runs_are_in_processes_of_their_own(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "import samcmp\nprint('once')\n"
        "result = samcmp.compare('demo', 'gcn', ['adam', 'sam'], subset=60, epochs=1, repeats=1, profile_seconds=1,\n"
        "                        device='cpu', jobs=2, progress=False)\n"
        "print(set(result.runs['status']))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.splitlines() == ["once", "{'ok'}"], done.stderr
    assert done.stderr == ""


def test_train_keeps_its_record_and_gives_history_and_predictions(in_empty_folder: Path) -> None:
    trained = samcmp.train(
        "demo", "gcn", "sam", subset=60, epochs=2, device="cpu", save="best.safetensors", progress=False
    )
    assert [record.key for record in Store(Path(".samcmp")).records()] == [trained.record.key]
    assert trained.record.accuracy is not None
    assert trained.score == trained.record.accuracy.test
    assert list(trained.history["epoch"]) == [0, 1]
    assert len(trained.predictions) == trained.record.accuracy.test_size
    assert "test" in repr(trained)
    assert trained._repr_html_().startswith("<pre")
    new = pd.DataFrame({"smiles": ["CCO", "not a molecule", "c1ccccc1"], "note": [1, 2, 3]}, index=[5, 6, 7])
    made = samcmp.predict("best.safetensors", new, device="cpu", progress=False)
    assert list(made.index) == [5, 6, 7]
    assert list(made["note"]) == [1, 2, 3]
    (title,) = [name for name in made.columns if name.startswith("predicted_")]
    assert list(made[title].isna()) == [False, True, False]
    assert made["problem"].iloc[1]


def test_profile_measures_a_session_a_batch_size(in_empty_folder: Path) -> None:
    profiled = samcmp.profile(
        "demo", "gcn", ["adam", "sam"], budget="2s", batch_size=[8, 16], subset=60, device="cpu", progress=False
    )
    assert list(zip(profiled.speeds["optimizer"], profiled.speeds["batch_size"], strict=True)) == [
        ("adam", 8), ("sam", 8), ("adam", 16), ("sam", 16),
    ]  # fmt: skip
    assert (profiled.speeds["graphs_per_second"] > 0).all()
    assert {"x_adam_ratio", "x_adam_low", "x_adam_high"} <= set(profiled.speeds.columns)
    assert "graphs/s" in repr(profiled)


INSIDE: dict[str, Any] = {
    "optimizers": ["adam", "graphsam"], "what": ["gradients", "landscape"], "subset": 40, "batch_size": 8, "epochs": 2,
    "directions": 2, "points": 3, "device": "cpu", "progress": False,
}  # fmt: skip
INSIDE_FLAGS = (
    "-o", "adam", "-o", "graphsam", "--what", "gradients", "--what", "landscape", "--subset", "40", "--batch-size", "8",
    "--epochs", "2", "--directions", "2", "--points", "3", "--device", "cpu",
)  # fmt: skip


def test_what_is_inspected_in_python_is_found_by_the_command_line_and_the_other_way_round(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inspected = samcmp.inspect(**INSIDE)
    monkeypatch.setattr(work, "carry_out", None)  # nothing is left to do
    for form in ("markdown", "csv", "json"):
        assert run("inspect", *INSIDE_FLAGS, "--format", form)[1] == inspected.render(form)
    assert run("inspect", *INSIDE_FLAGS)[1].split() == repr(inspected).split()
    assert samcmp.inspect(**INSIDE).render("json") == inspected.render("json")

    # frames: a row a number, and a row a step that makes those numbers
    written = pd.read_csv(io.StringIO(inspected.render("csv")))
    assert list(inspected.numbers.columns) == list(written.columns)
    pd.testing.assert_series_equal(inspected.numbers["value"].astype(float), written["value"])
    found = inspected.numbers.set_index(["arm", "what", "name"])["value"]
    assert len(inspected.steps) == 2 * 2 * 4  # 32 of 40 molecules in batches of 8
    for arm, steps in inspected.steps.groupby("arm"):
        assert steps["step"].to_list() == list(range(8))
        assert steps["norm_omega"].median() == pytest.approx(found[arm, "gradients", "norm_omega"])
        cosines = steps["cos_next"].dropna()
        assert (cosines >= 0).mean() == pytest.approx(found[arm, "gradients", "pairs_next"])
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8").partition("`inspected.steps`: one row")[2]
    named = {word for line in page.splitlines() if line.startswith("| `") for word in ticked(line.split("|")[1])}
    assert named == set(inspected.steps.columns)

    # HTML, figures
    html = inspected._repr_html_()
    assert "<table>" in html
    assert "no step is perturbed" in html
    inspected.figure("pairs", width=6).savefig(tmp_path / "pairs.png")
    for width, inches in ((6, 6.0), ("127mm", 5.0), ("6 in", 6.0)):
        assert inspected.figure("pairs", width=width).get_size_inches()[0] == pytest.approx(inches)
    for wrong, words in (({"width": "84"}, "width=: expected 1.5 to 40 inches"), ({"font_size": 99}, "font_size=: ")):
        with pytest.raises(UsageError, match=words):
            inspected.figure("pairs", **wrong)  # type: ignore[arg-type]
    assert (tmp_path / "pairs.png").stat().st_size > 1000
    for kind, words in (("pie", "unknown figure"), ("path", "Add what=path."), ("generalisation", "Add what=sharp")):
        with pytest.raises(UsageError, match=words):
            inspected.figure(kind)
    with pytest.raises(UsageError, match="form=: unknown format 'pdf'"):
        inspected.render("pdf")


def test_without_gradients_there_are_no_steps(in_empty_folder: Path) -> None:
    inspected = samcmp.inspect(**{**INSIDE, "what": "landscape", "optimizers": "adam"})
    assert inspected.steps.empty
    assert set(inspected.numbers["what"]) == {"landscape"}


def check_refused(
    call: Callable[..., object], arguments: dict[str, Any], where: str | None, words: str, capsys: Any
) -> None:
    """The call raises an error that names the argument, no option, and nothing is printed."""
    with pytest.raises(samcmp.SamcmpError) as raised:
        call(**arguments)
    assert where is None or (raised.value.where or "").startswith(where)
    assert words in str(raised.value)
    assert "--" not in str(raised.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "where", "words"),
    [
        ({"what": "gradient"}, "what=", "Did you mean 'gradients'?"),
        ({"what": "attention"}, "what=attention", "gcn has no attention"),
        ({"what": "path", "optimizers": "sam"}, "what=path", "Name two with optimizers="),
        ({"what": [1]}, "what=", "expected names"),
        ({"weights": "first"}, "weights=", "unknown value 'first'"),
        ({"molecules": "many"}, "molecules=", "expected a whole number or all"),
        ({"points": 20}, "points=", "Take 21."),
        ({"direction": "up"}, "direction=", "unknown value 'up'"),
        ({"radius": 0}, "radius=", "1e-06"),
        ({"every": 0}, "every=", "from 1"),
        ({"directions": 0}, "directions=", "from 1"),
        ({"row": -1}, "row=", "from 0"),
        ({"row": 3}, "row=", "Add what=attention"),
        ({"dataset": "esoll"}, "dataset=", "esol"),
        ({"store": __file__}, None, "is a file"),
    ],
    ids=str,
)
def test_wrong_input_of_inspect_is_an_error_in_the_words_of_python(
    arguments: dict[str, Any], where: str | None, words: str, in_empty_folder: Path, capsys: Any
) -> None:
    check_refused(samcmp.inspect, arguments, where, words, capsys)


def test_a_frame_is_a_dataset_by_its_content(in_empty_folder: Path) -> None:
    frame = pd.DataFrame({"smiles": ["C" * n for n in range(1, 41)], "y": [n / 3 for n in range(1, 41)]})
    more: dict[str, Any] = {"target": "y", "epochs": 1, "device": "cpu", "progress": False}
    first = samcmp.train(data=frame, optimizer="adam", **more).record
    frame.to_csv("frame.csv", index=False)
    again = samcmp.train(data="frame.csv", optimizer="adam", **more).record
    other = samcmp.train(data=frame.assign(y=frame["y"] + 1), optimizer="adam", **more).record
    assert first.key == again.key
    assert first.key != other.key
    assert first.dataset_hash != other.dataset_hash


def test_a_frame_lies_in_the_cache_under_the_hash_of_its_content() -> None:
    frame = pd.DataFrame({"smiles": ["C", "CC"], "y": [0.1, None]})
    place = table(frame)
    assert place == table(frame.copy())
    assert place is not None
    assert place != table(frame.assign(y=0))
    pd.testing.assert_frame_equal(pd.read_csv(place), frame)


def test_a_frame_passes_the_gate_that_a_file_passes(in_empty_folder: Path) -> None:
    frame = pd.DataFrame({"smiles": ["C", "CC"], "y": [0.1, 0.2]})
    with pytest.raises(samcmp.SamcmpError) as raised:
        samcmp.compare(data=frame, target="z", model="gcn", progress=False)
    assert raised.value.where == "data= (a frame)"
    assert "target" in str(raised.value) or "z" in str(raised.value)
    with pytest.raises(samcmp.SamcmpError, match="target"):
        samcmp.compare(data=frame, model="gcn", progress=False)


@pytest.mark.parametrize(
    ("arguments", "where", "words"),
    [
        ({"optimizers": ["adan"]}, "optimizers=", "unknown optimizer 'adan'"),
        ({"tune": 1}, "tune=", "at least 2"),
        ({"epochs": 0}, "epochs=", "from 1"),
        ({"subset": 2.5}, "subset=", "whole number"),
        ({"settings": {"graphsam.roh": 1}, "optimizers": "graphsam"}, 'settings={"graphsam.roh": 1}', "roh"),
        ({"split": "file"}, "split=file", "one of your own"),
        ({"device": "tpu"}, "device=", "unknown device"),
        ({"equal": "dollars"}, "equal=", "unknown unit"),
        ({"optimizers": [int]}, "optimizers=", "expected names"),
        ({"data": 5}, "data=", "expected a path or a pandas frame"),
        ({"budget": "soon"}, "budget=", ""),
        ({"store": __file__}, None, "is a file"),
    ],
    ids=str,
)
def test_wrong_input_is_an_error_in_the_words_of_python(
    arguments: dict[str, Any], where: str | None, words: str, in_empty_folder: Path, capsys: Any
) -> None:
    check_refused(samcmp.compare, arguments, where, words, capsys)


def test_settings_are_spelled_as_entries_of_set() -> None:
    assert overrides({"graphsam.rho": [0.05, 0.005], "gcn.hidden": 64, "sam.adaptive": True}) == [
        "graphsam.rho=0.05,0.005", "gcn.hidden=64", "sam.adaptive=True",
    ]  # fmt: skip


def test_an_interrupt_is_raised_and_keeps_what_is_finished(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samcmp.experiment import run as run_module

    whole = run_module.train
    trained: list[str] = []

    def interrupted(case: Any, options: Any, **more: Any) -> Any:
        if trained:
            raise KeyboardInterrupt
        trained.append(more["key"])
        return whole(case, options, **more)

    monkeypatch.setattr(run_module, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        samcmp.compare(**SAME, progress=False)
    assert {r.key for r in Store(Path(".samcmp")).records() if r.case.kind == "train"} == set(trained)


def test_the_catalogues_are_frames_with_the_names_that_compare_takes() -> None:
    from samcmp import backbones, optim

    assert "demo" in set(samcmp.datasets()["name"])
    assert list(samcmp.models()["name"]) == list(backbones.names())
    assert list(samcmp.optimizers()["name"]) == list(optim.names())


def test_names_in_html_are_escaped() -> None:
    import dataclasses

    from samcmp.analysis import build
    from samcmp.api.results import Result
    from tests.report import made

    records = [made.run(0.8 + i / 100, optimizer, i) for i in range(3) for optimizer in ("adam", "sam")]
    evil = "<script>alert(1)</script>"
    records = [dataclasses.replace(r, case=dataclasses.replace(r.case, dataset=evil)) for r in records]
    html = Result(build.compare(records), records)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_names_in_the_html_of_an_inspection_are_escaped() -> None:
    from samcmp.api.results import Inspected
    from tests.inspection import made

    html = Inspected(made.results("sharpness", models=("<script>alert(1)</script>",)))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_rows_of_runs_are_written_as_csv_and_parquet(run: Run) -> None:
    assert run("compare", *FLAGS, "--format", "csv", "--rows", "runs", "--output", "runs.csv")[0] == 0
    assert run("report", "--format", "parquet", "--rows", "runs", "--output", "runs.parquet")[0] == 0
    as_csv, as_parquet = pd.read_csv("runs.csv"), pd.read_parquet("runs.parquet")
    assert len(as_csv) == len(as_parquet) == 4
    assert set(as_csv["key"]) == set(as_parquet["key"])
    assert as_csv.sort_values("key")["test"].tolist() == pytest.approx(as_parquet.sort_values("key")["test"].tolist())
    code, _, err = run("report", "--format", "csv", "--rows", "molecules")
    assert code == 2
    assert "--rows" in err
    code, _, err = run("report", "--format", "latex", "--rows", "runs")
    assert code == 2
    assert "csv or parquet" in err


def test_what_is_no_model_no_table_or_no_file_is_named_as_the_argument_that_it_is(in_empty_folder: Path) -> None:
    Path("best").mkdir()
    with pytest.raises(UsageError, match=r"no model is named\nName model files"):
        samcmp.predict([], pd.DataFrame({"smiles": ["CCO"]}))
    with pytest.raises(UsageError, match="data=: expected a path or a pandas frame, got None"):
        samcmp.predict("best", None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^save=best: is a folder"):
        samcmp.train(save="best")
    with pytest.raises(UsageError, match=r"^save_split=best: is a folder"):
        samcmp.train(save_split="best")
