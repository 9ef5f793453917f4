"""No code of others ends, changes or passes for anything but its own arm."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samcmp import child, machine
from samcmp.engines import Finished, Work, local
from samcmp.errors import UsageError
from samcmp.profiling import processes
from samcmp.profiling.session import SessionOptions
from samcmp.records import Case, Protocol, Record
from samcmp.training.setup import Options
from tests.engines import hostile

TINY = Protocol(epochs=1, subset=40)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The optimizer ``hostile`` as an installed package brings it."""
    hostile.install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    machine.plugins.cache_clear()
    yield
    machine.plugins.cache_clear()
    for name in ("hostile_entry", "hostile_optimizer"):
        sys.modules.pop(name, None)


def case(optimizer: str, deed: str | None = None, *, model: str = "gcn", kind: Any = "train") -> Case:
    settings = {} if deed is None else {"deed": deed}
    own = "model_settings" if model != "gcn" else "optimizer_settings"
    return Case(kind, "demo", model, optimizer, protocol=TINY, **{own: settings})


def trained(cases: list[Case], **more: Any) -> list[Finished]:
    """Train in this order, one after the other, and return what came of it in this order."""
    keyed = {f"{n:064x}": case for n, case in enumerate(cases)}
    found = {f.record.key: f for f in local.train(Work(keyed), Options(), listen=lambda _: None, **more)}
    return [found[key] for key in keyed]


def bits(finished: Finished) -> tuple[Any, ...]:
    assert finished.predictions is not None, finished.record.reason
    return finished.record.accuracy, [e.train_loss for e in finished.record.history], finished.predictions.prediction


ENDS = {
    "sys.exit": "SystemExit: 0 (at hostile",
    "SystemExit": "SystemExit: good bye (at hostile",
    "os._exit": "its process ended with exit code 0 before it was done",
    "interrupt": "its process ended with exit code 130",
    "segfault": "ended by signal 11 (Segmentation fault)",
    "abort": "ended by signal 6",
    "kill": "killed by signal 9 (by hand, or by the system for its memory)",
    "error": "IndexError: list index out of range (at hostile",
}


def test_an_optimizer_that_ends_its_process_costs_its_own_run_alone_and_is_never_a_success(installed: None) -> None:
    *failed, after = trained([*(case("hostile", deed) for deed in ENDS), case("adam")], jobs=2)
    for (deed, said), finished in zip(ENDS.items(), failed, strict=True):
        assert finished.record.status == "error", deed
        assert said in (finished.record.reason or ""), deed
        assert finished.predictions is None
        assert finished.record.dataset_hash == after.record.dataset_hash, "it belongs to the others' cell"
        assert finished.record.split_hash == after.record.split_hash
    assert after.record.status == "ok"


@pytest.mark.parametrize("deed", ["sys.exit", "os._exit", "segfault"])
def test_a_users_model_that_ends_its_process_costs_its_own_run_alone(tmp_path: Path, deed: str) -> None:
    before, failed, after = trained([case("adam"), case("adam", deed, model=hostile.model(tmp_path)), case("sam")])
    assert [f.record.status for f in (before, failed, after)] == ["ok", "error", "ok"]
    assert ENDS[deed] in (failed.record.reason or "")


@pytest.mark.parametrize("whose", ["optimizer", "model"])
def test_arms_after_one_that_changed_everything_give_the_bits_of_a_run_without_it(
    tmp_path: Path, installed: None, whose: str, capfd: pytest.CaptureFixture[str]
) -> None:
    here = os.getcwd()
    if whose == "optimizer":
        bad = case("hostile", "change everything")
    else:
        bad = case("adam", "change everything", model=hostile.model(tmp_path))
    _, *after = trained([bad, case("adam"), case("sam")])
    alone = trained([case("adam"), case("sam")])
    for one, other in zip(after, alone, strict=True):
        np.testing.assert_equal(bits(one), bits(other))
    assert os.getcwd() == here


