"""Peak memory of training steps, from a pass of its own (never while something is timed).

CUDA: torch's allocator peaks and, where NVML is there, what the device really lost. CPU: the peak resident set, reset
before the pass through ``/proc/self/clear_refs``. The split sums unique storages; activations and temporaries are what
remains of the peak.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from samcmp import machine
from samcmp.profiling.gpu_monitor import Polling
from samcmp.profiling.nvml import Gpu
from samcmp.records import Memory

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_HOW_CPU = "growth of the peak resident set (VmHWM, reset through clear_refs)"


class Subject(Protocol):
    """What is weighed: built fresh, run, and asked which tensors it keeps."""

    def run(self) -> None:
        """Take two periods of steps or more, on the largest batches."""

    def tensors(self) -> Mapping[str, Iterable[Any]]:
        """Return its tensors by kind: parameters, buffers, gradients, base_state, perturbation_state."""


def unique_bytes(tensors: Iterable[Any], *, seen: set[int] | None = None, device: Any = None) -> int:
    """Sum the storages behind ``tensors``, each once. ``seen`` is added to, so that later kinds count what is new."""
    seen = set() if seen is None else seen
    total = 0
    for tensor in tensors:
        if tensor is None or (device is not None and tensor.device.type != device.type):
            continue
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            total += storage.nbytes()
    return total


def split(tensors: Mapping[str, Iterable[Any]], *, device: Any = None) -> dict[str, int]:
    """Return bytes by kind; a storage that two kinds share counts for the first."""
    seen: set[int] = set()
    return {kind: unique_bytes(members, seen=seen, device=device) for kind, members in tensors.items()}


def tensors_in(value: Any, *, depth: int = 5) -> list[Any]:
    """Collect the tensors in nested containers and in the attributes of this project's own objects."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if depth == 0:
        return []
    if isinstance(value, Mapping):
        inner: Iterable[Any] = value.values()
    elif isinstance(value, (list, tuple, set)):
        inner = value
    elif type(value).__module__.startswith("samcmp"):
        inner = _attributes(value)
    else:
        return []
    return [t for item in inner for t in tensors_in(item, depth=depth - 1)]


def _attributes(value: Any) -> list[Any]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    named = [getattr(value, name) for name in slots if hasattr(value, name)]
    return [*named, *vars(value).values()] if hasattr(value, "__dict__") else named


def measure(make: Callable[[], Subject], device: Any, *, gpu: Gpu | None = None, repeats: int = 3) -> Memory:
    """Weigh a fresh subject. On CUDA the pass is repeated: allocation is deterministic, so peaks must be equal."""
    if device.type == "cuda":
        return cuda_memory(make, device, gpu=gpu, repeats=repeats)
    return cpu_memory(make, device)


# ---------------------------------------------------------------------------------------------- CPU


def resident_bytes(key: str = "VmRSS", *, status: Path = _STATUS) -> int | None:
    """Read ``VmRSS`` (now) or ``VmHWM`` (peak); None where the system does not tell."""
    try:
        for line in status.read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def reset_peak(*, clear: Path = _CLEAR) -> bool:
    """Set VmHWM back to the present resident set. False where the system refuses."""
    try:
        clear.write_text("5")
    except OSError:
        return False
    return True


def _trim() -> None:
    """Give freed memory back to the system, so that the peak cannot hide in pages that were resident before."""
    import ctypes

    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def cpu_memory(make: Callable[[], Subject], device: Any, *, status: Path = _STATUS, clear: Path = _CLEAR) -> Memory:
    """Weigh by the resident set: its peak during the pass less what was resident before the subject existed."""
    _trim()
    before = resident_bytes(status=status)
    could_reset = reset_peak(clear=clear)
    subject = make()
    subject.run()
    peak = resident_bytes("VmHWM", status=status)
    parts = split(subject.tensors(), device=device)
    missing = {"reserved_bytes": "a CPU has no caching allocator", "device_bytes": "the device is a CPU"}
    grown = None
    if before is None or peak is None:
        missing["peak_bytes"] = "this system has no /proc/self/status"
    elif not could_reset:
        missing["peak_bytes"] = "the peak resident set cannot be reset here (/proc/self/clear_refs)"
    else:
        grown = max(0, peak - before)
        parts["activations"] = max(0, grown - sum(parts.values()))
        if grown < sum(parts.values()):
            missing["peak_bytes"] = "the resident set grew by less than the tensors kept: freed memory was used again"
            grown = None
    return Memory(grown, split_bytes=parts, how=_HOW_CPU if grown is not None else "", missing=missing)


