"""What a Slurm job and who submitted it say to each other: files in run/ID of the store, and nothing secret in them.

plan.json (orders in chunks), job.sh, logs/, started/KEY.N (a run was begun by job N), errors/ and refused/ (why a task
or a node did nothing), kinds/ (of machine, that chunks run on), node.json (a machine that described itself), job.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from samcmp import files
from samcmp.engines import Node
from samcmp.engines.order import Order, Terms
from samcmp.errors import SamcmpError, StoreError
from samcmp.experiment.kinds import Kind
from samcmp.records import from_json, parse_json, to_json

T = TypeVar("T")
TRIES = 3  # before a run that its worker never ends is given up
_REMEDY = "Make room, or name another store with --store DIR; finished runs are kept."


@dataclass(frozen=True, slots=True)
class Plan:
    """What the tasks of one job do."""

    terms: Terms
    chunks: tuple[tuple[Order, ...], ...] = ()  # one a task; none: the task describes its machine
    folder: str = ""  # the current one of who submitted: users' files have their names from there
    cache: str = ""  # with the graphs, made before
    kind: Kind | None = None  # of machine to run on; None: that of the first task
    mixed: bool = False  # every chunk has a kind of its own
    before: Mapping[str, str] = field(default_factory=dict)  # key -> when the failure was recorded that runs again
    session_seconds: float | None = None  # the one chunk is a profile session

    @property
    def orders(self) -> list[Order]:
        """Of all chunks."""
        return [order for chunk in self.chunks for order in chunk]


@dataclass(frozen=True, slots=True)
class Job:
    """A job that was submitted and has not been seen to end."""

    number: int
    detached: bool = False


def run_id(keys: Iterable[str]) -> str:
    """Name the folder of a job: 16 digits of the SHA-256 over the sorted keys."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:16]


