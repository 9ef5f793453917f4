"""The same session in several fresh processes: what differs from one to the next is then in the intervals.

A process draws its address layout, its pages and the state of its allocator once; all its rounds share that draw, so
no number of rounds shows it. The estimates of the processes are therefore taken as the sample (Kalibera and Jones,
ISMM 2013). One process stays the default: an interval from two is useless, three leave a third of the rounds to each,
and where it was tried (GCN and D-MPNN on a CPU, six processes) they differed by no more than their own standard errors.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing as mp
import signal
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from samcmp.errors import DeviceError, SamcmpError
from samcmp.profiling import WARNING
from samcmp.profiling.ratios import across
from samcmp.records import Case, Ratio, Record, Throughput

if TYPE_CHECKING:
    from samcmp.profiling.session import SessionOptions
    from samcmp.training.setup import Options

Say = Callable[[str], None]


def profile(
    cases: Mapping[str, Case],
    options: Options,
    *,
    processes: int,
    session: SessionOptions,
    say: Say = lambda text: None,
) -> list[Record]:
    """Measure as :func:`samcmp.profiling.session.profile` does, in ``processes`` fresh ones that share the budget.

    The first also does what follows the rounds. An interruption ends the one that runs, and no other is started.
    """
    runs: list[list[Record]] = []
    lost: list[str] = []
    for k in range(processes):
        own = replace(session, seconds=session.seconds / processes, process=k)
        if k:
            own = replace(own, detail=False, trace=None, energy=False, memory=False)
        made = _in_a_process(
            cases,
            options,
            own,
            say=lambda text, k=k: say(f"process {k + 1} of {processes}: {text}"),  # type: ignore[misc]
        )
        if isinstance(made, str):
            lost.append(f"{WARNING}process {k + 1} of {processes} {made}")
            continue
        runs.append(made)
        if any(record.status == "partial" for record in made):
            break
    if not runs:
        raise DeviceError(
            lost[0].removeprefix(WARNING),
            remedy="What it wrote is above. With --processes 1 the command measures by itself.",
        )
    together = [merged(group) for group in zip(*runs, strict=True)]
    return [replace(record, notes=(*record.notes, *lost)) for record in together]


# ---------------------------------------------------------------------------------------------- processes


def _in_a_process(
    cases: Mapping[str, Case], options: Options, session: SessionOptions, *, say: Say
) -> list[Record] | str:
    """Run one session in a process of its own: its Records, or how the process ended without any."""
    context = mp.get_context("spawn")
    pipe, other = context.Pipe()
    process = context.Process(target=_work, args=(other, cases, options, session), daemon=True)
    process.start()
    other.close()
    ending = False
    try:
        while True:
            try:
                pipe.poll(None)  # where ^C usually comes: nothing is half read
                event = pipe.recv()
                if isinstance(event, SamcmpError):
                    raise event
                if isinstance(event, list):
                    return event
                say(event)
            except EOFError:
                process.join()
                return f"ended with exit code {process.exitcode}"
            except KeyboardInterrupt:  # passed on once, as a request to end; what was measured then comes as usual
                if ending:
                    raise
                ending = True
                process.terminate()
    finally:
        process.kill()
        process.join()
        pipe.close()


def _work(pipe: Connection, cases: Mapping[str, Case], options: Options, session: SessionOptions) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C reaches both: the parent passes it on
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from samcmp.profiling.session import profile as here

    try:
        pipe.send(here(cases, options, session=session, say=pipe.send))
    except SamcmpError as error:
        pipe.send(error)
    except KeyboardInterrupt:  # before there was anything to keep
        with contextlib.suppress(OSError):
            pipe.close()


# ---------------------------------------------------------------------------------------------- together


def merged(group: Sequence[Record]) -> Record:
    """Join the Records that several processes made of one case. What only the first measured is the first's."""
    timed = [r.throughput for r in group if r.throughput is not None]
    unwell = next((r for r in group if r.status != "ok"), group[0])
    return replace(
        group[0],
        status=unwell.status,
        reason=unwell.reason,
        seconds=sum(r.seconds for r in group),
        throughput=_joined(timed) if timed else None,
        notes=tuple(dict.fromkeys(note for r in group for note in r.notes)),
    )


def _joined(timed: Sequence[Throughput]) -> Throughput:
    first = timed[0]
    peers = [peer for peer in first.ratio_to if all(peer in speed.ratio_to for speed in timed)]
    error = float(first.details.get("step_kinds", {}).get("log_error") or 0.0)
    each = [
        {
            "graphs_per_second": speed.graphs_per_second,
            "ratio_to": {peer: list(ratio) for peer, ratio in speed.ratio_to.items()},
            "rounds": speed.rounds,
            "stopped": speed.stopped,
            "block_seconds": list(speed.block_seconds),
            "step_seconds": speed.details.get("step_seconds"),
        }
        for speed in timed
    ]
    return replace(
        first,
        graphs_per_second=statistics.median(speed.graphs_per_second for speed in timed),
        rounds=sum(speed.rounds for speed in timed),
        steps=sum(speed.steps for speed in timed),
        block_seconds=tuple(t for speed in timed for t in speed.block_seconds),
        stopped=", ".join(dict.fromkeys(speed.stopped for speed in timed)),
        ratio_to={peer: _ratio([speed.ratio_to[peer] for speed in timed], error=error) for peer in peers},
        details={**first.details, "processes": each},
    )


def _ratio(each: Sequence[Ratio], *, error: float) -> Ratio:
    """Return the mean ratio of the processes; ``error`` is what all of them share."""
    if len(each) == 1:
        return each[0]
    mean = across([math.log(ratio) for ratio, _, _ in each]).widened(error if math.isfinite(error) else 0.0)
    return mean.ratio, mean.low, mean.high
