"""Jobs of a Slurm cluster: how one is submitted, found again and watched, and what it means that it has ended."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samcmp.engines import slurm_files
from samcmp.engines.slurm_commands import Commands, Task, Unreachable
from samcmp.engines.slurm_files import Job, Plan, RunFolder
from samcmp.errors import SamcmpError, StoreError
from samcmp.experiment.where import SlurmTable, Where
from samcmp.records import Case

WATCH_SECONDS = 5.0  # between two looks at the queue and the store
Say = Callable[[str], None]
_NEVER = {  # reasons for which a task is pending for ever, as long as the partition is what it is -> keys of the table
    "PartitionTimeLimit": "time", "PartitionNodeLimit": "partition", "BadConstraints": "constraint",
}  # fmt: skip


@dataclass(slots=True)
class Submitted:
    """A job of which this process waits for runs."""

    folder: RunFolder
    job: Job
    plan: Plan
    cases: dict[str, Case] = field(default_factory=dict)  # that are waited for
    ours: bool = True  # submitted by this process
    gone: int = 0  # looks in a row at which no task was left
    avoided: set[str] = field(default_factory=set)  # nodes that refused a task

    @property
    def named(self) -> str:
        """As people and Slurm's commands name it."""
        return f"job {self.job.number}"

    def own(self, tasks: Iterable[Task]) -> list[Task]:
        """Choose the job's tasks, and count the looks at which none is left."""
        own = [task for task in tasks if task.job == self.job.number]
        self.gone = self.gone + 1 if all(task.ended for task in own) else 0
        return own

    @property
    def is_gone(self) -> bool:
        """Whether it has ended; a shared file system may show its last results a moment later."""
        return self.gone > 1

    def begun(self) -> set[tuple[str, int]]:
        """Return the runs that are waited for and that it has begun, each with the job's number."""
        return {(key, self.job.number) for key in self._marked() if key in self.cases}

    @property
    def has_begun(self) -> bool:
        """Whether a task of it has come as far as to begin a run, or to refuse it."""
        return bool(self._marked() or self.avoided)

    def _marked(self) -> list[str]:
        return [key for key, jobs in self.folder.marks().items() if self.job.number in jobs]


