"""The gate from the command line: every exit code of docs/gate.md, and the sentence that goes with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from samcmp.analysis.gate import ACCURACY, OK, Finding, Gate
from samcmp.experiment.store import Store
from samcmp.records import Record
from samcmp.report import gate as forms
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


GATE_FILES = ("--gate-json", "gate.json", "--gate-junit", "gate.xml", "--summary", "summary.md")


@pytest.mark.parametrize(
    ("change", "code", "check"),
    [(worse, 10, "accuracy"), (slower, 11, "speed"), (larger, 12, "memory"), (moved, 14, "baseline")],
    ids=["worse", "slower", "larger", "another machine"],
)
def test_what_the_gate_found_is_written_for_machines_and_for_the_job(
    run: Run, change: Change, code: int, check: str
) -> None:
    before = filled("before", lambda record: record)
    assert run("report", "--store", before, "--format", "json", "--output", "baseline.json")[0] == 0
    after = filled("after", change)
    assert run("report", "--store", after, "--baseline", "baseline.json", *GATE_FILES)[0] == code
    found = json.loads(Path("gate.json").read_text())
    assert found["exit_code"] == code
    assert next(c["check"] for c in found["checks"] if c["exit_code"] == code) == check
    suite = ElementTree.parse("gate.xml").getroot()[0]
    failed = [case for case in suite.iter("testcase") if case.find("failure") is not None]
    assert int(suite.attrib["tests"]) == len(list(suite.iter("testcase"))) == len(found["checks"])
    assert int(suite.attrib["failures"]) == len(failed) == sum(not c["passed"] for c in found["checks"]) > 0
    assert check in {case.attrib["name"] for case in failed}
    text = Path("summary.md").read_text()
    assert f"exit code {code}" in text
    assert f"| {check} | " in text


def test_the_summary_is_added_to_what_other_steps_have_written_and_good_news_are_news(run: Run) -> None:
    store = filled("store", lambda record: record)
    assert run("report", "--store", store, "--format", "json", "--output", "baseline.json")[0] == 0
    Path("summary.md").write_text("built in 3 s\n")
    assert run("report", "--store", store, "--baseline", "baseline.json", *GATE_FILES)[0] == 0
    assert Path("summary.md").read_text().startswith("built in 3 s\n### ✅ samcmp: nothing got worse\n")
    root = ElementTree.parse("gate.xml").getroot()
    assert root.attrib["failures"] == "0"
    assert {case.attrib["name"] for case in root.iter("testcase")} == {"accuracy", "speed", "memory"}


def test_a_baseline_that_cannot_be_read_is_a_finding_in_every_file(run: Run) -> None:
    assert run("report", "--baseline", "none.json", *GATE_FILES)[0] == 14
    assert json.loads(Path("gate.json").read_text())["exit_code"] == 14
    root = ElementTree.parse("gate.xml").getroot()
    assert root.attrib["failures"] == "1"
    assert "none.json" in Path("summary.md").read_text().replace("\\", "")


@pytest.mark.parametrize("option", GATE_FILES[::2])
def test_a_file_about_the_gate_needs_a_gate_and_a_place(run: Run, option: str) -> None:
    code, _, err = run("compare", option, "x")
    assert code == 2
    assert "Add --baseline FILE" in err
    Path("folder").mkdir()
    code, _, err = run("compare", "--baseline", "b.json", option, "folder")
    assert code == 2
    assert f"{option} folder: is a folder" in err


def test_names_from_elsewhere_are_text_in_xml_and_markdown() -> None:
    name = "<b>&\"' ]]>\x1b[31m\x00\ufffe\ud800 | `x`"
    gate = Gate(ACCURACY, (Finding(ACCURACY, name, name, "accuracy"), Finding(OK, name, name, "speed")))
    root = ElementTree.fromstring(forms.to_junit(gate).encode())
    shown = name.replace("\x1b", "\\x1b").replace("\x00", "\\x00").replace("\ufffe", "?").replace("\ud800", "\\ud800")
    assert [case.attrib["classname"] for case in root.iter("testcase")] == [shown, shown]
    assert json.loads(forms.to_json(gate))["checks"][0]["where"] == name
    text = forms.to_markdown(gate)
    assert "<b>" not in text
    assert "\x1b" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}
