"""Run what a plan still misses: training cases, then profile sessions, each Record stored as soon as it exists."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from samcmp import workers
from samcmp.cli import common

if TYPE_CHECKING:
    from rich.console import Console

    from samcmp.plan import Plan
    from samcmp.records import Case, Record
    from samcmp.runner import Progress
    from samcmp.setup import Options
    from samcmp.store import Store


def run(
    planned: Plan, kept: Store, *, options: Options, jobs: int, timeout: float | None, plain: bool, retry: bool
) -> None:
    """Run the missing cases. What is finished is kept, also when this is interrupted or a later case fails."""
    kept.check_writable()
    console = common.stderr()
    training = planned.missing_train(kept, retry=retry)
    sessions = planned.missing_sessions(kept, retry=retry)
    common.fetch_all(
        {case.dataset for case in [*training.values(), *(c for s in sessions for c in s.values())]}, options
    )
    if len(planned.keys) > len(training) + sum(len(s) for s in sessions):
        left = len(training) + sum(len(s) for s in sessions)
        console.print(Text(f"{len(planned.keys) - left} of {len(planned.keys)} results are in the store already."))
    began = time.perf_counter()
    view: _View = _Lines(console) if plain or not console.is_terminal else _Live(console)
    with view.open(training, sessions, planned.profile_seconds):
        _train(view, training, kept, options=options, jobs=jobs, timeout=timeout)
        _profile(view, sessions, kept, options=options, seconds=planned.profile_seconds)
    console.print(Text(f"{len(training)} training runs and {len(sessions)} profile sessions in {_spent(began)}."))


def _spent(began: float) -> str:
    seconds = time.perf_counter() - began
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _train(
    view: _View,
    cases: Mapping[str, Case],
    kept: Store,
    *,
    options: Options,
    jobs: int,
    timeout: float | None,
) -> None:
    if not cases:
        return
    finished = (
        workers.run_here(cases, options, hear=view.hear)
        if jobs == 1 and timeout is None
        else workers.run_apart(cases, options, hear=view.hear, jobs=jobs, timeout=timeout)
    )
    for result in finished:
        made = result.predictions
        if made is not None:
            kept.add_predictions(result.record.key, rows=made.rows, truth=made.truth, prediction=made.prediction)
        kept.add(result.record)
        view.done(result.record)


def _profile(view: _View, sessions: list[Mapping[str, Case]], kept: Store, *, options: Options, seconds: float) -> None:
    if not sessions:
        return
    from samcmp import profiling

    for cases in sessions:
        first = next(iter(cases.values()))
        view.measuring(f"{first.dataset} {first.model}: throughput of {len(cases)} optimizers")
        for record in profiling.profile(cases, options, budget_seconds=seconds):
            kept.add(record)
            view.done(record)
        view.measured(seconds)


def name_of(case: Case) -> str:
    return f"{case.dataset} {case.model} {case.arm} {case.block}"


class _View:
    """What the user sees of a running plan."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def open(
        self, training: Mapping[str, Case], sessions: list[Mapping[str, Case]], profile_seconds: float
    ) -> Iterator[None]:
        yield

    def hear(self, now: Progress) -> None: ...

    def done(self, record: Record) -> None:
        if record.status != "ok":
            what = "profile of " if record.case.kind == "profile" else ""
            text = f"{record.status}: {what}{name_of(record.case)}: {record.reason}"
            self.console.print(Text(text, style="yellow"), soft_wrap=True)

    def measuring(self, what: str) -> None: ...

    def measured(self, seconds: float) -> None: ...


class _Lines(_View):
    """A line a finished run, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.finished = 0
        self.total = 0

    @contextmanager
    def open(
        self, training: Mapping[str, Case], sessions: list[Mapping[str, Case]], profile_seconds: float
    ) -> Iterator[None]:
        self.total = len(training)
        yield

    def done(self, record: Record) -> None:
        super().done(record)
        if record.case.kind == "train":
            self.finished += 1
            if record.accuracy is not None:
                score = f"{record.accuracy.metric} {record.accuracy.test:.4f}"
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
        self.cost: dict[str, float] = {}
        self.runs_left = 0
        self.overall: TaskID | None = None

    @contextmanager
    def open(
        self, training: Mapping[str, Case], sessions: list[Mapping[str, Case]], profile_seconds: float
    ) -> Iterator[None]:
        self.runs_left = len(training)
        total = sum(case.protocol.epochs for case in training.values())
        with self.bars:
            self.overall = self.bars.add_task("all epochs", total=total or None, shown=self._left())
            yield

    def _left(self) -> str:
        return f"{self.runs_left} runs left"

    def hear(self, now: Progress) -> None:
        name = name_of(now.case)
        if name not in self.lines:
            self.lines[name] = self.bars.add_task(name, total=now.epochs, shown="")
        shown = f"loss {now.train_loss:.3f}  valid {now.metric} {now.valid_score:.3f}  {now.graphs_per_second:,.0f} g/s"
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
            missed = record.case.protocol.epochs - self.seen.get(name, 0)
            self.bars.update(self.overall, advance=missed, shown=self._left())

    def measuring(self, what: str) -> None:
        self.lines[what] = self.bars.add_task(what, total=None, shown="")

    def measured(self, seconds: float) -> None:
        for line in self.lines.values():
            self.bars.remove_task(line)
        self.lines.clear()
