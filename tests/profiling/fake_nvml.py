"""A stand-in for the pynvml module: machines with the habits, gaps and accidents that real ones have."""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class NVMLError(Exception):
    pass


def _kind(name: str) -> type[NVMLError]:
    return type(f"NVMLError_{name}", (NVMLError,), {})


NAMES = (
    "LibraryNotFound",
    "DriverNotLoaded",
    "LibRmVersionMismatch",
    "NoPermission",
    "NotSupported",
    "FunctionNotFound",
    "GpuIsLost",
    "NotFound",
    "InvalidArgument",
)
ERRORS = {name: _kind(name) for name in NAMES}


@dataclass
class FakeGpu:
    """One GPU: what it answers, what it refuses (query -> error name), and its counters."""

    uuid: str = "GPU-11111111-2222-3333-4444-555555555555"
    pci: str = "00000000:3B:00.0"
    name: str = "Fake H100"
    used: int = 3 << 30
    total: int = 80 << 30
    reserved: int | None = 1 << 29
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    refuses: dict[str, str] = field(default_factory=dict)
    energy: int = 1_000_000  # mJ
    energy_step: int = 5_000  # added at each reading
    energy_wraps_at: int | None = None
    throttle: Callable[[int], int] = lambda reading: 0
    clock: Callable[[int], int] = lambda reading: 1755
    power: int = 400_000
    is_mig: bool = False
    parent: FakeGpu | None = None
    readings: dict[str, int] = field(default_factory=dict)
    lost_after: int | None = None

    def answer(self, query: str) -> int:
        """Count this reading; raise what the GPU raises. Returns how often it was asked before."""
        n = self.readings.get(query, 0)
        self.readings[query] = n + 1
        if self.lost_after is not None and sum(self.readings.values()) > self.lost_after:
            raise ERRORS["GpuIsLost"]("GPU is lost")
        if query in self.refuses:
            raise ERRORS[self.refuses[query]](self.refuses[query])
        return n


class FakeNvml:
    """The part of pynvml that samcmp calls."""

    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    nvmlMemory_v2 = 0x2000028
    NVMLError = NVMLError

    def __init__(self, *gpus: FakeGpu, init_error: str | None = None, old_names_only: bool = False) -> None:
        self.gpus = list(gpus)
        self.init_error = init_error
        self.initialised = False
        for name, kind in ERRORS.items():
            setattr(self, f"NVMLError_{name}", kind)
        if not old_names_only:
            self.nvmlDeviceGetCurrentClocksEventReasons = self._reasons
        self.nvmlDeviceGetCurrentClocksThrottleReasons = self._reasons

    def nvmlInit(self) -> None:
        if self.init_error:
            raise ERRORS[self.init_error](self.init_error)
        self.initialised = True

    # ---- finding

    def nvmlDeviceGetCount(self) -> int:
        return sum(not g.is_mig for g in self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        whole = [g for g in self.gpus if not g.is_mig]
        if not 0 <= index < len(whole):
            raise ERRORS["InvalidArgument"]("no such index")
        return whole[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        return self._find(lambda g: g.uuid == uuid)

    def nvmlDeviceGetHandleByPciBusId(self, pci: str) -> FakeGpu:
        return self._find(lambda g: g.pci == pci)

    def _find(self, fits: Callable[[FakeGpu], bool]) -> FakeGpu:
        for gpu in self.gpus:
            if fits(gpu):
                return gpu
        raise ERRORS["NotFound"]("not found")

    def nvmlDeviceIsMigDeviceHandle(self, gpu: FakeGpu) -> bool:
        return gpu.is_mig

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, gpu: FakeGpu) -> FakeGpu | None:
        return gpu.parent

    # ---- system

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.65.06"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13000

    # ---- state

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        gpu.answer("name")
        return gpu.name

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        return gpu.uuid

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu, version: int | None = None) -> Any:
        gpu.answer("memory")
        if version is not None and gpu.reserved is None:
            raise ERRORS["FunctionNotFound"]("v2")
        info = types.SimpleNamespace(total=gpu.total, free=gpu.total - gpu.used, used=gpu.used)
        if version is not None:
            info.reserved = gpu.reserved
        return info

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[Any]:
        gpu.answer("processes")
        return [types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in gpu.processes]

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:
        gpu.answer("energy")
        gpu.energy += gpu.energy_step
        return gpu.energy % gpu.energy_wraps_at if gpu.energy_wraps_at else gpu.energy

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:
        gpu.answer("power")
        return gpu.power

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: FakeGpu) -> int:
        gpu.answer("limit")
        return 700_000

    def nvmlDeviceGetClockInfo(self, gpu: FakeGpu, kind: int) -> int:
        n = gpu.answer("clock")
        return gpu.clock(n) if kind == self.NVML_CLOCK_SM else 2619

    def nvmlDeviceGetMaxClockInfo(self, gpu: FakeGpu, kind: int) -> int:
        gpu.answer("max clock")
        return 1980

    def _reasons(self, gpu: FakeGpu) -> int:
        return gpu.throttle(gpu.answer("throttle"))

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> int:
        gpu.answer("temperature")
        return 61

    def nvmlDeviceGetPerformanceState(self, gpu: FakeGpu) -> int:
        gpu.answer("state")
        return 0

    def nvmlDeviceGetPersistenceMode(self, gpu: FakeGpu) -> int:
        gpu.answer("persistence")
        return 1

    def nvmlDeviceGetCurrentEccMode(self, gpu: FakeGpu) -> int:
        gpu.answer("ecc")
        return 1

    def nvmlDeviceGetCurrPcieLinkGeneration(self, gpu: FakeGpu) -> int:
        gpu.answer("pcie")
        return 5

    def nvmlDeviceGetCurrPcieLinkWidth(self, gpu: FakeGpu) -> int:
        gpu.answer("pcie")
        return 16

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:
        gpu.answer("mig")
        return [int(gpu.is_mig), int(gpu.is_mig)]


