"""One arm of a cell: its scores, its holes with their causes, its speed and memory."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean

import numpy as np

from samcmp.analysis.comparison import Hole, Interval, Role, Row, Score
from samcmp.analysis.grouping import Group, split_key
from samcmp.analysis.paired import mean_interval
from samcmp.profiling.ratios import ratio
from samcmp.records import Record

FAILED = frozenset({"diverged", "out-of-memory", "error", "timeout", "skipped", "partial"})


def row_of(arm: str, group: Group, *, roles: Mapping[str, Role], factor: float | None) -> Row:
    """Gather what the Records of one arm say."""
    runs = group.runs.get(arm, {})
    scored = {block: r for block, r in runs.items() if r.accuracy is not None and r.status == "ok"}
    profile = group.profiles.get(arm)
    first = next(iter(runs.values()), profile)
    if first is None:
        raise ValueError(f"arm {arm!r} has no Record")
    speed = profile.throughput if profile else None
    memory = profile.memory if profile else None
    energy = profile.energy if profile else None
    missing: dict[str, str] = {}
    if not scored:
        missing["score"] = _first_reason(runs.values()) if runs else "not trained"
    if speed is None:
        missing["graphs_per_second"] = _why_no_speed(profile, group)
    if memory is None or memory.peak_bytes is None:
        reason = memory.missing.get("peak_bytes") if memory else None
        missing["peak_bytes"] = reason or missing.get("graphs_per_second") or "not measured"
    if energy is None or energy.joules_per_graph is None:
        missing["joules_per_graph"] = (energy.missing if energy else "") or "not measured"
    holes = _holes(runs, group.blocks if runs else frozenset())
    test = {block: r.accuracy.test for block, r in scored.items() if r.accuracy}
    valid = {block: r.accuracy.valid for block, r in scored.items() if r.accuracy}
    keys = {block: split_key(record) for block, record in scored.items()}
    return Row(
        arm=arm,
        label=arm,
        optimizer=first.case.optimizer,
        optimizer_settings=first.case.optimizer_settings,
        own=first.case.own,
        times=_times(arm, group),
        role=roles.get(arm),
        score=score_of(test, keys, factor),
        valid=score_of(valid, keys, factor),
        blocks=test,
        holes=holes,
        graphs_per_second=speed.graphs_per_second if speed else None,
        speed_to=_speeds(arm, group, roles),
        passes_per_step=speed.passes_per_step if speed else None,
        peak_bytes=memory.peak_bytes if memory else None,
        joules_per_graph=energy.joules_per_graph if energy else None,
        efficiency=speed.efficiency if speed else None,
        parameters=first.parameters,
        front=None,
        front_probability=None,
        best=(),
        missing=missing,
        block_seconds=speed.block_seconds if speed else (),
        block_graphs=speed.block_graphs if speed else None,
    )


def _first_reason(records: Iterable[Record]) -> str:
    return next((r.reason or r.status for r in records), "not run")


def _why_no_speed(profile: Record | None, group: Group) -> str:
    if profile is not None:
        return profile.reason or profile.status
    return "not measured in the same session" if group.profiles else "not profiled"


def _holes(runs: Mapping[str, Record], every: frozenset[str]) -> tuple[Hole, ...]:
    causes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for block, record in runs.items():
        if record.status in FAILED or record.accuracy is None:
            causes[record.status, record.reason or record.status].append(block)
    absent = sorted(every - set(runs))
    if absent:
        causes["missing", "not run yet"].extend(absent)
    return tuple(Hole(status, reason, tuple(blocks)) for (status, reason), blocks in causes.items())


def score_of(values: Mapping[str, float], splits: Mapping[str, str], factor: float | None) -> Score | None:
    """Mean and SD over runs; the interval is over distinct splits, since seeds on one split share its data."""
    if not values:
        return None
    numbers = np.array(list(values.values()))
    sd = float(numbers.std(ddof=1)) if numbers.size > 1 else None
    by_split: dict[str, list[float]] = defaultdict(list)
    for block, value in values.items():
        by_split[splits[block]].append(value)
    if len(by_split) > 1 and factor is not None:
        interval = mean_interval([fmean(v) for v in by_split.values()], test_over_train=factor)
    else:
        interval = mean_interval(numbers)
    return Score(float(numbers.mean()), sd, numbers.size, interval.low, interval.high)


def _speeds(arm: str, group: Group, roles: Mapping[str, Role]) -> dict[str, Interval]:
    """Each reference's training time over this arm's: speeds as the session measured them, else from its raw rounds,
    and the lengths of training."""
    mine = group.profiles.get(arm)
    ratios: dict[str, Interval] = {}
    if mine is None or mine.throughput is None:
        return ratios
    for reference, role in roles.items():
        peer = group.profiles.get(reference)
        if peer is None or peer.throughput is None:
            continue
        measured = mine.throughput.ratio_to
        older = ("adam",) if peer.case.is_base else ()  # whichever the base was
        key = next((k for k in (peer.case.arm, peer.case.optimizer, *older) if k in measured), None)
        a, b = mine.throughput, peer.throughput
        if mine.key == peer.key:  # the same steps
            ratios[role] = Interval(1.0, 1.0, 1.0)
        elif key is not None:
            ratios[role] = _bounded(*measured[key])
        elif a.block_graphs == b.block_graphs and len(a.block_seconds) == len(b.block_seconds) > 0:
            found = ratio(np.log(b.block_seconds) - np.log(a.block_seconds))
            ratios[role] = _bounded(found.ratio, found.low, found.high)
        elif b.graphs_per_second > 0:
            ratios[role] = Interval(a.graphs_per_second / b.graphs_per_second)
        if role in ratios:
            ratios[role] = _scaled(ratios[role], _times(reference, group) / _times(arm, group))
    return ratios


def _bounded(value: float, low: float | None, high: float | None) -> Interval:
    return Interval(value, low or None, high if high is not None and math.isfinite(high) else None)


def _times(arm: str, group: Group) -> float:
    """How many times as long as the protocol's an arm's training is; 1 where only its speed is known."""
    first = next(iter(group.runs.get(arm, {}).values()), None)
    return 1.0 if first is None else first.case.training.epochs / first.case.protocol.epochs


def _scaled(ratio: Interval, factor: float) -> Interval:
    if factor == 1.0:
        return ratio
    low, high = (None if limit is None else factor * limit for limit in (ratio.low, ratio.high))
    return Interval(factor * ratio.value, low, high)
