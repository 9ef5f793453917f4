"""A Group with trials to a Group without: every split takes the trial that validates best, and says what it came to.

From here on a tuned comparison is one like any other. No test score of a trial that was not chosen goes further.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean

import numpy as np

from samcmp.analysis.comparison import Equal, Settings, TunedRow, TunedSetting, Tuning
from samcmp.analysis.draws import EDGE, RULE, positions
from samcmp.analysis.grouping import Group, groups, split_key, test_over_train
from samcmp.analysis.paired import mean_interval
from samcmp.analysis.rows import score_of
from samcmp.analysis.step_shares import at_training_shares
from samcmp.analysis.tuning import chosen, trials_of_equal_cost
from samcmp.records import LOWER_IS_BETTER, Case, Record, content_key

Trials = Sequence[Record]  # of one arm and block: trial 0, 1, ...
Costs = Mapping[str, Mapping[str, float]]  # arm -> block -> cost of one run


def tried(group: Group) -> int:
    """The longest prefix of trials that every arm has on every split; 1 where nothing is tuned."""
    return min((len(found) for blocks in group.trials.values() for found in blocks.values()), default=1)


def shortage(group: Group, settings: Settings) -> str:
    """Say why a cell cannot be tuned as asked for: too few trials, or no speeds to be equal in; empty where it can."""
    stored = tried(group)
    if settings.trials is not None and group.runs and stored < settings.trials:
        return f"{stored} of {settings.trials} trials stored of every optimizer and split"
    unmeasured = [arm for arm in group.trials if arm not in group.profiles or group.profiles[arm].throughput is None]
    if settings.equal == "seconds" and stored > 1 and unmeasured:
        return f"no speeds were measured of {', '.join(unmeasured)}"
    return ""


def choose(group: Group, settings: Settings) -> tuple[Group, Tuning | None]:
    """Return the group with the chosen runs alone, and how they were chosen; None where nothing is tuned.

    Where it cannot be tuned as asked for no run is chosen.
    """
    if shortage(group, settings):
        return dataclasses.replace(group, runs={}, trials={}), None
    trials = settings.trials or tried(group)
    if trials < 2:
        return dataclasses.replace(group, trials={}), None
    counts = _counts(group, trials, settings.equal)
    sign = -1 if metric_of(group) in LOWER_IS_BETTER else 1
    numbers = {
        arm: {block: _best(found[: counts[arm][block]], sign) for block, found in blocks.items()}
        for arm, blocks in group.trials.items()
    }
    runs = {
        arm: {block: group.trials[arm][block][max(number, 0)] for block, number in blocks.items()}
        for arm, blocks in numbers.items()
    }
    passes = _costs(group, "passes")
    tuning = Tuning(
        trials=trials,
        equal=settings.equal,
        search=_search(group),
        rows=tuple(_row(arm, group, runs[arm], numbers[arm], counts[arm], passes=passes, sign=sign) for arm in runs),
    )
    return dataclasses.replace(group, runs=runs, trials={}), tuning


def chosen_groups(records: Iterable[Record], settings: Settings) -> Iterator[Group]:
    """Sort Records into cells that hold the chosen runs alone."""
    for group in groups(records):
        yield choose(at_training_shares(group)[0], settings)[0]


def _search(group: Group) -> str:
    """Name the ranges of all arms together."""
    names = {found[-1].case.search for blocks in group.trials.values() for found in blocks.values()}
    return content_key([RULE, *sorted(names)])[:8]


def metric_of(group: Group) -> str:
    """Name the metric of a group's runs; empty where none has finished."""
    records = (record for runs in group.runs.values() for record in runs.values())
    return next((record.accuracy.metric for record in records if record.accuracy), "")


def validation(record: Record) -> float:
    """A run's validation score; NaN where it failed."""
    return record.accuracy.valid if record.accuracy is not None and record.status == "ok" else math.nan


def test_score(record: Record) -> float:
    """A run's test score; NaN where it failed."""
    return record.accuracy.test if record.accuracy is not None and record.status == "ok" else math.nan


def _best(trials: Trials, sign: int) -> int:
    return int(chosen(np.array([validation(record) for record in trials]), sign=sign))


# ------------------------------------------------------------------------------------------------ equal cost


