"""Shards and merging: a run is in one shard, equal results are one, different ones are told, none is overwritten."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from samcmp.cli import COMMANDS, app
from samcmp.errors import UsageError
from samcmp.experiment.plan import Plan
from samcmp.experiment.store import Store
from samcmp.records import Case, Epoch, Record
from tests.commands import Run
from tests.report.made import cell


def filled(folder: str, records: list[Record] | None = None) -> list[Record]:
    store, records = Store(Path(folder)), records or cell()
    for record in records:
        if record.case.kind == "train":
            store.add_predictions(record.key, rows=np.arange(3), truth=np.ones((3, 1)), prediction=np.ones((3, 1)))
        store.add(record)
    return records


def files(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# ---------------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize("n", [1, 3, 8, 20])
def test_shards_hold_every_run_once_differ_by_one_at_most_and_profile_nothing(n: int) -> None:
    train = {f"{(7 * i) % 11:064x}": Case("train", "demo", "gcn", "adam", seed=i) for i in range(11)}
    plan = Plan("", "", train, [{"0" * 64: Case("profile", "demo", "gcn", "adam")}], 1.0)
    shards = [plan.shard(i, n) for i in range(1, n + 1)]
    assert sorted(key for shard in shards for key in shard.train) == sorted(train)
    assert max(len(s.train) for s in shards) - min(len(s.train) for s in shards) <= 1
    assert not any(shard.sessions for shard in shards)
    ranks = sorted(train)
    assert all(ranks.index(key) % n == 0 for key in shards[0].train)  # I = 1: r mod N = 0


SHARDS = {
    ("--shard", "9/8"): "--shard 9/8: there is no shard 9\nName one from 1 to 8.",
    ("--shard", "0/8"): "there is no shard 0",
    ("--shard", "3"): "expected I/N, got '3'",
    ("--shard", "a/b"): "expected I/N",
    ("--shard", "1/0"): "expected I/N",
    ("--shard", "1/2", "--budget", "5min"): "--budget: is about a whole comparison",
    ("--shard", "1/2", "--save-best", "best"): "--save-best: is about a whole comparison",
    ("--shard", "1/2", "--format", "csv", "--output", "x.csv"): "--output: is about a whole comparison",
}


@pytest.mark.parametrize("words", SHARDS, ids=" ".join)
def test_a_shard_that_cannot_be_is_refused(run: Run, words: tuple[str, ...]) -> None:
    code, _, err = run("compare", "--dry-run", *words)
    assert code == 2
    assert SHARDS[words] in err


def test_a_dry_run_of_a_shard_shows_its_part(run: Run) -> None:
    code, out, _ = run("compare", "--dry-run", "--shard", "2/4", "--device", "cpu")
    assert code == 0
    assert "4 training runs, 0 in the store, 4 to do; 0 profile sessions" in " ".join(out.split())


# ---------------------------------------------------------------------------------------------- merge


def test_merging_copies_records_with_their_predictions_byte_for_byte_and_again_changes_nothing(run: Run) -> None:
    records = cell()
    filled("a", records[::2]), filled("b", records[1::2])
    code, out, _ = run("merge", "a", "b", "--into", "all")
    assert code == 0
    assert f"all: {len(records)} results copied, 0 already there." in out
    assert files("all") == files("a") | files("b")
    code, out, _ = run("merge", "a", "b", "--into", "all", "--format", "json")
    assert code == 0
    assert json.loads(out) == {
        "into": "all", "copied": 0, "there": len(records), "measured_twice": 0, "conflicts": [], "damaged": [],
    }  # fmt: skip


def changed(record: Record, **more: Any) -> Record:
    return dataclasses.replace(record, **more)


def test_results_that_differ_in_time_and_machine_alone_are_equal(run: Run) -> None:
    first = next(record for record in cell() if record.case.kind == "train")
    epochs = tuple(dataclasses.replace(epoch, seconds=epoch.seconds + 1) for epoch in first.history)
    later = changed(first, created="2030-01-01", seconds=99.0, machine={"processor": "x"}, history=epochs)
    filled("a", [first]), filled("b", [later])
    before = files("a")
    code, out, _ = run("merge", "b", "--into", "a")
    assert code == 0
    assert "1 already there" in out
    assert files("a") == before


CONFLICTS: dict[str, dict[str, Any]] = {
    "status": {"status": "error", "reason": "x"},
    "history": {"history": (Epoch(0.5, 0.5, 0.5, 0.1, 1.0, 3),)},
    "predictions": {},
}


@pytest.mark.parametrize("what", CONFLICTS)
def test_two_results_of_one_key_are_a_conflict_that_is_told_and_nothing_is_overwritten(run: Run, what: str) -> None:
    train = [record for record in cell() if record.case.kind == "train"]
    filled("a", train[:2])
    filled("b", [changed(train[0], **CONFLICTS[what]), train[2]])
    if what == "predictions":
        Store(Path("b")).add_predictions(
            train[0].key, rows=np.arange(3), truth=np.ones((3, 1)), prediction=np.zeros((3, 1))
        )
    before = files("a")
    code, out, err = run("merge", "b", "--into", "a")
    assert code == 1
    assert f"conflict: {train[0].case.dataset} {train[0].case.model} {train[0].case.arm}" in err
    assert what in err
    assert "1 result copied" in out
    assert "1 conflict" in out
    assert {name: data for name, data in files("a").items() if name in before} == before
    report = run("report", "--store", "a", "--store", "b")
    assert report[0] == 2
    assert "have different results" in report[2]


def test_damaged_files_are_named_and_left_out(run: Run) -> None:
    records = filled("a")
    store = Store(Path("a"))
    train = [record for record in records if record.case.kind == "train"]
    store.path(train[0].key).write_text("{")
    misnamed = store.path("f" * 64)
    misnamed.parent.mkdir(exist_ok=True)
    misnamed.write_bytes(store.path(train[1].key).read_bytes())
    store.path(train[2].key, "predictions", ".npz").write_bytes(b"PK")
    code, out, err = run("merge", "a", "--into", "all")
    assert code == 1
    for path in (store.path(train[0].key), misnamed, store.path(train[2].key, "predictions", ".npz")):
        assert f"left out, damaged: {path}" in err
    assert "3 damaged files" in out
    assert {r.key for r in Store(Path("all")).records()} == {r.key for r in records} - {train[0].key, train[2].key}


def test_a_profile_that_two_stores_have_stays_as_it_is_and_that_is_said(run: Run) -> None:
    records = cell()
    profiles = [record for record in records if record.case.kind == "profile"]
    filled("a", records), filled("b", [changed(profile, seconds=1.5) for profile in profiles])
    before = files("a")
    code, out, _ = run("merge", "b", "--into", "a")
    assert code == 0
    assert f"{len(profiles)} profiles measured twice, of which the one in a stays" in out
    assert files("a") == before
    code, _, err = run("report", "--store", "a", "--store", "b")
    assert code == 0
    assert "shown is what the first of them has" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a", "--into", "a"), "a: is named twice"),
        (("a", "./a", "--into", "all"), "a: is named twice"),
        (("nowhere", "--into", "all"), "nowhere: there is no store here"),
        (("a", "--into", "a/records/file"), "file"),
    ],
)
def test_stores_that_cannot_be_merged_are_refused(run: Run, words: tuple[str, ...], said: str) -> None:
    filled("a")
    Path("a/records/file").touch()
    code, _, err = run("merge", *words)
    assert code == 2
    assert said in err


def test_a_report_of_two_stores_is_the_report_of_their_merger(run: Run) -> None:
    records = cell()
    filled("a", records[::2]), filled("b", records[1::2])
    assert run("merge", "a", "b", "--into", "all")[0] == 0
    both, merged = (
        run("report", "--format", "json", *words) for words in (("--store", "b", "--store", "a"), ("--store", "all"))
    )
    assert both[0] == 0
    assert both[1] == merged[1]
    assert run("report", "--store", "a", "--store", "nowhere")[0] == 2


# ---------------------------------------------------------------------------------------------- one value, once


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_that_takes_one_value_refuses_a_second(name: str) -> None:
    group: Any = typer.main.get_command(app)
    command = group.get_command(None, name)
    single = [
        option for option in command.params
        if option.param_type_name == "option" and not (option.multiple or option.is_flag)
    ]  # fmt: skip
    assert single or name == "check"
    for option in single:
        flag = max(option.opts, key=len)
        with pytest.raises(UsageError, match="given 2 times") as error:
            command.make_context(name, [option.opts[0], "1", flag, "2"])
        assert error.value.where == flag
