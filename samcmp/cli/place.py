"""The options that say where a comparison runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from samcmp.cli import completion
from samcmp.cli.options import CORES, RUNNING, whole

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
    typer.Option(
        metavar="N",
        parser=whole("--jobs", most=CORES),
        help="Training runs side by side.",
        show_default="the cores; 1 on a GPU",
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
    detach: Detach = False
