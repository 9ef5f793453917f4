"""Where training Cases run: in this process, or in worker processes of their own.

Training results do not depend on where or in which order they run, so cases may run side by side. A worker that dies,
or takes longer than the limit, costs its own case: that becomes a Record with the cause, and the others go on.
"""

from __future__ import annotations

import datetime
import multiprocessing as mp
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from samcmp import machine
from samcmp.errors import SamcmpError
from samcmp.records import Case, Record

if TYPE_CHECKING:
    from samcmp.experiment.run import Listener, Predictions
    from samcmp.training.setup import Options


@dataclass(frozen=True, slots=True)
class Finished:
    """A case that has ended, whatever way."""

    record: Record
    predictions: Predictions | None


def default_jobs(runs: int, *, device: str) -> int:
    """As many runs side by side as there are cores that this process may use; one where they share a GPU."""
    if device != "cpu":
        return 1
    return max(1, min(int(machine.usable_cores()), runs))


def run_here(cases: Mapping[str, Case], options: Options, *, hear: Listener) -> Iterator[Finished]:
    """Run cases one after the other in this process. Raises SamcmpError for what the user can mend."""
    from samcmp.experiment import run

    for key, case in cases.items():
        record, predictions = run.train(case, options, key=key, listen=hear)
        yield Finished(record, predictions)


def run_apart(
    cases: Mapping[str, Case],
    options: Options,
    *,
    hear: Listener,
    jobs: int,
    timeout: float | None = None,
) -> Iterator[Finished]:
    """Run cases in ``jobs`` worker processes.

    Args:
        timeout: seconds a case may take before its worker is ended and the case recorded as ``timeout``.
    """
    waiting = list(cases.items())[::-1]
    workers = [_Worker(options) for _ in range(min(jobs, len(waiting)))]
    try:
        while waiting or any(worker.busy for worker in workers):
            for worker in workers:
                if waiting and not worker.busy:
                    worker.give(*waiting.pop())
            yield from _hear(workers, hear=hear, timeout=timeout)
    finally:
        for worker in workers:
            worker.end()


def _hear(workers: list[_Worker], *, hear: Listener, timeout: float | None) -> Iterator[Finished]:
    busy = [worker for worker in workers if worker.busy]
    ready = set(wait([worker.pipe for worker in busy], timeout=0.2))
    for worker in busy:
        if worker.pipe in ready:
            try:
                event = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                yield worker.lost()
                continue
            if isinstance(event, SamcmpError):
                raise event
            if isinstance(event, Finished):
                worker.case = None
                yield event
            else:
                hear(event)
        elif timeout is not None and time.monotonic() - worker.since > timeout:
            yield worker.stop(timeout)


@dataclass(slots=True)
class _Worker:
    options: Options
    process: Any = None
    pipe: Connection = field(init=False)
    case: Case | None = None
    key: str = ""
    since: float = 0.0

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = mp.get_context("spawn")  # a forked torch with threads hangs
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, self.options), daemon=True)
        self.process.start()
        other.close()

    @property
    def busy(self) -> bool:
        return self.case is not None

    def give(self, key: str, case: Case) -> None:
        self.key, self.case, self.since = key, case, time.monotonic()
        with suppress(OSError):  # a worker that has ended is heard of by what it left in the pipe
            self.pipe.send((key, case))

    def lost(self) -> Finished:
        """The worker died (a crash, or killed for its memory): record it and start another."""
        self.process.join()
        code = self.process.exitcode
        by = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        killed = " (often: the machine ran out of memory)" if code == -9 else ""
        return self._failed("out-of-memory" if code == -9 else "error", f"the worker process ended by {by}{killed}")

    def stop(self, timeout: float) -> Finished:
        self.process.kill()
        self.process.join()
        return self._failed("timeout", f"took longer than {timeout:g} s")

    def _failed(self, status: Any, reason: str) -> Finished:
        if self.case is None:
            raise RuntimeError("a worker without a case cannot fail it")
        record = Record(
            key=self.key,
            case=self.case,
            status=status,
            reason=reason,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            seconds=time.monotonic() - self.since,
        )
        self.case = None
        self.pipe.close()
        self._start()
        return Finished(record, None)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(pipe: Connection, options: Options) -> None:
    """The worker's life: a case in, its progress and its Record out."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the parent's to handle; it ends its workers
    try:
        from samcmp.experiment import run

        while True:
            key, case = pipe.recv()
            record, predictions = run.train(case, options, key=key, listen=pipe.send)
            pipe.send(Finished(record, predictions))
    except SamcmpError as error:
        pipe.send(error)
    except EOFError:
        return
