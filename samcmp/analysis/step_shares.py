"""The speed of an optimizer at the share of two-pass steps that its training runs had.

A profile measures what a step of either kind costs; how many a training has of each, the training counts. AE-SAM's
gradients decide that, and a few seconds on an untrained model do not foretell it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from samcmp.analysis.grouping import Group
from samcmp.records import Ratio, Record, Throughput

NOTEWORTHY = 0.005  # passes a step


def passes_in_training(runs: Iterable[Record]) -> float | None:
    """Return the gradient evaluations of a mean step over all finished runs; None where no run tells."""
    passes = steps = 0
    for run in runs:
        if run.status == "ok" and run.history and run.accuracy is not None:
            passes += sum(epoch.passes for epoch in run.history)
            steps += math.ceil(run.accuracy.train_size / run.case.protocol.batch_size) * len(run.history)
    return passes / steps if steps else None


def at_training_shares(group: Group) -> tuple[Group, list[str]]:
    """Return a cell whose speeds are at the shares that training had, and both counts in words where they differ."""
    profiles, notes = dict(group.profiles), []
    for arm, profile in group.profiles.items():
        speed, passes = profile.throughput, passes_in_training(group.runs.get(arm, {}).values())
        if speed is None or passes is None:
            continue
        mixed = dataclasses.replace(_mixed(speed, passes), passes_per_step=passes)
        profiles[arm] = dataclasses.replace(profile, throughput=mixed)
        if speed.passes_per_step is not None and abs(passes - speed.passes_per_step) > NOTEWORTHY:
            taken = "are at the share that training had" if speed.details.get("step_kinds") else "are the profile's"
            notes.append(
                f"{arm}: {passes:.2f} passes a step in training, {speed.passes_per_step:.2f} in the profile; "
                f"speeds and ratios {taken}"
            )
    return dataclasses.replace(group, profiles=profiles), notes


def _mixed(speed: Throughput, passes: float) -> Throughput:
    kinds = speed.details.get("step_kinds") or {}
    one, two, share = (kinds.get(key) for key in ("one_pass_seconds", "two_pass_seconds", "two_pass_share"))
    if not one or not two or share is None:
        return speed
    trained = min(1.0, max(0.0, passes - 1.0))
    seconds = one * (1 - trained) + two * trained
    factor = (one * (1 - share) + two * share) / seconds
    gradient, fixed = (speed.details.get(key) for key in ("gradient_seconds", "fixed_seconds"))
    bound = None if gradient is None or fixed is None else max(0.0, fixed) + gradient * passes
    return dataclasses.replace(
        speed,
        graphs_per_second=speed.graphs_per_second * factor,
        atoms_per_second=_times(speed.atoms_per_second, factor),
        pipeline_graphs_per_second=None,  # part of it is loading, which does not scale
        ratio_to={peer: _scaled(ratio, factor) for peer, ratio in speed.ratio_to.items()},
        block_seconds=tuple(t / factor for t in speed.block_seconds),
        efficiency=None if bound is None else bound / seconds,
    )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _scaled(ratio: Ratio, factor: float) -> Ratio:
    return ratio[0] * factor, _times(ratio[1], factor), _times(ratio[2], factor)
