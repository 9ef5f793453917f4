"""A Slurm cluster: training runs as an array of chunks, profile sessions as exclusive jobs, results through the store.

Slurm is used by its own commands; what a job and this process say to each other are files in run/ID of the store. A job
outlives this process: the same command finds what of its plan is queued or running, and collects.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from samcmp import child
from samcmp.engines import Began, Finished, Node, Pool, Said, Setting, Work, chunks, order, slurm_files, slurm_jobs
from samcmp.engines.order import Order
from samcmp.engines.slurm_commands import Offer, Task
from samcmp.engines.slurm_files import TRIES, Job, Plan, RunFolder
from samcmp.engines.slurm_jobs import Jobs, Say, Submitted, shown, state_of
from samcmp.engines.slurm_task import is_done
from samcmp.errors import SamcmpError
from samcmp.experiment.kinds import Kind
from samcmp.experiment.where import SlurmTable
from samcmp.files import cache_folder
from samcmp.printable import counted
from samcmp.records import Case, Record
from samcmp.training.setup import Options, failed

if TYPE_CHECKING:
    from samcmp.engines.work import Listen
    from samcmp.experiment.store import Store

SESSION_MINUTES = 10  # of a session's job beyond twice its rounds: imports, warming up, memory, energy
_OUT = ("down", "drain", "fail", "inval", "maint", "power")  # states of a node that takes no job
_log = logging.getLogger("samcmp")


class Slurm:
    """A Slurm cluster as an engine. Raises ValueError without its settings or without a store."""

    def __init__(self, setting: Setting) -> None:
        if not isinstance(setting.where.settings, SlurmTable) or setting.store is None:
            raise ValueError("the engine slurm needs its settings and a store")
        self.setting = setting
        self.table: SlurmTable = setting.where.settings
        self.store: Store = setting.store
        self.jobs = Jobs(setting.where, self.table, self.store.folder / "run")
        self.waiting: list[Submitted] = []
        self.most_tasks = self.table.tasks

    # ------------------------------------------------------------------------------------------ before it runs

    def look(self) -> Pool:
        commands = self.jobs.commands
        commands.require()
        self.most_tasks = min(self.table.tasks, commands.most_tasks())
        nodes = [self._node(offer) for offer in commands.offers(self.table.partition)]
        measuring = self._node_folder.node
        if measuring is None and not self.setting.dry_run and any(not node.left_out for node in nodes):
            measuring = self._ask_a_node()
        if measuring is not None:
            slots = next((node.slots for node in nodes if node.name == measuring.name), 1)
            nodes = [replace(measuring, slots=slots), *(node for node in nodes if node.name != measuring.name)]
        return Pool(tuple(nodes), limit=self.most_tasks)

    def _node(self, offer: Offer) -> Node:
        t, gpus = self.table, self._gpus
        slots = offer.cpus // t.cpus if not gpus else min(offer.cpus // t.cpus, offer.gpus // gpus)
        out = "" if slots else "it is smaller than a task"
        if any(word in offer.state for word in _OUT):
            out = f"it is {offer.state.rstrip('*')}"
        elif t.constraint is not None and t.constraint.isidentifier() and t.constraint not in offer.features:
            out = f"it has no feature {t.constraint}"
        return Node(offer.name, slots, Kind(self.setting.device.partition(":")[0]), left_out=out)

    @property
    def _gpus(self) -> int:
        """Of a task, as far as gres says it: gpu, gpu:2, gpu:a100:2."""
        for part in (self.table.gres or "").split(","):
            name, *more = part.split(":")
            if name in {"gpu", "gres/gpu"}:
                return int(more[-1]) if more and more[-1].isdigit() else 1
        return 0

    @property
    def _node_folder(self) -> RunFolder:
        """Where the node that sessions are measured on has described itself: one for all sessions of these settings."""
        t = self.table
        asked = (t.partition, t.gres, t.constraint, t.cpus, t.memory, self.setting.device)
        return RunFolder(self.jobs.root / f"node-{slurm_files.run_id(map(str, asked))}")

    def _ask_a_node(self) -> Node:
        """Let a node describe itself: the key of a profile session holds the fingerprint of the machine it is on."""
        folder = self._node_folder
        plan = Plan(order.terms((), Options(device=self.setting.device)), folder=os.getcwd(), cache=_cache())
        job = self.jobs.live(folder) or self.jobs.submit(
            folder, plan, minutes=self.jobs.minutes(SESSION_MINUTES), alone=True
        )
        self.waiting.append(job)
        _log.warning("%s asks a node what it is, once for this store and these settings", job.named)
        for tasks in self.jobs.looks(job, _log.warning):
            if (node := folder.node) is not None:
                self._let_go(job)
                return node
            self.jobs.check(job, tasks)
        raise AssertionError("a job that is gone was checked")

    def announce(self, cases: Mapping[str, Case], pool: Pool) -> Sequence[str]:
        covered = {key for job in self._attached(cases) for key in job.cases}
        left = {key: case for key, case in cases.items() if key not in covered}
        lines = [f"{len(covered)} of the runs are queued or running already, and are waited for."] if covered else []
        if self._node_folder.node is None:
            lines.append("A node is asked first what it is: profile sessions are filed under their machine.")
        if not left:
            return lines
        divided, longest, minutes = self._divided(left)
        sizes = Counter(map(len, divided))
        chunked = ", ".join(f"{n} of {counted(size, 'run')}" for size, n in sorted(sizes.items()))
        folder = RunFolder(self.jobs.root / slurm_files.run_id(left))
        words = self.jobs.words(folder, minutes, tasks=len(divided))
        self.jobs.commands.try_out(words, self.jobs.script(folder))
        return [
            *lines,
            f"Chunks: {chunked}; the longest should take {math.ceil(longest / 60)} min, and may take {minutes} min.",
            f"Submits: {shlex.join(['sbatch', '--parsable', *words, str(folder.script)])}",
        ]

    # ------------------------------------------------------------------------------------------ training

    def train(
        self, work: Work, options: Options, *, pool: Pool, listen: Listen, timeout: float | None
    ) -> Iterator[Finished]:
        def news(text: str) -> None:
            listen(Said(text, news=True))

        cases = dict(work.cases)
        for record in self._stored_meanwhile(cases):
            yield Finished(record, None, stored=True)
        self.waiting += self._submitted(cases, work, options, pool=pool, timeout=timeout, say=news)
        begun: set[tuple[str, int]] = set()
        last = ""
        while self.waiting:
            tasks = self.jobs.tasks(self.waiting, news)
            for job in list(self.waiting):
                own = None if tasks is None else job.own(tasks)
                for key, number in job.begun() - begun:
                    begun.add((key, number))
                    listen(Began(job.cases[key], job.folder.place_of(key, number)))
                yield from self._collected(job, {key for key, _ in begun})
                if not job.cases:
                    self._let_go(job)
                elif own is not None:
                    self._avoid(job, pool, say=news)
                    self.jobs.check(job, own)
                    if job.is_gone:
                        yield from self._again(job, own, work, options, pool=pool, timeout=timeout, say=news)
            if tasks and (now := shown(tasks)) != last:
                listen(Said(now))
                last = now
            if self.waiting:
                time.sleep(slurm_jobs.WATCH_SECONDS)

    def _stored_meanwhile(self, cases: dict[str, Case]) -> list[Record]:
        """Take out of the cases what a job has ended since the plan was looked through; return its Records."""
        records = [record for key in cases if (record := self.store.get(key)) is not None and record.status == "ok"]
        for record in records:
            del cases[record.key]
        return records

    def _submitted(
        self, cases: Mapping[str, Case], work: Work, options: Options, *, pool: Pool, timeout: float | None, say: Say
    ) -> list[Submitted]:
        """Find what of the cases is queued or running, and submit the rest."""
        jobs = self._attached(cases)
        for job in jobs:
            who = "submitted with --detach" if job.job.detached else "submitted by another command"
            say(f"waiting for {counted(len(job.cases), 'run')} of {job.named}, {who}")
        covered = {key for job in jobs for key in job.cases}
        left = {key: case for key, case in cases.items() if key not in covered}
        if left:
            say("making the graphs, so that no task has to")
            featurise(left, options)
            folder = RunFolder(self.jobs.root / slurm_files.run_id(left))
            job = self._submit_runs(folder, left, work, options, pool=pool, timeout=timeout)
            say(f"submitted {job.named}: {counted(len(left), 'run')} in {counted(len(job.plan.chunks), 'task')}")
            jobs.append(job)
        return jobs

    def _attached(self, cases: Mapping[str, Case]) -> list[Submitted]:
        """Return the live jobs of this store that run any of the cases."""
        left, jobs = dict(cases), []
        for folder in slurm_files.folders(self.jobs.root):
            job = self.jobs.live(folder)
            if job is None or job.plan.session_seconds is not None:
                continue
            job.cases = {o.key: left.pop(o.key) for o in job.plan.orders if o.key in left}
            if job.cases:
                jobs.append(job)
        return jobs

    def _divided(self, cases: Mapping[str, Case]) -> tuple[list[list[str]], float, int]:
        """Return the chunks, the seconds that the longest should take, and the minutes that a task may take."""
        seconds = chunks.expected(cases, self.setting.history())
        groups = None
        if self.table.mixed:  # all arms of a block in one chunk, which runs on one kind of machine
            groups = {k: (c.dataset, c.data, c.model, str(c.model_settings), c.block) for k, c in cases.items()}
        divided = chunks.divide(seconds, tasks=self.most_tasks, groups=groups)
        longest = chunks.largest(divided, seconds)
        return divided, longest, self.jobs.minutes(chunks.limit_minutes(longest))

    def _submit_runs(
        self,
        folder: RunFolder,
        cases: dict[str, Case],
        work: Work,
        options: Options,
        *,
        pool: Pool,
        timeout: float | None,
        again: bool = False,
    ) -> Submitted:
        """Submit an array of these runs."""
        divided, _, minutes = self._divided(cases)
        known = [kind for kind in pool.kinds if any((kind.gpu, kind.processor, kind.architecture))]
        plan = Plan(
            order.terms(cases.values(), options, notes=work.notes, timeout=timeout),
            tuple(tuple(Order(key, cases[key]) for key in chunk) for chunk in divided),
            folder=os.getcwd(),
            cache=_cache(),
            kind=known[0] if len(known) == 1 and not self.table.mixed else None,
            mixed=self.table.mixed,
            before=self._before(cases),
        )
        folder.unmark(keys=plan.before)
        job = self.jobs.submit(folder, plan, minutes=minutes, again=again)
        job.cases = dict(cases)
        return job

    def _before(self, cases: Mapping[str, Case]) -> dict[str, str]:
        """Return when the failures were recorded that are to be run again."""
        records = (self.store.get(key) for key in cases)
        return {record.key: record.created for record in records if record is not None}

    def _collected(self, job: Submitted, begun: set[str]) -> Iterator[Finished]:
        """Yield what has been stored since the last look. Of a job that runs, only what was begun is looked for."""
        for key in [key for key in job.cases if job.gone or key in begun]:
            record = self.store.get(key)
            if is_done(record, job.plan.before.get(key)) and record is not None:
                del job.cases[key]
                yield Finished(record, None, stored=True)

    def _avoid(self, job: Submitted, pool: Pool, *, say: Say) -> None:
        """Let no more tasks begin on nodes of another kind: one would take all that are pending and refuse each."""
        refusals = job.folder.refusals()
        if not set(refusals) > job.avoided:
            return
        job.avoided |= set(refusals)
        error = next(iter(refusals.values()))
        if job.avoided >= {node.name for node in pool.used}:
            raise error
        say(f"{error.where} {error.what}; avoided from now on: {', '.join(sorted(job.avoided))}")
        with contextlib.suppress(SamcmpError):
            self.jobs.commands.keep_away(job.job.number, job.avoided)

    def _again(
        self,
        job: Submitted,
        tasks: Sequence[Task],
        work: Work,
        options: Options,
        *,
        pool: Pool,
        timeout: float | None,
        say: Say,
    ) -> Iterator[Finished]:
        """A job has ended and some runs have no result: they are submitted again, or given up after three tries."""
        self._let_go(job)
        last = state_of(tasks)
        marks = job.folder.marks()
        for key in [key for key in job.cases if len(marks.get(key, ())) >= TRIES]:
            reason = f"its worker ended without a result {TRIES} times; the last job's state: {last}"
            case = job.cases.pop(key)
            yield Finished(failed(case, options, key=key, status="error", reason=reason), None)
        if not job.cases:
            return
        new = self.jobs.live(job.folder)  # where another command that waited was faster
        if new is None:
            new = self._submit_runs(job.folder, job.cases, work, options, pool=pool, timeout=timeout, again=True)
        new.cases = job.cases
        say(f"{job.named} ended ({last}) without {counted(len(job.cases), 'run')}: again as {new.named}")
        self.waiting.append(new)

    def _let_go(self, job: Submitted) -> None:
        """Wait for a job no more: it has ended, or has nothing more to do."""
        self.waiting.remove(job)
        if job.ours or job.gone:
            job.folder.ended(job.job)

    # ------------------------------------------------------------------------------------------ measuring

    def profile(
        self, session: Mapping[str, Case], options: Options, *, pool: Pool, seconds: float, say: Say
    ) -> list[Record]:
        job = self._session(session, options, {}, pool=pool, seconds=seconds)
        self.waiting.append(job)
        last = ""
        for tasks in self.jobs.looks(job, say):
            records = [record for key in session if (record := self.store.get(key)) is not None]
            done = [record for record in records if is_done(record, job.plan.before.get(record.key))]
            if len(done) == len(session):
                self._let_go(job)
                return done
            self.jobs.check(job, tasks)
            if tasks and (now := f"{job.named}, {shown(tasks)}") != last:
                say(now)
                last = now
        self._let_go(job)
        raise SamcmpError(
            f"{job.named} ended ({state_of(tasks)}) without a result: {job.folder.last_words()}",
            where=str(job.folder.logs),
            remedy="Run the same command again to measure again; the log says how far it came.",
        )

    def _session(
        self, session: Mapping[str, Case], options: Options, notes: Mapping[str, str], *, pool: Pool, seconds: float
    ) -> Submitted:
        """Find a session's job or submit it: alone on the node that described itself."""
        folder = RunFolder(self.jobs.root / slurm_files.run_id(session))
        job = self.jobs.live(folder)
        if job is None:
            plan = Plan(
                order.terms(session.values(), options, notes=notes),
                (tuple(Order(key, case) for key, case in session.items()),),
                folder=os.getcwd(),
                cache=_cache(),
                before=self._before(session),
                session_seconds=seconds,
            )
            minutes = self.jobs.minutes(2 * math.ceil(seconds / 60) + SESSION_MINUTES)
            node = pool.used[0].name if pool.used else ""
            job = self.jobs.submit(folder, plan, minutes=minutes, alone=True, node=node)
        job.cases = dict(session)
        return job

    # ------------------------------------------------------------------------------------------ letting go

    def detach(
        self,
        work: Work,
        sessions: Sequence[Mapping[str, Case]],
        options: Options,
        *,
        pool: Pool,
        seconds: float,
        timeout: float | None,
    ) -> str:
        said: list[str] = []
        for session in sessions:
            job = self._session(session, options, work.notes, pool=pool, seconds=seconds)
            self.waiting.append(job)
            said.append(f"{job.named}: a profile session of {counted(len(session), 'optimizer')}")
        cases = dict(work.cases)
        self._stored_meanwhile(cases)
        self.waiting += self._submitted(cases, work, options, pool=pool, timeout=timeout, say=said.append)
        for job in self.waiting:
            job.folder.submitted(Job(job.job.number, detached=True))
        numbers = " ".join(str(job.job.number) for job in self.waiting)
        self.waiting.clear()
        cancels = f"; `scancel {numbers}` cancels the jobs" if numbers else ""
        said.append(f"The same command collects the results and prints them{cancels}.")
        return "\n".join(said)

    def close(self) -> None:
        for job in self.waiting:
            if job.is_gone:
                continue
            if not job.ours:
                _log.warning("%s goes on without this command; `scancel %d` ends it", job.named, job.job.number)
                continue
            try:
                self.jobs.commands.cancel([job.job.number])
            except SamcmpError as error:
                _log.warning("%s could not be cancelled: %s", job.named, error.what)
                continue
            job.folder.unmark(job=job.job.number)
            job.folder.ended(job.job)
            _log.warning("%s was cancelled; what it has finished is kept", job.named)
        self.waiting.clear()


def featurise(cases: Mapping[str, Case], options: Options) -> None:
    """Make the graphs of the cases once, in the cache: tasks would wait for each other there.

    It is done in a process of its own, for models of others; what goes wrong there goes wrong in the runs, too.
    """
    different = {(c.dataset, c.protocol.subset, c.model, str(c.model_settings)): c for c in cases.values()}
    with contextlib.suppress(child.Died):
        child.call(_featurise, list(different.values()), options)


def _featurise(cases: Sequence[Case], options: Options) -> None:
    from samcmp import backbones
    from samcmp.data.molecules import Molecules
    from samcmp.graphs.graphset import GraphSet
    from samcmp.training.setup import config_of, load_samples

    for case in cases:
        config, samples = config_of(case), load_samples(case, options)
        if isinstance(samples, Molecules):
            GraphSet.load_or_build(samples, config.columns, prepare=backbones.prepare_of(config))


def _cache() -> str:
    return str(cache_folder().absolute())
