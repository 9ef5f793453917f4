"""How long a plan will take, from what earlier runs on this machine took."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from samcmp.records import Case, Record


def lines(todo: Mapping[str, Case], *, sessions: int, seconds: float, history: Sequence[Record]) -> list[str]:
    """Say the expected time of the missing runs, and how many of them it rests on no earlier run."""
    if not todo and not sessions:
        return ["Nothing to do: the table is printed at once."]
    known, unknown = total(todo, history=history)
    known += sessions * seconds
    if unknown == len(todo) and todo:
        measured = f"; the {sessions} profile sessions take about {_time(sessions * seconds)}" if sessions else ""
        return [f"No earlier run here to estimate the training time from{measured}."]
    rest = f", and {unknown} runs like none before" if unknown else ""
    return [f"Expected time: about {_time(known)}{rest}."]


def total(todo: Mapping[str, Case], *, history: Sequence[Record]) -> tuple[float, int]:
    """Return the expected seconds of the cases that resemble earlier runs, and how many do not."""
    per_epoch = rates(history)
    known, unknown = 0.0, 0
    for case in todo.values():
        rate = seconds_of(case, per_epoch)
        if rate is None:
            unknown += 1
        else:
            known += rate
    return known, unknown


Rates = Mapping[tuple[object, ...], float]


def rates(history: Sequence[Record]) -> Rates:
    """Median seconds of a gradient evaluation's epoch for every (dataset, subset, model, batch size, device)."""
    seen: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for record in history:
        if record.case.kind == "train" and record.status == "ok" and record.history:
            seen[(*_cell(record.case), record.case.optimizer)].append(record.seconds / len(record.history))
            seen[_cell(record.case)].append(record.seconds / len(record.history))
    return {cell: statistics.median(values) for cell, values in seen.items()}


def _cell(case: Case) -> tuple[object, ...]:
    settings = tuple(sorted((key, str(value)) for key, value in case.model_settings.items()))
    return (case.dataset, case.protocol.subset, case.model, settings, case.protocol.batch_size, case.device)


def seconds_of(case: Case, per_epoch: Rates) -> float | None:
    """Expected seconds of one case: by its own optimizer's earlier runs, else by any optimizer's on the same cell."""
    own = per_epoch.get((*_cell(case), case.optimizer), per_epoch.get(_cell(case)))
    return None if own is None else own * case.protocol.epochs


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
