"""``--dry-run``: what would be run, what is there already, how long it takes and what it can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from samcmp.analysis import power
from samcmp.analysis.names import are, plain, short_names
from samcmp.cli import common
from samcmp.experiment import cost
from samcmp.printable import counted
from samcmp.report.grid import Column, Entry, Grid
from samcmp.report.terminal import Screen

if TYPE_CHECKING:
    from samcmp.cli.planning import Run
    from samcmp.experiment.plan import Plan
    from samcmp.experiment.store import Store
    from samcmp.records import Case


Row = tuple[str, str, str, str, str]  # dataset, model, optimizer, split, epochs


def show(planned: Plan, kept: Store, run: Run, *, retry: bool) -> None:
    """Print the plan; nothing is run or written, and torch is not imported."""
    console = common.stdout()
    todo = planned.missing_train(kept, retry=retry)
    sessions = planned.missing_sessions(kept, retry=retry)
    if planned.title:
        console.print(Text(planned.title, style="bold"))
    cases = planned.train.values()
    names = short_names([*(case.model for case in cases), *(case.arm for case in cases)])
    console.print(_cases(planned, todo, names))
    if files := are({plain(short): plain(full) for full, short in names.items()}):
        console.print(files, markup=False)
    console.print()
    console.print(
        f"{counted(len(planned.train), 'training run')}, {len(planned.train) - len(todo)} in the store, "
        f"{len(todo)} to do; {counted(len(planned.sessions), 'profile session')}, "
        f"{len(planned.sessions) - len(sessions)} in the store."
    )
    if planned.trials > 1:
        console.print(_trials(planned))
    expected = cost.lines(
        todo, sessions=len(sessions), seconds=planned.profile_seconds, history=kept.briefs(), slots=run.pool.slots
    )
    for line in _where(run, todo):
        console.print(line, markup=False, soft_wrap=True)
    for line in expected:
        console.print(line, markup=False)
    for line in _power(planned):
        console.print(line, markup=False)


def _where(run: Run, todo: Mapping[str, Case]) -> list[str]:
    """Say on which machines the plan runs, and how."""
    pool = run.pool
    lines = []
    if run.setting.where.option:
        lines.append(
            f"On {run.setting.where.engine}: {counted(len(pool.used), 'node')}, "
            f"{counted(pool.slots, 'slot')}: {'; '.join(f'{n} of {kind}' for kind, n in pool.kinds.items())}."
        )
    lines += [f"Not used: {node.name} ({node.kind}): {node.left_out}." for node in pool.nodes if node.left_out]
    return [*lines, *run.engine.announce(todo, pool)]


def _cases(planned: Plan, todo: dict[str, Case], names: Mapping[str, str]) -> Screen:
    runs: Counter[Row] = Counter()
    left: Counter[Row] = Counter()
    for key, case in planned.train.items():
        row = (case.dataset, names[case.model], names[case.arm], case.split, str(case.training.epochs))
        runs[row] += 1
        left[row] += key in todo
    columns = [Column(title, right=False) for title in ("dataset", "model", "optimizer", "split")]
    columns += [Column(title) for title in ("epochs", "runs", "to do")]
    rows = [tuple(map(Entry, (*row, str(count), str(left[row])))) for row, count in runs.items()]
    return Screen(Grid(tuple(columns), tuple(rows)))


def _trials(planned: Plan) -> str:
    """Say what the runs of a tuned comparison are made of."""
    cases = planned.train.values()
    factors = [
        (len({(case.dataset, case.model) for case in cases}), "dataset and model", "datasets and models"),
        (len({case.arm for case in cases}), "optimizer", "optimizers"),
        (len({case.block for case in cases}), "split", "splits"),
        (planned.trials, "trial", "trials"),
    ]
    shown = [f"{n} {one if n == 1 else several}" for n, one, several in factors if n > 1 or one != "dataset and model"]
    untuned = sum(case.trial == 0 for case in cases)
    return f"{counted(len(cases), 'run')}: {' × '.join(shown)}, {untuned} of them the untuned comparison."


def _power(planned: Plan) -> list[str]:
    """Say which differences this number of splits finds, and which no number does."""
    cases = planned.train.values()
    splits = {(case.split, case.split_seed, case.fold) for case in cases}
    if not splits:
        return []
    if len(splits) > 1:
        folds = any(case.fold is not None for case in cases)
        ratio = 0.2 / 0.7 if folds else 0.1 / 0.8
        least = power.detectable(len(splits), test_over_train=ratio)
        return [
            f"{len(splits)} splits: a difference below {least:.2f} standard deviations of the paired differences is "
            "found with less than 80 % power (5 % level, corrected for overlapping splits); however many splits, "
            f"below {power.limit(test_over_train=ratio):.2f}."
        ]
    if len({case.block for case in cases}) > 1:
        return ["One split and several seeds: verdicts will say nothing about other test sets."]
    return ["One split: no interval and no verdict can come of it. Use --repeats 5 or more."]
