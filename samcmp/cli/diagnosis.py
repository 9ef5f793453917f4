"""What this machine has and what it lacks, looked at with Python's own library alone: anything else may be broken."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from samcmp.errors import SamcmpError, in_one_line

MODULES = {"nvidia-ml-py": "pynvml"}  # package -> what is imported, where the names differ


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    what: str
    state: Literal["ok", "note", "missing"]
    found: str
    remedy: str = ""


Check = Callable[[], Iterator[Finding]]


def findings(store: Path | None = None) -> list[Finding]:
    """Make every check; one that cannot be made does not take the others with it."""
    checks: dict[str, Check] = {
        "packages": _packages, "GPU": _gpu, "machine": _machine, "folders": _folders, "store": lambda: _store(store)
    }  # fmt: skip
    return [finding for what, check in checks.items() for finding in _guarded(what, check)]


def print_plain() -> None:
    """Print what is found where even the packages that print and read commands are broken."""
    for finding in findings():
        print(f"{finding.state:<9}{finding.what}: {finding.found}  {finding.remedy}")


def _guarded(what: str, check: Check) -> Iterator[Finding]:
    try:
        yield from check()
    except SamcmpError as error:
        yield Finding(
            what, "missing", f"{error.where}: {error.what}" if error.where else error.what, error.remedy or ""
        )
    except (Exception, SystemExit) as error:
        yield Finding(what, "note", f"cannot be looked at: {type(error).__name__}: {in_one_line(error)}")


def _packages() -> Iterator[Finding]:
    yield Finding("Python", "ok", platform.python_version())
    for name, least in _needed().items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "missing", "not installed", f"pip install {name}")
            continue
        try:
            importlib.import_module(MODULES.get(name, name.replace("-", "_")))
        except (Exception, SystemExit) as error:  # a broken package raises what it likes
            broken = f"{version}, cannot be imported: {type(error).__name__}: {in_one_line(error)}"
            yield Finding(name, "missing", broken, f"pip install --force-reinstall {name}")
            continue
        if _numbers(version) < _numbers(least):
            yield Finding(name, "missing", f"{version} is too old", f"pip install '{name}>={least}'")
        else:
            yield Finding(name, "ok", version)


def _needed() -> dict[str, str]:
    """The packages that samcmp needs, with their oldest versions."""
    parts = [text.partition(";") for text in importlib.metadata.requires("samcmp") or ()]
    needed = [text.strip().partition(">=") for text, _, condition in parts if "extra" not in condition]
    return {name: least for name, _, least in needed}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _gpu() -> Iterator[Finding]:
    """CUDA as torch sees it, then what NVML says."""
    import torch

    if torch.version.cuda is None:
        yield Finding("CUDA", "note", "this torch is a CPU build", "For a GPU, install a CUDA build of torch.")
    elif not torch.cuda.is_available():
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "no device is visible" if shown is None else f"CUDA_VISIBLE_DEVICES is {shown!r}"
        yield Finding("CUDA", "note", f"torch was built for CUDA {torch.version.cuda}, but {why}")
    else:
        for i in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(i)
            size = facts.total_memory / 2**30
            yield Finding(f"cuda:{i}", "ok", f"{facts.name}, {size:.0f} GiB, CUDA {torch.version.cuda}")
    yield from _nvml()


def _nvml() -> Iterator[Finding]:
    from samcmp.profiling import nvml

    library, absent = nvml.load()
    if library is None:
        yield Finding(
            "NVML", "note", f"{absent}: energy, clocks and device memory will be n/a",
            "On a GPU machine: install the driver; in a container add the 'utility' capability.",
        )  # fmt: skip
        return
    yield Finding("NVML", "ok", f"driver {nvml.driver_version(library)}")


def _machine() -> Iterator[Finding]:
    from samcmp import machine

    facts = machine.metadata()
    cores = facts["usable_cores"] or facts["logical_cores"]
    quota = facts["cpu_quota"]
    limit = "" if quota is None else f", limited to {quota:g} cores' time"
    yield Finding("processor", "ok", f"{facts['processor'] or 'unknown'}, {cores} usable cores{limit}")
    if facts["ram_bytes"]:
        yield Finding("memory", "ok", f"{facts['ram_bytes'] / 2**30:.0f} GiB")
    load = facts["load"]
    if load is not None and cores and load > 0.5 * cores:
        yield Finding(
            "load", "note", f"{load:.1f} on {cores} cores: others are busy here", "Measure speed on an idle machine."
        )


def _folders() -> Iterator[Finding]:
    from samcmp import files
    from samcmp.data import cards, fetch

    yield _folder("cache folder", files.cache_folder(), f"Set {files.CACHE}=FOLDER.")
    with files.temporary_folder() as folder:
        yield Finding("temporary files", "ok", str(folder.parent))
    cached: list[str] = []
    for name in cards.names():
        try:
            card = cards.find(name)
            if not card.built_in and fetch.is_cached(card):
                cached.append(name)
        except SamcmpError as error:
            yield Finding(f"dataset {name}", "note", str(error))
    yield Finding("datasets cached", "ok", ", ".join(cached) or "none yet (each is fetched when first used)")
    mirror = os.environ.get("SAMCMP_MIRROR")
    if mirror:
        yield Finding("mirror", "ok", f"SAMCMP_MIRROR is {mirror}")


def _store(store: Path | None) -> Iterator[Finding]:
    from samcmp.cli import common

    yield _folder("store", common.store_folder(store), "Name another with --store DIR.")


def _folder(what: str, folder: Path, remedy: str) -> Finding:
    from samcmp.cli import common

    parent = common.standing(folder)
    free = shutil.disk_usage(parent).free / 2**30
    if not parent.is_dir():
        return Finding(what, "missing", f"{parent} is a file, not a folder", remedy)
    if not os.access(parent, os.W_OK):
        return Finding(what, "missing", f"{folder} is not writable", remedy)
    return Finding(what, "ok" if free > 1 else "note", f"{folder}, {free:.0f} GiB free")
