"""What a GPU says about itself: sixteen machines, and never a zero for unknown."""

from __future__ import annotations

import types
from typing import Any

import pytest

from samcmp.cli import common
from samcmp.experiment import kinds
from samcmp.profiling import nvml
from samcmp.profiling.gpu_monitor import GpuMonitor
from samcmp.profiling.nvml import QUERIES, open_gpu, uuid_of, visible_gpus
from tests.profiling.fake_nvml import MACHINES, MIG_UUID, UUID, FakeGpu, FakeNvml

ABSENT = {"driver mismatch", "no driver", "driver not loaded", "no NVML permission"}


def opened(name: str) -> nvml.Gpu:
    return open_gpu(MIG_UUID if name == "MIG" else UUID, library=MACHINES[name]())


@pytest.mark.parametrize("name", MACHINES)
def test_every_reading_is_a_value_or_has_a_reason(name: str) -> None:
    gpu = opened(name)
    for query in QUERIES:
        value = gpu.read(query)
        assert value is not None or gpu.reason(query), f"{query} is None without a reason"
        assert value is None or query not in gpu.missing


@pytest.mark.parametrize("name", MACHINES)
def test_facts_never_turn_unknown_into_zero_or_alone(name: str) -> None:
    facts = opened(name).facts()
    if name in ABSENT:
        assert facts["nvml"] is None
        assert facts["nvml_missing"]
        return
    if facts["exclusive"] is None:
        assert facts["exclusive_unknown"]
        assert facts["other_processes"] is None
    for query, reason in facts["nvml_missing"].items():
        assert facts["nvml"].get(query) is None
        assert reason


@pytest.mark.parametrize("name", MACHINES)
def test_no_machine_raises(name: str) -> None:
    gpu = opened(name)
    watch = GpuMonitor(gpu)
    watch.begin()
    watch.end()
    watch.summary()
    gpu.others()


@pytest.mark.parametrize("name", sorted(ABSENT))
def test_a_machine_without_nvml_says_why(name: str) -> None:
    gpu = opened(name)
    assert gpu.absent is not None
    assert gpu.read("memory") is None
    assert gpu.reason("memory") == gpu.absent
    assert GpuMonitor(gpu).summary() == {}


def test_bare_metal_is_known_to_be_exclusive() -> None:
    facts = opened("bare metal").facts()
    assert facts["exclusive"] is True
    assert facts["other_processes"] == 0
    assert facts["nvml"]["memory"]["used"] == 3 << 30
    assert facts["nvml"]["driver"] == "580.65.06"
    assert facts["nvml"]["cuda_driver"] == "13.0"
    assert facts["nvml_missing"] == {}


@pytest.mark.parametrize("name", ["container without process ids", "container with the host's process ids"])
def test_in_a_container_exclusivity_is_unknown_and_not_assumed(name: str) -> None:
    facts = opened(name).facts()
    assert facts["exclusive"] is None
    assert "container" in facts["exclusive_unknown"]


@pytest.mark.parametrize("name", ["two processes", "Windows-like"])
def test_another_process_is_seen_even_where_its_memory_is_not(name: str) -> None:
    facts = opened(name).facts()
    assert facts["exclusive"] is False
    assert facts["other_processes"] == 1


def test_a_mig_slice_gives_its_own_memory_and_no_energy_of_the_whole_device() -> None:
    gpu = opened("MIG")
    assert gpu.is_mig
    assert gpu.read("memory")["total"] == 10 << 30
    assert gpu.read("energy_millijoules") is None
    assert "MIG" in gpu.reason("energy_millijoules")
    assert gpu.read("sm_clock_mhz") == 1755  # of the parent


def test_missing_permission_is_named_for_each_query() -> None:
    gpu = opened("no permission")
    assert gpu.reason("energy_millijoules") == gpu.reason("power_watts") == "no permission"
    assert "memory" not in gpu.missing


def test_an_old_driver_falls_back_to_old_calls_and_leaves_reserved_unknown() -> None:
    gpu = opened("old driver")
    memory = gpu.read("memory")
    assert memory["used"] == 3 << 30
    assert memory["reserved"] is None
    assert gpu.read("throttle") == 0
    assert "the driver is too old" in gpu.reason("mig_mode")


