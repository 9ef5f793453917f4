"""Slurm by its own commands, of which every login node has sbatch, squeue, scancel, sinfo and scontrol.

Not sacct: many clusters keep no accounts, and then a job that has ended is known by its absence from the queue alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samcmp.errors import SamcmpError, UsageError
from samcmp.printable import printable

if TYPE_CHECKING:
    from samcmp.experiment.where import Where

CALL_SECONDS = 60.0  # for a command; the controller is given 10 s by its own setting
ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
     "TIMEOUT")
)  # fmt: skip
_NO_ANSWER = (
    "unable to contact slurm controller",
    "timed out",
    "connection refused",
    "zero bytes were transmitted",
    "configuration file",
    "configuration source",
)
_KEYS = {  # words of Slurm's sentences -> keys of the table that they are about
    "partition": "partition", "feature": "constraint", "generic": "gres", "gres": "gres", "time limit": "time",
    "memory": "memory", "cpu": "cpus",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """A task of an array, or a whole job, as squeue shows it."""

    job: int  # of the array
    index: int
    state: str
    reason: str  # why it is pending
    node: str

    @property
    def ended(self) -> bool:
        """Whether it will not run any more; one whose launch failed is held for ever by some versions."""
        return self.state in ENDED or "launch failed" in self.reason.lower()


@dataclass(frozen=True, slots=True)
class Offer:
    """A node as sinfo shows it."""

    name: str
    cpus: int
    gpus: int
    features: tuple[str, ...]
    state: str


class Unreachable(SamcmpError):
    """The controller does not answer."""


class Commands:
    """The commands, with their complaints as errors that name ``where`` the user asked for Slurm."""

    def __init__(self, where: Where) -> None:
        self.where = where

    def require(self) -> None:
        """Raise UsageError where Slurm's commands are not installed."""
        for program in ("sbatch", "squeue", "scancel", "sinfo", "scontrol"):
            if shutil.which(program) is None:
                raise UsageError(
                    f"no {program} here",
                    where=self.where.option,
                    remedy="Run the command on a login node of the cluster, where Slurm's commands are.",
                )

    def offers(self, partition: str | None) -> list[Offer]:
        """Return the nodes of a partition; without one, of the default partition."""
        chosen = [] if partition is None else [f"--partition={partition}"]
        lines = self._lines("sinfo", "--noheader", "--Node", "--format=%N|%c|%G|%f|%T|%P", *chosen)
        found: dict[str, Offer] = {}
        for name, cpus, gres, features, state, of_partition in (line.split("|") for line in lines):
            if partition is not None or of_partition.endswith("*"):
                found[name] = Offer(name, _number(cpus), _gpus(gres), tuple(features.split(",")), state)
        return list(found.values())

    def most_tasks(self) -> int:
        """Return how many tasks an array may have: MaxArraySize - 1."""
        for line in self._lines("scontrol", "show", "config"):
            if line.startswith("MaxArraySize"):
                return max(1, _number(line.partition("=")[2]) - 1)
        return 1000

    def tasks(self, names: Iterable[str]) -> list[Task]:
        """Return the tasks of the jobs with these names, those that have ended too as long as Slurm remembers them."""
        chosen = ",".join(names)
        if not chosen:
            return []
        lines = self._lines(
            "squeue", "--noheader", "--array", "--states=all", f"--name={chosen}", "--format=%F|%K|%T|%r|%N"
        )
        split = [line.split("|") for line in lines]
        return [Task(int(job), _number(index), state, why, node) for job, index, state, why, node in split]

    def try_out(self, words: Sequence[str], script: str) -> None:
        """Ask whether a job could ever run: one that cannot would wait in the queue for ever. Raises UsageError."""
        done = self._call("sbatch", "--test-only", *words, script=script)
        if done.returncode:
            raise self._refused(done.stderr)

    def submit(self, words: Sequence[str], path: str) -> int:
        """Submit a job script; return the job's number. Raises UsageError."""
        done = self._call("sbatch", "--parsable", *words, path)
        number = re.match(r"\d+", done.stdout)
        if done.returncode or number is None:
            raise self._refused(done.stderr or done.stdout)
        return int(number[0])

    def cancel(self, jobs: Iterable[int]) -> None:
        """Cancel jobs; those that have ended are passed over."""
        self._call("scancel", *map(str, jobs))

    def keep_away(self, job: int, nodes: Iterable[str]) -> None:
        """Let the pending tasks of an array begin on other nodes than these."""
        self._call("scontrol", "update", f"JobId={job}", f"ExcNodeList={','.join(nodes)}")

    def _lines(self, *words: str) -> list[str]:
        done = self._call(*words)
        if done.returncode:
            raise self._refused(done.stderr)
        return [line.strip() for line in done.stdout.splitlines() if line.strip()]

    def _call(self, *words: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                words, input=script or "", capture_output=True, text=True, errors="replace", timeout=CALL_SECONDS,
                env=_surroundings(),
            )  # fmt: skip
        except FileNotFoundError:
            self.require()
            raise
        except subprocess.TimeoutExpired:
            raise self._unreachable(f"{words[0]} took longer than {CALL_SECONDS:g} s") from None
        if done.returncode and any(words in done.stderr.lower() for words in _NO_ANSWER):
            raise self._unreachable(_sentence(done.stderr))
        return done

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(
            f"the controller does not answer: {why}",
            where=self.where.option,
            remedy="Wait and run the same command again, or ask who runs the cluster; `sinfo` says the same.",
        )

    def _refused(self, complaint: str) -> UsageError:
        """Build the error of Slurm's own sentence, with the key of the table that it is about."""
        said = _sentence(complaint)
        key = next((key for word, key in _KEYS.items() if word in said.lower()), None)
        settings: Mapping[str, object] = self.where.settings.model_dump(exclude_unset=True, exclude={"engine", "setup"})
        asked = ", ".join(f"{name} = {value!r}" for name, value in settings.items() if key in {None, name})
        table = self.where.table or "a table [run.NAME] of benchmarks.toml"
        return UsageError(
            f"Slurm says: {said}",
            where=self.where.at(key) if key else self.where.table or self.where.option,
            remedy=f"Correct {asked or key or 'the settings'} in {table}; `sinfo` lists what there is.",
        )


def _surroundings() -> dict[str, str]:
    """The environment without what a job has of its own, in which this may run: it is not that of another job."""
    kept = ("SLURM_CONF", "SLURM_CLUSTERS")
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name.startswith(kept)}


def _sentence(complaint: str) -> str:
    """Slurm's last sentence without the program's name; the ones before say the same or less."""
    lines = [printable(line.strip()) for line in complaint.splitlines() if line.strip()]
    return re.sub(r"^(sbatch|squeue|sinfo|scontrol|scancel): (error: )?", "", lines[-1]) if lines else "nothing"


def _number(text: str) -> int:
    found = re.search(r"\d+", text)
    return int(found[0]) if found else 0


def _gpus(gres: str) -> int:
    """How many GPUs gpu:2 or gpu:a100:2(S:0-1),license:1 stand for."""
    return sum(int(n) for n in re.findall(r"(?:^|,)gpu(?::[^,:()]+)*?:(\d+)(?=[(,]|$)", gres))