def test_what_an_arm_prints_is_not_among_the_results(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loud.py"
    path.write_text(hostile.DEEDS + "print('loud')\n" + hostile.MODEL)
    trained([case("adam", "", model=f"{path}:Net")])
    printed = capfd.readouterr()
    assert "loud" in printed.err
    assert printed.out == ""


def test_a_run_that_never_ends_is_ended_and_recorded(installed: None) -> None:
    endless, after = trained([case("hostile", "loop"), case("adam")], timeout=3.0)
    assert (endless.record.status, endless.record.reason) == ("timeout", "took longer than 3 s")
    assert after.record.status in ("ok", "timeout")  # three seconds may be short where others compute, too


def test_the_time_that_a_worker_takes_to_start_is_not_the_runs() -> None:
    worker = local._Worker(Options())
    try:
        worker.give("0" * 64, case("adam"))
        while worker.since is None:
            assert worker.seconds == 0.0
            assert list(local._finished([worker], listen=lambda _: None, several=False, timeout=None)) == []
        late = list(local._finished([worker], listen=lambda _: None, several=False, timeout=1e-9))
        assert [f.record.status for f in late] == ["timeout"]
    finally:
        worker.child.end()


# ---------------------------------------------------------------------------------------------- profiles


def measured(*cases: Case, seconds: float = 2.0) -> list[Record]:
    keyed = {f"{n:064x}": case for n, case in enumerate(cases)}
    return processes.measure(keyed, Options(), session=SessionOptions(seconds, energy=False, memory=False))


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMCMP_LOCKS", str(tmp_path))


CHANGES = {
    "default dtype": "default dtype (torch.float32 before, torch.float64 after)",
    "threads": "threads (1 before, 3 after)",
    "deterministic": "deterministic algorithms (False before, True after)",
    "gradients": "gradients are recorded (True before, False after)",
    "torch.nn.functional.dropout": "torch.nn.functional.dropout",
    "current folder": "current folder",
    "OMP_WAIT_POLICY": "settings of the environment",
    "": "",
}


def changes_of(deeds: list[str]) -> list[str]:
    import torch

    from samcmp.profiling.interference import State

    torch.set_num_threads(1)
    do: dict[str, Any] = {}
    exec(hostile.DEEDS, do)
    found = []
    for deed in deeds:
        before = State.now()
        do["DO"][deed]()
        found.append(before.changes(State.now()))
    return found


def test_each_change_of_a_process_is_seen_and_named() -> None:
    for said, found in zip(CHANGES.values(), child.call(changes_of, list(CHANGES)), strict=True):
        assert found.startswith(said)
        assert bool(found) == bool(said)


def test_an_arm_that_changes_the_session_fails_with_what_it_changed_and_the_others_are_measured(
    installed: None,
) -> None:
    bad = [case("hostile", deed, kind="profile") for deed in ("default dtype", "torch.nn.functional.dropout")]
    made = measured(case("adam", kind="profile"), *bad, case("sam", kind="profile"))
    assert [r.status for r in made] == ["ok", "error", "error", "ok"]
    for record, said in zip(made[1:-1], ("default dtype", "torch.nn.functional.dropout"), strict=True):
        assert f"it changed the process in which the others are measured: {said}" in (record.reason or "")
        assert (record.dataset_hash, record.machine) == (made[0].dataset_hash, made[0].machine)
    assert made[-1].throughput is not None
    assert set(made[-1].throughput.ratio_to) == {"adam"}


def test_an_arm_that_ends_the_session_fails_and_the_others_are_measured(installed: None) -> None:
    deeds = ("os._exit", "sys.exit", "segfault", "kill")
    made = measured(case("adam", kind="profile"), *(case("hostile", deed, kind="profile") for deed in deeds))
    assert [r.status for r in made] == ["ok", "error", "error", "error", "error"]
    for deed, record in zip(deeds, made[1:], strict=True):
        assert ENDS[deed] in (record.reason or "")


def test_an_arm_that_does_not_come_back_costs_its_own_measurement(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SPARE_SECONDS", 3.0)
    made = measured(case("adam", kind="profile"), case("hostile", "sleep", kind="profile"))
    assert [r.status for r in made] == ["ok", "timeout"]


def test_a_model_that_changes_its_process_for_all_arms_alike_is_measured(tmp_path: Path) -> None:
    model = hostile.model(tmp_path)
    made = measured(*(case(o, "torch.nn.functional.dropout", model=model, kind="profile") for o in ("adam", "sam")))
    assert [r.status for r in made] == ["ok", "ok"], [r.reason for r in made]


def test_a_model_that_ends_its_process_before_any_arm_begins_is_a_failure_of_each(tmp_path: Path) -> None:
    model = hostile.model(tmp_path)
    made = measured(*(case(o, "os._exit", model=model, kind="profile") for o in ("adam", "sam")))
    assert [r.status for r in made] == ["error", "error"]
    assert all("exit code 0" in str(r.reason) for r in made)


# ---------------------------------------------------------------------------------------------- entry points


@pytest.mark.parametrize(
    "entry",
    ["import sys; sys.exit(0)", "raise ValueError('no')", "import nothing_like_it", "HOSTILE = 3"],
)
def test_a_package_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    hostile.install(tmp_path, entry=entry)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "hostile_entry", raising=False)
    machine.plugins.cache_clear()
    from samcmp import optim

    try:
        with pytest.raises(UsageError, match="entry point 'hostile'") as error:
            optim.names()
        assert "samcmp.optimizers" in str(error.value.where)
    finally:
        machine.plugins.cache_clear()
        sys.modules.pop("hostile_entry", None)


def test_what_a_package_does_to_the_environment_when_it_is_loaded_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deed = "import os, sys\nos.environ['OMP_NUM_THREADS'] = '7'\nos.chdir('/')\nsys.path.insert(0, '/')\n"
    hostile.install(tmp_path, entry=deed + hostile.ENTRY)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = dict(os.environ), os.getcwd(), list(sys.path)
    machine.plugins.cache_clear()
    from samcmp import optim

    try:
        assert "hostile" in optim.names()
        assert (dict(os.environ), os.getcwd(), sys.path) == before
    finally:
        machine.plugins.cache_clear()
        sys.modules.pop("hostile_entry", None)


# ---------------------------------------------------------------------------------------------- how a process ended


@pytest.mark.parametrize(("moved", "status"), [(False, "error"), (True, "out-of-memory")])
def test_a_kill_is_one_for_memory_only_where_the_system_has_counted_one(
    installed: None, monkeypatch: pytest.MonkeyPatch, moved: bool, status: str
) -> None:
    counts = iter(range(1000))
    monkeypatch.setattr(machine, "memory_kills", lambda: ("oom_kill", next(counts) if moved else 0))
    (finished,) = trained([case("hostile", "kill")])
    assert finished.record.status == status
    assert "killed by signal 9" in (finished.record.reason or "")


def test_kills_for_memory_are_counted_by_the_control_group_and_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nmax 7\noom 1\noom_kill 1\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 4\n")
    before = machine.memory_kills(root=tmp_path, own=tmp_path / "none", vmstat=tmp_path / "vmstat")
    assert set(before) == {"oom_kill 1", "oom_kill 4"}
    (tmp_path / "memory.events").write_text("low 0\nmax 9\noom 2\noom_kill 2\n")
    assert machine.memory_kills(root=tmp_path, own=tmp_path / "none", vmstat=tmp_path / "vmstat") != before
    assert machine.memory_kills(root=tmp_path / "none", own=tmp_path / "none", vmstat=tmp_path / "none") == ()
