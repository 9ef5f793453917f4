"""Run what a plan still misses: profile sessions, then training cases, each Record stored as soon as it exists."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from samcmp import child, modules
from samcmp.analysis.names import short_names
from samcmp.cli import common, views
from samcmp.engines import Engine, Finished, Pool, Said, Work
from samcmp.engines.work import sessions as shared_sessions
from samcmp.experiment import cost
from samcmp.experiment.budget import fit
from samcmp.experiment.claims import Claims
from samcmp.experiment.sharing import POLL_SECONDS
from samcmp.printable import counted
from samcmp.training.checks import check_splits, check_weights

if TYPE_CHECKING:
    from rich.console import Console

    from samcmp.experiment.plan import Plan
    from samcmp.experiment.store import Store
    from samcmp.records import Case, Record
    from samcmp.training.setup import Options


@dataclass(frozen=True, slots=True)
class Share:
    """This process's share of a plan: what it runs with, where Records go, and who else is at work."""

    view: views.View
    kept: Store
    claims: Claims
    how: How
    notes: Mapping[str, str]
    by_others: list[Record]

    def say(self, text: str) -> None:
        self.view.listen(Said(text, news=True))

    def done(self, record: Record) -> None:
        """Note a run that has ended, wherever it ran."""
        if self.how.finished is not None and record.case.kind == "train":
            self.how.finished(record)
        self.view.done(record)

    def note(self, record: Record) -> None:
        """Note a Record of another process."""
        self.by_others.append(record)
        self.done(record)


class Detached(Exception):
    """Everything was submitted and runs without this process: what is to be said of it."""


PROMISE_SECONDS = 120.0  # for a user's optimizer to be tried in


@dataclass(frozen=True, slots=True)
class How:
    """How and where to run a plan; nothing here changes a result."""

    options: Options
    engine: Engine
    pool: Pool
    timeout: float | None = None
    detach: bool = False
    plain: bool = False
    retry: bool = False
    measured: Callable[[Sequence[str]], None] | None = None  # given the arms without a speed, before any training
    finished: Callable[[Record], None] | None = None  # told every training run that has ended


def run(planned: Plan, kept: Store, *, how: How, budget: float | None = None) -> Plan:
    """Run the missing cases and return the plan that was carried out: all of it, or what fits ``budget`` seconds.

    What is finished is kept, also when this is interrupted or a later case fails. Raises Detached with ``how.detach``.
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
    notes = _promises(cases, short_names(case.optimizer for case in (*planned.train.values(), *cases)))
    if how.detach:
        raise Detached(_detached(planned, kept, how=how, notes=notes))
    view = views.Lines(console) if how.plain or not console.is_interactive else views.Live(console)
    by_others: list[Record] = []
    with Claims(kept.folder) as claims, view.open():
        share = Share(view, kept, claims, how, notes, by_others)
        _profile(share, sessions, seconds=planned.profile_seconds)
        if how.measured is not None:
            how.measured(planned.without_speed(kept))
        if budget is not None:
            planned, said = fit(planned, kept, seconds=budget - (time.perf_counter() - began))
            console.print(Text(said))
            training = planned.missing_train(kept, retry=how.retry)
        _train(share, training)
    others = f"; {counted(len(by_others), 'result')} by other processes" if by_others else ""
    console.print(Text(f"{_work(training, sessions)} in {_spent(began)}{others}."))
    return planned


def _promises(cases: Sequence[Case], shown: Mapping[str, str]) -> dict[str, str]:
    """Say of each user's own optimizer which promises of the family it breaks: a note that its Records keep.

    It has the whole name there, since the next comparison may have another class of that name.
    """
    from samcmp import optim

    notes: dict[str, str] = {}
    for source in dict.fromkeys(case.optimizer for case in cases if optim.is_user_optimizer(case.optimizer)):
        common.stderr().print(Text(f"{shown[source]}: trying the promises of the family"))
        try:
            broken = child.call(_broken, source, seconds=PROMISE_SECONDS)
        except child.Died as death:
            notes[source] = f"{source}: its promises could not be tried: {death.reason}"
            continue
        if broken:
            notes[source] = (
                f"{source} breaks {counted(len(broken), 'promise')} of the family: {'; '.join(broken)}; "
                f"`samcmp check {shlex.quote(source)}` says why"
            )
    return notes


def _detached(planned: Plan, kept: Store, *, how: How, notes: Mapping[str, str]) -> str:
    work = Work(planned.missing_train(kept, retry=how.retry), kept, notes=notes)
    return how.engine.detach(
        work, planned.missing_sessions(kept, retry=how.retry), how.options,
        pool=how.pool, seconds=planned.profile_seconds, timeout=how.timeout,
    )  # fmt: skip


def _broken(source: str) -> list[str]:
    from samcmp.conformance import own

    return own.broken(source)


def _expect(
    console: Console, training: Mapping[str, Case], kept: Store, *, sessions: int, seconds: float, how: How
) -> None:
    """Say how long it will take where earlier runs tell."""
    known, unknown = cost.total(training, history=kept.briefs(), slots=how.pool.slots)
    if training and not unknown:
        console.print(Text(f"about {cost.duration(known + sessions * seconds)}, by earlier runs"))


def _work(training: Sized, sessions: Sized) -> str:
    return f"{counted(len(training), 'training run')} and {counted(len(sessions), 'profile session')}"


def _spent(began: float) -> str:
    seconds = time.perf_counter() - began
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _train(share: Share, cases: Mapping[str, Case]) -> None:
    if not cases:
        return
    how, view = share.how, share.view
    view.expect(cases, how.pool.slots)
    work = Work(
        cases,
        share.kept,
        notes=share.notes,
        claims=share.claims,
        by_others=share.note,
        say=share.say,
        kinds=how.pool.kinds,
    )
    for result in how.engine.train(work, how.options, pool=how.pool, listen=view.listen, timeout=how.timeout):
        share.done(work.keep(result))


def _profile(share: Share, sessions: Sequence[Mapping[str, Case]], *, seconds: float) -> None:
    """Measure, before any training, what no other process measures; wait for what one does."""

    def measured_elsewhere(session: Mapping[str, Case]) -> None:
        for key in session:
            if (record := share.kept.get(key)) is not None:
                share.note(record)

    how, view = share.how, share.view
    todo = shared_sessions(
        sessions, share.kept, retry=how.retry, claims=share.claims, by_others=measured_elsewhere, say=share.say
    )
    while todo.more:
        taken = todo.take()
        if taken is None:
            time.sleep(POLL_SECONDS)
            continue
        name, cases = taken
        first = next(iter(cases.values()))
        view.measuring(f"{first.dataset} {first.model}: throughput of {counted(len(cases), 'optimizer')}")
        records = how.engine.profile(cases, how.options, pool=how.pool, seconds=seconds, say=view.say)
        work = Work({}, share.kept, notes=share.notes)
        for record in records:
            share.done(work.keep(Finished(record, None)))
        todo.end(name)
        view.measured()
        if any(record.status == "partial" for record in records):
            raise KeyboardInterrupt  # the session kept what it had measured; nothing further is started
