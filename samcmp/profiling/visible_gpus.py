"""Which GPUs CUDA shows this process, in CUDA's order, told by NVML and the environment without starting CUDA."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from samcmp.profiling.nvml import Library, load, text_of


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
