"""Peak memory of training steps, from a pass of its own (never while something is timed).

CUDA: torch's allocator peaks and, where NVML is there, what the device really lost. CPU: the peak resident set, reset
before the pass through ``/proc/self/clear_refs``. The split sums unique storages; activations and temporaries are what
remains of the peak.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from samcmp import machine
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
        return CudaMemory(device, gpu=gpu).measure(make, repeats=repeats)
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
    absent = {"reserved_bytes": "a CPU has no caching allocator", "device_bytes": "the device is a CPU"}
    if before is None or peak is None:
        return Memory(None, split_bytes=parts, missing={**absent, "peak_bytes": "this system has no /proc/self/status"})
    if not could_reset:
        reason = "the peak resident set cannot be reset here (/proc/self/clear_refs)"
        return Memory(None, split_bytes=parts, missing={**absent, "peak_bytes": reason})
    grown = max(0, peak - before)
    parts["activations"] = max(0, grown - sum(parts.values()))
    if grown < sum(parts.values()):
        reason = "the resident set grew by less than the tensors kept: memory freed before was used again"
        return Memory(None, split_bytes=parts, missing={**absent, "peak_bytes": reason})
    return Memory(grown, split_bytes=parts, how=_HOW_CPU, missing=absent)


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


class CudaMemory:
    """Weighs on a CUDA device. ``cuda`` is ``torch.cuda`` or what stands in for it in a test."""

    def __init__(
        self,
        device: Any,
        *,
        gpu: Gpu | None = None,
        cuda: Any = None,
        clear_workspaces: Callable[[], None] | None = None,
    ) -> None:
        if cuda is None:
            import torch

            cuda = torch.cuda
        self._cuda = cuda
        self._device = device
        self._gpu = gpu
        self._clear_workspaces = clear_workspaces or _clear_workspaces

    def measure(self, make: Callable[[], Subject], *, repeats: int = 3) -> Memory:
        """Run ``repeats`` fresh passes; peaks are the largest, and a difference between passes is reported."""
        peaks: list[tuple[int, int]] = []
        parts: dict[str, int] = {}
        missing: dict[str, str] = {}
        device_bytes: int | None = None
        for _ in range(max(1, repeats)):
            self._clean()
            start = self._cuda.memory_stats(self._device)
            before = start.get("allocated_bytes.all.current", 0)
            with DevicePeak(self._gpu) as used:
                subject = make()
                subject.run()
                self._cuda.synchronize(self._device)
            stats = self._cuda.memory_stats(self._device)
            peaks.append((stats["allocated_bytes.all.peak"] - before, stats["reserved_bytes.all.peak"]))
            parts = split(subject.tensors(), device=self._device)
            parts["workspaces"] = self._workspaces()
            device_bytes = used.peak if device_bytes is None else max(device_bytes, used.peak or 0)
            if any(stats.get(key, 0) > start.get(key, 0) for key in ("num_alloc_retries", "num_ooms")):
                missing["note"] = "the allocator had to retry: the device was nearly full"
            del subject
        self._clean()
        if len({allocated for allocated, _ in peaks}) > 1:
            missing["note"] = f"peaks differ between passes: {sorted({a for a, _ in peaks})}"
        if device_bytes is None:
            missing["device_bytes"] = "no NVML" if self._gpu is None else self._gpu.reason("memory")
        allocated = max(a for a, _ in peaks)
        parts["activations"] = max(0, allocated - sum(parts.values()))
        return Memory(
            allocated,
            reserved_bytes=max(r for _, r in peaks),
            device_bytes=device_bytes,
            split_bytes=parts,
            how="peak of torch's allocator, fresh state, largest batches",
            missing=missing,
        )

    def _clean(self) -> None:
        """Free first, reset after: in the other order the old segments would be the new peak."""
        gc.collect()
        self._cuda.synchronize(self._device)
        self._clear_workspaces()
        self._cuda.empty_cache()
        self._cuda.reset_peak_memory_stats(self._device)

    def _workspaces(self) -> int:
        """Return what cuBLAS holds of the allocator: tens of MiB on recent GPUs, whatever the model. It is let go."""
        held = int(self._cuda.memory_stats(self._device).get("allocated_bytes.all.current", 0))
        self._clear_workspaces()
        return held - int(self._cuda.memory_stats(self._device).get("allocated_bytes.all.current", 0))


def _clear_workspaces() -> None:
    """Free the workspaces of cuBLAS. Torch has no public name for it."""
    import torch

    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None:
        clear()


class DevicePeak:
    """Polls the device's used memory through NVML in a thread while something runs: what is really gone."""

    def __init__(self, gpu: Gpu | None, *, every_seconds: float = 0.03) -> None:
        self._gpu = gpu
        self._every = every_seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.peak: int | None = None

    def _poll(self) -> None:
        while True:
            self._look()
            if self._stop.wait(self._every):
                return

    def _look(self) -> None:
        info = None if self._gpu is None else self._gpu.read("memory")
        if info is not None:
            self.peak = max(self.peak or 0, int(info["used"]))

    def __enter__(self) -> DevicePeak:
        if self._gpu is not None and self._gpu.absent is None:
            self._thread = threading.Thread(target=self._poll, name=f"nvml-memory-{os.getpid()}", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._look()
