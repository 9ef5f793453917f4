"""What the user sees of a running plan: a line a finished run, or bars, both with the time that is left."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from samcmp.analysis.names import short_names
from samcmp.cli import common, said
from samcmp.engines.work import Began, Said
from samcmp.experiment.cost import duration, epoch_seconds
from samcmp.printable import counted

if TYPE_CHECKING:
    from rich.console import Console

    from samcmp.engines.work import Event
    from samcmp.experiment.run import Progress
    from samcmp.records import Case, Record

BEGINS = "reading data and featurising, then the first epoch"
WORTH_SAYING_SECONDS = 5.0


def name_of(case: Case, shown: Mapping[str, str] | None = None) -> str:
    """Name a run; ``shown`` has short names of optimizers and models for people."""
    trial = f" trial {case.trial}" if case.trial else ""
    model, arm = ((shown or {}).get(name, name) for name in (case.model, case.arm))
    return f"{case.dataset} {model} {arm} {case.block}{trial}"


def bars(console: Console, *, transient: bool = True) -> Bars:
    """Make bars that keep spinner, bar, count and time left on any screen; what does not fit of the text is cut.

    A task has the fields ``left`` and ``shown``.
    """
    return Bars(
        SpinnerColumn(),
        BarColumn(bar_width=16),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[left]}", markup=False, table_column=Column(no_wrap=True)),
        TextColumn(
            "{task.description}  {task.fields[shown]}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        console=console,
        transient=transient,
        expand=True,
    )


class Remaining:
    """The time left of training runs, by the epochs that have been timed, and before them by speeds that were measured.

    Args:
        measured: seconds of an epoch of a dataset, model and optimizer, by its measured speed.
    """

    def __init__(
        self, cases: Mapping[str, Case], jobs: int, measured: Mapping[tuple[str, str, str], float] | None = None
    ) -> None:
        self.jobs = jobs
        self.cases = {name_of(case): case for case in cases.values()}
        self.epochs = {name: case.training.epochs for name, case in self.cases.items()}  # that are still to come
        self.rates = {  # seconds an epoch
            (case.dataset, case.model, case.arm): seconds
            for case in cases.values()
            if (seconds := (measured or {}).get((case.dataset, case.model, case.measured_as))) is not None
        }

    def epoch(self, now: Progress) -> None:
        name = name_of(now.case)
        self.epochs[name] = now.epochs - now.epoch
        self.rates[now.case.dataset, now.case.model, now.case.arm] = now.seconds / max(now.epoch, 1)

    def done(self, case: Case) -> None:
        self.epochs.pop(name_of(case), None)

    def _rate(self, case: Case) -> float:
        """Of the same arm, else of others in the same cell, else of all."""
        own = self.rates.get((case.dataset, case.model, case.arm))
        if own is not None:
            return own
        cell = [rate for (data, model, _), rate in self.rates.items() if (data, model) == (case.dataset, case.model)]
        return statistics.fmean(cell or self.rates.values())

    def seconds(self, name: str | None = None) -> float | None:
        """Return the seconds left of one run, or of all side by side."""
        if not self.rates:
            return None
        chosen = [name] if name is not None else list(self.epochs)
        each = [self.epochs.get(one, 0) * self._rate(self.cases[one]) for one in chosen if one in self.cases]
        return sum(each) / (1 if name is not None else max(1, min(self.jobs, len(each))))

    def text(self, name: str | None = None) -> str:
        left = self.seconds(name)
        return f"{duration(left)} left" if left else ""


class View:
    """What the user sees of a running plan; by itself, only what went wrong."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.remaining = Remaining({}, 1)
        self.measured_seconds: dict[tuple[str, str, str], float] = {}  # an epoch: dataset, model, optimizer
        self.shown: dict[str, str] = {}  # short names of optimizers and models

    @contextmanager
    def open(self) -> Iterator[None]:
        yield

    def expect(self, training: Mapping[str, Case], jobs: int = 1) -> None:
        self.remaining = Remaining(training, jobs, self.measured_seconds)
        cases = training.values()
        self.shown = short_names(case.model for case in cases) | short_names(case.arm for case in cases)

    def name(self, case: Case) -> str:
        return name_of(case, self.shown or short_names([case.model, case.arm]))

    def listen(self, event: Event) -> None:
        """Show what an engine says."""
        if isinstance(event, Said):
            self.said(event)
        elif isinstance(event, Began):
            self.began(event.case, event.place)
        else:
            self.epoch(event)

    def said(self, event: Said) -> None:
        if event.news:
            self.console.print(Text(event.text), soft_wrap=True)
        else:
            said.log(event.text)

    def began(self, case: Case, place: str = "") -> None:
        """A run has begun: its first epoch may be a while."""
        said.log(f"{self.name(case)}{f' on {place}' if place else ''}: {BEGINS}")

    def epoch(self, now: Progress) -> None:
        self.remaining.epoch(now)
        said.log(
            f"{self.name(now.case)}: epoch {now.epoch}/{now.epochs} loss {common.score(now.train_loss)} "
            f"valid {now.metric} {common.score(now.valid_score)} {now.graphs_per_second:,.0f} {now.counted}/s"
        )

    def done(self, record: Record) -> None:
        self.remaining.done(record.case)
        if record.case.kind == "profile" and (seconds := epoch_seconds(record)) is not None:
            self.measured_seconds[record.case.dataset, record.case.model, record.case.arm] = seconds
        if record.status != "ok":
            what = "profile of " if record.case.kind == "profile" else ""
            text = f"{record.status}: {what}{self.name(record.case)}: {record.reason}"
            self.console.print(Text(text, style="yellow"), soft_wrap=True)

    def measuring(self, what: str) -> None: ...

    def measured(self) -> None: ...

    def say(self, text: str) -> None:
        if text.startswith("waiting for"):  # the other things that a session says go by too fast
            self.console.print(Text(text), soft_wrap=True)
        else:
            said.log(text)


