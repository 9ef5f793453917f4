"""Optimizers that do not fit in memory side by side are measured all the same, one in memory at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from samcmp.profiling import arms
from samcmp.profiling import memory as memories
from samcmp.profiling.clocks import HostClock
from samcmp.profiling.memory import HostMemory
from samcmp.profiling.nvml import Gpu
from samcmp.profiling.results import Results
from samcmp.profiling.session import SessionOptions, profile
from samcmp.records import Case, Protocol, Record
from samcmp.report import profile as profile_table
from samcmp.training.setup import Options, Setup, assemble

NAMES = ("adam", "sam", "ae-sam", "graphsam", "mesa")


def cases(*names: str) -> dict[str, Case]:
    protocol = Protocol(epochs=1, batch_size=16, subset=80)
    return {f"{i:064x}": Case("profile", "demo", "gcn", name, protocol) for i, name in enumerate(names)}


@pytest.fixture(scope="module")
def setup() -> Setup:
    return assemble(next(iter(cases("adam").values())), Options())


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMCMP_LOCKS", str(tmp_path))


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """A device with room for one optimizer: names those in memory, and refuses a second."""
    held: set[str] = set()
    prepare, release = arms.Arm.prepare, arms.Arm.release

    def take(self: arms.Arm, *rest: Any) -> None:
        if held - {self.name}:
            raise MemoryError(f"{self.name} beside {sorted(held)}")
        held.add(self.name)
        prepare(self, *rest)

    def give(self: arms.Arm) -> None:
        held.discard(self.name)
        release(self)

    monkeypatch.setattr(arms.Arm, "prepare", take)
    monkeypatch.setattr(arms.Arm, "release", give)
    return held


def measured(setup: Setup, *names: str, **options: Any) -> list[Record]:
    return profile(cases(*names), Options(), session=SessionOptions(3, **options), setup=setup)


def test_every_optimizer_is_measured_where_only_one_fits_and_the_output_says_how(
    setup: Setup, in_memory: set[str]
) -> None:
    made = measured(setup, *NAMES, detail=True)
    assert {(r.status, r.reason) for r in made} == {("ok", None)}
    assert not in_memory
    by_name = {r.case.optimizer: r.throughput for r in made}
    assert by_name["sam"].ratio_to["adam"][0] < 0.9  # type: ignore[union-attr]
    assert all(speed is not None and speed.efficiency is not None for speed in by_name.values())
    said = profile_table.remarks(made)
    assert "in memory alone" in said[0]
    assert sum("not side by side in memory" in line for line in said) == 1


def test_one_that_does_not_fit_alone_either_is_out_of_memory_and_the_others_go_on(
    setup: Setup, in_memory: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = arms.Arm.prepare

    def prepare(self: arms.Arm, *rest: Any) -> None:
        if self.case.optimizer == "sam":
            raise MemoryError("no more of it")
        usual(self, *rest)

    monkeypatch.setattr(arms.Arm, "prepare", prepare)
    assert [r.status for r in measured(setup, "adam", "sam", "graphsam")] == ["ok", "out-of-memory", "ok"]


def test_on_a_cpu_what_is_free_decides_before_the_system_ends_the_process(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter([100, 140, 150])
    monkeypatch.setattr(memories, "resident_bytes", lambda: next(sizes) << 20)
    monkeypatch.setattr(memories, "free_bytes", lambda: 49 << 20)
    memory = HostMemory()
    memory.note()
    assert "1 in memory, the next may take 0.04 GiB" in str(memory.full())
    monkeypatch.setattr(memories, "free_bytes", lambda: 51 << 20)
    assert memory.full() is None
    memory.note()
    assert memory.full() is None
    monkeypatch.setattr(memories, "free_bytes", lambda: None)
    assert memory.full() is None


def test_a_cpu_that_is_nearly_full_holds_one_optimizer_at_a_time(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories.HostMemory, "full", lambda self: "a test says so" if self.sizes else None)
    made = measured(setup, "adam", "sam")
    assert {r.status for r in made} == {"ok"}
    assert all(r.throughput and r.throughput.details["one_at_a_time"] == "a test says so" for r in made)


def test_where_all_fit_nothing_is_built_twice(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    usual = arms.Arm.prepare

    def prepare(self: arms.Arm, *rest: Any) -> None:
        built.append(self.name)
        usual(self, *rest)

    monkeypatch.setattr(arms.Arm, "prepare", prepare)
    made = measured(setup, "adam", "sam", memory=False)
    assert built == ["adam", "sam", "(gradient)"]
    assert all(r.throughput and r.throughput.details["one_at_a_time"] is None for r in made)


def test_the_time_to_build_is_shared_by_longer_blocks(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    from samcmp.profiling import session

    def steps(why: str | None) -> int:
        arm = arms.Arm("key", cases("adam")["0" * 64], seconds_per_step=0.01, build_seconds=1.0)
        options, clock, gpu = SessionOptions(100.0), HostClock(), Gpu(absent="the device is a CPU")
        run = Results(setup, [arm], [], options, clock, gpu, say=lambda text: None, start=0.0, one_at_a_time=why)
        return session._block_steps(run, 0.01, 100.0)

    assert steps(None) == math.ceil(0.05 / 0.01)
    assert steps("no room") == 100