FILLABLE = 0.8  # of the memory that is free: beyond it the system would end the process, not the allocation


def free_bytes() -> int | None:
    """Return the bytes that this process may still take: of the machine's and of its control group's."""
    import psutil

    limit = machine.memory_limit()
    free = int(psutil.virtual_memory().available)
    if limit is None:
        return free
    return min(free, max(0, limit - int(psutil.Process().memory_info().rss)))


class HostMemory:
    """What the optimizers of a session took on a CPU, one after the other, and whether another one would fit.

    A GPU's allocator tells, by refusing; a CPU's would not: the system ends a process that took too much.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        _trim()
        self._before = resident_bytes()

    def note(self) -> None:
        """One more optimizer is in memory."""
        now = resident_bytes()
        if now is not None and self._before is not None:
            self.sizes.append(max(0, now - self._before))
        self._before = now

    def full(self) -> str | None:
        """Say why one as large as the largest so far would not fit, or None."""
        free = free_bytes()
        largest = max(self.sizes, default=0)
        if free is None or largest <= FILLABLE * free:
            return None
        return (
            f"{len(self.sizes)} in memory, the next may take {largest / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are free"
        )


# ---------------------------------------------------------------------------------------------- CUDA


def cuda_memory(
    make: Callable[[], Subject],
    device: Any,
    *,
    gpu: Gpu | None = None,
    repeats: int = 3,
    cuda: Any = None,
    clear_workspaces: Callable[[], None] | None = None,
) -> Memory:
    """Run ``repeats`` fresh passes; peaks are the largest, and a difference between passes is reported.

    ``cuda`` is ``torch.cuda`` and ``clear_workspaces`` frees what cuBLAS holds, or what stands in for them in a test.
    """
    if cuda is None:
        import torch

        cuda = torch.cuda
    clear = clear_workspaces or _clear_workspaces
    gpu = gpu or Gpu(absent="no NVML")
    peaks: list[int] = []
    reserved: list[int] = []
    used: list[int] = []  # of the whole device, through NVML: what is really gone
    parts: dict[str, int] = {}
    missing: dict[str, str] = {}

    def look() -> None:
        info = gpu.read("memory")
        if info is not None:
            used.append(int(info["used"]))

    for _ in range(max(1, repeats)):
        _clean(cuda, device, clear)
        start = cuda.memory_stats(device)
        with Polling(look, every_seconds=0.03):
            subject = make()
            subject.run()
            cuda.synchronize(device)
        stats = cuda.memory_stats(device)
        peaks.append(stats["allocated_bytes.all.peak"] - start.get("allocated_bytes.all.current", 0))
        reserved.append(stats["reserved_bytes.all.peak"])
        parts = split(subject.tensors(), device=device)
        held = cuda.memory_stats(device).get("allocated_bytes.all.current", 0)
        clear()  # tens of MiB on recent GPUs, whatever the model
        parts["workspaces"] = held - cuda.memory_stats(device).get("allocated_bytes.all.current", 0)
        if any(stats.get(key, 0) > start.get(key, 0) for key in ("num_alloc_retries", "num_ooms")):
            missing["note"] = "the allocator had to retry: the device was nearly full"
        del subject
    _clean(cuda, device, clear)
    if len(set(peaks)) > 1:
        missing["note"] = f"peaks differ between passes: {sorted(set(peaks))}"
    if not used:
        missing["device_bytes"] = gpu.reason("memory")
    parts["activations"] = max(0, max(peaks) - sum(parts.values()))
    return Memory(
        max(peaks),
        reserved_bytes=max(reserved),
        device_bytes=max(used, default=None),
        split_bytes=parts,
        how="peak of torch's allocator, fresh state, largest batches",
        missing=missing,
    )


def _clean(cuda: Any, device: Any, clear_workspaces: Callable[[], None]) -> None:
    """Free first, reset after: in the other order the old segments would be the new peak."""
    gc.collect()
    cuda.synchronize(device)
    clear_workspaces()
    cuda.empty_cache()
    cuda.reset_peak_memory_stats(device)


def _clear_workspaces() -> None:
    """Free the workspaces of cuBLAS. Torch has no public name for it."""
    import torch

    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None:
        clear()