class Lines(View):
    """A line a finished run, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.finished = 0
        self.total = 0
        self.begun = self.estimated = False
        self.last = ""  # that an engine said

    def _print(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)

    def expect(self, training: Mapping[str, Case], jobs: int = 1) -> None:
        super().expect(training, jobs)
        self.total = len(training)
        self._estimate("by the speeds that were measured")

    def said(self, event: Said) -> None:
        if event.text != self.last:
            self._print(event.text)
        self.last = event.text

    def began(self, case: Case, place: str = "") -> None:
        if self.begun:  # the first is news
            super().began(case, place)
        else:
            self._print(f"{self.name(case)}{f' on {place}' if place else ''}: {BEGINS}")
        self.begun = True

    def epoch(self, now: Progress) -> None:
        super().epoch(now)
        self._estimate("by the first epoch")

    def _estimate(self, by: str) -> None:
        """Say once how long all runs take, as soon as that is known."""
        left = self.remaining.seconds()
        if not self.estimated and left is not None:
            self.estimated = True
            if left > WORTH_SAYING_SECONDS:
                self._print(f"about {duration(left)} left for {counted(self.total, 'run')}, {by}")

    def done(self, record: Record) -> None:
        super().done(record)
        if record.case.kind == "train":
            self.finished += 1
            if record.accuracy is not None:
                score = f"{record.accuracy.metric} {common.score(record.accuracy.test)}"
                text = f"[{self.finished}/{self.total}] {self.name(record.case)}: {score} in {record.seconds:.1f} s"
                left = self.remaining.seconds()
                self._print(text + (f", about {duration(left)} left" if left and left > WORTH_SAYING_SECONDS else ""))

    def measuring(self, what: str) -> None:
        self._print(what)


class Live(View):
    """One bar over everything with the time left, and a line for each run in flight."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.bars = bars(console)
        self.lines: dict[str, TaskID] = {}
        self.seen: dict[str, int] = {}
        self.runs_left = 0
        self.overall: TaskID | None = None
        self.last = ""

    @contextmanager
    def open(self) -> Iterator[None]:
        with self.bars:
            yield

    def expect(self, training: Mapping[str, Case], jobs: int = 1) -> None:
        super().expect(training, jobs)
        self.runs_left = len(training)
        total = sum(case.training.epochs for case in training.values())
        if total:
            self.overall = self.bars.add_task(
                "all epochs,", total=total, left=self.remaining.text(), shown=self._left()
            )

    def _left(self) -> str:
        return f"{counted(self.runs_left, 'run')} left"

    def said(self, event: Said) -> None:
        super().said(event)
        if self.overall is not None and not event.news:
            self.bars.update(self.overall, left=event.text)

    def began(self, case: Case, place: str = "") -> None:
        super().began(case, place)
        if self.overall is not None:
            self.bars.update(self.overall, left=self.remaining.text())
        self._line(case, BEGINS)

    def _line(self, case: Case, shown: str) -> TaskID:
        name = name_of(case)
        if name not in self.lines:
            self.lines[name] = self.bars.add_task(self.name(case), total=case.training.epochs, left="", shown=shown)
        return self.lines[name]

    def epoch(self, now: Progress) -> None:
        super().epoch(now)
        name = name_of(now.case)
        shown = (
            f"{now.metric} {common.score(now.valid_score)}  {now.graphs_per_second:,.0f} {now.counted}/s  "
            f"loss {common.score(now.train_loss)}"
        )
        line = self._line(now.case, shown)
        self.bars.update(line, completed=now.epoch, shown=shown, left=self.remaining.text(name))
        if self.overall is not None:
            advance = now.epoch - self.seen.get(name, 0)
            self.bars.update(self.overall, advance=advance, left=self.remaining.text())
        self.seen[name] = now.epoch

    def done(self, record: Record) -> None:
        super().done(record)
        if record.case.kind != "train":
            return
        name = name_of(record.case)
        if record.accuracy is not None:
            score = f"{record.accuracy.metric} {common.score(record.accuracy.test)}"
            said.log(f"{self.name(record.case)}: {score} in {record.seconds:.1f} s")
        self.runs_left -= 1
        if name in self.lines:
            self.bars.remove_task(self.lines.pop(name))
        if self.overall is not None:
            missed = record.case.training.epochs - self.seen.get(name, 0)
            self.bars.update(self.overall, advance=missed, shown=self._left(), left=self.remaining.text())

    def measuring(self, what: str) -> None:
        said.log(what)
        self.last = what
        self.lines[what] = self.bars.add_task(what, total=None, left="", shown="")

    def say(self, text: str) -> None:
        super().say(text)
        if self.last in self.lines:
            self.bars.update(self.lines[self.last], shown=text)

    def measured(self) -> None:
        for line in self.lines.values():
            self.bars.remove_task(line)
        self.lines.clear()
