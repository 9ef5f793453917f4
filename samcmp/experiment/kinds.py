"""Kinds of machine: results of one kind are equal to the last bit, those of two kinds are not.

Another instruction set moves a test score in its fourth figure, so a comparison runs on one kind, or at least every
block of it (a split with its seeds) does. A key does not hold the kind: a finished run is finished everywhere.
"""

from __future__ import annotations

import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from samcmp import machine, modules
from samcmp.experiment.store import Brief
from samcmp.machine import Kind

__all__ = ["Kind", "counted", "fingerprint", "here", "vector_extensions"]


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


def counted(briefs: Iterable[Brief]) -> Counter[Kind]:
    """Count the training runs that ended well by the kind they ran on; those that do not say it are left out."""
    return machine.tally(b.ran_on for b in briefs if b.case.kind == "train" and b.status == "ok")


def fingerprint(device: str) -> str:
    """Name the hardware whose speed is measured: records of another machine, or of another GPU, are not this plan's."""
    from samcmp.profiling.nvml import uuid_of, visible_gpus

    parts = [machine.processor() or "unknown processor", f"{len(machine.affinity() or ())} cores"]
    if device != "cpu":
        index = int(device.partition(":")[2] or 0)
        parts.append(uuid_of(index, visible_gpus()) or f"unknown GPU {index}")
    return ", ".join(parts)
