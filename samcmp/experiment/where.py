"""Where a comparison runs: ``--on ENGINE[:ADDRESS]``, or ``--on NAME`` with a table [run.NAME] of benchmarks.toml.

Nothing here enters a key: results do not depend on where they come from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from samcmp import times
from samcmp.errors import ConfigError, UsageError, choice, unknown
from samcmp.experiment.tables import Table, said

Count = Annotated[int, Field(ge=1)]
Word = Annotated[str, Field(pattern=r"^[^\s\x00-\x1f][^\x00-\x1f]*$")]  # a line of its own in a job script


class LocalTable(Table):
    """Keys of [run.NAME] with engine = "local": this machine."""

    engine: Literal["local"]
    mixed: bool = False  # kinds of machine may differ between blocks


class RayTable(Table):
    """Keys of [run.NAME] with engine = "ray"."""

    engine: Literal["ray"]
    address: Annotated[str, Field(pattern=r"^[^\s:/]+:[0-9]{1,5}$")] | None = None  # HOST:PORT; None: this machine
    cpus: Count = 1  # a case
    gpus: Annotated[int, Field(ge=0)] | None = None  # a case; None: 1 with --device cuda
    mixed: bool = False


class SlurmTable(Table):
    """Keys of [run.NAME] with engine = "slurm"."""

    engine: Literal["slurm"]
    partition: Word | None = None
    gres: Word | None = None
    cpus: Count = 1  # a task
    memory: Annotated[str, Field(pattern=r"^[1-9][0-9]*[KMGT]?$")] | None = None
    time: Annotated[str, Field(pattern=rf"^{times.PATTERN}$")] | None = None  # of a task; None: computed
    tasks: Count = 64  # at most
    constraint: Word | None = None
    setup: list[str] = Field(default_factory=list)  # lines of the job script
    mixed: bool = False

    @property
    def seconds(self) -> float | None:
        """The time limit of a task."""
        return None if self.time is None else times.seconds_of(self.time, where="time", least=0.0)


RunTable = LocalTable | RayTable | SlurmTable
TABLES: Mapping[str, type[LocalTable] | type[RayTable] | type[SlurmTable]] = {
    "local": LocalTable,
    "ray": RayTable,
    "slurm": SlurmTable,
}


@dataclass(frozen=True, slots=True)
class Where:
    """An engine with its settings, and how it was named."""

    settings: RunTable = field(default_factory=lambda: LocalTable(engine="local"))
    option: str = ""  # as it was typed: "--on cluster"; empty: nothing was
    table: str = ""  # "benchmarks.toml: run.cluster"; empty: no table

    @property
    def engine(self) -> str:
        return self.settings.engine

    @property
    def is_remote(self) -> bool:
        """Whether other processes than this one's children run the cases."""
        return self.engine != "local"

    def at(self, key: str) -> str:
        """Say where a setting is written, or would be, for an error about it."""
        return f"{self.table}.{key}" if self.table else self.option


def check(name: str, content: Any, *, path: Path) -> RunTable:
    """Read the table [run.NAME]. Raises ConfigError, which names the key."""
    where = f"{path}: run.{name}"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ConfigError(
            "a name is of letters, digits, - and _", where=where, remedy="--on takes it: --on cluster, for example."
        )
    engine = content.get("engine") if isinstance(content, dict) else None
    if not isinstance(engine, str) or engine not in TABLES:
        missing = isinstance(content, dict) and "engine" not in content
        raise ConfigError(
            "this key is missing" if missing else f"unknown engine {engine!r}",
            where=f"{where}.engine",
            remedy=choice("" if missing else str(engine), TABLES),
        )
    if name in TABLES and name != engine:
        raise ConfigError(
            f"a table that is called {name!r} is for the engine {name}, found {engine!r}",
            where=f"{where}.engine",
            remedy="Give the table another name.",
        )
    try:
        return TABLES[engine].model_validate(content)
    except ValidationError as error:
        complaints = error.errors(include_url=False)
    first = next((c for c in complaints if c["type"] == "extra_forbidden"), complaints[0])
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        raise ConfigError(
            f"{engine} has no key {key!r}", where=f"{where}.{key}", remedy=choice(key, TABLES[engine].model_fields)
        )
    raise ConfigError(said(first), where=f"{where}.{key}", remedy=f"{_EXAMPLES.get(key, 'Correct it')}.")


_EXAMPLES = {
    "address": 'For example address = "node1:6379"',
    "memory": 'For example memory = "8G"',
    "time": 'With its unit, min, h or d: time = "2h"',
    "setup": 'A list of lines: setup = ["module load cuda"]',
}


def read_on(text: str | None, tables: Mapping[str, RunTable], *, path: Path) -> Where:
    """Read the value of ``--on``. Raises UsageError for what names neither an engine nor a table."""
    if text is None:
        return Where()
    option = f"--on {text}"
    if text in tables:
        return Where(tables[text], option, f"{path}: run.{text}")
    engine, colon, address = text.partition(":")
    if engine not in TABLES:
        raise unknown("engine or table [run.NAME]", engine, {*TABLES, *tables}, where=option)
    if not colon:
        return Where(TABLES[engine].model_validate({"engine": engine}), option)
    if engine != "ray":
        raise UsageError(
            f"{engine} has no address", where=option, remedy=f"Write --on {engine}, or a table [run.NAME] for settings."
        )
    try:
        return Where(RayTable(engine="ray", address=address), option)
    except ValidationError:
        raise UsageError(
            f"{address!r} is no address", where=option, remedy="Write --on ray:HOST:PORT, such as ray:node1:6379."
        ) from None
