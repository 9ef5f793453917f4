"""From what a session found to Records: speeds, ratios with intervals, the gradient-count bound, and what is odd."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from samcmp import machine
from samcmp.profiling import WARNING
from samcmp.profiling.contenders import GRADIENT, SAM, Arm
from samcmp.profiling.found import Found
from samcmp.profiling.ratios import Ratio, bootstrap_median, noise, outliers
from samcmp.profiling.rounds import Session
from samcmp.records import Case, Energy, Memory, Record, Status, Throughput

BURSTY = 1.1
SAM_SPEED = (0.45, 1.0)  # of the base's: two passes and a perturbation


def records(found: Found, cases: Mapping[str, Case], *, seconds: float) -> list[Record]:
    """Build one Record a case, in the order of ``cases``. Warnings of the session are in each Record's notes."""
    setup = found.setup
    by_name = {arm.name: arm for arm in found.arms}
    throughputs = {name: _throughput(found, arm) for name, arm in by_name.items()}
    found.warnings += implausible(found, throughputs)
    warnings = tuple(f"{WARNING}{text}" for text in found.warnings)
    facts = machine.metadata(setup.device) | {"measured": found.device}
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    made = []
    for arm in found.arms:
        status, reason = _status(found, arm, throughputs[arm.name])
        speed = throughputs[arm.name]
        made.append(
            Record(
                key=arm.key,
                case=arm.case,
                status=status,
                reason=reason,
                created=created,
                seconds=seconds,
                dataset_hash=setup.molecules.dataset_hash,
                split_hash=setup.split.hash,
                parameters=found.parameters,
                throughput=speed,
                memory=found.memory.get(arm.name),
                energy=found.energy.get(arm.name),
                notes=(*setup.molecules.notes, *setup.split.notes, *warnings),
                machine=facts,
                versions=machine.versions(),
            )
        )
    return made


def _status(found: Found, arm: Arm, speed: Throughput | None) -> tuple[Status, str | None]:
    if arm.failure is not None:
        status, reason = arm.failure
        known: dict[str, Status] = {"out-of-memory": "out-of-memory", "diverged": "diverged"}
        return known.get(status, "error"), reason
    if found.interrupted:
        rounds = speed.rounds if speed is not None else 0
        return "partial", f"interrupted after {rounds} rounds"
    if speed is None:
        return "timeout", "the budget ended before a single round"
    return "ok", None


def _throughput(found: Found, arm: Arm) -> Throughput | None:
    """Speed of one arm, or None where no round was finished."""
    session = found.session
    if session is None or arm.name not in session.tracks or not session.tracks[arm.name].blocks:
        return None
    track = session.tracks[arm.name]
    blocks = [parts[0] for parts in track.blocks]
    per_step = session.step_seconds[arm.name]
    step = float(np.median(per_step))  # bursts of other processes are recorded, they are not this optimizer's speed
    share = found.shares.get(arm.name, {})
    passes = share.get("mean_passes")
    pipeline = found.pipeline_seconds.get(arm.name)
    return Throughput(
        graphs_per_second=found.graphs_per_step / step,
        passes_per_step=passes,
        steps=sum(len(t.passes) for parts in track.blocks for t in parts),
        rounds=len(track.blocks),
        block_seconds=tuple(t.seconds for t in blocks),
        block_graphs=round(found.graphs_per_step * len(blocks[0].passes)),
        stopped=session.stopped,
        ratio_to=_ratios(found, arm),
        pipeline_graphs_per_second=None if pipeline is None else found.graphs_per_step / pipeline,
        atoms_per_second=found.atoms_per_step / step,
        efficiency=_efficiency(found, arm, passes=passes),
        details=_details(found, arm, per_step=per_step),
    )


def anchors(found: Found) -> list[str]:
    """Name the references of ratios: the plain base and SAM, where they are in the session."""
    return [name for name in (_base(found), _sam(found)) if name is not None]


def _base(found: Found) -> str | None:
    return next((arm.name for arm in found.arms if arm.case.is_base), None)


def _sam(found: Found) -> str | None:
    return next((arm.name for arm in found.arms if arm.case.optimizer == SAM), None)