def _counts(group: Group, trials: int, equal: Equal) -> dict[str, dict[str, int]]:
    """How many trials each arm may use on each block."""
    counts = {arm: dict.fromkeys(blocks, trials) for arm, blocks in group.trials.items()}
    if equal == "trials":
        return counts
    costs = _costs(group, equal)
    for block in {block for blocks in counts.values() for block in blocks}:
        known = {arm: of_arm[block] for arm, of_arm in costs.items() if block in of_arm}
        for arm, count in trials_of_equal_cost(known, trials).items() if known else ():
            counts[arm][block] = count
    return counts


def _costs(group: Group, unit: Equal) -> Costs:
    """What one run of each arm costs on each block; nothing for an arm of which no run finished."""
    costs: dict[str, dict[str, float]] = {}
    for arm, blocks in group.trials.items():
        found = {block: [c for r in runs if (c := _cost(r, group, unit)) is not None] for block, runs in blocks.items()}
        every = [cost for of_block in found.values() for cost in of_block]
        if every:
            costs[arm] = {block: fmean(of_block or every) for block, of_block in found.items()}
    return costs


def _cost(record: Record, group: Group, unit: Equal) -> float | None:
    if record.status != "ok" or record.accuracy is None:
        return None
    if unit == "passes":
        return float(passes_of(record))
    speed = group.profiles[record.case.arm].throughput
    return None if speed is None else len(record.history) * record.accuracy.train_size / speed.graphs_per_second


def passes_of(record: Record) -> int:
    """Gradient evaluations of a whole training, counted."""
    return sum(epoch.passes for epoch in record.history)


def mean_passes(runs: Iterable[Record]) -> float | None:
    """Mean gradient evaluations of the finished trainings; None where none was counted."""
    counts = [passes_of(record) for record in runs if record.status == "ok"]
    return fmean(counts) if any(counts) else None


# ------------------------------------------------------------------------------------------------ what it came to


def _row(
    arm: str,
    group: Group,
    runs: Mapping[str, Record],
    numbers: Mapping[str, int],
    counts: Mapping[str, int],
    *,
    passes: Costs,
    sign: int,
) -> TunedRow:
    factor = test_over_train(group)
    firsts = group.runs[arm]
    default = {block: test_score(record) for block, record in firsts.items()}
    tuned = {block: test_score(record) for block, record in runs.items()}
    splits = {block: split_key(record) for block, record in firsts.items()}
    gains = _by_split({block: sign * (tuned[block] - default[block]) for block in default}, splits)
    base = next((of_arm for name, of_arm in passes.items() if name == group.case.protocol.base), None)
    cost = None
    if base and arm in passes:
        cost = fmean(counts[block] * passes[arm][block] for block in counts) / fmean(base.values())
    drawn = [runs[block].case for block, number in numbers.items() if number > 0]
    return TunedRow(
        arm=arm,
        trials=dict(counts),
        chosen=dict(numbers),
        default=score_of(_known(default), splits, factor),
        tuned=score_of(_known(tuned), splits, factor),
        gain=mean_interval(gains, test_over_train=(factor or 0.0) if len(gains) > 1 else 0.0) if gains else None,
        settings=tuple(_setting(name, drawn, of=len(numbers)) for name in (drawn[0].drawn if drawn else ())),
        failed=sum(r.status != "ok" for block, n in counts.items() for r in group.trials[arm][block][:n]),
        default_kept=sum(number == 0 for number in numbers.values()),
        cost=cost,
    )


def _known(scores: Mapping[str, float]) -> dict[str, float]:
    return {block: score for block, score in scores.items() if not math.isnan(score)}


def _by_split(values: Mapping[str, float], splits: Mapping[str, str]) -> list[float]:
    """Average the values of each split's blocks; those that are not known are left out."""
    members: dict[str, list[float]] = defaultdict(list)
    for block, value in _known(values).items():
        members[splits[block]].append(value)
    return [fmean(of_split) for of_split in members.values()]


def _setting(name: str, drawn: Sequence[Case], *, of: int) -> TunedSetting:
    """Say which values of a setting were chosen, and whether most lie in the same tenth at an end of its range."""
    values = [case.drawn[name] for case in drawn]
    places: list[float] = []
    if len(set(map(str, values))) == len(values):  # a list of values repeats them: it has no ends
        places = [
            positions(case.drawn, case.trial, dataset=case.dataset, model=case.model, block=case.block)[name]
            for case in drawn
        ]
    lowest, highest = sum(u < EDGE for u in places), sum(u > 1 - EDGE for u in places)
    if lowest > of / 2:
        return TunedSetting(name, tuple(values), "lowest", lowest)
    if highest > of / 2:
        return TunedSetting(name, tuple(values), "highest", highest)
    return TunedSetting(name, tuple(values), "", 0)
