"""The gate's exit codes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from samcmp.analysis import gate
from samcmp.analysis.build import compare
from samcmp.analysis.comparison import to_json_text
from samcmp.profiling import BUSY_BEFORE, BUSY_WHILE, WARNING
from samcmp.records import Record
from tests.report.made import cell


def changed(records: list[Record], *, score: float = 0.0, speed: float = 1.0, peak: float = 1.0) -> list[Record]:
    """The same Records of graphsam with another score, speed or peak memory."""
    out = []
    for number, r in enumerate(records):
        if r.case.optimizer == "graphsam":
            if r.accuracy:
                noise = 0.0005 * (number % 3 - 1) if score else 0.0
                r = dataclasses.replace(
                    r, accuracy=dataclasses.replace(r.accuracy, test=r.accuracy.test + score + noise)
                )
            if r.throughput and r.memory and r.memory.peak_bytes:
                times = tuple(t / speed for t in r.throughput.block_seconds)
                faster = dataclasses.replace(
                    r.throughput, block_seconds=times, graphs_per_second=r.throughput.graphs_per_second * speed
                )
                memory = dataclasses.replace(r.memory, peak_bytes=int(r.memory.peak_bytes * peak))
                r = dataclasses.replace(r, throughput=faster, memory=memory)
        out.append(r)
    return out


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    path = tmp_path / "baseline.json"
    path.write_text(to_json_text(compare(cell(), suite="smoke")), encoding="utf-8")
    return path


def code(records: list[Record], baseline: Path, suite: str = "smoke") -> int:
    return gate.check(compare(records, suite=suite), baseline).code


@pytest.mark.parametrize("text", [BUSY_BEFORE, BUSY_WHILE])
def test_a_slower_speed_on_a_busy_machine_is_no_evidence(baseline: Path, text: str) -> None:
    slower = changed(cell(), speed=0.8)
    busy = [dataclasses.replace(r, notes=(f"{WARNING}{text}",)) if r.throughput else r for r in slower]
    found = gate.check(compare(busy, suite="smoke"), baseline)
    assert found.code == 13
    assert any("measure again" in finding.what for finding in found.findings)


def test_nothing_changed_passes(baseline: Path) -> None:
    assert code(cell(), baseline) == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"score": 0.02}, 0),
        ({"score": -0.05}, 10),
        ({"speed": 0.8}, 11),
        ({"speed": 1.3}, 0),
        ({"peak": 1.5}, 12),
        ({"peak": 0.5}, 0),
        ({"speed": 0.8, "peak": 1.5}, 11),
        ({"score": -0.05, "speed": 0.8, "peak": 1.5}, 10),
    ],
)
def test_what_got_worse_decides_the_code(baseline: Path, change: dict[str, float], expected: int) -> None:
    assert code(changed(cell(), **change), baseline) == expected


def test_a_change_in_a_single_run_is_not_enough_evidence(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(to_json_text(compare(cell(blocks=1), suite="smoke")), encoding="utf-8")
    assert code(cell(blocks=1), path) == 0
    assert code(changed(cell(blocks=1), score=-0.01), path) == 13


def test_noisy_scores_are_not_enough_evidence(baseline: Path) -> None:
    noisy = [
        dataclasses.replace(r, accuracy=dataclasses.replace(r.accuracy, test=r.accuracy.test + 0.05 * (-1) ** i))
        if r.accuracy
        else r
        for i, r in enumerate(cell())
    ]
    assert code(noisy, baseline) == 13


def test_another_suite_machine_or_arm_is_no_baseline(baseline: Path, tmp_path: Path) -> None:
    assert code(cell(), baseline, suite="other") == 14
    moved = [dataclasses.replace(r, machine={"processor": "Another"}) for r in cell()]
    assert code(moved, baseline) == 14
    assert code([r for r in cell() if r.case.optimizer != "sam"], baseline) == 14
    assert code(cell(dataset="esol"), baseline) == 14


def test_a_measurement_compared_with_itself_passes_however_noisy(tmp_path: Path) -> None:
    noisy = []
    for r in cell():
        if r.throughput:
            times = tuple(t * (1.0 + 0.4 * (i % 3)) for i, t in enumerate(r.throughput.block_seconds))
            r = dataclasses.replace(r, throughput=dataclasses.replace(r.throughput, block_seconds=times))
        noisy.append(r)
    path = tmp_path / "noisy.json"
    path.write_text(to_json_text(compare(noisy, suite="smoke")), encoding="utf-8")
    assert code(noisy, path) == 0
    assert code(changed(noisy, speed=0.97), path) == 13  # a loss too small for such noise


@pytest.mark.parametrize("text", [None, "", "not json", '{"schema": 99}'])
def test_a_missing_or_damaged_baseline_is_said(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "b.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    found = gate.check(compare(cell()), path)
    assert found.code == 14
    assert str(path) in found.lines[0]


def test_every_finding_is_said_and_counted(baseline: Path) -> None:
    found = gate.check(compare(changed(cell(), speed=0.8, peak=1.5), suite="smoke"), baseline)
    assert any("demo / gcn, graphsam: speed 0.80×" in line for line in found.lines)
    assert any("peak memory 50.0 MiB → 75.0 MiB" in line for line in found.lines)
    assert found.lines[-1].endswith("exit code 11")


def test_a_result_that_is_gone_is_a_loss_of_accuracy(baseline: Path) -> None:
    failed = [
        dataclasses.replace(r, accuracy=None, status="diverged", reason="NaN")
        if r.case.optimizer == "graphsam" and r.case.kind == "train"
        else r
        for r in cell()
    ]
    assert code(failed, baseline) == 10


def failing(records: list[Record], arm: str, count: int) -> list[Record]:
    """The same Records with the first ``count`` training runs of ``arm`` failed."""
    runs = [r for r in records if r.case.optimizer == arm and r.case.kind == "train"][:count]
    spoiled = {id(r): dataclasses.replace(r, accuracy=None, status="error", reason="it broke") for r in runs}
    return [spoiled.get(id(r), r) for r in records]


@pytest.mark.parametrize("count", [1, 2, 4, 5])
@pytest.mark.parametrize("arm", ["adam", "graphsam"])
def test_runs_that_failed_are_a_finding_however_many_are_left(baseline: Path, arm: str, count: int) -> None:
    found = gate.check(compare(failing(cell(), arm, count), suite="smoke"), baseline)
    assert found.code == 10
    assert any(f"{arm}: {count} of 5 runs failed, error: it broke" in line for line in found.lines)


def test_runs_that_failed_before_are_no_finding_and_those_that_work_now_are_none_either(tmp_path: Path) -> None:
    path = tmp_path / "failing.json"
    path.write_text(to_json_text(compare(failing(cell(), "graphsam", 2), suite="smoke")), encoding="utf-8")
    assert code(failing(cell(), "graphsam", 2), path) == 0
    assert code(failing(cell(), "graphsam", 3), path) == 10
    assert code(cell(), path) == 0


def test_a_failed_run_of_an_arm_that_the_baseline_does_not_know_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "without.json"
    known = [r for r in cell() if r.case.optimizer != "graphsam"]
    path.write_text(to_json_text(compare(known, suite="smoke")), encoding="utf-8")
    assert code(cell(), path) == 0
    assert code(failing(cell(), "graphsam", 1), path) == 10


@pytest.mark.parametrize("arms", [("graphsam",), ("adam", "sam", "graphsam")], ids=["one arm", "every arm"])
def test_runs_that_are_missing_are_not_enough_evidence(baseline: Path, arms: tuple[str, ...]) -> None:
    fewer = [r for r in cell() if r.case.kind == "profile" or r.case.optimizer not in arms or r.case.split_seed < 3]
    found = gate.check(compare(fewer, suite="smoke"), baseline)
    assert found.code == 13
    assert any("2 of 5 runs of the baseline were not run" in line for line in found.lines)
