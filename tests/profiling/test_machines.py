"""Whole sessions beside every fake machine: the model runs on the CPU, the sensors are the machine's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from samcmp.profiling import energy
from samcmp.profiling import session as profiling
from samcmp.profiling.gpu_monitor import GpuMonitor
from samcmp.profiling.nvml import Gpu, open_gpu
from samcmp.profiling.session import SessionOptions, profile
from samcmp.records import Case, Protocol, Record, speed_word
from samcmp.report import profile as profile_table
from samcmp.training.setup import Options, Setup, assemble
from tests.profiling.fake_nvml import MACHINES, MIG_UUID, UUID

CASES = {
    f"{i:064x}": Case("profile", "demo", "gcn", name, Protocol(epochs=1, batch_size=16, subset=80))
    for i, name in enumerate(("adam", "sam"))
}


@pytest.fixture(scope="module")
def setup() -> Setup:
    return assemble(next(iter(CASES.values())), Options())


@pytest.fixture(autouse=True)
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMCMP_LOCKS", str(tmp_path))
    monkeypatch.setattr(energy, "WINDOW_SECONDS", 0.05)
    monkeypatch.setattr(energy, "IDLE_SECONDS", 0.05)


def session(name: str, setup: Setup, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 1.2) -> list[Record]:
    def opened(device: object) -> Gpu:
        return open_gpu(MIG_UUID if name == "MIG" else UUID, library=MACHINES[name]())

    monkeypatch.setattr(profiling, "open_torch_device", opened)
    return profile(CASES, Options(), session=SessionOptions(seconds), setup=setup)


@pytest.mark.parametrize("name", MACHINES)
def test_a_session_ends_well_beside_every_machine_and_invents_no_energy(
    name: str, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = session(name, setup, monkeypatch)
    assert {r.status for r in made} == {"ok"}
    for record in made:
        assert record.energy is not None
        if record.energy.joules_per_graph is None:
            assert record.energy.missing
        else:
            assert record.energy.joules_per_graph > 0
    assert profile_table.remarks(made)


def test_bare_metal_gives_joules_idle_power_clocks_and_exclusivity(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = session("bare metal", setup, monkeypatch, seconds=6.0)[0]
    assert record.energy is not None
    assert record.energy.joules_per_graph is not None
    assert record.energy.idle_watts is not None
    measured = record.machine["measured"]
    assert measured["exclusive"] is True
    assert measured["sm_clock_mhz"] == [1755.0] * 3
    assert measured["temperature_celsius"] == [61, 61]
    assert measured["throttle_shares"] == {}


def test_a_throttling_machine_is_named_in_the_notes(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = " ".join(session("throttling", setup, monkeypatch, seconds=6.0)[0].notes)
    assert "measured again" in notes or "throttled" in notes


def test_a_mig_slice_has_no_energy_and_says_why(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    record = session("MIG", setup, monkeypatch)[0]
    assert record.energy is not None
    assert record.energy.joules_per_graph is None
    assert "MIG" in record.energy.missing


class InStep(GpuMonitor):
    """A clock that runs as fast as the work is slow: in its cycles all blocks are alike."""

    began = 0.0

    def begin(self) -> None:
        self.began = time.process_time()

    def end(self) -> str | None:
        self.mhz = 1e3 / (time.process_time() - self.began)
        return None


def test_a_difference_that_clock_cycles_do_not_confirm_is_ambiguous_and_said(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "GpuMonitor", lambda gpu: InStep())
    made = session("no driver", setup, monkeypatch, seconds=3.0)[1]
    assert made.throughput is not None
    ratio, low, high = made.throughput.ratio_to["adam"]
    assert ratio < 0.9
    assert low is not None
    assert high is not None
    assert speed_word(low, high) == "ambiguous"
    assert any("in clock cycles: the clock moved" in note for note in made.notes)
