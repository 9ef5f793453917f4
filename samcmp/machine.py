"""What this ran on: the metadata of a Record. Nothing personal: no user, host or path names."""

from __future__ import annotations

import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from multiprocessing import parent_process
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from samcmp.errors import UsageError

E = TypeVar("E")

# Settings of the environment that change speed or memory. Their values are numbers and switches, never paths.
_SETTINGS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_DYNAMIC",
    "KMP_BLOCKTIME", "KMP_AFFINITY", "MALLOC_ARENA_MAX", "MALLOC_CONF",
    "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUDA_MODULE_LOADING",
    "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip

_PACKAGES = ("torch", "numpy", "scipy", "rdkit", "torch-geometric", "nvidia-ml-py", "samcmp")


def metadata(device: Any = None) -> dict[str, Any]:
    """Return what a reader needs to judge a measurement: processor, limits, load, settings and the device.

    ``device`` is a ``torch.device``; without one torch is not imported.
    """
    cores = affinity()
    found: dict[str, Any] = {
        "system": platform.system(),
        "kernel": platform.release().split("-")[0],
        "architecture": platform.machine(),
        "processor": processor(),
        "logical_cores": os.cpu_count(),
        "physical_cores": _physical_cores(),
        "usable_cores": None if cores is None else len(cores),
        "affinity": cores,
        "cpu_quota": cpu_quota(),
        "load": load(),
        "ram_bytes": _ram(),
        "ram_available_bytes": _ram(available=True),
        "memory_limit_bytes": memory_limit(),
        "governor": _first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "container": in_container(),
        "settings": settings(),
    }
    if device is not None:
        found.update(torch_facts(device))
    return found


def settings() -> dict[str, str]:
    """Return the variables of the environment that change speed or memory."""
    return {name: os.environ[name] for name in _SETTINGS if name in os.environ}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def torch_facts(device: Any) -> dict[str, Any]:
    """Return how torch computes on ``device``: threads, precision switches, CUDA, cuDNN, the GPU."""
    import torch

    found: dict[str, Any] = {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "mkl": bool(torch._C.has_mkl),
        "vector_extensions": torch.backends.cpu.get_cpu_capability(),
        "debug": sys.flags.dev_mode,
    }
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": facts.name,
            "gpu_uuid": str(getattr(facts, "uuid", "")) or None,
            "compute_capability": f"{facts.major}.{facts.minor}",
            "gpu_memory_bytes": facts.total_memory,
            "multiprocessors": facts.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
    return found


def processor() -> str | None:
    """Return the processor's trade name, or None."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or None


def affinity() -> list[int] | None:
    """Return the cores this process may use, or None where the system does not say."""
    try:
        return sorted(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return None


CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def _groups(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups of both versions, each with all that it lies in.

    A container without a name space of its own sees the host's paths, of which the folders are not there.
    """
    lines = _text(own).splitlines() or ["0::/"]
    for line in [*lines, f"1:{controller}:/"]:
        _, kinds, path = (*line.split(":", 2), "", "")[:3]
        mounts = [root, root / "unified"] if not kinds else [root / kinds, root / controller]
        if kinds and controller not in kinds.split(","):
            continue
        inside = PurePosixPath("/", path.strip()).relative_to("/")
        for mount in mounts:
            yield from (mount / part for part in (inside, *inside.parents) if ".." not in part.parts)


def cpu_quota(*, root: Path = CGROUPS, own: Path = OWN_CGROUP) -> float | None:
    """Return how many cores' worth of time the control groups grant, the least of all; None: no limit, or not known."""
    found: list[float | None] = []
    for folder in _groups("cpu", root, own):
        quota, _, period = (_first_line(folder / "cpu.max") or "").partition(" ")
        found.append(_divided(quota, period))
        old_quota, old_period = (_first_line(folder / f"cpu.cfs_{what}_us") or "" for what in ("quota", "period"))
        found.append(_divided(old_quota, old_period))
    return min((value for value in found if value is not None and value > 0), default=None)


def memory_limit(*, root: Path = CGROUPS, own: Path = OWN_CGROUP) -> int | None:
    """Return the least memory limit of the control groups; None: no limit, or not known."""
    lines = [
        _first_line(folder / name) or ""
        for folder in _groups("memory", root, own)
        for name in ("memory.max", "memory.limit_in_bytes")
    ]
    return min((int(line) for line in lines if line.isdecimal() and int(line) < 1 << 60), default=None)