def _ratios(found: Found, arm: Arm) -> dict[str, tuple[float, float, float]]:
    session = found.session
    ratios = {}
    for peer in anchors(found):
        if session is None or peer == arm.name or not len(session.step_seconds.get(peer, ())):
            continue
        if len(session.log_ratios(arm.name, peer)):
            error = math.hypot(_share_error(found, arm.name), _share_error(found, peer))
            r = _confirmed(found, session, arm.name, peer).widened(error)
            ratios[peer] = (r.ratio, r.low, r.high)
    return ratios


def _confirmed(found: Found, session: Session, name: str, peer: str) -> Ratio:
    """Return the ratio in time; where clock cycles do not confirm its word, the interval has both."""
    time, cycles = session.ratio(name, peer), session.cycle_ratio(name, peer)
    if cycles is None or cycles.verdict != "same" or time.verdict not in ("fast", "slow"):
        return time
    found.warnings.append(
        f"{name} against {peer}: {time.ratio:.3f} in time but {cycles.ratio:.3f} in clock cycles: the clock moved"
    )
    return replace(time, low=min(time.low, cycles.low), high=max(time.high, cycles.high))


def _share_error(found: Found, name: str) -> float:
    """Return the standard error that counted shares leave in the log of a mean step's time; 0 where all is known."""
    error = float(found.shares.get(name, {}).get("log_error", 0.0))
    return error if math.isfinite(error) else 0.0


def bound(found: Found) -> tuple[float, float] | None:
    """Return (F, g): fixed cost of a base step, and cost of a gradient, in seconds; None where not measured."""
    session = found.session
    base = _base(found)
    if session is None or base is None or GRADIENT not in session.step_seconds:
        return None
    g, whole = session.step_seconds[GRADIENT], session.step_seconds[base]
    n = min(len(g), len(whole))
    if n == 0:
        return None
    return float(np.median(whole[:n] - g[:n])), float(np.median(g[:n]))


def _efficiency(found: Found, arm: Arm, *, passes: float | None) -> float | None:
    """t_bound / t with t_bound = F + g * evaluations: what the algorithm must cost over what it does cost.

    Taken within rounds, as the ratios are.
    """
    fixed, session = bound(found), found.session
    if fixed is None or session is None or passes is None:
        return None
    g, t = session.step_seconds[GRADIENT], session.step_seconds[arm.name]
    n = min(len(g), len(t))
    if n == 0:
        return None
    return float(np.median((max(0.0, fixed[0]) + g[:n] * passes) / t[:n]))


def _details(found: Found, arm: Arm, *, per_step: Any) -> dict[str, Any]:
    session = found.session
    if session is None:
        return {}
    track = session.tracks[arm.name]
    blocks = [parts[0] for parts in track.blocks]
    seconds = np.array([t.seconds for t in blocks])
    fixed = bound(found)
    details: dict[str, Any] = {
        "clock": found.clock,
        "block_steps": len(blocks[0].passes),
        "apart": found.apart,
        "graphs_per_second_total": found.graphs_per_step / float(per_step.mean()),  # bursts included
        "step_seconds": [float(x) for x in per_step],  # of a mean step, one a round; ratios are made of these
        "host_seconds": [t.host_seconds for t in blocks],
        "cpu_seconds": [t.cpu_seconds for t in blocks],
        "host_bound_share": float(np.mean([t.host_bound for t in blocks])) if found.clock == "cuda events" else None,
        "clocks_disagree": sum(not t.agrees for t in blocks),
        "noise": noise(seconds) if len(seconds) > 1 else None,
        "outliers": outliers(seconds) if len(seconds) > 3 else None,
        "rhythm": found.shares.get(arm.name, {}),
        "warmup_rounds": session.warmup_rounds,
        "warmup_seconds": session.warmup_seconds,
        "orders": session.orders,
        "discarded": session.discarded,
        "throttled": session.throttled,
        "gradient_seconds": None if fixed is None else fixed[1],
        "fixed_seconds": None if fixed is None else fixed[0],
        "loader_seconds": found.loader_seconds,
        "bootstrap": {peer: _bootstrap(found, arm, peer) for peer in anchors(found) if peer != arm.name},
        **found.details.get(arm.name, {}),
    }
    if len(track.blocks[0]) > 1:
        details["parts_seconds"] = [[t.seconds for t in parts] for parts in track.blocks]
        details["parts_steps"] = [len(t.passes) for t in track.blocks[0]]
    return details


