"""What in a session cannot be, or was disturbed: said with the numbers, in the notes of its Records."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from samcmp.profiling.clocks import CudaClock
from samcmp.profiling.results import Results
from samcmp.records import Memory, Throughput

BURSTY = 1.1  # mean over median time
SURELY = 0.02  # beyond an interval: smaller differences of speed mean nothing anywhere here
SAM_SPEED = (0.45, 1.0)  # of the base's: two passes and a perturbation


def warnings(results: Results, speeds: Mapping[str, Throughput | None]) -> list[str]:
    """Say, with the numbers, what in a session cannot be or was disturbed."""
    said: list[str] = []
    sam = speeds.get(results.sam or "")
    base = None if sam is None else sam.ratio_to.get(results.base or "")
    if base is not None and ((base[2] or 1.0) < SAM_SPEED[0] or (base[1] or 0.0) > SAM_SPEED[1]):
        said.append(f"SAM at {base[0]:.2f} of the base's speed: two passes give {SAM_SPEED[0]} to {SAM_SPEED[1]}")
    fixed = results.bound
    if fixed is not None and fixed[0] < -0.02 * fixed[1]:
        said.append(
            f"a base step is {-fixed[0] * 1e3:.2f} ms faster than its own gradient: noise exceeds the step's cost"
        )
    said += _disturbances(results)
    for name, speed in speeds.items():
        said += [f"{name}: {text}" for text in _odd(speed, results.memory.get(name))]
    return said


def _disturbances(results: Results) -> list[str]:
    session = results.session
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
    if results.clock != CudaClock.name and blocks:
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
    return said


def _odd(speed: Throughput | None, memory: Memory | None) -> list[str]:
    said = []
    least = speed.details.get("least_time") if speed is not None else None
    if least is not None and least[1] > 1.0 + SURELY:
        said.append(f"its gradients need {least[1]:.2f} to {least[2]:.2f} of the time it took: faster than they allow")
    kinds = speed.details["step_kinds"] if speed is not None else {}
    if not math.isfinite(kinds.get("log_error", 0.0)):
        said.append(f"{kinds['counted_steps']} steps are too few to know its share of two-pass steps")
    if memory is not None and memory.peak_bytes is not None:
        kept = sum(size for kind, size in memory.split_bytes.items() if kind != "activations")
        if memory.peak_bytes < kept:
            said.append(f"peak {memory.peak_bytes} B is below the {kept} B of its parameters, gradients and state")
    if memory is not None and "note" in memory.missing:
        said.append(memory.missing["note"])
    return said
