"""Where training Cases run: in this process, or in worker processes of their own.

Training results do not depend on where or in which order they run, so cases may run side by side. A worker that dies,
or takes longer than the limit, costs its own case: that becomes a Record with the cause, and the others go on. Code
that is not the project's runs in workers alone, and no other case runs in a process where it has run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from samcmp import machine
from samcmp.child import Child, Died, ready
from samcmp.records import Case, Record
from samcmp.training.setup import failed, foreign

if TYPE_CHECKING:
    from samcmp.experiment.run import Listener, Predictions
    from samcmp.training.setup import Options

Beginner = Callable[[Case], None]
LOOK_SECONDS = 0.2  # between two looks at the clock


@dataclass(frozen=True, slots=True)
class Finished:
    """A case that has ended, whatever way."""

    record: Record
    predictions: Predictions | None


@dataclass(frozen=True, slots=True)
class Began:
    """A worker has imported what it needs and begins with its case."""


def default_jobs(runs: int, *, device: str) -> int:
    """As many runs side by side as there are cores that this process may use; one where they share a GPU."""
    if device != "cpu":
        return 1
    return max(1, min(int(machine.usable_cores()), runs))


def is_apart(cases: Mapping[str, Case], *, jobs: int, timeout: float | None) -> bool:
    """Whether the cases run in worker processes."""
    return jobs > 1 or timeout is not None or any(map(foreign, cases.values()))


def train(
    cases: Mapping[str, Case],
    options: Options,
    *,
    listen: Listener,
    began: Beginner = lambda case: None,
    jobs: int = 1,
    timeout: float | None = None,
) -> Iterator[Finished]:
    """Run cases, here where the project's own run one at a time and without a limit, else in workers.

    Args:
        began: told of each case as its process begins with it.
        timeout: seconds a case may take before its worker is ended and the case recorded as ``timeout``.

    Raises SamcmpError for what the user can mend.
    """
    if is_apart(cases, jobs=jobs, timeout=timeout):
        return run_apart(cases, options, listen=listen, began=began, jobs=jobs, timeout=timeout)
    return run_here(cases, options, listen=listen, began=began)


def run_here(
    cases: Mapping[str, Case], options: Options, *, listen: Listener, began: Beginner = lambda case: None
) -> Iterator[Finished]:
    """Run cases one after the other in this process."""
    from samcmp.experiment import run

    for key, case in cases.items():
        began(case)
        record, predictions = run.train(case, options, key=key, listen=listen)
        yield Finished(record, predictions)


def run_apart(
    cases: Mapping[str, Case],
    options: Options,
    *,
    listen: Listener,
    began: Beginner = lambda case: None,
    jobs: int,
    timeout: float | None = None,
) -> Iterator[Finished]:
    """Run cases in ``jobs`` worker processes."""
    waiting = list(cases.items())[::-1]
    workers = [_Worker(options) for _ in range(min(jobs, len(waiting)))]
    try:
        while waiting or any(worker.busy for worker in workers):
            for worker in workers:
                if waiting and not worker.busy:
                    worker.give(*waiting.pop())
            yield from _finished(
                [worker for worker in workers if worker.busy], listen=listen, began=began, timeout=timeout
            )
    finally:
        for worker in workers:
            worker.child.end()


def _finished(
    busy: list[_Worker], *, listen: Listener, began: Beginner = lambda case: None, timeout: float | None
) -> Iterator[Finished]:
    """Wait a moment for what workers send; yield the cases that have ended by it."""
    said = ready([worker.child for worker in busy], seconds=LOOK_SECONDS)
    for worker in busy:
        if worker.child in said:
            try:
                event = worker.child.receive()
            except Died as death:
                yield worker.failed(death)
                continue
            if isinstance(event, Began):
                worker.since = time.monotonic()
                if worker.case is not None:
                    began(worker.case)
            elif isinstance(event, Finished):
                worker.case = None
                yield event
            else:
                listen(event)
        if worker.busy and timeout is not None and worker.seconds > timeout:
            yield worker.failed(Died("timeout", f"took longer than {timeout:g} s"))


class _Worker:
    """A worker process and the case that it has."""

    def __init__(self, options: Options) -> None:
        self.options = options
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
            pipe.send(Began())
            record, predictions = run.train(case, options, key=key, listen=pipe.send)
            pipe.send(Finished(record, predictions))
