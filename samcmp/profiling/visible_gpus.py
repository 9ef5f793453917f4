"""Which GPUs CUDA shows this process, in CUDA's order, told by NVML and the environment without starting CUDA."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samcmp.profiling.nvml import Library, load, text_of


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A GPU that CUDA would show, as far as NVML and the environment tell without starting CUDA."""

    uuid: str | None  # None: CUDA orders unlike GPUs by a rule of its own, so which one this is only CUDA knows
    name: str | None


def cuda_devices(*, environment: Mapping[str, str] = os.environ, library: Library | None = None) -> list[CudaDevice]:
    """List the GPUs that CUDA will number 0, 1, ... in this process; empty where there is none. Never raises.

    CUDA_VISIBLE_DEVICES ends at its first entry that names no GPU, and one that repeats itself names none. Its
    numbers are NVML's only with CUDA_DEVICE_ORDER=PCI_BUS_ID, or where there is one GPU.
    """
    library, _ = load(library)
    if library is None:
        return []
    try:
        handles = [library.nvmlDeviceGetHandleByIndex(i) for i in range(library.nvmlDeviceGetCount())]
        gpus = [
            CudaDevice(text_of(library.nvmlDeviceGetUUID(h)), text_of(library.nvmlDeviceGetName(h))) for h in handles
        ]
    except library.NVMLError:
        return []
    names = {gpu.name for gpu in gpus}
    any_of_them = CudaDevice(None, names.pop() if len(names) == 1 else None)
    ordered = len(gpus) == 1 or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus if ordered else [any_of_them] * len(gpus)
    shown: list[CudaDevice] = []
    entries: list[object] = []
    for item in visible.split(","):
        entry, gpu = _visible(library, item.strip(), gpus)
        if entry in entries:
            return []
        if gpu is None:
            break
        entries.append(entry)
        shown.append(gpu if ordered or not isinstance(entry, int) else any_of_them)
    return shown


def _visible(library: Library, item: str, gpus: Sequence[CudaDevice]) -> tuple[object, CudaDevice | None]:
    """Resolve one entry of CUDA_VISIBLE_DEVICES; numbers are read as C's strtol does, up to the first other sign."""
    if item.startswith("MIG-"):
        try:
            handle = library.nvmlDeviceGetHandleByUUID(item)
            return item, CudaDevice(item, text_of(library.nvmlDeviceGetName(handle)))
        except library.NVMLError:
            return item, None
    if item.startswith("GPU-"):
        found = [gpu for gpu in gpus if gpu.uuid is not None and gpu.uuid.startswith(item)]
        return (found[0].uuid, found[0]) if len(found) == 1 else (item, None)
    digits = re.match(r"[+-]?[0-9]+", item)
    number = int(digits[0]) if digits and len(digits[0]) < 10 else -1
    return number, gpus[number] if 0 <= number < len(gpus) else None


def cuda_uuid(index: int, devices: Sequence[CudaDevice]) -> str | None:
    """Return the UUID of CUDA's device ``index``; where NVML does not tell, torch is asked, which starts CUDA."""
    if index >= len(devices):
        return None
    if devices[index].uuid is not None:
        return devices[index].uuid
    import torch

    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        return None
    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
    return None if uuid is None else f"GPU-{str(uuid).removeprefix('GPU-')}"