def _bootstrap(found: Found, arm: Arm, peer: str) -> list[float] | None:
    session = found.session
    if session is None or not len(session.step_seconds.get(peer, ())):
        return None
    logs = session.log_ratios(arm.name, peer)
    if len(logs) < 2:
        return None
    r = bootstrap_median(logs)
    return [r.ratio, r.low, r.high]


# ---------------------------------------------------------------------------------------------- plausibility


def implausible(found: Found, throughputs: Mapping[str, Throughput | None]) -> list[str]:
    """Say, with the numbers, what in a session cannot be or was disturbed."""
    said: list[str] = []
    sam = throughputs.get(_sam(found) or "")
    base = None if sam is None else sam.ratio_to.get(_base(found) or "")
    if base is not None and ((base[2] or 1.0) < SAM_SPEED[0] or (base[1] or 0.0) > SAM_SPEED[1]):
        said.append(f"SAM at {base[0]:.2f} of the base's speed: two passes give {SAM_SPEED[0]} to {SAM_SPEED[1]}")
    fixed = bound(found)
    if fixed is not None and fixed[0] < -0.02 * fixed[1]:
        said.append(
            f"a base step is {-fixed[0] * 1e3:.2f} ms faster than its own gradient: noise exceeds the step's cost"
        )
    said += _session_warnings(found)
    for name, speed_ in throughputs.items():
        said += [f"{name}: {text}" for text in _odd(speed_, found.memory.get(name), found.energy.get(name))]
    return said


def _session_warnings(found: Found) -> list[str]:
    session = found.session
    said: list[str] = []
    if session is None:
        return said
    if session.throttled:
        said.append("throttled: more than a fifth of the rounds had a cause to be repeated; the rest was kept")
    elif session.discarded:
        causes = sorted({str(d["cause"]) for d in session.discarded})
        said.append(f"{len(session.discarded)} rounds were measured again: {'; '.join(causes)}")
    if 0 < session.rounds < 6:
        said.append(f"{session.rounds} rounds in the budget: intervals are wide, a larger --budget narrows them")
    blocks = [t for track in session.tracks.values() for parts in track.blocks for t in parts]
    if found.clock != "cuda events" and blocks:
        busy = sum(t.cpu_seconds for t in blocks) / max(1e-9, sum(t.seconds for t in blocks))
        if busy < 0.9:
            said.append(f"this process had {busy:.2f} cores while it was timed: other processes took the rest")
    if any(not t.agrees for t in blocks):
        share = sum(not t.agrees for t in blocks) / len(blocks)
        said.append(f"device and host clock differ by more than 1 % in {share:.0%} of the blocks")
    spread = {n: float(t.mean() / np.median(t)) for n, t in session.step_seconds.items() if len(t) > 2}
    worst = max(spread, key=lambda name: spread[name], default="")
    if worst and spread[worst] > BURSTY:
        said.append(f"bursts of other work: mean over median time is {spread[worst]:.2f} for {worst}")
    for name, share_ in found.shares.items():
        if not math.isfinite(share_.get("log_error", 0.0)):
            said.append(f"{name}: {share_['steps']} steps are too few to know its share of two-pass steps")
    return said


def _odd(speed: Throughput | None, memory: Memory | None, energy: Energy | None) -> list[str]:
    said = []
    if speed is not None and speed.efficiency is not None and speed.efficiency > 1.05:
        said.append(f"{speed.efficiency:.2f} of the gradient-count bound: faster than its gradients allow")
    if memory is not None and memory.peak_bytes is not None:
        kept = sum(size for kind, size in memory.split_bytes.items() if kind != "activations")
        if memory.peak_bytes < kept:
            said.append(f"peak {memory.peak_bytes} B is below the {kept} B of its parameters, gradients and state")
    if memory is not None and "note" in memory.missing:
        said.append(memory.missing["note"])
    return said
