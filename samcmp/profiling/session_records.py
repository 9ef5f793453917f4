"""From the Results of a session to Records: speeds, ratios with intervals, the gradient-count bound."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from samcmp import machine
from samcmp.printable import counted
from samcmp.profiling import BUSY_WHILE, WARNING
from samcmp.profiling.arms import GRADIENT, Arm
from samcmp.profiling.clocks import CudaClock
from samcmp.profiling.ratios import Floats, Ratio, noise, ratio
from samcmp.profiling.results import Results
from samcmp.profiling.rounds import Session
from samcmp.profiling.steps import EPOCHS, by_third, standard_error
from samcmp.records import Memory, Record, Status, Throughput

BURSTY = 1.1  # mean over median time
SURELY = 0.02  # beyond an interval: smaller differences of speed mean nothing anywhere here
SAM_SPEED = (0.45, 1.0)  # of the base's: two passes and a perturbation
PAID_ONCE = 0.25  # of a gradient, at most, is paid once a step: 0.08 to 0.2 were measured of small models on a CPU


def records(results: Results, *, seconds: float) -> list[Record]:
    """Build one Record a case, in the order of the arms. Warnings of the session are in each Record's notes."""
    setup = results.setup
    speeds = {arm.name: _throughput(results, arm) for arm in results.arms}
    results.warnings += implausible(results, speeds)
    warnings = tuple(f"{WARNING}{text}" for text in results.warnings)
    facts = machine.metadata(setup.device) | {"measured": results.device}
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    made = []
    for arm in results.arms:
        speed = speeds[arm.name]
        status, reason = _status(results, arm, speed)
        made.append(
            Record(
                key=arm.key,
                case=arm.case,
                status=status,
                reason=reason,
                created=created,
                seconds=seconds,
                dataset_hash=setup.samples.dataset_hash,
                split_hash=setup.split.hash,
                parameters=results.parameters,
                throughput=speed,
                memory=results.memory.get(arm.name),
                energy=results.energy.get(arm.name),
                notes=(*setup.samples.notes, *setup.split.notes, *warnings),
                machine=facts,
                versions=machine.versions(),
                holds=setup.samples.holds,
            )
        )
    return made


def _status(results: Results, arm: Arm, speed: Throughput | None) -> tuple[Status, str | None]:
    if arm.failure is not None:
        status, reason = arm.failure
        known: dict[str, Status] = {"out-of-memory": "out-of-memory", "diverged": "diverged"}
        return known.get(status, "error"), reason
    if results.interrupted:
        return "partial", f"interrupted after {counted(speed.rounds if speed is not None else 0, 'round')}"
    if speed is None:
        return "timeout", "the budget ended before a single round"
    return "ok", None


# ---------------------------------------------------------------------------------------------- speed


def _throughput(results: Results, arm: Arm) -> Throughput | None:
    """Speed of one arm, or None where no round was finished."""
    session = results.session
    if session is None or arm.name not in session.tracks or not session.tracks[arm.name].blocks:
        return None
    rounds = session.tracks[arm.name].blocks
    per_step = session.step_seconds[arm.name]
    step = float(np.median(per_step))  # bursts of other processes are recorded, they are not this optimizer's speed
    block_steps = len(rounds[0][0].passes)
    passes = mean_passes(results, arm)
    pipeline = results.pipeline_seconds.get(arm.name)
    return Throughput(
        graphs_per_second=results.graphs_per_step / step,
        passes_per_step=passes,
        steps=sum(len(t.passes) for blocks in rounds for t in blocks),
        rounds=len(rounds),
        block_seconds=tuple(float(seconds) * block_steps for seconds in per_step),
        block_graphs=round(results.graphs_per_step * block_steps),
        stopped=session.stopped,
        ratio_to=_ratios(results, session, arm),
        pipeline_graphs_per_second=None if pipeline is None else results.graphs_per_step / pipeline,
        atoms_per_second=None if results.atoms_per_step is None else results.atoms_per_step / step,
        efficiency=_efficiency(results, arm, passes=passes),
        details=_details(results, session, arm, per_step=per_step),
    )


def mean_passes(results: Results, arm: Arm) -> float:
    """Return the gradient evaluations of a mean step: counted in the timed steps of each kind, at its share."""
    if results.session is None:
        raise ValueError("nothing was timed")
    rounds = results.session.tracks[arm.name].blocks
    each = zip(*([np.mean(t.passes) for t in blocks] for blocks in rounds), strict=True)
    return float(sum(share * np.mean(kind) for share, kind in zip(arm.shares, each, strict=True)))


