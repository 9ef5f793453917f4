"""``--dry-run``: what would be run, what is there already, how long it takes and what it can show."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from samcmp.analysis import power
from samcmp.cli import common
from samcmp.cli.common import counted
from samcmp.experiment import cost

if TYPE_CHECKING:
    from samcmp.experiment.plan import Plan, Request
    from samcmp.experiment.store import Store
    from samcmp.records import Case


Row = tuple[str, str, str, str, str]  # dataset, model, optimizer, split, epochs


def show(planned: Plan, kept: Store, *, request: Request, retry: bool) -> None:
    """Print the plan; nothing is run or written, and torch is not imported."""
    console = common.stdout()
    todo = planned.missing_train(kept, retry=retry)
    sessions = planned.missing_sessions(kept, retry=retry)
    if planned.title:
        console.print(Text(planned.title, style="bold"))
    console.print(_cases(planned, todo))
    console.print(
        f"{counted(len(planned.train), 'training run')}, {len(planned.train) - len(todo)} in the store, "
        f"{len(todo)} to do; {counted(len(planned.sessions), 'profile session')}, "
        f"{len(planned.sessions) - len(sessions)} in the store."
    )
    for line in cost.lines(todo, sessions=len(sessions), seconds=planned.profile_seconds, history=kept.records()):
        console.print(line, markup=False)
    for line in _power(planned):
        console.print(line, markup=False)


def _cases(planned: Plan, todo: dict[str, Case]) -> object:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("dataset", "model", "optimizer", "split", "epochs", "runs", "to do"):
        table.add_column(title, justify="right" if title in {"epochs", "runs", "to do"} else "left")
    runs: Counter[Row] = Counter()
    left: Counter[Row] = Counter()
    for key, case in planned.train.items():
        row = (case.dataset, case.model, case.arm, case.split, str(case.protocol.epochs))
        runs[row] += 1
        left[row] += key in todo
    for shown, count in runs.items():
        table.add_row(*(Text(cell) for cell in shown), str(count), str(left[shown]))
    return table


def _power(planned: Plan) -> list[str]:
    """The smallest difference that the design finds, in units of the paired differences' standard deviation."""
    blocks = {case.block for case in planned.train.values()}
    splits = {case.split for case in planned.train.values()}
    if not blocks:
        return []
    n = len(blocks)
    if n == 1:
        return ["One split: no interval and no verdict can come of it. Use --repeats 5 or more."]
    ratio = 0.2 / 0.7 if "cv5" in splits else 0.1 / 0.8
    found = power.detectable(n, test_over_train=ratio)
    floor = power.floor(test_over_train=ratio)
    return [
        f"With {n} splits, the smallest difference found with 80 % power is {found:.2f} standard deviations of the "
        f"paired differences (5 % level, corrected for overlapping splits; never below {floor:.2f})."
    ]
