"""The gate from the command line: every exit code of docs/gate.md, and the sentence that goes with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from samcmp.experiment.store import Store
from samcmp.records import Record
from tests.commands import Run
from tests.places import ROOT
from tests.report.made import cell

Change = Callable[[Record], Record]


def worse(record: Record) -> Record:
    if record.accuracy is None:
        return record
    return dataclasses.replace(record, accuracy=dataclasses.replace(record.accuracy, test=record.accuracy.test - 0.05))


def slower(record: Record) -> Record:
    if record.throughput is None:
        return record
    times = tuple(2 * t for t in record.throughput.block_seconds)
    half = record.throughput.graphs_per_second / 2
    found = dataclasses.replace(record.throughput, block_seconds=times, graphs_per_second=half)
    return dataclasses.replace(record, throughput=found)


def larger(record: Record) -> Record:
    if record.memory is None or record.memory.peak_bytes is None:
        return record
    return dataclasses.replace(
        record, memory=dataclasses.replace(record.memory, peak_bytes=2 * record.memory.peak_bytes)
    )


def on_other_splits(record: Record) -> Record:
    case = dataclasses.replace(record.case, split_seed=record.case.split_seed + 100, seed=record.case.seed + 100)
    return dataclasses.replace(record, case=case) if record.case.kind == "train" else record


def moved(record: Record) -> Record:
    return dataclasses.replace(record, machine={"processor": "Another"})


def filled(folder: str, change: Change) -> str:
    store = Store(Path(folder))
    for record in cell():
        store.add(change(record) if record.case.optimizer == "graphsam" or change is moved else record)
    return folder


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda record: record, 0, "checks passed; exit code 0"),
        (worse, 10, "exit code 10"),
        (slower, 11, "exit code 11"),
        (larger, 12, "exit code 12"),
        (on_other_splits, 13, "no run on a split that the baseline has"),
        (moved, 14, "the baseline ran on"),
    ],
    ids=["same", "worse", "slower", "larger", "other splits", "another machine"],
)
def test_the_gate_ends_with_its_documented_code(run: Run, change: Change, code: int, says: str) -> None:
    before = filled("before", lambda record: record)
    assert run("report", "--store", before, "--format", "json", "--output", "baseline.json")[0] == 0
    found, _, err = run("report", "--store", filled("after", change), "--baseline", "baseline.json")
    assert found == code, err
    assert says in err


def test_every_code_is_in_the_gates_page() -> None:
    page = (ROOT / "docs" / "gate.md").read_text()
    for code in (0, 10, 11, 12, 13, 14):
        assert f"| {code} | " in page
