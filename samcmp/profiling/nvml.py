"""What a GPU says about itself through NVML: each query is tried once, and unknown is never zero.

The package is ``nvidia-ml-py`` (module ``pynvml``). A machine without driver, a container, a MIG slice, a missing
permission and an old driver all lead to the same thing: a value that is None and a reason beside it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Library = Any  # the pynvml module, or what stands in for it in a test

TOO_OLD = "the driver is too old for this query"
ERRORS = {  # NVML's classes of errors, in words
    "NVMLError_LibraryNotFound": "no NVIDIA driver (libnvidia-ml was not found)",
    "NVMLError_DriverNotLoaded": "the NVIDIA driver is not loaded",
    "NVMLError_LibRmVersionMismatch": "driver and library differ in version: restart after the driver update",
    "NVMLError_NoPermission": "no permission",
    "NVMLError_NotSupported": "this GPU or driver does not support it",
    "NVMLError_FunctionNotFound": TOO_OLD,
    "NVMLLibraryMismatchError": TOO_OLD,  # the binding's own, no NVMLError
    "NVMLError_GpuIsLost": "the GPU is lost",
}

# Reasons for a clock below its maximum (nvml.h). The harmful spoil a measurement; a power cap is normal at full load.
HARMFUL = {0x8: "hardware slowdown", 0x20: "thermal slowdown (software)", 0x40: "thermal slowdown", 0x80: "power brake"}
REASONS = {
    **HARMFUL,
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x10: "sync boost",
    0x100: "display clock",
    0x200: "board limit",
    0x400: "reliability",
}


def _memory(lib: Library, handle: Any) -> dict[str, int | None]:
    """Total, free, used, and reserved by the driver where this version of the call reports it apart (v2)."""
    version = getattr(lib, "nvmlMemory_v2", None)
    if version is not None:
        try:
            info = lib.nvmlDeviceGetMemoryInfo(handle, version=version)
            return {k: int(getattr(info, k)) for k in ("total", "free", "used", "reserved")}
        except lib.NVMLError:
            pass  # a driver older than v2 of this call
    info = lib.nvmlDeviceGetMemoryInfo(handle)
    return {"total": int(info.total), "free": int(info.free), "used": int(info.used), "reserved": None}


def _processes(lib: Library, handle: Any) -> list[tuple[int, int | None]]:
    running = lib.nvmlDeviceGetComputeRunningProcesses(handle)
    return [(int(p.pid), None if p.usedGpuMemory is None else int(p.usedGpuMemory)) for p in running]


def _throttle(lib: Library, handle: Any) -> int:
    call = getattr(lib, "nvmlDeviceGetCurrentClocksEventReasons", None)
    if call is not None:
        try:
            return int(call(handle))
        except lib.NVMLError_FunctionNotFound:
            pass  # a driver that knows the older name only
    return int(lib.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


def _power(lib: Library, handle: Any) -> float:
    return float(lib.nvmlDeviceGetPowerUsage(handle)) / 1e3


def text_of(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# capability -> (query, whether it belongs to the whole device even where the handle is a MIG slice)
QUERIES: Mapping[str, tuple[Callable[[Library, Any], Any], bool]] = {
    "name": (lambda lib, h: text_of(lib.nvmlDeviceGetName(h)), False),
    "uuid": (lambda lib, h: text_of(lib.nvmlDeviceGetUUID(h)), False),
    "memory": (_memory, False),
    "processes": (_processes, False),
    "energy_millijoules": (lambda lib, h: int(lib.nvmlDeviceGetTotalEnergyConsumption(h)), True),
    "power_watts": (_power, True),
    "power_limit_watts": (lambda lib, h: float(lib.nvmlDeviceGetEnforcedPowerLimit(h)) / 1e3, True),
    "sm_clock_mhz": (lambda lib, h: int(lib.nvmlDeviceGetClockInfo(h, lib.NVML_CLOCK_SM)), True),
    "memory_clock_mhz": (lambda lib, h: int(lib.nvmlDeviceGetClockInfo(h, lib.NVML_CLOCK_MEM)), True),
    "max_sm_clock_mhz": (lambda lib, h: int(lib.nvmlDeviceGetMaxClockInfo(h, lib.NVML_CLOCK_SM)), True),
    "throttle": (_throttle, True),
    "temperature_celsius": (lambda lib, h: int(lib.nvmlDeviceGetTemperature(h, lib.NVML_TEMPERATURE_GPU)), True),
    "performance_state": (lambda lib, h: int(lib.nvmlDeviceGetPerformanceState(h)), True),
    "persistence": (lambda lib, h: bool(lib.nvmlDeviceGetPersistenceMode(h)), True),
    "ecc": (lambda lib, h: bool(lib.nvmlDeviceGetCurrentEccMode(h)), True),
    "pcie_generation": (lambda lib, h: int(lib.nvmlDeviceGetCurrPcieLinkGeneration(h)), True),
    "pcie_width": (lambda lib, h: int(lib.nvmlDeviceGetCurrPcieLinkWidth(h)), True),
    "mig_mode": (lambda lib, h: bool(lib.nvmlDeviceGetMigMode(h)[0]), True),
}

_NOT_OF_A_SLICE = ("energy_millijoules", "power_watts")  # the whole device's figure says nothing about one MIG slice


def why(library: Library, error: Exception) -> str:
    """Say in words what an error of NVML means."""
    kinds = ((getattr(library, name, None), text) for name, text in ERRORS.items())
    return next((text for kind, text in kinds if kind is not None and isinstance(error, kind)), f"error({error})")


@dataclass(slots=True)
class Gpu:
    """One device as NVML sees it. Without NVML it exists too: every reading is then None and ``absent`` says why."""

    library: Library | None = None
    handle: Any = None
    parent: Any = None  # of a MIG slice; else the handle itself
    is_mig: bool = False
    matched_by: str = ""
    absent: str | None = None  # also once the device is lost
    driver: str | None = None
    cuda_driver: str | None = None
    missing: dict[str, str] = field(default_factory=dict)  # query -> why it has no value

    def read(self, name: str) -> Any:
        """Return what a query says now, or None; :meth:`reason` then says why."""
        if self.absent is not None or name in self.missing:
            return None
        query, device_wide = QUERIES[name]
        try:
            return query(self.library, self.parent if device_wide else self.handle)
        except Exception as error:  # also AttributeError and TypeError of a binding without this call
            self.missing[name] = why(self.library, error)
            if self.missing[name] == ERRORS["NVMLError_GpuIsLost"]:
                self.absent = f"the GPU disappeared from NVML while reading {name}"
            return None

    def reason(self, name: str) -> str:
        """Say why ``name`` reads None."""
        return self.absent or self.missing.get(name, "the driver gave no value")

    def probe(self) -> None:
        """Try every query once, so that what is missing is known."""
        if self.is_mig:
            self.missing |= dict.fromkeys(_NOT_OF_A_SLICE, "a MIG instance has no such counter of its own")
        for name in QUERIES:
            self.read(name)

    def others(self) -> tuple[list[int], str | None]:
        """Return the process ids of others on the device, and why the list may be incomplete (None: it is not).

        In a container process ids are the host's or hidden; then our own is missing from the list.
        """
        running = self.read("processes")
        if running is None:
            return [], self.reason("processes")
        pids = [pid for pid, _ in running]
        if os.getpid() not in pids:
            return [], "our own process is not in the list: a container without the host's process ids"
        return [pid for pid in pids if pid != os.getpid()], None

    def facts(self) -> dict[str, Any]:
        """Return what belongs into a Record: state now, reasons for what is missing, nothing personal."""
        if self.handle is None:
            return {"nvml": None, "nvml_missing": self.absent}
        values = {name: self.read(name) for name in QUERIES if name != "processes"}
        pids, unknown = self.others()
        return {
            "nvml": {**values, "driver": self.driver, "cuda_driver": self.cuda_driver, "matched_by": self.matched_by},
            "nvml_missing": dict(self.missing),
            "mig": self.is_mig,
            "other_processes": None if unknown else len(pids),
            "exclusive": None if unknown else not pids,
            "exclusive_unknown": unknown,
        }


def load(library: Library | None = None) -> tuple[Library | None, str | None]:
    """Import NVML, unless a test brings its own, and start it. Returns the library, or why there is none."""
    if library is None:
        try:
            import pynvml
        except ImportError:
            return None, "the package nvidia-ml-py is not installed"
        if not hasattr(pynvml, "_nvmlGetFunctionPointer"):
            return None, "an unofficial pynvml is installed: pip uninstall pynvml, then pip install nvidia-ml-py"
        library = pynvml
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return None, f"NVML does not start: {why(library, error)}"
    return library, None


def open_gpu(uuid: str | None, *, pci_bus_id: str | None = None, library: Library | None = None) -> Gpu:
    """Find a CUDA device among NVML's and probe it. Never raises: the Gpu says what is missing.

    Args:
        uuid: of ``torch.cuda.get_device_properties``, with or without its ``GPU-`` or ``MIG-``.
        pci_bus_id: like ``00000000:3B:00.0``, used where the UUID is unknown.
    """
    library, absent = load(library)
    if library is None:
        return Gpu(absent=absent)
    bare = (uuid or "").removeprefix("GPU-").removeprefix("MIG-")
    ways = [("uuid", library.nvmlDeviceGetHandleByUUID, prefix + bare) for prefix in ("GPU-", "MIG-") if bare]
    if pci_bus_id:
        ways.append(("pci", library.nvmlDeviceGetHandleByPciBusId, pci_bus_id))
    for how, find, name in ways:
        try:
            return _probed(library, find(name), how)
        except library.NVMLError:
            continue
    return Gpu(library=library, absent="NVML does not see the CUDA device (UUID and PCI address do not match any)")


def _probed(library: Library, handle: Any, how: str) -> Gpu:
    gpu = Gpu(library=library, handle=handle, parent=handle, matched_by=how)
    try:
        gpu.is_mig = bool(library.nvmlDeviceIsMigDeviceHandle(handle))
        if gpu.is_mig:
            gpu.parent = library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    except (library.NVMLError, AttributeError):
        gpu.is_mig = False
    try:
        gpu.driver = driver_version(library)
        version = int(library.nvmlSystemGetCudaDriverVersion())
        gpu.cuda_driver = f"{version // 1000}.{version % 1000 // 10}"
    except (library.NVMLError, AttributeError):
        pass  # the state below still says what works
    gpu.probe()
    return gpu


def driver_version(library: Library) -> str:
    return text_of(library.nvmlSystemGetDriverVersion())


def open_torch_device(device: Any) -> Gpu:
    """Find the GPU of a ``torch.device``; a CPU gives a Gpu that is absent."""
    if device.type != "cuda":
        return Gpu(absent="the device is a CPU")
    import torch

    index = torch.cuda.current_device() if device.index is None else device.index
    facts = torch.cuda.get_device_properties(index)
    uuid = getattr(facts, "uuid", None)
    bus = getattr(facts, "pci_bus_id", None)
    pci = None
    if bus is not None:
        pci = f"{getattr(facts, 'pci_domain_id', 0):08X}:{bus:02X}:{getattr(facts, 'pci_device_id', 0):02X}.0"
    return open_gpu(None if uuid is None else str(uuid), pci_bus_id=pci)


# ---------------------------------------------------------------------------------------------- without CUDA


def visible_gpus(*, environment: Mapping[str, str] = os.environ, library: Library | None = None) -> list[str | None]:
    """List the UUIDs of the GPUs that CUDA will number 0, 1, ...; empty where there is none. Never raises.

    CUDA_VISIBLE_DEVICES ends at its first entry that names no GPU, and one that repeats itself names none. Its
    numbers are NVML's only with CUDA_DEVICE_ORDER=PCI_BUS_ID, or where there is one GPU; else a UUID is None: CUDA
    orders by a rule of its own.
    """
    library, _ = load(library)
    if library is None:
        return []
    try:
        handles = map(library.nvmlDeviceGetHandleByIndex, range(library.nvmlDeviceGetCount()))
        uuids = [text_of(library.nvmlDeviceGetUUID(handle)) for handle in handles]
    except library.NVMLError:
        return []
    ordered = len(uuids) == 1 or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    items = [str(i) for i in range(len(uuids))] if visible is None else visible.split(",")
    shown: list[str | None] = []
    entries: set[int | str] = set()
    for item in items:
        entry = _entry(library, item.strip(), uuids)
        if entry in entries:
            return []
        if entry is None:
            break
        entries.add(entry)
        shown.append(entry if isinstance(entry, str) else uuids[entry] if ordered else None)
    return shown


def _entry(library: Library, item: str, uuids: Sequence[str]) -> int | str | None:
    """Read one entry of CUDA_VISIBLE_DEVICES: a number, a UUID, or None where it names no GPU.

    A number is read as C's strtol does, up to the first other sign; of a GPU's UUID the beginning is enough.
    """
    if item.startswith("MIG-"):
        try:
            return text_of(library.nvmlDeviceGetUUID(library.nvmlDeviceGetHandleByUUID(item)))
        except library.NVMLError:
            return None
    if item.startswith("GPU-"):
        matching = [uuid for uuid in uuids if uuid.startswith(item)]
        return matching[0] if len(matching) == 1 else None
    digits = re.match(r"[+-]?[0-9]+", item)
    number = int(digits[0]) if digits and len(digits[0]) < 10 else -1
    return number if 0 <= number < len(uuids) else None


def uuid_of(index: int, visible: Sequence[str | None]) -> str | None:
    """Return the UUID of CUDA's device ``index``; where NVML cannot tell, torch is asked, which starts CUDA."""
    if index >= len(visible):
        return None
    if visible[index] is not None:
        return visible[index]
    import torch

    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        return None
    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
    return None if uuid is None else f"GPU-{str(uuid).removeprefix('GPU-')}"