OWN = os.getpid()
UUID = FakeGpu().uuid
MIG_UUID = "MIG-99999999-8888-7777-6666-555555555555"


def mig_machine() -> FakeNvml:
    whole = FakeGpu(refuses={"memory": "NoPermission"})
    part = FakeGpu(
        uuid=MIG_UUID,
        pci="",
        is_mig=True,
        parent=whole,
        total=10 << 30,
        used=1 << 30,
        processes=[(OWN, 1 << 29)],
        refuses=dict.fromkeys(("energy", "power"), "NotSupported"),
    )
    return FakeNvml(whole, part)


# name -> a machine; every test of the family runs on each
MACHINES: dict[str, Callable[[], FakeNvml]] = {
    "bare metal": lambda: FakeNvml(FakeGpu(processes=[(OWN, 1 << 30)])),
    "container without process ids": lambda: FakeNvml(FakeGpu(processes=[])),
    "container with the host's process ids": lambda: FakeNvml(FakeGpu(processes=[(4_000_001, 1 << 30)])),
    "MIG": mig_machine,
    "no permission": lambda: FakeNvml(
        FakeGpu(refuses=dict.fromkeys(("processes", "energy", "power", "throttle", "clock"), "NoPermission"))
    ),
    "no NVML permission": lambda: FakeNvml(init_error="NoPermission"),
    "throttling": lambda: FakeNvml(FakeGpu(processes=[(OWN, 1 << 30)], throttle=lambda n: 0x40 if n % 9 == 8 else 0x4)),
    "counter wrap": lambda: FakeNvml(FakeGpu(processes=[(OWN, 1 << 30)], energy=95_000, energy_wraps_at=100_000)),
    "lost GPU": lambda: FakeNvml(FakeGpu(processes=[(OWN, 1 << 30)], lost_after=40)),
    "old driver": lambda: FakeNvml(
        FakeGpu(processes=[(OWN, None)], reserved=None, refuses={"energy": "NotSupported", "mig": "FunctionNotFound"}),
        old_names_only=True,
    ),
    "two processes": lambda: FakeNvml(FakeGpu(processes=[(OWN, 1 << 30), (4_000_002, 1 << 30)])),
    "Windows-like": lambda: FakeNvml(FakeGpu(processes=[(OWN, None), (4_000_003, None)])),
    "driver mismatch": lambda: FakeNvml(init_error="LibRmVersionMismatch"),
    "no driver": lambda: FakeNvml(init_error="LibraryNotFound"),
    "driver not loaded": lambda: FakeNvml(init_error="DriverNotLoaded"),
    "two GPUs in another order": lambda: FakeNvml(
        FakeGpu(uuid="GPU-aaaaaaaa-0000-0000-0000-000000000000", pci="00000000:17:00.0", name="the other"),
        FakeGpu(processes=[(OWN, 1 << 30)]),
    ),
}
