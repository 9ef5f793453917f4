"""Cost to a target: how much of the base's training an arm needs until it validates as well as the base in the end.

The target is each split's own, so that a split's difficulty is not mixed in: the base's best validation score there,
less the margin. A run that misses it counts as longer than any that reaches it (AlgoPerf, Dahl et al. 2023); all runs
of an arm end together, so the share that reached it is the Kaplan-Meier estimate. Training alone counts, at the speed
of the profile session, so runs that shared a machine do not matter.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from samcmp.analysis.comparison import Row
from samcmp.analysis.grouping import Group
from samcmp.analysis.tuned import mean_passes, passes_of
from samcmp.records import Record

COLUMN = "seconds_to_target"


def with_targets(rows: Sequence[Row], group: Group, *, margin: float | None, higher: bool) -> list[Row]:
    """Add to every row what its runs needed to reach the targets of their splits."""
    base = next((row.arm for row in rows if row.role == "base"), None)
    rows = _with_passes(rows, group, base)
    references = {block: r for block, r in group.runs.get(base or "", {}).items() if r.accuracy and r.status == "ok"}
    if not references or margin is None:
        return list(rows)
    return [_row(row, group, references, margin if higher else -margin, higher=higher) for row in rows]


def _with_passes(rows: Sequence[Row], group: Group, base: str | None) -> list[Row]:
    means = {arm: mean_passes(runs.values()) for arm, runs in group.runs.items()}
    whole = means.get(base or "")
    if whole is None:
        return list(rows)
    known = {arm: passes / whole for arm, passes in means.items() if passes is not None}
    return [dataclasses.replace(row, passes_to_base=known.get(row.arm)) for row in rows]


def _row(row: Row, group: Group, references: dict[str, Record], slack: float, *, higher: bool) -> Row:
    runs = {block: r for block, r in group.runs.get(row.arm, {}).items() if r.accuracy and r.status == "ok"}
    runs = {block: r for block, r in runs.items() if r.history and block in references}
    if not runs:
        return row
    epochs, costs = [], []
    for block, run in runs.items():
        reference = references[block].accuracy
        target = (reference.valid if reference else math.nan) - slack
        count = _epochs(run, target, higher=higher)
        whole = passes_of(references[block])
        epochs.append(count)
        costs.append(None if count is None or not whole else sum(e.passes for e in run.history[:count]) / whole)
    middle = statistics.median(math.inf if count is None else count for count in epochs)
    reason, seconds = None, None
    if math.isinf(middle):
        reason = f"the target is missed in {sum(e is None for e in epochs)} of {len(epochs)} runs"
    elif row.graphs_per_second is None:
        reason = row.missing.get("graphs_per_second", "no speed")
    else:
        sizes = [run.accuracy.train_size for run in runs.values() if run.accuracy]
        seconds = middle * statistics.mean(sizes) / row.graphs_per_second
    missing = row.missing if reason is None else {**row.missing, COLUMN: reason}
    return dataclasses.replace(
        row, epochs_to_target=tuple(epochs), cost_to_target=tuple(costs), seconds_to_target=seconds, missing=missing
    )


def _epochs(run: Record, target: float, *, higher: bool) -> int | None:
    for number, epoch in enumerate(run.history, start=1):
        score = epoch.valid_score
        if score is not None and (score >= target if higher else score <= target):
            return number
    return None
