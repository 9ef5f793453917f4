"""This machine: cases run in this process, or in worker processes of their own, one a card where several are named.

Training results do not depend on where or in which order they run, so cases may run side by side. A worker that dies,
or takes longer than the limit, costs its own case: that becomes a Record with the cause, and the others go on. Code
that is not the project's runs in workers alone, and no other case runs in a process where it has run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from samcmp import machine
from samcmp.child import Child, Died, ready
from samcmp.engines import Node, Pool, Setting, undetachable
from samcmp.engines.work import Began, Finished, Said, Work
from samcmp.experiment import kinds
from samcmp.machine import Kind
from samcmp.printable import counted
from samcmp.records import Case, Record
from samcmp.training.setup import failed, foreign

if TYPE_CHECKING:
    from samcmp.engines.work import Listen
    from samcmp.training.setup import Options

THIS = "this machine"
LOOK_SECONDS = 0.2  # between two looks at the clock


class Local:
    """This machine as an engine."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def look(self) -> Pool:
        devices, jobs = self.setting.devices, self.setting.jobs
        if len(devices) == 1:
            slots = jobs or default_jobs(devices)
            return Pool((Node(THIS, slots, kinds.here(devices[0]), kinds.fingerprint(devices[0])),))
        slots = math.ceil((jobs or len(devices)) / len(devices))
        return Pool(tuple(Node(d, slots, kinds.here(d), kinds.fingerprint(d)) for d in devices), limit=jobs)

    def _used(self, pool: Pool) -> list[str]:
        """The devices of a pool."""
        return [self.setting.device if node.name == THIS else node.name for node in pool.used]

    def announce(self, cases: Mapping[str, Case], pool: Pool) -> Sequence[str]:
        devices = self._used(pool)
        beside = "one run a card" if pool.slots == len(devices) else f"{pool.slots} side by side"
        return [f"Cards: {', '.join(devices)}; {beside}."] if len(devices) > 1 else []

    def train(
        self, work: Work, options: Options, *, pool: Pool, listen: Listen, timeout: float | None
    ) -> Iterator[Finished]:
        return train(
            work,
            options,
            listen=listen,
            devices=self._used(pool),
            kinds=[node.kind for node in pool.used],
            jobs=pool.slots,
            timeout=timeout,
        )

    def profile(
        self, session: Mapping[str, Case], options: Options, *, pool: Pool, seconds: float, say: Callable[[str], None]
    ) -> list[Record]:
        from samcmp.profiling.processes import measure  # here: torch is imported, which takes a while
        from samcmp.profiling.results import SessionOptions

        options = replace(options, device=self._used(pool)[0])
        return measure(session, options, session=SessionOptions(seconds), say=say)

    def detach(self, *_: object, **__: object) -> str:
        raise undetachable("local")

    def close(self) -> None:
        pass


def default_jobs(devices: Sequence[str]) -> int:
    """As many runs side by side as there are cores that this process may use; one a GPU."""
    return max(1, int(machine.usable_cores())) if devices[0] == "cpu" else len(devices)


def train(
    work: Work,
    options: Options,
    *,
    listen: Listen,
    devices: Sequence[str] = (),
    kinds: Sequence[Kind] = (),
    jobs: int = 1,
    timeout: float | None = None,
) -> Iterator[Finished]:
    """Run cases, here where the project's own run one at a time and without a limit, else in workers.

    Args:
        devices: of the workers in turn; none: that of ``options``.
        kinds: of the devices.
        timeout: seconds a case may take before its worker is ended and the case recorded as ``timeout``.

    Raises SamcmpError for what the user can mend.
    """
    jobs = max(1, min(jobs, len(work.cases)))
    devices = devices or (options.device,)
    if jobs > 1 or timeout is not None or any(map(foreign, work.cases.values())):
        return run_apart(work, options, listen=listen, devices=devices, kinds=kinds, jobs=jobs, timeout=timeout)
    return run_here(work, replace(options, device=devices[0]), listen=listen)


