"""What runs on a compute node: ``python -m samcmp.engines.slurm_task FOLDER``, once a task of the array.

A task runs its chunk through the local engine with one worker, so that a killed one is a Record, and writes the store.
SIGTERM (a requeue, a preemption, a cancellation, the time limit) ends it; what it has not finished stays to be run.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from samcmp.engines import Finished, Node, Work, handshake, local, order
from samcmp.engines.order import Order
from samcmp.engines.slurm_files import Plan, RunFolder
from samcmp.errors import SamcmpError
from samcmp.experiment.claims import Claims
from samcmp.experiment.kinds import Kind
from samcmp.experiment.store import Store
from samcmp.files import CACHE
from samcmp.records import Case, Record
from samcmp.training.setup import Options


class OtherKind(SamcmpError):
    """This node is of another kind of machine than the plan runs on."""


def main() -> int:
    """Do one task; return the exit code."""
    folder = RunFolder(Path(sys.argv[1]))
    job = int(os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID") or 0)
    index = int(os.environ.get("SLURM_ARRAY_TASK_ID") or 0)
    node = os.environ.get("SLURMD_NODENAME") or platform.node()
    restarts = os.environ.get("SLURM_RESTART_COUNT") or "0"
    print(f"task {index} of job {job} on {node}, requeued {restarts} times", flush=True)
    try:
        _run(folder, job=job, index=index, node=node)
    except OtherKind as error:
        folder.refuse(node, error)
        return 2
    except SamcmpError as error:
        folder.failed(node, index, error)
        return 2
    except KeyboardInterrupt:
        print("ended by a signal; what is finished is kept", flush=True)
        return 128 + signal.SIGTERM
    return 0


def _run(folder: RunFolder, *, job: int, index: int, node: str) -> None:
    plan = folder.plan()
    with contextlib.suppress(OSError):  # then users' files are absent, and the handshake names them
        os.chdir(plan.folder)
    os.environ.setdefault(CACHE, plan.cache)
    here = handshake.here(node, slots=1, device=plan.terms.device)
    if not plan.chunks:
        handshake.check_versions(here.versions, node=node, ours=plan.terms.versions)
        folder.describe(here)
        return
    orders = plan.chunks[index]
    options = order.options(plan.terms, lambda file: Path(file.path))
    measured_on = "" if plan.session_seconds is None else here.fingerprint
    handshake.check(plan.terms, orders, options.datasets, node=node, fingerprint=measured_on)
    _check_kind(folder, plan, index, here)
    store = Store(folder.path.parent.parent)
    if plan.session_seconds is not None:
        _measure(folder, plan, orders, options, store, job=job, node=node)
    else:
        _train(folder, plan, orders, options, store, job=job, node=node)


def _check_kind(folder: RunFolder, plan: Plan, index: int, here: Node) -> None:
    """Refuse a machine of another kind than the runs that this chunk is compared with."""
    wanted = plan.kind or folder.kind(str(index) if plan.mixed else "all", here.kind)
    if not here.kind.fits(wanted):
        raise OtherKind(
            f"is a {here.kind}, and these runs are on {wanted}: results of two kinds differ in their last figures",
            where=f"node {here.name}",
            remedy="Choose one kind with constraint, or let the kinds mix between splits with mixed = true.",
        )


# ---------------------------------------------------------------------------------------------- training


class _Marking(Work):
    """Work that writes down what is begun.

    Args:
        mark: given the key of each.
    """

    def __init__(
        self, cases: Mapping[str, Case], store: Store, plan: Plan, claims: Claims, mark: Callable[[str], None]
    ) -> None:
        super().__init__(cases, store, notes=plan.terms.notes, claims=claims, say=lambda text: print(text, flush=True))
        self.mark = mark

    def take(self, kind: Kind | None = None) -> tuple[str, Case] | None:
        taken = super().take(kind)
        if taken is not None:
            self.mark(taken[0])
        return taken


def is_done(record: Record | None, before: str | None) -> bool:
    """Whether a run has its result: a failure that was recorded ``before`` is run again."""
    return record is not None and record.status != "partial" and record.created != before


def _train(
    folder: RunFolder, plan: Plan, orders: tuple[Order, ...], options: Options, store: Store, *, job: int, node: str
) -> None:
    left = {o.key: o.case for o in orders if not is_done(store.get(o.key), plan.before.get(o.key))}
    print(f"{len(left)} of {len(orders)} runs to do", flush=True)
    if not left:
        return
    with Claims(store.folder) as claims, ended_by_sigterm():
        work = _Marking(left, store, plan, claims, partial(folder.mark, job=job, node=node))
        done = local.run_apart(work, options, listen=lambda event: None, jobs=1, timeout=plan.terms.timeout)
        for finished in done:
            record = work.keep(finished)
            print(
                f"{record.key[:16]} {record.status} {record.seconds:.1f} s {record.reason or ''}".rstrip(), flush=True
            )


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, in this process alone.

    Slurm sends it to every process of a task. A worker that ended by it would be recorded as a failed run, so it is
    blocked in this process and in those that are started from now on; a thread waits for it.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # which unblocks the signal when it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---------------------------------------------------------------------------------------------- measuring


def _measure(
    folder: RunFolder, plan: Plan, orders: tuple[Order, ...], options: Options, store: Store, *, job: int, node: str
) -> None:
    """Measure the chunk as one session. What it prints goes into the log."""
    from samcmp.profiling.processes import measure
    from samcmp.profiling.results import SessionOptions

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the session ends, and keeps what it has
    session = {o.key: o.case for o in orders}
    for key in session:
        folder.mark(key, job=job, node=node)
    seconds = plan.session_seconds or 0.0
    work = Work({}, store, notes=plan.terms.notes)
    for record in measure(session, options, session=SessionOptions(seconds), say=lambda text: print(text, flush=True)):
        work.keep(Finished(record, None))


if __name__ == "__main__":
    sys.exit(main())
