"""How ``samcmp inspect`` carries its units out, says how far it is, and prints what came of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from samcmp.cli import common, output, said, views
from samcmp.experiment.cost import duration
from samcmp.inspection import Settings, units
from samcmp.inspection.units import Expected, Unit
from samcmp.printable import counted

if TYPE_CHECKING:
    from rich.progress import TaskID

    from samcmp.cli.planning import Job
    from samcmp.inspection.kept import Kept
    from samcmp.inspection.results import Results
    from samcmp.inspection.work import Event, Piece


def show(job: Job, every: Sequence[Unit], kept: Kept, settings: Settings) -> None:
    """Print what would be done; nothing is run or written, and torch is not imported."""
    from samcmp.report.grid import Column, Entry, Grid
    from samcmp.report.terminal import Screen

    missing = units.missing(every, kept)
    runs, left = Counter(map(_row, every)), Counter(map(_row, missing))
    columns = [Column(title, right=False) for title in ("dataset", "model", "optimizer", "measurement")]
    rows = [tuple(map(Entry, (*row, str(count), str(left[row])))) for row, count in runs.items()]
    console = common.stdout()
    console.print(Screen(Grid((*columns, Column("runs"), Column("to do")), tuple(rows))))
    console.print()
    to_train = units.runs_to_train(missing, kept, settings)
    console.print(
        f"{counted(len(every), 'measurement')}, {len(every) - len(missing)} in the store, {len(missing)} to do; "
        f"{counted(len(to_train), 'run')} to train."
    )
    if missing:
        console.print(sentence(units.expected(missing, kept, settings)), markup=False)
    common.print_damaged(kept.store)


def _row(unit: Unit) -> tuple[str, str, str, str]:
    arm = unit.case.arm if unit.other_case is None else f"{unit.case.arm} to {unit.other_case.arm}"
    return unit.case.dataset, unit.case.model, arm, unit.what


def sentence(passes: Expected | None) -> str:
    """Say what is to be expected."""
    if passes is None:
        return "How many passes it takes is not known: the table's size is not."
    watching = f", at most {passes.watching:,.0f} for true gradients" if passes.watching else ""
    return (
        f"Expected: about {passes.total:,.0f} passes over a batch, forward and backward: {passes.training:,.0f} of "
        f"training{watching}, {passes.measuring:,.0f} at weights."
    )


def run(job: Job, every: Sequence[Unit], kept: Kept, *, what: Sequence[str], settings: Settings) -> Results:
    """Carry out what is missing, each unit stored as soon as it is done, and return all results."""
    from samcmp.inspection import results

    todo = units.missing(every, kept)
    failed: list[str] = []
    common.print_damaged(kept.store, "measured again, damaged")
    if todo:
        failed = _carry_out(job, todo, kept, settings)
    found = results.gather(job.planned.train, every, kept, what=what, settings=settings, failed=failed)
    common.print_damaged(kept.store)
    return found


def _carry_out(job: Job, todo: Sequence[Unit], kept: Kept, settings: Settings) -> list[str]:
    from samcmp.inspection import work
    from samcmp.training.checks import check_splits, check_tested, check_weights

    console = common.stderr()
    kept.store.check_writable()
    job.planned.check_settings()
    for note in job.planned.notes:
        console.print(Text(note), soft_wrap=True)
    how = job.sources.options(job.device, job.planned.code)
    cases = list(job.planned.train.values())
    common.fetch_all({case.dataset for case in cases}, how)
    for note in check_splits(cases, how):
        console.print(Text(note))
    if settings.row is not None:
        check_tested(settings.row, cases, how)
    check_weights(cases, how)
    runs = units.runs_to_train(todo, kept, settings)
    done = "" if len(runs) == len(cases) else f" ({len(cases) - len(runs)} of {len(cases)} runs are trained already)"
    console.print(Text(f"{counted(len(todo), 'measurement')}, {counted(len(runs), 'run')} to train{done}"))
    console.print(Text(sentence(units.expected(todo, kept, settings))))
    began = time.perf_counter()
    pieces = work.plan(todo, kept, settings)
    with Display(pieces, kept, settings) as display:
        for piece in pieces:
            display.begin(piece)
            work.carry_out(piece, how, kept.store.folder, settings, display.tell)
    console.print(Text(f"{counted(len(todo), 'measurement')} in {duration(time.perf_counter() - began)}."))
    return display.failed


class Display:
    """What the user sees meanwhile: a bar over all measurements, or a line for each, with the time that is left."""

    def __init__(self, pieces: Sequence[Piece], kept: Kept, settings: Settings) -> None:
        self.console = common.stderr()
        self.bars = views.bars(self.console)
        self.failed: list[str] = []
        self.count = sum(len(piece.units) for piece in pieces)
        self.finished = 0
        self.costs = _costs(pieces, kept, settings)
        self.spent = self.under_way = 0.0  # passes
        self.began = time.perf_counter()
        self.line: TaskID | None = None

    def __enter__(self) -> Display:
        self.bars.start()
        self.line = self.bars.add_task("measurements", total=self.count, left="", shown="")
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def begin(self, piece: Piece) -> None:
        what = "training, then measuring" if piece.train else "measuring"
        self._show(f"{views.name_of(piece.case)}: {what}")

    def _left(self) -> str:
        whole, done = sum(self.costs.values()), self.spent + self.under_way
        if not done or not whole:
            return ""
        seconds = (time.perf_counter() - self.began) / done * max(0.0, whole - done)
        return f"{duration(seconds)} left" if seconds > views.WORTH_SAYING_SECONDS else ""

    def _note(self, key: str, share: float) -> None:
        """Count a part of what a training or a measurement costs, or all of it."""
        cost = self.costs.get(key, 0.0)
        self.under_way = cost * share if share < 1 else 0.0
        self.spent += cost if share >= 1 else 0.0

    def _show(self, text: str) -> None:
        said.log(text)
        if self.line is not None:
            self.bars.update(self.line, completed=self.finished, shown=text, left=self._left())

    def tell(self, event: Event) -> None:
        from samcmp.inspection.work import Failed, Measuring, Stored

        if isinstance(event, Measuring):
            self._note(event.unit.key, min(0.999, event.done / event.total))
            self._show(f"{views.name_of(event.unit.case)}: {event.unit.what} {event.done}/{event.total}")
        elif isinstance(event, Stored):
            self.finished += 1
            self._note(event.unit.key, 1.0)
            left = self._left()
            text = f"[{self.finished}/{self.count}] {views.name_of(event.unit.case)}: {event.unit.what}"
            if not self.console.is_interactive:
                self.console.print(Text(text + (f", about {left}" if left else "")), soft_wrap=True)
            self._show(text)
        elif isinstance(event, Failed):
            text = f"{views.name_of(event.case)}: {event.what}: {event.status}: {event.reason}"
            self.failed.append(text)
            self.console.print(Text(text, style="yellow"), soft_wrap=True)
        else:
            self._note(views.name_of(event.case), event.epoch / event.epochs)
            self._show(f"{views.name_of(event.case)}: epoch {event.epoch}/{event.epochs}")


def _costs(pieces: Sequence[Piece], kept: Kept, settings: Settings) -> dict[str, float]:
    """Expected passes of each training, by its name, and of each measurement, by its key."""
    costs: dict[str, float] = {}
    for piece in pieces:
        whole = units.expected(piece.units, kept, settings) or Expected()
        costs[views.name_of(piece.case)] = whole.training + whole.watching
        for unit in piece.units:
            costs[unit.key] = (units.expected([unit], kept, settings) or Expected()).measuring
    return costs


def deliver(results: Results, *, form: str, path: Path | None) -> None:
    """Print or write what was measured. A file appears whole or not at all."""
    from samcmp.inspection import render

    if form == "table":
        output.show(render.terminal(results), path)
    elif form == "parquet" and path is not None:
        output.put_file(lambda temporary: render.to_parquet(results, temporary), path)
    else:
        output.put(render.render(results, form), path)
