"""Time to a target: how long an arm trains until it validates as well as the base optimizer does in the end."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from samcmp.analysis.comparison import Row
from samcmp.analysis.grouping import Group
from samcmp.records import Record

COLUMN = "seconds_to_target"


def with_targets(rows: Sequence[Row], group: Group, *, higher: bool) -> tuple[list[Row], float | None]:
    """Add the time to target to every row; return the target too: the base's median best validation score.

    AlgoPerf's rule (Dahl et al. 2023): a run that misses the target counts as infinitely long and takes part in the
    median. Training alone counts, at the speed of the profile session, so runs that shared a machine do not matter.
    """
    base = next((row for row in rows if row.role == "base" and row.valid), None)
    if base is None:
        return list(rows), None
    target = statistics.median(r.accuracy.valid for r in group.runs[base.arm].values() if r.accuracy)
    return [_row(row, group, target, higher=higher) for row in rows], target


def _row(row: Row, group: Group, target: float, *, higher: bool) -> Row:
    runs = [r for r in group.runs.get(row.arm, {}).values() if r.accuracy and r.status == "ok" and r.history]
    if not runs:
        return row
    epochs = tuple(_epochs(run, target, higher=higher) for run in runs)
    middle = statistics.median(math.inf if count is None else count for count in epochs)
    reason, seconds = None, None
    if math.isinf(middle):
        reason = f"the target is missed in {sum(e is None for e in epochs)} of {len(epochs)} runs"
    elif row.graphs_per_second is None:
        reason = row.missing.get("graphs_per_second", "no speed")
    else:
        sizes = [run.accuracy.train_size for run in runs if run.accuracy]
        seconds = middle * statistics.mean(sizes) / row.graphs_per_second
    missing = row.missing if reason is None else {**row.missing, COLUMN: reason}
    return dataclasses.replace(row, epochs_to_target=epochs, seconds_to_target=seconds, missing=missing)


def _epochs(run: Record, target: float, *, higher: bool) -> int | None:
    for number, epoch in enumerate(run.history, start=1):
        score = epoch.valid_score
        if score is not None and (score >= target if higher else score <= target):
            return number
    return None