class RunFolder:
    """The folder run/ID of a store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"samcmp-{path.name}"  # of the job
        self.script = path / "job.sh"
        self.started = path / "started"
        self.logs = path / "logs"

    # ------------------------------------------------------------------------------------------ who submits

    def write(self, plan: Plan, script: str, *, again: bool) -> None:
        """Write what a job needs, and forget the errors of an earlier one. Raises WriteError.

        Args:
            again: the job goes on with the runs of the one before, on its kind of machine and with its logs.
        """
        with files.refusals(self.path, remedy=_REMEDY):
            for folder in (self.started, self.logs, self.path / "kinds", self.path / "errors", self.path / "refused"):
                folder.mkdir(parents=True, exist_ok=True)
            for name in ("errors",) if again else ("errors", "kinds", "refused", "logs"):
                for old in (self.path / name).iterdir():
                    old.unlink(missing_ok=True)
        self._write("plan.json", to_json(plan))
        files.write(self.script, script.encode(), remedy=_REMEDY)

    def submitted(self, job: Job) -> None:
        """Write down the job that was submitted from here. Raises WriteError."""
        self._write("job.json", to_json(job))

    @property
    def job(self) -> Job | None:
        """The job that was submitted from here and has not been seen to end."""
        return self._read("job.json", Job)

    def ended(self, job: Job) -> None:
        """This job has been seen to end; another one may have been submitted since."""
        if (last := self.job) is not None and last.number == job.number:
            (self.path / "job.json").unlink(missing_ok=True)

    def marks(self) -> dict[str, list[int]]:
        """Return the jobs that have begun each run, by key."""
        found: dict[str, list[int]] = {}
        for name in _listed(self.started):
            key, _, number = name.partition(".")
            if number.isdigit():
                found.setdefault(key, []).append(int(number))
        return found

    def place_of(self, key: str, job: int) -> str:
        """Return the node that a job began a run on."""
        with contextlib.suppress(OSError):
            return (self.started / f"{key}.{job}").read_text()[:64]
        return ""

    def unmark(self, *, job: int | None = None, keys: Iterable[str] = ()) -> None:
        """Forget that a job, or any job, has begun runs: what was cancelled by hand, or is asked for again."""
        wanted = set(keys)
        for name in _listed(self.started):
            key, _, number = name.partition(".")
            if number == str(job) or key in wanted:
                (self.started / name).unlink(missing_ok=True)

    def error(self) -> SamcmpError | None:
        """Return what a task could not go on with."""
        for name in _listed(self.path / "errors"):
            return self._error(f"errors/{name}")
        return None

    def refusals(self) -> dict[str, SamcmpError]:
        """Return the nodes of another kind of machine, with what they say of it."""
        return {node: error for node in _listed(self.path / "refused") if (error := self._error(f"refused/{node}"))}

    def last_words(self) -> str:
        """Return the last line that a task wrote; empty: no task wrote any."""
        for name in reversed(_listed(self.logs)):
            with contextlib.suppress(OSError), (self.logs / name).open("rb") as stream:
                stream.seek(max(0, (self.logs / name).stat().st_size - 2000))
                lines = stream.read().decode(errors="replace").split("\n")
                if said := [line.strip() for line in lines if line.strip()]:
                    return said[-1][:300]
        return ""

    # ------------------------------------------------------------------------------------------ a task

    def plan(self) -> Plan:
        """Read what is to be done. Raises StoreError."""
        plan = self._read("plan.json", Plan)
        if plan is None:
            raise StoreError("is not there", where=str(self.path / "plan.json"), remedy="Run the same command again.")
        return plan

    def mark(self, key: str, *, job: int, node: str) -> None:
        """Write down that a run is begun."""
        self.started.mkdir(parents=True, exist_ok=True)
        (self.started / f"{key}.{job}").write_text(node)

    def failed(self, node: str, index: int, error: SamcmpError) -> None:
        """Write down why a task cannot go on, and print it for the log."""
        self._write_error(f"errors/{index}.json", node, error)

    def refuse(self, node: str, error: SamcmpError) -> None:
        """Write down that a node is of another kind, and print it for the log."""
        self._write_error(f"refused/{node}", node, error)

    def kind(self, name: str, here: Kind) -> Kind:
        """Return the kind of machine that the chunks of ``name`` run on: the first task that asks decides it."""
        aside = self.path / "kinds" / f".{os.getpid()}-{os.urandom(4).hex()}"
        aside.write_text(json.dumps(to_json(here)))
        try:
            os.link(aside, self.path / "kinds" / name)  # whole or not at all, and one alone
        except FileExistsError:
            pass
        finally:
            aside.unlink()
        return self._read(f"kinds/{name}", Kind) or here

    def describe(self, node: Node) -> None:
        """Write down what this machine is. Raises WriteError."""
        self._write("node.json", to_json(node))

    @property
    def node(self) -> Node | None:
        """The machine that described itself to this folder."""
        return self._read("node.json", Node)

    # ------------------------------------------------------------------------------------------ files

    def _write(self, name: str, content: object) -> None:
        data = json.dumps(content, ensure_ascii=True, allow_nan=False, indent=1).encode()
        files.write(self.path / name, data, remedy=_REMEDY)

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            return from_json(kind, (self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StoreError(
                f"cannot be read: {error}", where=str(self.path / name), remedy=f"Remove the folder {self.path}."
            ) from None

    def _write_error(self, name: str, node: str, error: SamcmpError) -> None:
        self._write(name, {"what": error.what, "where": error.where, "remedy": error.remedy})
        print(f"{node}: {error}", file=sys.stderr)

    def _error(self, name: str) -> SamcmpError | None:
        try:
            content = parse_json((self.path / name).read_bytes())
            return SamcmpError(str(content["what"]), where=str(content["where"]), remedy=str(content["remedy"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []


def folders(root: Path) -> list[RunFolder]:
    """Return the folders in ``root`` whose job has not been seen to end."""
    return [RunFolder(root / name) for name in _listed(root) if (root / name / "job.json").is_file()]


def script(folder: Path, setup: Sequence[str], python: str = sys.executable) -> str:
    """Write the job script. ``setup`` are the user's own lines; everything else is quoted."""
    lines = [
        "#!/bin/bash",
        "# a task of samcmp: it runs its chunk of plan.json and writes into the store; see docs/cluster.md",
        *setup,
        # not through a module's name on the path of the current folder, which is the user's
        f"exec {shlex.quote(python)} -P -m samcmp.engines.slurm_task {shlex.quote(str(folder))}",
    ]
    return "\n".join(lines) + "\n"