class Jobs:
    """The jobs of one store.

    Args:
        root: the folder run of the store.
    """

    def __init__(self, where: Where, table: SlurmTable, root: Path) -> None:
        self.where = where
        self.table = table
        self.root = Path(os.path.abspath(root))
        self.commands = Commands(where)

    # ------------------------------------------------------------------------------------------ submitting

    def words(
        self, folder: RunFolder, minutes: int, *, tasks: int | None = None, node: str = "", exclude: Iterable[str] = ()
    ) -> list[str]:
        """Return the options of sbatch. ``tasks``: of an array; None: one job, alone on its node."""
        t = self.table
        log = str(folder.logs).replace("%", "%%")
        words = ["--requeue", "--open-mode=append", f"--job-name={folder.name}", f"--time={minutes}"]
        words += (
            [f"--array=0-{tasks - 1}", f"--output={log}/%a.log"] if tasks else ["--exclusive", f"--output={log}/0.log"]
        )
        words += ["--ntasks=1", f"--cpus-per-task={t.cpus}"]
        given = (("partition", t.partition), ("gres", t.gres), ("constraint", t.constraint), ("mem", t.memory))
        words += [f"--{name}={value}" for name, value in (*given, ("nodelist", node)) if value]
        return [*words, *([f"--exclude={','.join(sorted(exclude))}"] if exclude else [])]

    def script(self, folder: RunFolder) -> str:
        """Return the job script of a folder, with the table's lines of setup."""
        return slurm_files.script(folder.path, self.table.setup)

    def minutes(self, expected: int) -> int:
        """Return the time limit of a task: the table's, else what is expected."""
        return expected if self.table.seconds is None else max(1, math.ceil(self.table.seconds / 60))

    def submit(
        self,
        folder: RunFolder,
        plan: Plan,
        *,
        minutes: int,
        alone: bool = False,
        node: str = "",
        again: bool = False,
    ) -> Submitted:
        """Submit a job, once Slurm has said that it could run. Raises UsageError in Slurm's words.

        Args:
            alone: on its node, as one task; else an array of a task a chunk.
            again: it goes on with the runs of the folder's job before, away from nodes that refused them.
        """
        exclude = set(folder.refusals()) if again else set()
        words = self.words(folder, minutes, tasks=None if alone else len(plan.chunks), node=node, exclude=exclude)
        self.commands.try_out(words, self.script(folder))
        folder.write(plan, self.script(folder), again=again)
        job = Job(self.commands.submit(words, str(folder.script)))
        folder.submitted(job)
        return Submitted(folder, job, plan, avoided=exclude)

    # ------------------------------------------------------------------------------------------ watching

    def live(self, folder: RunFolder) -> Submitted | None:
        """Return a folder's job where it is queued or runs."""
        job = folder.job
        if job is None:
            return None
        tasks = [task for task in self.commands.tasks([folder.name]) if task.job == job.number]
        if all(task.ended for task in tasks):
            self._forget_cancelled(folder, job, tasks)
            return None
        return Submitted(folder, job, folder.plan(), ours=False)

    def tasks(self, submitted: Iterable[Submitted], say: Say) -> list[Task] | None:
        """Return the tasks of jobs as the queue has them; None: the controller does not answer, and is waited for."""
        try:
            return self.commands.tasks([one.folder.name for one in submitted])
        except Unreachable as error:
            say(f"{error.what}; the jobs go on, waiting for it")
            return None

    def looks(self, submitted: Submitted, say: Say) -> Iterator[list[Task]]:
        """Yield a job's tasks at every look at the queue, until it has ended."""
        while not submitted.is_gone:
            tasks = self.tasks([submitted], say)
            if tasks is not None:
                yield submitted.own(tasks)
            time.sleep(WATCH_SECONDS)

    def check(self, submitted: Submitted, tasks: Sequence[Task]) -> None:
        """Raise what a task could not go on with; of a job that is gone also that it was cancelled or did not begin."""
        if (error := submitted.folder.error()) is not None:
            raise error
        if (
            never := next((task for task in tasks if task.state == "PENDING" and task.reason in _NEVER), None)
        ) is not None:
            raise SamcmpError(
                f"{submitted.named} will never begin: {never.reason}, says Slurm",
                where=self.where.at(_NEVER[never.reason]),
                remedy="Ask for less, or for another partition; `sinfo -o '%P %l %D'` lists their limits.",
            )
        if not submitted.is_gone:
            return
        if any(task.state == "CANCELLED" for task in tasks):
            self._forget_cancelled(submitted.folder, submitted.job, tasks)
            submitted.folder.ended(submitted.job)
            raise SamcmpError(
                f"{submitted.named} was cancelled",
                where=self.where.option,
                remedy="Run the same command again: what has finished is kept, the rest is submitted anew.",
            )
        if not submitted.has_begun:
            submitted.folder.ended(submitted.job)
            raise self._unseen(submitted, tasks)

    def _forget_cancelled(self, folder: RunFolder, job: Job, tasks: Iterable[Task]) -> None:
        """What was cancelled by hand is no try of a run."""
        if any(task.state == "CANCELLED" for task in tasks):
            folder.unmark(job=job.number)

    def _unseen(self, submitted: Submitted, tasks: Sequence[Task]) -> SamcmpError:
        """Build the error for a job that has ended before anything began."""
        words = submitted.folder.last_words()
        if words:
            return SamcmpError(
                f"{submitted.named} ended ({state_of(tasks)}) before a run began: {words}",
                where=str(submitted.folder.logs),
                remedy="Read the logs; the lines of setup in the table [run.NAME] run first.",
            )
        return StoreError(
            f"the compute nodes do not see {self.root.parent}",
            where=self.where.option,
            remedy="Name a folder that the nodes share with --store DIR, or use Ray, which needs none.",
        )


def shown(tasks: Sequence[Task]) -> str:
    """Say what is running, what is pending and why."""
    running = sum(task.state in {"RUNNING", "COMPLETING"} for task in tasks)
    why = Counter(task.reason for task in tasks if task.state == "PENDING")
    pending = ", ".join(f"{n} pending ({reason})" for reason, n in why.most_common())
    return f"tasks: {running} running{f', {pending}' if pending else ''}"


def state_of(tasks: Sequence[Task]) -> str:
    """Name the states of tasks that have ended; Slurm forgets them after a while."""
    states = Counter(task.state for task in tasks if task.state != "COMPLETED")
    return ", ".join(states) or ("COMPLETED" if tasks else "not known any more")