def test_a_lost_gpu_is_remembered_and_not_asked_again() -> None:
    library = MACHINES["lost GPU"]()
    gpu = open_gpu(UUID, library=library)
    while gpu.absent is None:
        gpu.read("sm_clock_mhz")
    asked = dict(library.gpus[0].readings)
    assert gpu.read("power_watts") is None
    assert "disappeared" in gpu.reason("power_watts")
    assert library.gpus[0].readings == asked


def test_the_device_is_matched_by_uuid_and_not_by_index() -> None:
    gpu = opened("two GPUs in another order")
    assert gpu.read("name") == "Fake H100"
    assert gpu.matched_by == "uuid"


OTHER = "GPU-aaaaaaaa-0000-0000-0000-000000000000"  # the first of "two GPUs in another order"
IN_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def shown(machine: str, **environment: str) -> list[str | None]:
    return visible_gpus(environment=environment, library=MACHINES[machine]())


@pytest.mark.parametrize(
    ("visible", "wanted"),
    [
        ("0,1", [OTHER, UUID]),
        ("1,0", [UUID, OTHER]),
        ("1", [UUID]),
        (" 1 , 0 ", [UUID, OTHER]),
        ("+1", [UUID]),
        ("1x,0", [UUID, OTHER]),  # C's strtol
        (UUID, [UUID]),
        (UUID[:12], [UUID]),
        (f"GPU-aaaaaaaa,{UUID}", [OTHER, UUID]),
        ("0,99,1", [OTHER]),
        (f"{UUID},GPU-no,{OTHER}", [UUID]),
        ("", []),
        ("-1", []),
        ("-1,0", []),
        ("99", []),
        ("NoDevFiles", []),
        ("none", []),
        ("void", []),
        ("all", []),
        ("0,0", []),
        (f"{UUID},{UUID[:12]}", []),
        ("GPU-", []),  # both begin so
        ("99999999999999999999", []),
        ("²", []),
        (MIG_UUID, []),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(visible: str, wanted: list[str]) -> None:
    assert shown("two GPUs in another order", CUDA_VISIBLE_DEVICES=visible, **IN_ORDER) == wanted


def test_without_a_word_about_their_order_unlike_gpus_are_counted_and_not_named() -> None:
    """CUDA puts the fastest first by a rule of its own: NVML's first card may be CUDA's second."""
    assert shown("two GPUs in another order") == [None, None]
    assert shown("two GPUs in another order", CUDA_VISIBLE_DEVICES="1,0") == [None, None]
    assert shown("two GPUs in another order", CUDA_VISIBLE_DEVICES=f"{UUID},0") == [UUID, None]
    assert shown("two GPUs in another order", **IN_ORDER) == [OTHER, UUID]


def test_a_single_gpu_needs_no_word_about_its_order() -> None:
    assert shown("bare metal") == [UUID]
    assert shown("bare metal", CUDA_VISIBLE_DEVICES="0") == [UUID]


def test_a_mig_slice_is_named_by_itself() -> None:
    assert shown("MIG", CUDA_VISIBLE_DEVICES=MIG_UUID) == [MIG_UUID]


@pytest.mark.parametrize("name", sorted(ABSENT))
def test_a_machine_without_nvml_shows_no_gpu(name: str) -> None:
    assert shown(name) == []


def test_where_nvml_cannot_tell_which_gpu_cuda_means_torch_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    uuids = [UUID.removeprefix("GPU-"), OTHER]  # torch leaves the prefix out
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: types.SimpleNamespace(uuid=uuids[i]))
    devices = visible_gpus(environment={}, library=MACHINES["two GPUs in another order"]())
    assert [uuid_of(i, devices) for i in range(3)] == [UUID, OTHER, None]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two unlike GPUs and a CUDA build of torch, as the command line sees it."""
    library = MACHINES["two GPUs in another order"]()
    monkeypatch.setattr("samcmp.profiling.nvml.load", lambda given: (library, None))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.11.0+cu130")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def test_the_fingerprint_follows_the_card_and_not_its_number(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(visible: str, device: str = "cuda:0") -> str:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return kinds.fingerprint(device)

    assert UUID in fingerprint("1")
    assert fingerprint("1") == fingerprint("1,0") == fingerprint("0,1", "cuda:1") == fingerprint(UUID[:12])
    assert OTHER in fingerprint("0")
    assert fingerprint("0") != fingerprint("1")
    assert UUID not in fingerprint("", "cpu")


@pytest.mark.parametrize(
    ("visible", "device"),
    [("0", "cuda:0"), ("1,0", "cuda:0"), ("0,99", "cuda:0"), ("NoDevFiles", "cpu"), ("99", "cpu"), ("-1,0", "cpu")],
)
def test_auto_is_a_gpu_only_where_cuda_would_show_one(
    visible: str, device: str, two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert common.pick_device("auto") == device


def test_the_pci_address_serves_where_the_uuid_is_unknown() -> None:
    gpu = open_gpu(None, pci_bus_id="00000000:3B:00.0", library=MACHINES["two GPUs in another order"]())
    assert gpu.matched_by == "pci"
    assert gpu.read("name") == "Fake H100"


def test_without_the_binding_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pynvml", None)
    library, why = nvml.load()
    assert library is None
    assert "nvidia-ml-py" in str(why)


def test_the_unofficial_package_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pynvml", types.ModuleType("pynvml"))
    assert "unofficial" in str(nvml.load()[1])


# ---------------------------------------------------------------------------------------------- watching


def watched(gpu: FakeGpu) -> GpuMonitor:
    return GpuMonitor(open_gpu(UUID, library=FakeNvml(gpu)))


@pytest.mark.parametrize(("bit", "word"), [(0x8, "hardware"), (0x20, "thermal"), (0x40, "thermal"), (0x80, "brake")])
def test_a_harmful_throttle_bit_discards_the_block(bit: int, word: str) -> None:
    watch = watched(FakeGpu(throttle=lambda n: bit))
    watch.begin()
    assert word in str(watch.end())


@pytest.mark.parametrize("bit", [0x0, 0x1, 0x2, 0x4, 0x10, 0x100])
def test_a_power_cap_and_information_bits_do_not(bit: int) -> None:
    watch = watched(FakeGpu(throttle=lambda n: bit))
    watch.begin()
    assert watch.end() is None


def test_the_share_of_power_capped_samples_is_recorded() -> None:
    watch = watched(FakeGpu(throttle=lambda n: 0x4 if n % 2 else 0))
    for _ in range(10):
        watch.begin()
        watch.end()
    assert watch.summary()["throttle_shares"]["power cap"] == pytest.approx(0.5, abs=0.11)


def test_a_clock_far_below_the_usual_discards_the_block() -> None:
    watch = watched(FakeGpu(clock=lambda n: 1000 if n == 60 else 1755))
    causes = []
    for _ in range(80):
        watch.begin()
        causes.append(watch.end())
    found = [c for c in causes if c]
    assert len(found) == 1
    assert "1000 MHz" in found[0]


def test_a_process_that_arrives_discards_one_block_and_is_counted() -> None:
    import os

    gpu = FakeGpu(processes=[(os.getpid(), 1)])
    watch = watched(gpu)
    watch.begin()
    assert watch.end() is None
    gpu.processes.append((4_000_009, 1))
    watch.begin()
    assert "another process" in str(watch.end())
    watch.begin()
    assert watch.end() is None  # it stays: said once, and in the summary
    assert watch.summary()["processes_that_came"] == 1


def test_a_binding_that_is_newer_than_the_driver_is_no_accident() -> None:
    """Its word for that, NVMLLibraryMismatchError, is not one of NVML's errors."""

    class Mismatch(Exception):
        pass

    def refuse(handle: object) -> None:
        raise Mismatch("Unversioned function called")

    library: Any = FakeNvml(FakeGpu())
    library.NVMLLibraryMismatchError = Mismatch
    library.nvmlDeviceGetComputeRunningProcesses = refuse
    gpu = open_gpu(UUID, library=library)
    assert gpu.read("processes") is None
    assert "driver is too old" in gpu.reason("processes")
    assert gpu.read("uuid") == UUID
    assert gpu.facts()["exclusive"] is None
