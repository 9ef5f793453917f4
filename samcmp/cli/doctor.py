"""``samcmp doctor``: what this machine has, what is missing, what to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from samcmp.cli import common, options, output
from samcmp.errors import SamcmpError


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    what: str
    state: Literal["ok", "note", "missing"]
    found: str
    remedy: str = ""


def doctor(
    format_: options.ShortFormat = "table",
    store: options.StoreDir = None,
) -> None:
    """Say what this machine has (Python, torch, CUDA, driver, NVML, cores, folders), what is missing and what to do.

    Exit code 1 when something that samcmp cannot do without is missing.

    Examples:

      samcmp doctor

      samcmp doctor --format json
    """
    output.check(format_, allowed=("table", "json"))
    findings = [finding for check in CHECKS for finding in check()] + list(_folders(common.store_folder(store)))
    if format_ == "json":
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        _print(findings)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    style = {"ok": "green", "note": "yellow", "missing": "bold red"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("", "what", "found"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        text = Text(finding.found)
        if finding.remedy:
            text.append(f"\n{finding.remedy}", style="italic")
        table.add_row(Text(finding.state, style=style[finding.state]), finding.what, text)
    common.stdout().print(table)


def _python() -> Iterator[Finding]:
    yield Finding("Python", "ok", platform.python_version())
    for name in ("torch", "torch-geometric", "rdkit", "numpy", "scipy", "pandas"):
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "missing", "not installed", f"pip install {name}")


def _gpu() -> Iterator[Finding]:
    """CUDA as torch sees it, then what NVML says."""
    if importlib.util.find_spec("torch") is None:
        return
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


def _folders(store: Path) -> Iterator[Finding]:
    from samcmp import files
    from samcmp.data import cards, fetch

    for what, folder in (("cache folder", files.cache_folder()), ("store", store)):
        parent = common.standing(folder)
        free = shutil.disk_usage(parent).free / 2**30
        if not parent.is_dir():
            yield Finding(what, "missing", f"{parent} is a file, not a folder", "Set SAMCMP_CACHE, or --store DIR.")
        elif not os.access(parent, os.W_OK):
            yield Finding(what, "missing", f"{folder} is not writable", "Set SAMCMP_CACHE, or --store DIR.")
        else:
            yield Finding(what, "ok" if free > 1 else "note", f"{folder}, {free:.0f} GiB free")
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


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (_python, _gpu, _machine)