def step_kinds(results: Results, arm: Arm) -> dict[str, Any]:
    """Say of which steps a speed is the mean, where they differ; the seconds let a reader take other shares."""
    if results.session is None or len(arm.shares) == 1:
        return {}
    rounds = results.session.tracks[arm.name].blocks
    seconds = [float(np.median([t.seconds / len(t.passes) for t in kind])) for kind in zip(*rounds, strict=True)]
    kinds: dict[str, Any] = {"training_epochs": EPOCHS}
    if arm.first_epochs_share is not None:
        return kinds | {"first_epochs_share": arm.first_epochs_share}
    kinds |= {
        "two_pass_share": arm.shares[1],
        "one_pass_seconds": seconds[0],
        "two_pass_seconds": seconds[1],
        "share_is": "declared" if arm.kinds is not None and arm.kinds.share is not None else "counted",
    }
    if kinds["share_is"] == "counted":
        mean = seconds[0] * arm.shares[0] + seconds[1] * arm.shares[1]
        kinds |= {
            "counted_steps": len(arm.counted),
            "passes_by_third": by_third(arm.counted),
            # standard error of the log of a mean step's time
            "log_error": standard_error(arm.counted) * abs(seconds[1] - seconds[0]) / mean,
        }
    return kinds


def _share_error(results: Results, name: str) -> float:
    """Return the standard error that counted shares leave in the log of a mean step's time; 0 where all is known."""
    arm = next(arm for arm in results.arms if arm.name == name)
    error = float(step_kinds(results, arm).get("log_error", 0.0))
    return error if math.isfinite(error) else 0.0


def _ratios(results: Results, session: Session, arm: Arm) -> dict[str, tuple[float, float, float]]:
    ratios = {}
    for peer in results.references:
        if peer == arm.name or not len(results.step_seconds(peer)) or not len(session.log_ratios(arm.name, peer)):
            continue
        error = math.hypot(_share_error(results, arm.name), _share_error(results, peer))
        r = _confirmed(results, session, arm.name, peer).widened(error)
        ratios[peer] = (r.ratio, r.low, r.high)
    return ratios


def _confirmed(results: Results, session: Session, name: str, peer: str) -> Ratio:
    """Return the ratio in time; where clock cycles do not confirm its word, the interval has both."""
    time, cycles = session.ratio(name, peer), session.cycle_ratio(name, peer)
    if cycles is None or cycles.word != "same" or time.word not in ("faster", "slower"):
        return time
    results.warnings.append(
        f"{name} against {peer}: {time.ratio:.3f} in time but {cycles.ratio:.3f} in clock cycles: the clock moved"
    )
    return replace(time, low=min(time.low, cycles.low), high=max(time.high, cycles.high))


def _efficiency(results: Results, arm: Arm, *, passes: float) -> float | None:
    """t_bound / t with t_bound = F + g * evaluations: what the algorithm must cost over what it does cost.

    Taken within rounds, as the ratios are.
    """
    fixed = results.bound
    if fixed is None:
        return None
    g, t = results.step_seconds(GRADIENT), results.step_seconds(arm.name)
    n = min(len(g), len(t))
    return None if n == 0 else float(np.median((max(0.0, fixed[0]) + g[:n] * passes) / t[:n]))


def least_time(results: Results, arm: Arm, *, passes: float) -> tuple[float, float, float] | None:
    """Return the least time that an arm's gradients need over the time it took, within rounds, with its interval.

    A gradient beyond the base's own costs at least what is not paid once a step: batch and loop, and caches that a
    second pass over the same molecules finds warm.
    """
    whole, g, t = (results.step_seconds(name) for name in (results.base, GRADIENT, arm.name))
    n = min(len(whole), len(g), len(t))
    if n == 0:
        return None
    share = ratio(np.log((whole[:n] + (passes - 1.0) * (1.0 - PAID_ONCE) * g[:n]) / t[:n]))
    return share.ratio, share.low, share.high


