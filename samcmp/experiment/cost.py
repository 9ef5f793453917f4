"""How long a plan will take, from what earlier runs on this machine took."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from samcmp.errors import SamcmpError
from samcmp.experiment.store import Brief
from samcmp.records import Case, Record

EVALUATION = 1.15  # scoring validation and test rows and loading, on top of the training steps


def lines(todo: Mapping[str, Case], *, sessions: int, seconds: float, history: History, slots: int = 1) -> list[str]:
    """Say the expected time of the missing runs, and how many of them it rests on no earlier run."""
    if not todo and not sessions:
        return ["Nothing to do: the table is printed at once."]
    known, unknown = total(todo, history=history, slots=slots)
    known += sessions * seconds
    if unknown == len(todo) and todo:
        what = "the profile session takes" if sessions == 1 else f"the {sessions} profile sessions take"
        measured = f"; {what} about {duration(sessions * seconds)}" if sessions else ""
        return [f"No earlier run here to estimate the training time from{measured}."]
    rest = f", and {unknown} runs like none before" if unknown else ""
    beside = f", {min(slots, len(todo))} runs side by side" if min(slots, len(todo)) > 1 else ""
    return [f"Expected time: about {duration(known)}{beside}{rest}."]


def total(todo: Mapping[str, Case], *, history: History, slots: int = 1) -> tuple[float, int]:
    """Return the expected seconds of the cases that resemble earlier runs, side by side, and how many do not."""
    per_epoch = rates(history)
    each = [seconds_of(case, per_epoch) for case in todo.values()]
    return side_by_side([one for one in each if one is not None], slots), each.count(None)


def side_by_side(seconds: Sequence[float], slots: int) -> float:
    """The least time that runs take in so many slots: max(Σ e / slots, max e)."""
    return max(sum(seconds) / slots, max(seconds)) if seconds else 0.0


History = Iterable[Record | Brief]
Rates = Mapping[tuple[object, ...], float]


def rates(history: History) -> Rates:
    """Median seconds of an epoch for every cell, and for every optimizer in it.

    Earlier training runs tell best; where there is none, the throughput that a profile session measured.
    """
    trained: dict[tuple[object, ...], list[float]] = defaultdict(list)
    profiled: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for record in history:
        seconds = epoch_seconds(record)
        if seconds is not None:
            into = trained if record.case.kind == "train" else profiled
            into[(*_cell(record.case), record.case.arm)].append(seconds)
            into[_cell(record.case)].append(seconds)
    return {cell: statistics.median(values) for cell, values in {**profiled, **trained}.items()}


def epoch_seconds(record: Record | Brief) -> float | None:
    """Return the seconds that an epoch took, or takes at the speed that a profile session measured."""
    brief = Brief.of(record) if isinstance(record, Record) else record
    if brief.status != "ok":
        return None
    if brief.case.kind == "train":
        return brief.epoch_seconds
    if brief.graphs_per_second is None:
        return None
    graphs = brief.train_size or train_size(brief.case)
    return None if graphs is None else EVALUATION * graphs / brief.graphs_per_second


def train_size(case: Case) -> float | None:
    from samcmp.data import cards

    if case.protocol.subset is not None:
        return 0.8 * case.protocol.subset
    try:
        size = cards.find(case.dataset).size
    except SamcmpError:  # a user's own file: its size is known once it was trained on
        return None
    return None if size is None else 0.8 * size


def _cell(case: Case) -> tuple[object, ...]:
    settings = tuple(sorted((key, str(value)) for key, value in case.model_settings.items()))
    data = case.data or case.dataset
    return (data, case.protocol.subset, case.model, settings, case.protocol.batch_size, case.device)


def seconds_of(case: Case, per_epoch: Rates) -> float | None:
    """Expected seconds of one case: by its own optimizer's earlier runs, else by any optimizer's on the same cell."""
    own = per_epoch.get((*_cell(case), case.arm), per_epoch.get(_cell(case)))
    return None if own is None else own * case.training.epochs


def duration(seconds: float) -> str:
    """Write a time for people: 40 s, 12 min, 3.5 h."""
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
