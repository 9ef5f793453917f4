"""A whole session on the built-in molecules: Records with everything, and bad days."""

from __future__ import annotations

import getpass
import json
import math
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samcmp.errors import DeviceError, UsageError
from samcmp.profiling import arms
from samcmp.profiling.clocks import HostClock
from samcmp.profiling.lock import device_lock
from samcmp.profiling.session import SessionOptions, profile
from samcmp.profiling.steps import SpreadSteps
from samcmp.records import Case, Protocol, Record, from_json, to_json
from samcmp.report import profile as profile_table
from samcmp.training.setup import Options, Setup, assemble

NAMES = ("adam", "sam", "graphsam", "looksam", "ae-sam")


def cases(*names: str) -> dict[str, Case]:
    protocol = Protocol(epochs=1, batch_size=16, subset=80)
    return {f"{i:064x}": Case("profile", "demo", "gcn", name, protocol) for i, name in enumerate(names)}


def by_optimizer(records: list[Record]) -> dict[str, Record]:
    return {r.case.optimizer: r for r in records}


@pytest.fixture(scope="module")
def setup() -> Setup:
    return assemble(next(iter(cases("adam").values())), Options())


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMCMP_LOCKS", str(tmp_path))


@pytest.fixture(scope="module")
def records(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Record]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMCMP_LOCKS", str(tmp_path_factory.mktemp("locks")))
        yield profile(cases(*NAMES), Options(), session=SessionOptions(6, detail=True), setup=setup)


def test_every_optimizer_gets_a_record_in_order(records: list[Record]) -> None:
    assert [r.case.optimizer for r in records] == list(NAMES)
    assert [r.key for r in records] == list(cases(*NAMES))
    assert {r.status for r in records} == {"ok"}


def test_every_raw_block_time_is_in_the_record(records: list[Record]) -> None:
    for record in records:
        speed = record.throughput
        assert speed is not None
        assert len(speed.block_seconds) == speed.rounds == len(speed.details["step_seconds"])
        assert all(t > 0 for t in speed.block_seconds)
        assert len(speed.details["orders"]) == speed.rounds


def test_passes_are_counted_and_not_assumed(records: list[Record], setup: Setup) -> None:
    passes = {r.case.optimizer: r.throughput.passes_per_step for r in records if r.throughput}
    assert passes["adam"] == 1
    assert passes["sam"] == 2
    assert passes["graphsam"] == pytest.approx(1 + 1 / setup.steps_per_epoch)
    assert passes["looksam"] == pytest.approx(1.125)
    assert 1 <= passes["ae-sam"] <= 2


def test_the_shares_of_a_data_dependent_optimizer_are_counted_over_a_training(
    records: list[Record], setup: Setup
) -> None:
    kinds = next(r for r in records if r.case.optimizer == "ae-sam").throughput.details["step_kinds"]  # type: ignore[union-attr]
    assert kinds["share_is"] == "counted"
    assert kinds["counted_steps"] >= SpreadSteps.FEWEST
    assert all(1 <= passes <= 2 for passes in kinds["passes_by_third"])
    assert 0 <= kinds["log_error"] < 0.3
    assert 0 < kinds["one_pass_seconds"] < kinds["two_pass_seconds"]


def test_ratios_are_to_the_base_and_to_sam_and_mirror_each_other(records: list[Record]) -> None:
    by_name = {r.case.optimizer: r.throughput for r in records}
    assert set(by_name["graphsam"].ratio_to) == {"adam", "sam"}  # type: ignore[union-attr]
    there = by_name["sam"].ratio_to["adam"]  # type: ignore[union-attr]
    back = by_name["adam"].ratio_to["sam"]  # type: ignore[union-attr]
    assert there[0] == pytest.approx(1 / back[0])
    assert there[1] == pytest.approx(1 / back[2])
    assert there[1] < 1.0  # two passes are never surely faster than one


