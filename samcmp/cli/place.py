"""The options that say where a comparison runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from samcmp.cli import completion
from samcmp.cli.options import CORES, RUNNING, count
from samcmp.errors import UsageError


@dataclass(frozen=True, slots=True)
class Part:
    """One of several parts of a plan, counted from 1."""

    number: int
    of: int


def shard(text: object) -> Part:
    """Read I/N. Raises UsageError."""
    number, _, of = str(text).partition("/")
    if not (number.isdecimal() and of.isdecimal() and len(of) < 7 and int(of) > 0):
        raise UsageError(
            f"expected I/N, got {str(text)!r}", where="--shard", remedy="For example --shard 3/8: the third of eight."
        )
    if not 1 <= int(number) <= int(of):
        raise UsageError(f"there is no shard {number}", where=f"--shard {text}", remedy=f"Name one from 1 to {of}.")
    return Part(int(number), int(of))


On = Annotated[
    str | None,
    typer.Option(
        metavar="ENGINE",
        help="Run on ray, ray:HOST:PORT, slurm, or NAME of a table \\[run.NAME] in benchmarks.toml.",
        show_default="this machine",
        autocompletion=completion.among("ray", "slurm"),
        rich_help_panel=RUNNING,
    ),
]
Jobs = Annotated[
    int | None,
    count("--jobs", "Training runs side by side.", RUNNING, most=CORES, shown="the cores; 1 on a GPU"),
]
Shard = Annotated[
    Part | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        parser=shard,
        help="Train the I-th of N parts of the plan; `samcmp merge` joins their stores.",
        rich_help_panel=RUNNING,
    ),
]
Detach = Annotated[
    bool,
    typer.Option("--detach", help="With Slurm: submit and return; the same command collects.", rich_help_panel=RUNNING),
]


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """Where runs run, and how many side by side; nothing here changes a result."""

    on: On = None
    jobs: Jobs = None
    shard: Shard = None
    detach: Detach = False
