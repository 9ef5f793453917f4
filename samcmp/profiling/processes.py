"""The same session in several fresh processes: what differs from one to the next is then in the intervals.

A process draws its address layout, its pages and the state of its allocator once; all its rounds share that draw, so
no number of rounds shows it. The estimates of the processes are therefore taken as the sample (Kalibera and Jones,
ISMM 2013). One process stays the default: an interval from two is useless, three leave a third of the rounds to each,
and where it was tried (GCN and D-MPNN on a CPU, six processes) they differed by no more than their own standard errors.
"""

from __future__ import annotations

import contextlib
import math
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from samcmp.child import Child, Died, ready
from samcmp.profiling import WARNING
from samcmp.profiling.ratios import across
from samcmp.records import Case, Ratio, Record, Throughput
from samcmp.training.setup import assemble, failed, foreign

if TYPE_CHECKING:
    from samcmp.profiling.results import SessionOptions
    from samcmp.training.setup import Options, Setup

Say = Callable[[str], None]
SPARE_SECONDS = 60.0  # that a turn of code of others may take beyond the whole session's budget


def measure(
    cases: Mapping[str, Case],
    options: Options,
    *,
    session: SessionOptions,
    processes: int = 1,
    say: Say = lambda text: None,
) -> list[Record]:
    """Measure as :func:`samcmp.profiling.session.profile` does, in this process or in fresh ones.

    Code that is not the project's runs in fresh ones alone.
    """
    if processes == 1 and not any(map(foreign, cases.values())):
        from samcmp.profiling.session import profile as here

        return here(cases, options, session=session, say=say)
    return profile(cases, options, processes=processes, session=session, say=say)


def profile(
    cases: Mapping[str, Case],
    options: Options,
    *,
    processes: int,
    session: SessionOptions,
    say: Say = lambda text: None,
) -> list[Record]:
    """Measure in ``processes`` fresh ones that share the budget; the first also does what follows the rounds.

    An arm of foreign code that ends its process, changes it for the others or does not come back has failed, and the
    others are measured again without it. An interruption ends the process that runs, and no other is started.
    """
    runs: list[list[Record]] = []
    lost: list[str] = []
    failures: dict[str, Died] = {}
    for k in range(processes):
        own = replace(session, seconds=session.seconds / processes, process=k)
        if k:
            own = replace(own, detail=False, trace=None, energy=False, memory=False)
        which = f"process {k + 1} of {processes}"
        made = _without_failing_arms(
            cases,
            options,
            own,
            failures=failures,
            say=say if processes == 1 else lambda text, which=which: say(f"{which}: {text}"),  # type: ignore[misc]
        )
        if isinstance(made, Died):
            lost.append(f"{WARNING}{which}: {made.reason}")
            if not runs and k == processes - 1:
                failures |= {key: made for key in cases if key not in failures}
            continue
        runs.append(made)
        if any(record.status == "partial" for record in made):
            break
    together = {key: [r for run in runs for r in run if r.key == key] for key in cases if key not in failures}
    measured = {key: group[0] if processes == 1 else merged(group) for key, group in together.items()}
    failed_ones = {
        key: failed(cases[key], options, key=key, status=death.status, reason=death.reason)
        for key, death in failures.items()
    }
    sample = next(iter(measured.values()), None)
    if sample is not None:  # what is known of the machine and the model is known of all
        failed_ones = {
            key: replace(r, machine=sample.machine, parameters=sample.parameters) for key, r in failed_ones.items()
        }
    return [replace(r, notes=(*r.notes, *lost)) for key in cases if (r := measured.get(key) or failed_ones[key])]


# ---------------------------------------------------------------------------------------------- processes


def _without_failing_arms(
    cases: Mapping[str, Case],
    options: Options,
    session: SessionOptions,
    *,
    failures: dict[str, Died],
    say: Say,
) -> list[Record] | Died:
    """Measure anew until no arm of foreign code spoils the session; those that do are added to ``failures``."""
    while True:
        left = {key: case for key, case in cases.items() if key not in failures}
        if not left:
            return []
        made, key = _in_a_process(left, options, session, say=say)
        if not isinstance(made, Died) or key is None or not foreign(cases[key]):
            return made
        failures[key] = made
        say(f"{cases[key].arm} failed ({made.reason}); the others are measured again")


def _in_a_process(
    cases: Mapping[str, Case], options: Options, session: SessionOptions, *, say: Say
) -> tuple[list[Record] | Died, str | None]:
    """Run one session in a process of its own: its Records or why there are none, and the arm whose code ran last."""
    child = Child(_work, cases, options, session)
    limit = session.seconds + SPARE_SECONDS
    key: str | None = None
    began = math.inf
    interrupted = False
    try:
        while True:
            try:
                if not ready([child], seconds=1.0):  # where ^C usually comes: nothing is half read
                    if key is not None and foreign(cases[key]) and time.monotonic() - began > limit:
                        return Died("timeout", f"took longer than {limit:g} s, more than the whole session has"), key
                    continue
                kind, content = child.receive()
                if kind == "turn":  # the code of an arm begins to run
                    key, began = content, time.monotonic()
                elif kind == "changed":
                    by, what = content
                    text = f"it changed the process in which the others are measured: {what}"
                    return Died("error", text[:300]), by
                elif kind == "records":
                    return content, None
                else:
                    say(content)
            except Died as death:
                if interrupted:
                    raise KeyboardInterrupt from None
                return death, key
            except KeyboardInterrupt:  # passed on once, as a request to end; what was measured then comes as usual
                if interrupted:
                    raise
                interrupted = True
                child.process.terminate()
    finally:
        child.end()


def _work(pipe: Connection, cases: Mapping[str, Case], options: Options, session: SessionOptions) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # how the parent passes ^C on
    from samcmp.profiling import interference
    from samcmp.profiling.session import profile as here

    setup = assemble(next(iter(cases.values())), options)
    _run_once(setup)
    watch = interference.Watch(
        {key for key, case in cases.items() if foreign(case)},
        begins=lambda key: pipe.send(("turn", key)),
        changed=lambda key, what: pipe.send(("changed", (key, what))),
    )
    made = here(cases, options, session=session, say=lambda text: pipe.send(("say", text)), setup=setup, turn=watch)
    pipe.send(("records", made))


def _run_once(setup: Setup) -> None:
    """Take a gradient of the model: what a user's model changes in its process it changes for all arms alike."""
    import torch

    from samcmp.training.loop import model_loss

    with contextlib.suppress(Exception):  # each arm will say it
        loss = model_loss(setup.new_model().train(), next(setup.train_batches(0)), setup.criterion)
        torch.autograd.backward(loss)


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