def test_memory_is_measured_or_has_a_reason_and_knows_the_parameters(records: list[Record]) -> None:
    for record in records:
        memory = record.memory
        assert memory is not None
        if memory.peak_bytes is None:
            assert memory.missing["peak_bytes"]
        if memory.split_bytes and record.parameters is not None:
            assert memory.split_bytes["parameters"] >= 4 * record.parameters
    split = {r.case.optimizer: r.memory.split_bytes for r in records if r.memory and r.memory.split_bytes}
    if {"adam", "graphsam"} <= set(split):
        assert split["graphsam"]["perturbation_state"] >= split["adam"]["parameters"] * 0.99
        assert split["adam"]["perturbation_state"] < split["graphsam"]["perturbation_state"]


def test_memory_is_measured_also_where_the_rounds_take_all_the_time_and_more(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = [0]

    def clock(device: object) -> HostClock:
        return HostClock(lambda: time.process_time_ns() + late[0])

    def stall(text: str) -> None:  # others take the machine for an hour
        if text.startswith("round"):
            late[0] += 3600 * 10**9

    monkeypatch.setattr("samcmp.profiling.session.clock_for", clock)
    made = profile(cases("adam", "sam"), Options(), session=SessionOptions(10), setup=setup, say=stall)
    assert [r.throughput and r.throughput.rounds for r in made] == [1, 1]
    for record in made:
        assert record.memory is not None
        assert record.memory.split_bytes["activations"] >= 0
        assert "budget" not in record.memory.missing.get("peak_bytes", "")


def test_memory_takes_no_more_than_its_share_of_a_budget_that_is_absurdly_small(setup: Setup) -> None:
    made = profile(cases(*NAMES), Options(), session=SessionOptions(0.02), setup=setup)
    reasons = [record.memory.missing.get("peak_bytes") for record in made if record.memory]
    assert reasons[-1] == "the budget left no time for it"


def test_energy_on_a_cpu_is_missing_with_a_reason(records: list[Record]) -> None:
    for record in records:
        assert record.energy is not None
        assert record.energy.joules_per_graph is None
        assert "CPU" in record.energy.missing


def test_phases_add_up_to_the_wall_time_or_say_so(records: list[Record]) -> None:
    for record in records:
        details = record.throughput.details  # type: ignore[union-attr]
        if "phases_missing" in details:
            continue
        assert set(details["phases_seconds"]) == {"loading", "forward", "backward", "optimizer"}
        assert details["phases_add_up"] == (abs(details["phases_sum_over_wall"] - 1) <= 0.01)
        assert details["flop_per_gradient"] > 0


def test_a_record_survives_json_and_names_nobody(records: list[Record]) -> None:
    for record in records:
        text = json.dumps(to_json(record), allow_nan=False)
        assert from_json(Record, json.loads(text)).case == record.case
        assert f'"{socket.gethostname()}"' not in text
        assert str(Path.home()) + "/" not in text
        if getpass.getuser() not in {"root", "user"}:
            assert getpass.getuser() not in text


def test_the_machine_of_a_record_is_described(records: list[Record]) -> None:
    machine = records[0].machine
    for key in ("logical_cores", "usable_cores", "affinity", "cpu_quota", "load", "ram_bytes", "threads", "settings"):
        assert key in machine
    assert records[0].versions["torch"]


# ---------------------------------------------------------------------------------------------- bad days


@pytest.mark.parametrize("seconds", [0.0, -5.0, math.nan, math.inf])
def test_a_budget_that_is_not_positive_is_the_users_error(seconds: float, setup: Setup) -> None:
    with pytest.raises(UsageError, match="budget"):
        profile(cases("adam"), Options(), session=SessionOptions(seconds), setup=setup)


def test_out_of_memory_at_the_second_optimizer_is_recorded_and_the_others_go_on(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = arms.Arm.prepare

    def prepare(self: arms.Arm, *rest: Any) -> None:
        if self.case.optimizer == "sam":
            raise MemoryError("no more of it")
        usual(self, *rest)

    monkeypatch.setattr(arms.Arm, "prepare", prepare)
    made = by_optimizer(profile(cases("adam", "sam", "s2-sam"), Options(), session=SessionOptions(3), setup=setup))
    assert (made["sam"].status, made["sam"].throughput) == ("out-of-memory", None)
    assert "no more" in str(made["sam"].reason)
    assert made["adam"].status == made["s2-sam"].status == "ok"


def test_an_optimizer_that_fails_in_mid_session_is_recorded_and_the_others_go_on(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = arms.Steps.__call__

    def call(self: arms.Steps, *rest: Any) -> Any:
        if type(self.trainer.optimizer).__name__ == "SAM" and self.trainer.steps > 7:
            raise RuntimeError("a kernel failed")
        return usual(self, *rest)

    monkeypatch.setattr(arms.Steps, "__call__", call)
    made = by_optimizer(profile(cases("adam", "sam", "s2-sam"), Options(), session=SessionOptions(4), setup=setup))
    assert made["sam"].status == "error"
    assert "a kernel failed" in str(made["sam"].reason)
    assert made["adam"].status == "ok"
    assert made["s2-sam"].throughput is not None


def test_an_interruption_is_said_in_one_line_and_its_rows_are_shown(setup: Setup) -> None:
    def press(text: str) -> None:
        if text == "round 3":
            raise KeyboardInterrupt

    made = profile(cases("adam", "sam", "s2-sam"), Options(), session=SessionOptions(40), setup=setup, say=press)
    lines = [line for line in profile_table.remarks(made) if "interrupted after" in line]
    assert lines == ["all: partial: interrupted after 3 rounds"]
    assert all(profile_table.rows(made)[i]["graphs_per_second"] for i in range(3))


def test_an_interrupted_curve_of_batch_sizes_starts_no_further_session(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from samcmp.cli import app
    from samcmp.profiling import session

    sizes: list[int] = []
    usual = session.profile

    def interrupted(found: Mapping[str, Case], *rest: Any, **named: Any) -> list[Record]:
        sizes.append(next(iter(found.values())).protocol.batch_size)

        def press(text: str) -> None:
            raise KeyboardInterrupt

        return usual(found, *rest, **{**named, "say": press})

    monkeypatch.setattr(session, "profile", interrupted)
    words = ["profile", "-o", "adam", "--subset", "60", "--batch-size", "8,16", "--store", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert sizes == [8]
    assert result.exit_code == 1
    assert result.output.count("interrupted after 0 rounds") == 1


@pytest.mark.parametrize(("moment", "rounds"), [("first steps of sam", None), ("round 3", 3)])
def test_an_interruption_keeps_what_was_measured_and_marks_it_partial(
    moment: str, rounds: int | None, setup: Setup
) -> None:
    def press(text: str) -> None:
        if text == moment:
            raise KeyboardInterrupt

    made = profile(cases("adam", "sam"), Options(), session=SessionOptions(60), setup=setup, say=press)
    assert {r.status for r in made} == {"partial"}
    assert all("interrupted" in str(r.reason) for r in made)
    assert [r.throughput and r.throughput.rounds for r in made] == [rounds, rounds]


def test_two_samcmp_do_not_measure_on_one_device_at_a_time(setup: Setup) -> None:
    with device_lock("cpu") as problem:
        assert problem is None
        with pytest.raises(DeviceError, match="another samcmp"):
            profile(cases("adam"), Options(), session=SessionOptions(2, wait_seconds=0.5), setup=setup)


def test_a_lock_that_cannot_be_made_is_said_and_does_not_stop_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("SAMCMP_LOCKS", str(blocked / "inside"))
    with device_lock("cpu") as problem:
        assert "no lock" in str(problem)


def test_cases_of_two_models_are_not_one_session() -> None:
    mixed: Mapping[str, Case] = {
        "0" * 64: next(iter(cases("adam").values())),
        "1" * 64: replace(next(iter(cases("sam").values())), model="mpnn"),
    }
    with pytest.raises(ValueError, match="one dataset and model"):
        profile(mixed, Options(), session=SessionOptions(1))


# ---------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("form", ["markdown", "latex", "csv", "json"])
def test_every_form_names_every_optimizer(form: str, records: list[Record]) -> None:
    text = profile_table.render([records], form=form)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    for name in NAMES:
        assert name in text
    if form == "json":
        assert len(json.loads(text)) == len(NAMES)


@pytest.mark.parametrize(("form", "tables"), [("markdown", "|:---|"), ("latex", "begin{table}")])
def test_several_batch_sizes_are_several_tables_with_their_titles(
    form: str, tables: str, records: list[Record]
) -> None:
    protocol = replace(records[0].case.protocol, batch_size=7)
    larger = [replace(record, case=replace(record.case, protocol=protocol)) for record in records]
    text = profile_table.render([records, larger], form=form)
    assert text.count(tables) == 2 * len(profile_table.grids(records))
    assert "batch 7 " in text
    assert f"batch {records[0].case.protocol.batch_size} " in text


def test_parquet_and_csv_hold_the_same_rows_with_their_sessions(tmp_path: Path, records: list[Record]) -> None:
    import io

    import pandas

    profile_table.to_parquet([records], tmp_path / "speeds.parquet")
    stored = pandas.read_parquet(tmp_path / "speeds.parquet")
    text = pandas.read_csv(io.StringIO(profile_table.render([records], form="csv")))
    assert list(stored.columns) == list(text.columns)
    assert list(stored["optimizer"]) == list(text["optimizer"]) == list(NAMES)
    assert set(stored["dataset"]) == {records[0].case.dataset}
    assert stored["graphs_per_second"].to_numpy() == pytest.approx(text["graphs_per_second"].to_numpy())


def test_the_screen_shows_ratio_interval_and_verdict(records: list[Record]) -> None:
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in profile_table.screen(records):
        console.print(part)
    text = console.export_text()
    assert "× sam" in text
    assert "of bound" in text
    assert any(word in text for word in ("faster", "slower", "same", "ambiguous"))
    assert "stopped: " in text
    assert "energy n/a: the device is a CPU" in text


def cells_of(record: Record) -> list[str]:
    """Return the printed cells of one optimizer."""
    return [entry.text for entry in profile_table.table([record]).rows[0]]


def test_what_is_missing_is_never_shown_as_zero(records: list[Record]) -> None:
    cells = cells_of(replace(records[1], memory=None, energy=None))
    assert cells.count("n/a") >= 1
    assert "0" not in cells


def test_a_failed_optimizer_shows_its_status_and_its_reason(records: list[Record]) -> None:
    failed = replace(records[1], status="out-of-memory", reason="at step 3", throughput=None)
    grid = profile_table.table([records[0], failed])
    assert grid.rows[1][1].text == "out-of-memory"
    assert {len(row) for row in grid.rows} == {len(grid.columns)}
    assert any("at step 3" in line for line in grid.remarks)


def test_a_single_round_has_a_ratio_without_an_interval_before_and_after_the_store(records: list[Record]) -> None:
    speed = records[1].throughput
    assert speed is not None
    fresh = replace(records[1], throughput=replace(speed, ratio_to={"adam": (0.5, 0.0, math.inf)}))
    stored = from_json(Record, json.loads(json.dumps(to_json(fresh))))
    for record in (fresh, stored):
        assert "0.50 (one round)" in cells_of(record)
        assert profile_table.rows([record])[0]["x_adam"]["verdict"] == "ambiguous"


def test_a_narrow_screen_keeps_every_column_beside_the_optimizers_names(records: list[Record]) -> None:
    from rich.console import Console

    console = Console(width=70, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in profile_table.screen(records):
        console.print(part)
    text = console.export_text()
    assert "…" not in text.partition("interleaved rounds")[0]
    assert all(column.title in text for column in profile_table.table(records).columns)
    assert text.count("looksam") >= 2
