"""How many steps of each kind a training has, and the time of its mean step that follows.

Most rhythms are known before anything is timed. AE-SAM's share of two-pass steps is not: it is counted, over steps
spread over the whole training, and carries an error that belongs into the interval of its speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samcmp.measure.composed import relative_cost
from samcmp.measure.rounds import Rounds
from samcmp.profiling.contenders import Arm
from samcmp.profiling.found import Found
from samcmp.profiling.runners import EPOCHS, EarlyRunner, SpreadRunner


def note(found: Found, rounds: Rounds, *, seconds: float) -> None:
    """Write the shares into ``found``; ``seconds`` are there for untimed steps of those that must be counted."""
    counted = [arm for arm in found.arms if isinstance(arm.main, SpreadRunner)]
    for arm in found.arms:
        track = rounds.session.tracks.get(arm.name)
        if track is None or arm.failure is not None:
            continue
        arm.failure = track.failure
        if arm.failure is not None or not track.blocks:
            continue
        if isinstance(arm.main, SpreadRunner):
            if not found.interrupted:
                _see_more(arm.main, rounds, seconds=seconds / len(counted))
            found.shares[arm.name] = _counted(arm, arm.main, rounds)
        else:
            found.shares[arm.name] = _known(arm)


def _known(arm: Arm) -> dict[str, Any]:
    shares = arm.cadence.shares or {1: 1.0}
    early = {"early_share": arm.twin_share} if isinstance(arm.twin, EarlyRunner) else {}
    return _described(arm, shares) | early


def _see_more(runner: SpreadRunner, rounds: Rounds, *, seconds: float) -> None:
    """Take untimed steps for ``seconds``, at most until a whole training has been seen."""
    ends = rounds.clock.now() + seconds
    while len(runner.seen) < EPOCHS * runner.steps_per_epoch and rounds.clock.now() < ends:
        runner(len(runner.seen), 1, lambda: None)


def _counted(arm: Arm, runner: SpreadRunner, rounds: Rounds) -> dict[str, Any]:
    """Bring the timed blocks to the shares of all steps that were seen; say how sure these are."""
    taken = [passes for _, passes in runner.settled]
    shares = {p: taken.count(p) / len(taken) for p in sorted(set(taken))}
    rounds.mix(arm.name, shares)
    cost = relative_cost([parts[0] for parts in rounds.session.tracks[arm.name].blocks])
    mean = sum(share * cost.get(p, p) for p, share in shares.items())
    dearer = max(cost.values()) - min(cost.values()) if len(cost) > 1 else 1.0
    return _described(arm, shares) | {
        "by_third": runner.by_third(),
        "steps": len(taken),
        "epochs": len(taken) / runner.steps_per_epoch,
        "log_error": runner.error() * dearer / mean,  # standard error of the log of a mean step's time
    }


def _described(arm: Arm, shares: Mapping[int, float]) -> dict[str, Any]:
    return {
        "kind": arm.cadence.kind,
        "shares": {str(p): share for p, share in shares.items()},
        "mean_passes": sum(p * share for p, share in shares.items()),
        "training_epochs": EPOCHS,
    }
