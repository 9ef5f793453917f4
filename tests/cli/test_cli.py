"""The command line as its user meets it: the main job, going on after an interruption, and wrong input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from samcmp.experiment.store import Store
from tests.commands import TINY, Run
from tests.places import needs_mirror


def test_compare_trains_profiles_and_prints_every_arm_with_its_numbers(run: Run) -> None:
    code, out, _ = run("compare", *TINY, "--format", "json")
    assert code == 0
    rows = json.loads(out)["cells"][0]["rows"]
    assert [row["arm"] for row in rows] == ["adam", "sam", "graphsam"]
    for row in rows:
        assert row["score"]["n"] == 2
        assert row["graphs_per_second"] > 0
    steps = {row["arm"]: row["passes_per_step"] for row in rows}
    assert steps["adam"] == 1
    assert steps["sam"] == 2
    assert 1 < steps["graphsam"] < 2


def test_compare_started_again_after_success_runs_nothing_and_prints_the_same(run: Run, monkeypatch: Any) -> None:
    first = run("compare", *TINY, "--format", "csv")
    from samcmp.cli import execute

    def must_not_run(*_: object, **__: object) -> None:
        raise AssertionError("everything was in the store")

    monkeypatch.setattr(execute, "run", must_not_run)
    assert run("compare", *TINY, "--format", "csv")[:2] == first[:2]


def test_an_interrupted_compare_goes_on_where_it_stopped_and_ends_the_same(run: Run, monkeypatch: Any) -> None:
    from samcmp.experiment import run as run_module

    whole = run_module.train
    trained: list[str] = []

    def interrupted(case: Any, options: Any, **more: Any) -> Any:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(more["key"])
        return whole(case, options, **more)

    monkeypatch.setattr(run_module, "train", interrupted)
    code, _, err = run("compare", *TINY, "--store", "broken")
    assert code == 130
    assert "goes on" in err
    done = {r.key for r in Store(Path("broken")).records() if r.case.kind == "train"}
    assert done == set(trained)
    monkeypatch.setattr(run_module, "train", whole)
    assert run("compare", *TINY, "--store", "broken")[0] == 0
    assert run("compare", *TINY, "--store", "whole")[0] == 0
    assert scores("broken") == scores("whole")


def scores(store: str) -> dict[str, float | None]:
    return {
        r.key: r.accuracy.test if r.accuracy else None for r in Store(Path(store)).records() if r.case.kind == "train"
    }


def test_a_run_that_diverges_is_a_hole_with_its_cause_and_the_others_go_on(run: Run) -> None:
    config = Path("wild.toml")
    config.write_text(
        '[suites.default]\ntitle = "t"\ndatasets = ["demo"]\nmodels = ["gcn"]\n'
        'optimizers = ["adam", { name = "sam", rho = 1e30 }]\n'
    )
    code, out, _ = run("compare", *TINY, "--config", str(config))
    assert code == 1
    assert "diverged" in out
    statuses = {r.case.optimizer: r.status for r in Store(Path(".samcmp")).records() if r.case.kind == "train"}
    assert statuses == {"adam": "ok", "sam": "diverged"}


def test_a_suites_own_protocol_reaches_the_runs(run: Run) -> None:
    code, out, _ = run("compare", "--suite", "smoke", "--dry-run")
    assert code == 0
    epochs = [line.split()[4] for line in out.splitlines() if line.split()[:2] in (["esol", "gcn"], ["esol", "grover"])]
    assert epochs == ["2"] * 6


def test_train_writes_a_record_and_the_best_weights(run: Run) -> None:
    words = ("-d", "demo", "-m", "gcn", "-o", "sam", "--epochs", "2", "--subset", "60", "--save", "best.safetensors")
    code, out, _ = run("train", *words)
    assert code == 0
    assert "test rmse" in out
    assert "demo/random/0" in out
    from safetensors.numpy import load_file

    assert sum(array.size for array in load_file("best.safetensors").values()) > 1000
    record = Store(Path(".samcmp")).records()[0]
    assert record.accuracy is not None
    assert len(record.history) == 2
    assert record.history[0].passes == 4  # 48 rows, two steps of two passes


@needs_mirror
def test_real_molecules_keep_the_published_split(run: Run) -> None:
    assert run("train", "-d", "esol", "-m", "gcn", "-o", "graphsam", "--epochs", "1")[0] == 0
    record = Store(Path(".samcmp")).records()[0]
    assert record.split_hash.startswith("b56100ad601891af")
    assert record.accuracy is not None
    assert (record.accuracy.train_size, record.accuracy.valid_size, record.accuracy.test_size) == (902, 113, 113)


WRONG = {
    "an unknown dataset": (("compare", "--dataset", "tox12"), "Did you mean 'tox21'"),
    "an unknown model": (("compare", "--model", "grovr"), "Did you mean 'grover'"),
    "an unknown optimizer": (("train", "--optimizer", "grahpsam"), "Did you mean 'graphsam'"),
    "an unknown suite": (("compare", "--suite", "smke"), "Did you mean 'smoke'"),
    "an unknown format": (("compare", "--format", "tabel"), "Did you mean 'table'"),
    "an unknown device": (("train", "--device", "gpu"), "cuda:INDEX"),
    "an unknown setting": (("compare", "--set", "graphsam.roh=0.1"), "Did you mean 'rho'"),
    "a negative number": (("compare", "--epochs", "-3"), "--epochs"),
    "zero repeats": (("compare", "--repeats", "0"), "--repeats"),
    "a budget that is not finite": (("compare", "--budget", "nan"), "--budget"),
    "a subset larger than the set": (("compare", "--subset", "99999"), "1,128"),
    "a subset too small to split": (("compare", "--subset", "3"), "--subset"),
    "a target without a file": (("compare", "--target", "y"), "--data"),
    "a file that is not there": (("compare", "--data", "none.csv", "--target", "y"), "none.csv"),
    "a suite file that is not there": (("compare", "--config", "none.toml"), "none.toml"),
    "three folds": (("compare", "--folds", "3"), "--repeats 3"),
    "parquet on a terminal": (("compare", "--format", "parquet"), "--output"),
    "an unknown command": (("comprae",), "Did you mean 'compare'"),
    "no number": (("compare", "--jobs", "abc"), "--jobs: expected a whole number, got 'abc'"),
    "no whole number": (("train", "--epochs", "1.5"), "--epochs: expected a whole number, got '1.5'"),
    "no threads": (("compare", "--threads", "0"), "--threads: must be a whole number from 1"),
    "jobs by the million": (("compare", "--jobs", "1000000"), "this machine's cores"),
    "no jobs": (("compare", "--jobs", "-1"), "--jobs: must be a whole number from 1"),
    "a negative margin": (("compare", "--margin", "-1"), "--margin: must be a number from 0 to 1, got -1"),
    "a margin that is no number": (("report", "--margin", "nan"), "--margin: must be a number from 0 to 1, got nan"),
    "a device far away": (("compare", "--device", "cuda:99"), "--device cuda:99: CUDA was asked for"),
    "several optimizers in one word": (
        ("compare", "--optimizer", "adam,sam"),
        "--optimizer adam --optimizer sam",
    ),
    "an empty optimizer": (("compare", "--optimizer", ""), "unknown optimizer ''"),
    "an empty suite": (("compare", "--suite", ""), "unknown suite ''"),
    "a dataset like a path": (("compare", "--dataset", "../../x"), "unknown dataset '../../x'"),
    "a model like a path": (("train", "--model", "../../x"), "unknown model '../../x'"),
    "a suite like a path": (("compare", "--suite", "../../x"), "unknown suite '../../x'"),
    "an optimizer like a path": (("profile", "--optimizer", "../../x"), "unknown optimizer '../../x'"),
    "a dataset in another alphabet": (("fetch", "бббп"), "unknown dataset 'бббп'"),
    "more runs than can be planned": (("compare", "--repeats", "1000000"), "3,000,000 runs"),
    "a fold of a split without folds": (("train", "--fold", "2", "--split", "random"), "'random' has no folds"),
    "a split of one's own without its file": (("compare", "--split", "file"), "--split-file FILE"),
    "a folder that is not there": (("compare", "--from", "nowhere"), "--from nowhere: no such folder"),
    "two optimizers where one is trained": (
        ("train", "-o", "adam", "--optimizer", "sam"),
        "--optimizer: given 2 times",
    ),
    "a dataset and a file to fetch": (("fetch", "demo", "--data", "x.csv"), "--data: a file of your own stands alone"),
    "a target of a shipped dataset": (("fetch", "demo", "--target", "y"), "--data my.csv"),
    "a bundle of another kind": (("fetch", "--bundle", "data.csv"), "End its name in .tar"),
    "a name of a thousand letters": (("compare", "--store", "a" * 1000), "the name is too long"),
    "a bundle of nothing": (("fetch", "demo", "--bundle", "x.tar"), "built-in datasets need no bundle"),
    "the settings of models": (("list", "models", "--settings"), "samcmp list optimizers --settings"),
    "a SMILES column without a file": (("train", "--smiles-column", "s"), "--data"),
    "a model file that is not there": (("compare", "--model", "mine.py:Net", "--subset", "40"), "mine.py"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_clear_message_and_exit_code_2(run: Run, case: str) -> None:
    words, says = WRONG[case]
    code, out, err = run(*words)
    assert code == 2, out + err
    assert says in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    "name", ["compare", "train", "profile", "report", "fetch", "list", "store", "doctor", "check", "selfcheck"]
)
def test_help_is_complete_with_examples(run: Run, name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert "Examples" in out
    assert f"samcmp {name}" in out


def test_the_version_is_printed_without_a_command(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("samcmp ")


@pytest.mark.parametrize("words", [("-h",), ("compare", "-h"), ("fetch", "-h")])
def test_help_has_a_short_name(run: Run, words: tuple[str, ...]) -> None:
    code, out, _ = run(*words)
    assert code == 0
    assert "Usage: " in out


def test_every_default_that_a_suite_or_the_machine_decides_is_in_the_help(run: Run) -> None:
    _, out, _ = run("compare", "--help")
    shown = " ".join(out.split())
    for default in (
        "$SAMCMP_STORE, else .samcmp",
        "0.01 AUC, 0.005 of accuracy",
        "the suite's, else 5",
        "the cores; 1 on",
    ):
        assert default in shown


def test_list_shows_every_catalogue(run: Run) -> None:
    code, out, _ = run("list")
    assert code == 0
    for name in ("tox21", "grover", "graphsam", "paper-table2"):
        assert name in out


def test_doctor_says_what_is_there(run: Run) -> None:
    code, out, _ = run("doctor", "--format", "json")
    assert code == 0
    found = {finding["what"]: finding for finding in json.loads(out)}
    assert found["torch"]["state"] == "ok"
    assert found["cache folder"]["state"] in {"ok", "note"}


@pytest.mark.parametrize("more", [("--split", "random"), ("--folds", "5")])
def test_a_split_file_and_another_split_contradict_each_other(run: Run, more: tuple[str, ...]) -> None:
    Path("x.json").write_text("{}")
    code, _, err = run("compare", "--split-file", "x.json", *more)
    assert code == 2
    assert "contradict each other" in err


def test_a_word_after_an_options_value_gets_the_way_to_name_several(run: Run) -> None:
    code, _, err = run("compare", "-o", "adam", "sam")
    assert code == 2
    assert "'sam' belongs to no option" in err
    assert "-o adam -o sam" in err


DIFFERENT = {  # of one or of several, what a seed, a budget or a dry run is of, what is repeated and what is drawn
    *("--help", "-h", "--seed", "--budget", "--batch-size", "--format", "--dry-run", "--repeats"),
    *("--dataset", "-d", "--model", "-m", "--optimizer", "-o", "--figure", "--store"),
}


def test_a_shared_option_reads_alike_in_every_command() -> None:
    import typer

    from samcmp.cli import COMMANDS, app

    group = typer.main.get_command(app)
    seen: dict[str, tuple[object, ...]] = {}
    with group.make_context("samcmp", ["list"], resilient_parsing=True) as context:
        for name in COMMANDS:
            for option in group.get_command(context, name).params:  # type: ignore[attr-defined]
                facts = (getattr(option, "help", None), option.metavar, getattr(option, "rich_help_panel", None))
                for word in set(option.opts) - DIFFERENT:
                    assert seen.setdefault(word, facts) == facts, f"{name} {word}"
    assert len(seen) > 30


def test_every_catalogue_can_be_read_as_json(run: Run) -> None:
    code, out, _ = run("list", "--format", "json")
    assert code == 0
    every = json.loads(out)
    assert list(every) == ["datasets", "models", "optimizers", "suites"]
    for kind, rows in every.items():
        assert json.loads(run("list", kind, "--format", "json")[1]) == rows
        assert len({row["name"] for row in rows}) == len(rows) > 2
    of = {kind: {row["name"]: row for row in rows} for kind, rows in every.items()}
    assert of["datasets"]["esol"]["molecules"] == 1128
    assert of["datasets"]["demo"]["cached"] is True
    assert of["datasets"]["tox21"]["metric"] == "roc-auc"
    assert len(of["datasets"]["tox21"]["targets"]) == of["datasets"]["tox21"]["tasks"] == 12
    assert of["optimizers"]["graphsam"]["settings"]["rho"] == 0.05
    assert of["suites"]["smoke"]["datasets"] == ["esol"]


def test_the_catalogues_have_two_forms_only(run: Run) -> None:
    code, _, err = run("list", "--format", "csv")
    assert code == 2
    assert "Allowed: table, json" in err or "Allowed: json, table" in err


def test_a_profile_can_be_written_in_every_form(run: Run) -> None:
    words = ("profile", "--subset", "40", "-o", "adam", "-o", "sam", "--budget", "1s", "--device", "cpu")
    begins = {"table": "demo · gcn", "markdown": "**demo", "latex": "% needs", "csv": "dataset,", "json": "["}
    begins["html"] = "<!DOCTYPE html>"
    for form, begin in begins.items():
        code, out, err = run(*words, "--format", form, "--output", f"speeds.{form}")
        assert (code, out) == (0, ""), err
        assert f"wrote speeds.{form}" in err
        text = Path(f"speeds.{form}").read_text()
        assert text.startswith(begin)
        assert "graphsam" not in text
        assert "sam" in text
    assert run(*words, "--format", "parquet")[0] == 2
