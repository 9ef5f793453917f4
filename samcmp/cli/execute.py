"""Run what a plan still misses: profile sessions, then training cases, each Record stored as soon as it exists."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.text import Text

from samcmp import child, modules
from samcmp.cli import common, views
from samcmp.cli.common import counted
from samcmp.engines import local
from samcmp.experiment import cost
from samcmp.experiment.budget import fit
from samcmp.training.checks import check_splits, check_weights

if TYPE_CHECKING:
    from rich.console import Console

    from samcmp.experiment.plan import Plan
    from samcmp.experiment.store import Store
    from samcmp.records import Case, Record
    from samcmp.training.setup import Options


PROMISE_SECONDS = 120.0  # for a user's optimizer to be tried in


@dataclass(frozen=True, slots=True)
class How:
    """How to run a plan; nothing here changes a result."""

    options: Options
    jobs: int | None = None  # as many as cores
    timeout: float | None = None
    plain: bool = False
    retry: bool = False
    measured: Callable[[Sequence[str]], None] | None = None  # given the arms without a speed, before any training
    finished: Callable[[Record], None] | None = None  # told every training run that has ended


def run(planned: Plan, kept: Store, *, how: How, budget: float | None = None) -> Plan:
    """Run the missing cases and return the plan that was carried out: all of it, or what fits ``budget`` seconds.

    What is finished is kept, also when this is interrupted or a later case fails.
    """
    kept.check_writable()
    console = common.stderr()
    sessions = planned.missing_sessions(kept, retry=how.retry)
    training = planned.missing_train(kept, retry=how.retry)
    cases = [*training.values(), *(case for session in sessions for case in session.values())]
    console.print(Text(f"{_work(training, sessions)} to do: reading data and checking splits ..."))
    common.fetch_all({case.dataset for case in cases}, how.options)
    for note in check_splits(training.values(), how.options):
        console.print(Text(note))
    check_weights(cases, how.options)
    if len(cases) < len(planned.keys):
        console.print(
            Text(f"{len(planned.keys) - len(cases)} of {len(planned.keys)} results are in the store already.")
        )
    common.print_damaged(kept, "run again, damaged")
    _expect(console, training, kept, sessions=len(sessions), seconds=planned.profile_seconds, how=how)
    modules.hold(how.options.code)
    began = time.perf_counter()
    notes = _promises(cases)
    view = views.Lines(console) if how.plain or not console.is_interactive else views.Live(console)
    with view.open():
        _profile(view, sessions, kept, options=how.options, seconds=planned.profile_seconds, notes=notes)
        if how.measured is not None:
            how.measured(planned.without_speed(kept))
        if budget is not None:
            planned, said = fit(planned, kept, seconds=budget - (time.perf_counter() - began))
            console.print(Text(said))
            training = planned.missing_train(kept, retry=how.retry)
        _train(view, training, kept, how=how, notes=notes)
    console.print(Text(f"{_work(training, sessions)} in {_spent(began)}."))
    return planned


def _promises(cases: Sequence[Case]) -> dict[str, str]:
    """Say of each user's own optimizer which promises of the family it breaks: a note that its Records keep."""
    from samcmp import optim

    notes: dict[str, str] = {}
    for source in dict.fromkeys(case.optimizer for case in cases if optim.is_user_optimizer(case.optimizer)):
        name = source.rpartition(":")[2]
        common.stderr().print(Text(f"{name}: trying the promises of the family"))
        try:
            broken = child.call(_broken, source, seconds=PROMISE_SECONDS)
        except child.Died as death:
            notes[source] = f"{name}: its promises could not be tried: {death.reason}"
            continue
        if broken:
            notes[source] = (
                f"{name} breaks {counted(len(broken), 'promise')} of the family: {'; '.join(broken)}; "
                f"`samcmp check {source}` says why"
            )
    return notes


def _noted(record: Record, notes: Mapping[str, str]) -> Record:
    note = notes.get(record.case.optimizer)
    return record if note is None else replace(record, notes=(*record.notes, note))


def _broken(source: str) -> list[str]:
    from samcmp.conformance import own

    return own.broken(source)


def _expect(
    console: Console, training: Mapping[str, Case], kept: Store, *, sessions: int, seconds: float, how: How
) -> None:
    """Say how long it will take where earlier runs tell."""
    known, unknown = cost.total(training, history=kept.records())
    if training and not unknown:
        jobs = how.jobs or local.default_jobs(len(training), device=how.options.device)
        console.print(Text(f"about {cost.duration(known / jobs + sessions * seconds)}, by earlier runs"))


def _work(training: Sized, sessions: Sized) -> str:
    return f"{counted(len(training), 'training run')} and {counted(len(sessions), 'profile session')}"


def _spent(began: float) -> str:
    seconds = time.perf_counter() - began
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _train(
    view: views.View,
    cases: Mapping[str, Case],
    kept: Store,
    *,
    how: How,
    notes: Mapping[str, str],
) -> None:
    if not cases:
        return
    jobs = how.jobs or local.default_jobs(len(cases), device=how.options.device)
    view.expect(cases, jobs)
    if local.is_apart(cases, jobs=jobs, timeout=how.timeout):
        view.starting(min(jobs, len(cases)))
    done = local.train(cases, how.options, listen=view.epoch, began=view.began, jobs=jobs, timeout=how.timeout)
    for result in done:
        kept.add(_noted(result.record, notes), result.predictions)
        if how.finished is not None:
            how.finished(result.record)
        view.done(result.record)


def _profile(
    view: views.View,
    sessions: list[Mapping[str, Case]],
    kept: Store,
    *,
    options: Options,
    seconds: float,
    notes: Mapping[str, str],
) -> None:
    if not sessions:
        return
    for cases in sessions:
        first = next(iter(cases.values()))
        view.measuring(f"{first.dataset} {first.model}: throughput of {len(cases)} optimizers")
        from samcmp.profiling.processes import measure  # here: torch is imported, which takes a while
        from samcmp.profiling.results import SessionOptions

        records = measure(cases, options, session=SessionOptions(seconds), say=view.say)
        for record in records:
            kept.add(_noted(record, notes))
            view.done(record)
        view.measured()
        if any(record.status == "partial" for record in records):
            raise KeyboardInterrupt  # the session kept what it had measured; nothing further is started
