"""Run what a plan still misses: profile sessions, then training cases, each Record stored as soon as it exists."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from samcmp import child, modules
from samcmp.cli import common
from samcmp.cli.common import counted
from samcmp.engines import local
from samcmp.experiment import budget as budgets
from samcmp.training.checks import check_splits, check_weights

if TYPE_CHECKING:
    from rich.console import Console

    from samcmp.experiment.plan import Plan
    from samcmp.experiment.run import Progress
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
    common.fetch_all({case.dataset for case in cases}, how.options)
    for note in check_splits(training.values(), how.options):
        console.print(Text(note))
    check_weights(cases, how.options)
    if len(cases) < len(planned.keys):
        console.print(
            Text(f"{len(planned.keys) - len(cases)} of {len(planned.keys)} results are in the store already.")
        )
    common.print_damaged(kept, "run again, damaged")
    modules.hold(how.options.code)
    began = time.perf_counter()
    promises = _promises(cases)
    view: _View = _Lines(console) if how.plain or not console.is_interactive else _Live(console)
    view.noted = promises
    with view.open():
        _profile(view, sessions, kept, options=how.options, seconds=planned.profile_seconds)
        if how.measured is not None:
            how.measured(planned.without_speed(kept))
        if budget is not None:
            planned, said = budgets.fit(planned, kept, seconds=budget - (time.perf_counter() - began))
            console.print(Text(said))
            training = planned.missing_train(kept, retry=how.retry)
        view.expect(training)
        _train(view, training, kept, how=how)
    done = f"{counted(len(training), 'training run')} and {counted(len(sessions), 'profile session')}"
    console.print(Text(f"{done} in {_spent(began)}."))
    return planned


def _promises(cases: Sequence[Case]) -> dict[str, str]:
    """Say of each user's own optimizer which promises of the family it breaks: a note that its Records keep."""
    from samcmp import optim

    notes: dict[str, str] = {}
    for source in dict.fromkeys(case.optimizer for case in cases if optim.is_user_optimizer(case.optimizer)):
        name = source.rpartition(":")[2]
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


def _broken(source: str) -> list[str]:
    from samcmp.conformance import own

    return own.broken(source)


def _spent(began: float) -> str:
    seconds = time.perf_counter() - began
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _train(
    view: _View,
    cases: Mapping[str, Case],
    kept: Store,
    *,
    how: How,
) -> None:
    if not cases:
        return
    jobs = how.jobs or local.default_jobs(len(cases), device=how.options.device)
    for result in local.train(cases, how.options, listen=view.epoch, jobs=jobs, timeout=how.timeout):
        kept.add(view.with_notes(result.record), result.predictions)
        if how.finished is not None:
            how.finished(result.record)
        view.done(result.record)


def _profile(view: _View, sessions: list[Mapping[str, Case]], kept: Store, *, options: Options, seconds: float) -> None:
    if not sessions:
        return
    from samcmp.profiling.processes import measure
    from samcmp.profiling.results import SessionOptions

    for cases in sessions:
        first = next(iter(cases.values()))
        view.measuring(f"{first.dataset} {first.model}: throughput of {len(cases)} optimizers")
        records = measure(cases, options, session=SessionOptions(seconds), say=view.say)
        for record in records:
            kept.add(view.with_notes(record))
            view.done(record)
        view.measured()
        if any(record.status == "partial" for record in records):
            raise KeyboardInterrupt  # the session kept what it had measured; nothing further is started


def name_of(case: Case) -> str:
    trial = f" trial {case.trial}" if case.trial else ""
    return f"{case.dataset} {case.model} {case.arm} {case.block}{trial}"


class _View:
    """What the user sees of a running plan."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.noted: Mapping[str, str] = {}  # optimizer -> what its Records keep as a note

    def with_notes(self, record: Record) -> Record:
        note = self.noted.get(record.case.optimizer)
        return record if note is None else replace(record, notes=(*record.notes, note))

    @contextmanager
    def open(self) -> Iterator[None]:
        yield

    def expect(self, training: Mapping[str, Case]) -> None: ...

    def epoch(self, now: Progress) -> None: ...

    def done(self, record: Record) -> None:
        if record.status != "ok":
            what = "profile of " if record.case.kind == "profile" else ""
            text = f"{record.status}: {what}{name_of(record.case)}: {record.reason}"
            self.console.print(Text(text, style="yellow"), soft_wrap=True)

    def measuring(self, what: str) -> None: ...

    def measured(self) -> None: ...

    def say(self, text: str) -> None:
        if text.startswith("waiting for"):  # the other things that a session says go by too fast
            self.console.print(Text(text), soft_wrap=True)


class _Lines(_View):
    """A line a finished run, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.finished = 0
        self.total = 0

    def expect(self, training: Mapping[str, Case]) -> None:
        self.total = len(training)

    def done(self, record: Record) -> None:
        super().done(record)
        if record.case.kind == "train":
            self.finished += 1
            if record.accuracy is not None:
                score = f"{record.accuracy.metric} {common.score(record.accuracy.test)}"
                text = f"[{self.finished}/{self.total}] {name_of(record.case)}: {score} in {record.seconds:.1f} s"
                self.console.print(Text(text), soft_wrap=True)

    def measuring(self, what: str) -> None:
        self.console.print(Text(what), soft_wrap=True)


class _Live(_View):
    """One bar over everything with the time left, and a line for each run in flight."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self.lines: dict[str, TaskID] = {}
        self.seen: dict[str, int] = {}
        self.runs_left = 0
        self.overall: TaskID | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        with self.bars:
            yield

    def expect(self, training: Mapping[str, Case]) -> None:
        self.runs_left = len(training)
        total = sum(case.training.epochs for case in training.values())
        if total:
            self.overall = self.bars.add_task("all epochs", total=total, shown=self._left())

    def _left(self) -> str:
        return f"{counted(self.runs_left, 'run')} left"

    def epoch(self, now: Progress) -> None:
        name = name_of(now.case)
        if name not in self.lines:
            self.lines[name] = self.bars.add_task(name, total=now.epochs, shown="")
        valid = f"valid {now.metric} {common.score(now.valid_score)}"
        shown = f"loss {common.score(now.train_loss)}  {valid}  {now.graphs_per_second:,.0f} g/s"
        self.bars.update(self.lines[name], completed=now.epoch, shown=shown)
        if self.overall is not None:
            self.bars.update(self.overall, advance=now.epoch - self.seen.get(name, 0))
        self.seen[name] = now.epoch

    def done(self, record: Record) -> None:
        super().done(record)
        if record.case.kind != "train":
            return
        name = name_of(record.case)
        self.runs_left -= 1
        if name in self.lines:
            self.bars.remove_task(self.lines.pop(name))
        if self.overall is not None:
            missed = record.case.training.epochs - self.seen.get(name, 0)
            self.bars.update(self.overall, advance=missed, shown=self._left())

    def measuring(self, what: str) -> None:
        self.lines[what] = self.bars.add_task(what, total=None, shown="")

    def measured(self) -> None:
        for line in self.lines.values():
            self.bars.remove_task(line)
        self.lines.clear()