def memory_kills(
    *, root: Path = CGROUPS, own: Path = OWN_CGROUP, vmstat: Path = Path("/proc/vmstat")
) -> tuple[str, ...]:
    """Return the counts of processes that the system has ended for their memory: of the control groups, and all in all.

    Only a change of them says something.
    """
    groups = list(_groups("memory", root, own))
    places = [*(folder / name for folder in groups for name in ("memory.events", "memory.oom_control")), vmstat]
    return tuple(line for path in places for line in _text(path).splitlines() if line.startswith("oom_kill "))


def usable_cores() -> float:
    """Return the cores that count: affinity or quota, whichever is less."""
    cores = affinity()
    count = float(len(cores) if cores is not None else os.cpu_count() or 1)
    quota = cpu_quota()
    return count if quota is None else min(count, quota)


def load() -> float | None:
    """Return the load average of the last minute, or None."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def in_container() -> bool | None:
    """Tell whether this looks like a container; None where nothing can be said."""
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists() or "KUBERNETES_SERVICE_HOST" in os.environ:
        return True
    line = _first_line(Path("/proc/1/comm"))
    return None if line is None else line not in {"systemd", "init", "launchd"}


def _physical_cores() -> int | None:
    import psutil

    return psutil.cpu_count(logical=False)


def _ram(*, available: bool = False) -> int:
    import psutil

    memory = psutil.virtual_memory()
    return int(memory.available if available else memory.total)


def _first_line(path: Path) -> str | None:
    lines = _text(path).splitlines()
    return lines[0].strip() if lines else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _divided(quota: str, period: str) -> float | None:
    try:
        return int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name the facts that must agree between two Records before their speeds may be compared, and do not."""
    keys = ("processor", "architecture", "usable_cores", "cpu_quota", "threads", "gpu", "cuda", "settings", "tf32")
    return [key for key in keys if one.get(key) != other.get(key)]


@cache
def plugins(group: str, kind: type[E]) -> dict[str, E]:
    """Load the entry points of ``group``, each of which must be a ``kind``. Raises UsageError for another."""
    wanted = f"{kind.__module__}.{kind.__qualname__}"
    found: dict[str, E] = {}
    for point in entry_points(group=group):
        made = _loaded(point)
        if not isinstance(made, kind):
            raise UsageError(
                f"entry point {point.name!r} is a {type(made).__name__}, not a {wanted}",
                where=f"entry-point group {group}",
                remedy=f"Let it name a {wanted} object, or uninstall the package that brings it.",
            )
        found[point.name] = made
    return found


def _loaded(point: EntryPoint) -> Any:
    """Load an entry point; what its import does to the environment of this process must not reach others."""
    where = f"entry-point group {point.group}"
    environment, folder, path = dict(os.environ), _current_folder(), list(sys.path)
    try:
        return point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too: someone else's package must not end the command
        raise UsageError(
            f"loading entry point {point.name!r} raised {type(error).__name__}: {error}",
            where=where,
            remedy=f"Repair or uninstall the package that brings {point.value}.",
        ) from error
    finally:
        if parent_process() is None:  # a worker may be the package's own process and keeps what it needs
            if dict(os.environ) != environment:
                os.environ.clear()
                os.environ.update(environment)
            sys.path[:] = path
            if folder is not None:
                os.chdir(folder)


def _current_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


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


def kind_of(facts: Mapping[str, Any], device: str) -> Kind | None:
    """Return the kind that a Record's ``machine`` tells; None where it tells nothing."""
    names = ("gpu", "cuda") if device.startswith("cuda") else ("architecture", "processor", "vector_extensions")
    told = {name: str(facts[name]) for name in names if facts.get(name)}
    return Kind(device.partition(":")[0], **told) if told else None


def tally(kinds: Iterable[Kind | None]) -> Counter[Kind]:
    """Count kinds; one of which less is known counts with the first that it fits, and None does not count."""
    found: Counter[Kind] = Counter()
    for kind in kinds:
        if kind is not None:
            found[kind if kind in found else next((known for known in found if known.fits(kind)), kind)] += 1
    return found
