"""What a GPU says about itself through NVML: each capability is probed once, and unknown is never zero.

The package is ``nvidia-ml-py`` (module ``pynvml``). A machine without driver, a container, a MIG slice, a missing
permission and an old driver all lead to the same thing: a value that is None and a reason beside it.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Library = Any  # the pynvml module, or what stands in for it in a test

SUPPORTED = "supported"
TOO_OLD = "error(the driver is too old for this query)"

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

_MIG_WIDE = {"energy_millijoules", "power_watts"}  # the whole device's figure says nothing about one slice


def why(library: Library, error: Exception) -> str:
    """Turn an NVML error into one of a capability's states."""
    kinds = (
        ("NVMLError_NotSupported", "not_supported"),
        ("NVMLError_NoPermission", "no_permission"),
        ("NVMLError_FunctionNotFound", TOO_OLD),
        ("NVMLError_GpuIsLost", "error(GPU is lost)"),
    )
    for name, state in kinds:
        kind = getattr(library, name, None)
        if kind is not None and isinstance(error, kind):
            return state
    return f"error({error})"


@dataclass(slots=True)
class Gpu:
    """One device as NVML sees it. Without NVML it exists too: every reading is then None and ``absent`` says why."""

    library: Library | None = None
    handle: Any = None
    parent: Any = None  # of a MIG slice; else the handle itself
    is_mig: bool = False
    matched_by: str = ""
    absent: str | None = None
    driver: str | None = None
    cuda_driver: str | None = None
    capabilities: dict[str, str] = field(default_factory=dict)
    lost: str | None = None

    def read(self, name: str) -> Any:
        """Return the value of a capability now, or None; :meth:`reason` then says why."""
        library = self.library
        gone = self.absent is not None or self.lost is not None
        if library is None or gone or self.capabilities.get(name, SUPPORTED) != SUPPORTED:
            return None
        query, device_wide = QUERIES[name]
        mismatch = getattr(library, "NVMLLibraryMismatchError", ())  # no NVMLError: a driver older than the binding
        try:
            return query(library, self.parent if device_wide else self.handle)
        except mismatch:
            self.capabilities[name] = TOO_OLD
            return None
        except library.NVMLError as error:
            state = why(library, error)
            if "lost" in state:
                self.lost = f"the GPU disappeared from NVML while reading {name}"
            self.capabilities[name] = state
            return None
        except (AttributeError, TypeError) as error:  # a binding or stand-in without this call
            self.capabilities[name] = f"error({error})"
            return None

    def reason(self, name: str) -> str:
        """Say why ``name`` reads None."""
        if self.absent is not None:
            return self.absent
        if self.lost is not None:
            return self.lost
        state = self.capabilities.get(name, SUPPORTED)
        if state == "not_supported" and self.is_mig and name in _MIG_WIDE:
            return "a MIG instance has no such counter of its own"
        return {
            SUPPORTED: "the driver gave no value",
            "not_supported": "this GPU or driver does not support it",
            "no_permission": "no permission",
        }.get(state, state)

    def probe(self) -> None:
        """Try every query once and note how it went."""
        for name in QUERIES:
            if self.is_mig and name in _MIG_WIDE:
                self.capabilities[name] = "not_supported"
            elif self.read(name) is not None:
                self.capabilities[name] = SUPPORTED
            elif self.absent is None and self.capabilities.get(name, SUPPORTED) == SUPPORTED:
                self.capabilities[name] = "error(no value)"

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
        """Return what belongs into a Record: state now, capabilities and their reasons, nothing personal."""
        if self.absent is not None:
            return {"nvml": None, "nvml_missing": self.absent}
        values = {name: self.read(name) for name in QUERIES if name != "processes"}
        pids, unknown = self.others()
        return {
            "nvml": {**values, "driver": self.driver, "cuda_driver": self.cuda_driver, "matched_by": self.matched_by},
            "nvml_missing": {n: self.reason(n) for n, s in self.capabilities.items() if s != SUPPORTED},
            "mig": self.is_mig,
            "other_processes": None if unknown else len(pids),
            "exclusive": None if unknown else not pids,
            "exclusive_unknown": unknown,
        }


def load(library: Library | types.ModuleType | None = None) -> tuple[Library | None, str | None]:
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
        texts = (
            ("NVMLError_LibraryNotFound", "no NVIDIA driver (libnvidia-ml was not found)"),
            ("NVMLError_DriverNotLoaded", "the NVIDIA driver is not loaded"),
            ("NVMLError_LibRmVersionMismatch", "driver and library differ in version: restart after the driver update"),
            ("NVMLError_NoPermission", "no permission to use NVML"),
        )
        for name, text in texts:
            if isinstance(error, getattr(library, name, ())):
                return None, text
        return None, f"NVML does not start: {error}"
    return library, None


def open_gpu(
    uuid: str | None, *, pci_bus_id: str | None = None, library: Library | types.ModuleType | None = None
) -> Gpu:
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