def _details(results: Results, session: Session, arm: Arm, *, per_step: Floats) -> dict[str, Any]:
    rounds = session.tracks[arm.name].blocks
    blocks = [parts[0] for parts in rounds]
    seconds = np.array([t.seconds for t in blocks])
    fixed = results.bound
    on_gpu = results.clock.name == CudaClock.name
    taken = [passes for parts in rounds for t in parts[:1] for passes in t.passes]
    details: dict[str, Any] = {
        "clock": results.clock.name,
        "block_steps": len(blocks[0].passes),
        "one_at_a_time": results.one_at_a_time,
        "graphs_per_second_total": results.graphs_per_step / float(per_step.mean()),  # bursts included
        "step_seconds": [float(x) for x in per_step],  # of a mean step, one a round; ratios are made of these
        "kinds_seconds": [[t.seconds for t in parts] for parts in rounds],  # raw, of each kind's block
        "kinds_steps": [len(t.passes) for t in rounds[0]],
        "host_seconds": [t.host_seconds for t in blocks],
        "cpu_seconds": [t.cpu_seconds for t in blocks],
        "host_bound_share": float(np.mean([t.host_bound for t in blocks])) if on_gpu else None,
        "clocks_disagree": sum(not t.agrees for t in blocks),
        "noise": noise(seconds) if len(seconds) > 1 else None,
        "step_kinds": step_kinds(results, arm),
        "undeclared_passes": [min(taken), max(taken)] if min(taken) < max(taken) else None,
        "warmup_rounds": session.warmup_rounds,
        "warmup_seconds": session.warmup_seconds,
        "orders": session.orders,
        "discarded": session.discarded,
        "throttled": session.throttled,
        "gradient_seconds": None if fixed is None else fixed[1],
        "fixed_seconds": None if fixed is None else fixed[0],
        "least_time": least_time(results, arm, passes=mean_passes(results, arm)),
        "loader_seconds": results.loader_seconds,
        "train_size": len(results.setup.split.train),  # graphs of an epoch
        **results.details.get(arm.name, {}),
    }
    if "flop_per_gradient" in details:
        details["flop_per_step"] = details["flop_per_gradient"] * mean_passes(results, arm)
        details["tflop_per_second"] = details["flop_per_step"] / float(np.median(per_step)) / 1e12
    return details


# ---------------------------------------------------------------------------------------------- what cannot be


def implausible(results: Results, speeds: Mapping[str, Throughput | None]) -> list[str]:
    """Say, with the numbers, what in a session cannot be or was disturbed."""
    notes: list[str] = []
    sam = speeds.get(results.sam or "")
    base = None if sam is None else sam.ratio_to.get(results.base or "")
    if base is not None and ((base[2] or 1.0) < SAM_SPEED[0] or (base[1] or 0.0) > SAM_SPEED[1]):
        notes.append(f"SAM at {base[0]:.2f} of the base's speed: two passes give {SAM_SPEED[0]} to {SAM_SPEED[1]}")
    fixed = results.bound
    if fixed is not None and fixed[0] < -0.02 * fixed[1]:
        notes.append(
            f"a base step is {-fixed[0] * 1e3:.2f} ms faster than its own gradient: noise exceeds the step's cost"
        )
    notes += _disturbances(results)
    for name, speed in speeds.items():
        notes += [f"{name}: {text}" for text in _odd(speed, results.memory.get(name))]
    return notes


def _disturbances(results: Results) -> list[str]:
    session = results.session
    notes: list[str] = []
    if session is None:
        return notes
    if session.throttled:
        notes.append("throttled: more than a fifth of the rounds had a cause to be repeated; the rest was kept")
    elif session.discarded:
        causes = sorted({str(d["cause"]) for d in session.discarded})
        notes.append(f"{counted(len(session.discarded), 'round')} measured again: {'; '.join(causes)}")
    if 0 < session.rounds < 6:
        notes.append(
            f"{counted(session.rounds, 'round')} in the budget: intervals are wide, a larger --budget narrows them"
        )
    blocks = [t for track in session.tracks.values() for parts in track.blocks for t in parts]
    if results.clock.name != CudaClock.name and blocks:
        busy = sum(t.cpu_seconds for t in blocks) / max(1e-9, sum(t.seconds for t in blocks))
        if busy < 0.9:
            notes.append(f"this process had {busy:.2f} cores while it was timed: {BUSY_WHILE}")
    if any(not t.agrees for t in blocks):
        share = sum(not t.agrees for t in blocks) / len(blocks)
        notes.append(f"device and host clock differ by more than 1 % in {share:.0%} of the blocks")
    spread = {n: float(t.mean() / np.median(t)) for n, t in session.step_seconds.items() if len(t) > 2}
    worst = max(spread, key=lambda name: spread[name], default="")
    if worst and spread[worst] > BURSTY:
        notes.append(f"bursts of other work: mean over median time is {spread[worst]:.2f} for {worst}")
    return notes


def _odd(speed: Throughput | None, memory: Memory | None) -> list[str]:
    notes = []
    least = speed.details.get("least_time") if speed is not None else None
    if least is not None and least[1] > 1.0 + SURELY:
        notes.append(f"its gradients need {least[1]:.2f} to {least[2]:.2f} of the time it took: faster than they allow")
    kinds = speed.details["step_kinds"] if speed is not None else {}
    if not math.isfinite(kinds.get("log_error", 0.0)):
        notes.append(f"{kinds['counted_steps']} steps are too few to know its share of two-pass steps")
    if memory is not None and memory.peak_bytes is not None:
        kept = sum(size for kind, size in memory.split_bytes.items() if kind != "activations")
        if memory.peak_bytes < kept:
            notes.append(f"peak {memory.peak_bytes} B is below the {kept} B of its parameters, gradients and state")
    if memory is not None and "note" in memory.missing:
        notes.append(memory.missing["note"])
    return notes
