"""Kinds of machine are kept apart, and several cards of one machine are used: with cards and kinds that are made up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from samcmp import machine
from samcmp.cli import common
from samcmp.engines import Node, Pool, Setting, Work, local, make
from samcmp.errors import DeviceError, UsageError
from samcmp.experiment import kinds
from samcmp.experiment.kinds import Kind
from samcmp.experiment.store import Store
from samcmp.records import Case, Record
from samcmp.training.setup import Options
from tests.commands import Run, tiny
from tests.profiling.fake_nvml import MACHINES
from tests.report.made import cell

OLD, NEW = Kind("cpu", processor="Old", vector_extensions="AVX2"), Kind("cpu", processor="New")


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    library = MACHINES["two GPUs in another order"]()
    monkeypatch.setattr("samcmp.profiling.nvml.load", lambda given=None: (library, None))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.11.0+cu130")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


# ---------------------------------------------------------------------------------------------- several cards


def test_several_cards_are_named_in_one_option(two_cards: None) -> None:
    assert common.pick_devices("cuda:0,1") == ("cuda:0", "cuda:1")
    assert common.pick_devices("cuda:1") == ("cuda:1",)
    assert common.pick_devices("cpu") == ("cpu",)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("cuda:0,1,0", UsageError, "names cuda:0 twice"),
        ("cuda:0,2,3", DeviceError, "there is no cuda:2, no cuda:3: 2 cards visible"),
        ("cuda:0,", UsageError, "unknown device"),
        ("cuda:0,x", UsageError, "unknown device"),
    ],
)
def test_cards_that_are_absent_or_named_twice_are_refused(
    two_cards: None, name: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        common.pick_devices(name)


def test_a_command_that_uses_one_device_refuses_several(two_cards: None) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        common.pick_device("cuda:0,1")


@pytest.mark.parametrize(
    ("jobs", "slots", "dealt"),
    [(None, 2, ["cuda:1", "cuda:3"]), (3, 3, ["cuda:1", "cuda:3", "cuda:1"]), (1, 1, ["cuda:1"])],
)
def test_each_card_has_its_worker_and_the_first_one_the_sessions(
    monkeypatch: pytest.MonkeyPatch, jobs: int | None, slots: int, dealt: list[str]
) -> None:
    monkeypatch.setattr(kinds, "here", lambda device: Kind("cuda", gpu="H100"))
    monkeypatch.setattr(kinds, "fingerprint", lambda device: f"of {device}")
    engine = make(Setting(devices=("cuda:1", "cuda:3"), jobs=jobs))
    pool = engine.look()
    assert (pool.slots, pool.fingerprint) == (slots, "of cuda:1")
    made: list[str] = []

    class Recorded:
        def __init__(self, options: Options, kind: Kind | None = None) -> None:
            made.append(options.device)
            if len(made) == slots:
                raise KeyboardInterrupt

    monkeypatch.setattr(local, "_Worker", Recorded)
    work = Work({f"{i:064x}": Case("train", "demo", "gcn", "adam", seed=i, device="cuda") for i in range(9)})
    if slots > 1:
        with pytest.raises(KeyboardInterrupt):
            list(engine.train(work, Options(), pool=pool, listen=lambda event: None, timeout=None))
        assert made == dealt
    measured: list[str] = []
    monkeypatch.setattr(
        "samcmp.profiling.processes.measure",
        lambda cases, options, **more: measured.append(options.device) or [],  # type: ignore[func-returns-value]
    )
    engine.profile({}, Options(), pool=pool, seconds=1.0, say=lambda text: None)
    assert measured == ["cuda:1"]
    beside = "one run a card" if slots == 2 else f"{slots} side by side"
    assert engine.announce({}, pool) == [f"Cards: cuda:1, cuda:3; {beside}."]


def test_a_card_is_named_without_starting_cuda(two_cards: None) -> None:
    assert [kinds.here(f"cuda:{i}").gpu for i in (0, 1)] == [kinds._gpu_name(0), kinds._gpu_name(1)]
    assert kinds.here("cuda:0").gpu
    assert kinds.here("cuda:7").gpu is None


# ---------------------------------------------------------------------------------------------- kinds


def test_what_is_not_known_of_a_kind_fits_any() -> None:
    assert OLD.fits(Kind("cpu", processor="Old"))
    assert Kind("cpu").fits(OLD)
    assert not OLD.fits(NEW)
    assert not Kind("cpu").fits(Kind("cuda"))
    assert machine.tally([OLD, None, Kind("cpu", processor="Old"), NEW]) == {OLD: 2, NEW: 1}


@pytest.mark.parametrize(
    ("flags", "wanted", "name"),
    [
        ("fma avx2", "", "AVX2"),
        ("fma avx2 avx512vl avx512bw avx512dq", "", "AVX512"),
        ("sse2", "", "DEFAULT"),
        ("fma avx2", "default", "DEFAULT"),
    ],
)
def test_vector_extensions_are_told_as_torch_does_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, wanted: str, name: str
) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", wanted)
    (tmp_path / "cpuinfo").write_text(f"model name : X\nflags\t\t: fpu {flags}\n")
    assert kinds.vector_extensions(cpuinfo=tmp_path / "cpuinfo") == name


def test_a_machine_and_the_records_it_makes_are_of_one_kind() -> None:
    import torch

    facts = machine.metadata(torch.device("cpu"))
    assert machine.kind_of(facts, "cpu") == kinds.here("cpu")
    assert machine.kind_of({}, "cpu") is None


def moved(folder: str, **facts: str) -> None:
    """Let the first training run of a store be of another machine, and take the others away."""
    store = Store(Path(folder))
    records = [record for record in store.records() if record.case.kind == "train"]
    store.add(dataclasses.replace(records[0], machine={**records[0].machine, **facts}))
    for record in records[1:]:
        store.path(record.key).unlink()


def test_a_plan_goes_on_on_the_kind_of_machine_that_it_began_on_unless_kinds_may_be_mixed(run: Run) -> None:
    words = ("compare", *tiny(), "-o", "adam", "-o", "sam")
    assert run(*words)[0] == 0
    moved(".samcmp", processor="Another 9000")
    code, _, err = run(*words)
    assert code == 2
    assert "1 run of this comparison ran on Another 9000" in err
    assert "mixed = true" in err.splitlines()[1]
    Path("b.toml").write_text(
        '[suites.default]\ntitle = ""\ndatasets = ["demo"]\nmodels = ["gcn"]\noptimizers = ["adam", "sam"]\n'
        '[run.any]\nengine = "local"\nmixed = true\n'
    )
    words = ("compare", "--config", "b.toml", "--subset", "40", "--batch-size", "8", "--epochs", "1", "--repeats", "2")
    code, out, err = run(*words, "--device", "cpu", "--on", "any", "--profile-seconds", "1")
    assert code == 0, err
    assert "runs on 2 kinds of machine, which differ in the fourth figure: 3 on" in " ".join(out.split())
    assert "1 on Another 9000" in " ".join(out.split())
    code, _, err = run(*words, "--device", "cpu", "--profile-seconds", "1")  # whole: it is printed anywhere
    assert code == 0, err


def test_a_block_goes_to_one_kind_where_kinds_are_mixed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    arms = ("adam", "sam", "graphsam")
    every = {
        f"{10 * i + j:064x}": Case("train", "demo", "gcn", arm, seed=i) for i in range(3) for j, arm in enumerate(arms)
    }
    first, *rest = every.items()
    store.add(Record(*first, "ok", machine={"processor": "New"}))
    work = Work(dict(rest), store, kinds=(OLD, NEW))
    took: dict[Kind, set[int]] = {OLD: set(), NEW: set()}
    order = [OLD, NEW, OLD, NEW] * 10
    count = 0
    for kind in order:
        if (taken := work.take(kind)) is not None:
            took[kind].add(taken[1].seed)
            count += 1
    assert count == len(rest)
    assert not took[OLD] & took[NEW]
    assert 0 in took[NEW]  # where its first run was


def test_a_pool_is_narrowed_to_the_kind_with_most_slots() -> None:
    pool = Pool((Node("a", 1, OLD), Node("b", 2, NEW), Node("c", 1, NEW)))
    assert pool.kinds.most_common(1) == [(NEW, 3)]


def test_the_report_names_kinds_only_where_there_are_several(run: Run) -> None:
    store = Store(Path(".samcmp"))
    records = cell()
    for record in records:
        store.add(record)
    assert "kinds of machine" not in run("report")[1]
    first = next(record for record in records if record.case.kind == "train")
    store.add(dataclasses.replace(first, machine={**first.machine, "processor": "Imaginary 2"}))
    assert "1 on Imaginary 2" in " ".join(run("report")[1].split())
