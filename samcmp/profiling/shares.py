"""How many steps of each kind a training has, and the time of its mean step that follows.

Most rhythms are known before anything is timed. AE-SAM's share of two-pass steps is not: it is counted, over steps
spread over the whole training, and carries an error that belongs into the interval of its speed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from samcmp.profiling.composed import relative_cost
from samcmp.profiling.contenders import Arm
from samcmp.profiling.found import Found
from samcmp.profiling.rounds import Rounds
from samcmp.profiling.runners import EPOCHS

Seen = Sequence[tuple[int, int]]  # epoch and passes of steps


def note(found: Found, rounds: Rounds, *, seconds: float) -> None:
    """Write the shares into ``found``; ``seconds`` are there for untimed steps of those that must be counted."""
    counted = [arm for arm in found.arms if arm.cadence.kind == "data-dependent"]
    for arm in found.arms:
        track = rounds.session.tracks.get(arm.name)
        if track is None or arm.failure is not None:
            continue
        arm.failure = track.failure
        if arm.failure is not None or not track.blocks:
            continue
        if arm not in counted:
            early = {} if arm.early_share is None else {"early_share": arm.early_share}
            found.shares[arm.name] = _described(arm, arm.cadence.shares or {1: 1.0}) | early
            continue
        if not found.interrupted:
            _see_more(arm, rounds, steps=EPOCHS * found.setup.steps_per_epoch, seconds=seconds / len(counted))
        found.shares[arm.name] = _counted(arm, rounds, steps_per_epoch=found.setup.steps_per_epoch)


def _see_more(arm: Arm, rounds: Rounds, *, steps: int, seconds: float) -> None:
    """Take untimed steps for ``seconds``, at most until a whole training has been seen."""
    ends = rounds.clock.now() + seconds
    with arm.held():
        while len(arm.seen) < steps and rounds.clock.now() < ends:
            arm.take(len(arm.seen), 1, lambda: None)


def _counted(arm: Arm, rounds: Rounds, *, steps_per_epoch: int) -> dict[str, Any]:
    """Bring the timed blocks to the shares of all steps that were seen; say how sure these are."""
    blocks = [parts[0] for parts in rounds.session.tracks[arm.name].blocks]
    taken = [passes for _, passes in arm.seen] or [p for block in blocks for p in block.passes]
    shares = {p: taken.count(p) / len(taken) for p in sorted(set(taken))}
    rounds.mix(arm.name, shares)
    cost = relative_cost(blocks)
    mean = sum(share * cost.get(p, p) for p, share in shares.items())
    dearer = max(cost.values()) - min(cost.values()) if len(cost) > 1 else 1.0
    return _described(arm, shares) | {
        "by_third": by_third(arm.seen),
        "steps": len(taken),
        "epochs": len(taken) / steps_per_epoch,
        "log_error": error(arm.seen) * dearer / mean,  # standard error of the log of a mean step's time
    }


def _described(arm: Arm, shares: Mapping[int, float]) -> dict[str, Any]:
    return {
        "kind": arm.cadence.kind,
        "shares": {str(p): share for p, share in shares.items()},
        "mean_passes": sum(p * share for p, share in shares.items()),
        "training_epochs": EPOCHS,
    }


def by_third(seen: Seen) -> tuple[float, ...]:
    """Return the mean passes of a step in the first, middle and last third of training; NaN where none was seen."""
    return tuple(statistics.fmean(third) if third else math.nan for third in _thirds(seen))


def error(seen: Seen) -> float:
    """Return the standard error of the mean passes over the training."""
    thirds = _thirds(seen)
    if min(map(len, thirds)) < 2:
        return math.inf
    return math.sqrt(sum(statistics.variance(third) / len(third) for third in thirds)) / len(thirds)


def _thirds(seen: Seen) -> list[list[int]]:
    thirds: list[list[int]] = [[], [], []]
    for epoch, passes in seen:
        thirds[min(2, 3 * epoch // EPOCHS)].append(passes)
    return thirds
