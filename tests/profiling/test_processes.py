"""Sessions in fresh processes: what differs between processes is in the interval, and bad days end well."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samcmp.child import Died
from samcmp.errors import DataError, DeviceError
from samcmp.profiling import processes
from samcmp.profiling.ratios import across
from samcmp.profiling.session import SessionOptions
from samcmp.records import Case, Protocol, Record, Throughput
from samcmp.report import profile as profile_table
from samcmp.training.setup import Options

KEYS = ("0" * 64, "1" * 64)


def case(name: str, subset: int = 60) -> Case:
    return Case("profile", "demo", "gcn", name, Protocol(epochs=1, batch_size=16, subset=subset))


CASES = {key: case(name) for key, name in zip(KEYS, ("adam", "sam"), strict=True)}


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMCMP_LOCKS", str(tmp_path))


def record(ratio: float, low: float = 0.4, high: float = 0.6, **rest: Any) -> Record:
    details = {"block_steps": 8, "clock": "perf_counter_ns", "step_seconds": [0.1, 0.1]}
    speed = Throughput(100 * ratio, 2.0, 16, 2, (0.8, 0.8), 16, "budget", {"adam": (ratio, low, high)}, details=details)
    return Record(KEYS[1], case("sam"), **{"status": "ok", "seconds": 10.0, "throughput": speed, **rest})


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_interval_covers_the_ratio_of_all_processes_in_93_to_97_per_cent_whatever_their_number(count: int) -> None:
    """A process shifts all its rounds alike; a thousand sessions of ``count`` processes each."""
    rng = np.random.default_rng(count)
    hits = 0
    for _ in range(1000):
        found = across(list(math.log(1.7) + rng.normal(0, 0.02, count)))
        hits += found.low <= 1.7 <= found.high
    assert 930 <= hits <= 970


def test_processes_that_differ_widen_the_interval_and_those_that_agree_do_not() -> None:
    differing = processes.merged([record(0.50), record(0.55), record(0.45)]).throughput
    agreeing = processes.merged([record(0.500), record(0.501), record(0.499)]).throughput
    assert differing is not None
    assert agreeing is not None
    assert differing.ratio_to["adam"][1:] == pytest.approx((0.39, 0.64), abs=0.01)
    assert agreeing.ratio_to["adam"][1:] == pytest.approx((0.4975, 0.5025), abs=1e-3)


def test_what_processes_share_an_error_in_stays_in_the_interval() -> None:
    made = [record(1.4) for _ in range(3)]
    made = [replace(r, throughput=replace(r.throughput, details={"step_kinds": {"log_error": 0.02}})) for r in made]  # type: ignore[type-var]
    ratio = processes.merged(made).throughput.ratio_to["adam"]  # type: ignore[union-attr]
    assert math.log(ratio[2] / 1.4) == pytest.approx(1.96 * 0.02)  # type: ignore[operator]


def test_every_block_of_every_process_is_in_the_record() -> None:
    together = processes.merged([record(0.5), record(0.52)])
    speed = together.throughput
    assert speed is not None
    assert (speed.rounds, speed.steps, len(speed.block_seconds)) == (4, 32, 4)
    assert [one["block_seconds"] for one in speed.details["processes"]] == [[0.8, 0.8]] * 2
    assert speed.graphs_per_second == pytest.approx(51.0)
    assert together.seconds == 20.0


def test_an_optimizer_that_failed_in_one_process_is_not_called_well() -> None:
    failed = record(0.5, status="out-of-memory", reason="at step 3", throughput=None)
    together = processes.merged([record(0.5), failed])
    assert (together.status, together.reason) == ("out-of-memory", "at step 3")
    assert together.throughput is not None


def test_the_output_counts_the_processes_and_names_verdicts_that_differ() -> None:
    together = processes.merged([record(0.5), record(0.5), record(0.99, 0.97, 1.01)])
    said = profile_table.remarks([together])
    assert "2 + 2 + 2 interleaved rounds of 8 steps in 3 fresh processes" in said[0]
    assert "sam: processes differ, × adam: slower, slower, ambiguous" in said
    assert "in one process" in profile_table.remarks([record(0.5)])[0]
    assert not any("differ" in line for line in profile_table.remarks([processes.merged([record(0.5)] * 3)]))


# ---------------------------------------------------------------------------------------------- real processes


def measured(*, seconds: float = 3.0, say: Callable[[str], None] = lambda text: None, **found: Any) -> list[Record]:
    cases = found.pop("cases", CASES)
    count = found.pop("processes", 2)
    return processes.profile(
        cases, Options(**found), processes=count, session=SessionOptions(seconds, energy=False), say=say
    )


def test_a_session_runs_in_as_many_processes_as_were_asked_for_and_none_is_this_one() -> None:
    heard: list[str] = []
    made = measured(say=heard.append)
    assert [r.status for r in made] == ["ok", "ok"]
    speed = made[1].throughput
    assert speed is not None
    assert len(speed.details["processes"]) == 2
    assert all(one["rounds"] >= 1 for one in speed.details["processes"])
    assert {text.partition(":")[0] for text in heard} == {"process 1 of 2", "process 2 of 2"}
    assert made[0].memory is not None


def test_an_error_that_the_user_can_mend_comes_out_of_the_process() -> None:
    with pytest.raises((DataError, DeviceError)):
        measured(device="cuda:0", processes=1)


def test_an_interruption_ends_the_process_that_runs_keeps_its_rounds_and_starts_no_other() -> None:
    began: list[str] = []

    def press(text: str) -> None:
        began.append(text)
        if text.endswith("round 2"):
            raise KeyboardInterrupt  # as ^C does at this moment; a signal would end the test run if it came late

    made = measured(seconds=120.0, say=press)
    assert {r.status for r in made} == {"partial"}
    assert all(r.throughput is not None and r.throughput.rounds >= 2 for r in made)
    assert not any(text.startswith("process 2") for text in began)


def test_a_process_that_dies_is_named_and_the_other_ones_rounds_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = processes._in_a_process
    calls: list[float] = []

    def dying(*rest: Any, **named: Any) -> Any:
        calls.append(time.monotonic())
        return (Died("error", "killed by signal 9"), KEYS[0]) if len(calls) == 1 else usual(*rest, **named)

    monkeypatch.setattr(processes, "_in_a_process", dying)
    made = measured()
    assert {r.status for r in made} == {"ok"}
    assert any("process 1 of 2: killed by signal 9" in line for line in profile_table.remarks(made))
    monkeypatch.setattr(processes, "_in_a_process", lambda *rest, **named: (Died("error", "killed by signal 9"), None))
    assert [(r.status, r.reason) for r in measured()] == [("error", "killed by signal 9")] * 2