def run_here(work: Work, options: Options, *, listen: Listen) -> Iterator[Finished]:
    """Run cases one after the other in this process."""
    from samcmp.experiment import run

    while work.more:
        taken = work.take()
        if taken is None:
            time.sleep(LOOK_SECONDS)
            continue
        key, case = taken
        listen(Began(case))
        record, predictions = run.train(case, options, key=key, listen=listen)
        yield Finished(record, predictions)


def run_apart(
    work: Work,
    options: Options,
    *,
    listen: Listen,
    devices: Sequence[str] = (),
    kinds: Sequence[Kind] = (),
    jobs: int,
    timeout: float | None = None,
) -> Iterator[Finished]:
    """Run cases in ``jobs`` worker processes."""
    devices = devices or (options.device,)
    several = len(devices) > 1
    listen(Said(f"starting {counted(jobs, 'worker process', 'worker processes')}"))
    workers = [
        _Worker(replace(options, device=devices[n % len(devices)]), kinds[n % len(devices)] if kinds else None)
        for n in range(jobs)
    ]
    try:
        while work.more or any(worker.busy for worker in workers):
            for worker in workers:
                if not worker.busy and (taken := work.take(worker.kind)) is not None:
                    worker.give(*taken)
            busy = [worker for worker in workers if worker.busy]
            if busy:
                yield from _finished(busy, listen=listen, several=several, timeout=timeout)
            else:
                time.sleep(LOOK_SECONDS)
    finally:
        for worker in workers:
            worker.child.end()


def _finished(busy: list[_Worker], *, listen: Listen, several: bool, timeout: float | None) -> Iterator[Finished]:
    """Wait a moment for what workers send; yield the cases that have ended by it."""
    said = ready([worker.child for worker in busy], seconds=LOOK_SECONDS)
    for worker in busy:
        if worker.child in said:
            try:
                event = worker.child.receive()
            except Died as death:
                yield worker.failed(death)
                continue
            if isinstance(event, Finished):
                worker.case = None
                yield event
                continue
            if isinstance(event, Began):
                worker.since = time.monotonic()
                event = replace(event, place=worker.options.device if several else "")
            listen(event)
        if worker.busy and timeout is not None and worker.seconds > timeout:
            yield worker.failed(Died("timeout", f"took longer than {timeout:g} s"))


class _Worker:
    """A worker process and the case that it has."""

    def __init__(self, options: Options, kind: Kind | None = None) -> None:
        self.options = options
        self.kind = kind
        self.child = Child(_work, options)
        self.used_up = False  # by code that may have left anything behind
        self.key = ""
        self.case: Case | None = None
        self.since: float | None = None  # when it began with its case

    @property
    def busy(self) -> bool:
        return self.case is not None

    @property
    def seconds(self) -> float:
        """How long it has been at its case; the time that a process takes to start is not the case's."""
        return 0.0 if self.since is None else time.monotonic() - self.since

    def give(self, key: str, case: Case) -> None:
        if self.used_up:
            self.child.end()
            self.child = Child(_work, self.options)
        self.key, self.case, self.since = key, case, None
        self.used_up = foreign(case)
        self.child.memory_kills = machine.memory_kills()
        with suppress(OSError):  # a worker that has ended is noticed by what it left in the pipe
            self.child.pipe.send((key, case))

    def failed(self, death: Died) -> Finished:
        """End the process, which the next case will not get, and return its case's Record."""
        if self.case is None:
            raise RuntimeError("a worker without a case cannot fail it")
        record = failed(self.case, self.options, key=self.key, status=death.status, reason=death.reason)
        record = replace(record, seconds=self.seconds)
        self.case, self.used_up = None, True
        self.child.end()
        return Finished(record, None)


def _work(pipe: Connection, options: Options) -> None:
    """The worker's life: a case in, its progress and its Record out."""
    from samcmp.experiment import run

    with suppress(EOFError):  # the parent has no more
        while True:
            key, case = pipe.recv()
            pipe.send(Began(case))
            record, predictions = run.train(case, options, key=key, listen=pipe.send)
            pipe.send(Finished(record, predictions))
