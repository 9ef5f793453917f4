"""Kinds of machine: results of one kind are equal to the last bit, those of two kinds are not.

Another instruction set moves a test score in its fourth figure, so a comparison runs on one kind, or at least every
block of it (a split with its seeds) does. A key does not hold the kind: a finished run is finished everywhere.
"""

from __future__ import annotations

import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from samcmp import machine, modules
from samcmp.records import Record


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides the bits of a result: a GPU and its CUDA version, or a processor and its vector extensions.

    A part that is not known is None, and fits any.
    """

    device: str  # cpu or cuda
    gpu: str | None = None
    cuda: str | None = None
    architecture: str | None = None  # of a CPU
    processor: str | None = None
    vector_extensions: str | None = None  # as torch names them: AVX2, AVX512, DEFAULT

    def __str__(self) -> str:
        parts = (self.gpu, self.cuda and f"CUDA {self.cuda}", self.processor or self.architecture)
        return ", ".join(part for part in (*parts, self.vector_extensions) if part) or f"an unknown {self.device}"

    def fits(self, other: Kind) -> bool:
        """Whether nothing that is known of both differs."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return all(one == two or one is None or two is None for one, two in pairs)


def of_facts(facts: Mapping[str, Any], device: str) -> Kind | None:
    """Return the kind that a Record's ``machine`` tells; None where it tells nothing."""
    names = ("gpu", "cuda") if device.startswith("cuda") else ("architecture", "processor", "vector_extensions")
    told = {name: str(facts[name]) for name in names if facts.get(name)}
    return Kind(device.partition(":")[0], **told) if told else None


def here(device: str) -> Kind:
    """Return this machine's kind, without importing torch."""
    if not device.startswith("cuda"):
        return Kind("cpu", None, None, platform.machine(), machine.processor(), vector_extensions())
    cuda = modules.constants("torch.version").get("cuda")
    return Kind("cuda", _gpu_name(int(device.partition(":")[2] or 0)), cuda if isinstance(cuda, str) else None)


def _gpu_name(index: int) -> str | None:
    """The trade name of CUDA's device ``index``; None where it cannot be told without starting CUDA."""
    from samcmp.profiling.nvml import load, text_of, visible_gpus

    library, _ = load(None)
    uuids = visible_gpus()
    if library is None or index >= len(uuids):
        return None
    try:
        if (uuid := uuids[index]) is not None:
            return text_of(library.nvmlDeviceGetName(library.nvmlDeviceGetHandleByUUID(uuid)))
        handles = map(library.nvmlDeviceGetHandleByIndex, range(library.nvmlDeviceGetCount()))
        names = {text_of(library.nvmlDeviceGetName(handle)) for handle in handles}
    except library.NVMLError:
        return None
    return names.pop() if len(names) == 1 else None


def vector_extensions(*, cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Name the vector extensions that torch computes with on the CPU, by its own rule where it is not imported yet."""
    if "torch" in sys.modules:
        import torch

        return torch.backends.cpu.get_cpu_capability()
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return None
    wanted = os.environ.get("ATEN_CPU_CAPABILITY", "")
    if wanted in {"default", "avx2", "avx512"}:
        return wanted.upper()
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return None
    flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    for name, needed in (("AVX512", {"avx512vl", "avx512bw", "avx512dq", "fma"}), ("AVX2", {"avx2", "fma"})):
        if needed <= flags:
            return name
    return "DEFAULT" if flags else None


def counted(records: Iterable[Record]) -> Counter[Kind]:
    """Count the training runs that ended well by the kind they ran on; those that do not say it are left out."""
    found = (of_facts(r.machine, r.case.device) for r in records if r.case.kind == "train" and r.status == "ok")
    return Counter(kind for kind in found if kind is not None)


def fingerprint(device: str) -> str:
    """Name the hardware whose speed is measured: records of another machine, or of another GPU, are not this plan's."""
    from samcmp.profiling.nvml import uuid_of, visible_gpus

    parts = [machine.processor() or "unknown processor", f"{len(machine.affinity() or ())} cores"]
    if device != "cpu":
        index = int(device.partition(":")[2] or 0)
        parts.append(uuid_of(index, visible_gpus()) or f"unknown GPU {index}")
    return ", ".join(parts)
