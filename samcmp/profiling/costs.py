"""What an optimizer costs beyond its time: memory before anything is timed, then the data path, energy and phases.

None of it touches a timed block. All of it keeps within the seconds that the session has left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from samcmp.profiling import energy as energies
from samcmp.profiling import memory as memories
from samcmp.profiling import phases
from samcmp.profiling.arms import Arm, MemorySubject, failure_of
from samcmp.profiling.results import Results
from samcmp.records import Energy, Memory

if TYPE_CHECKING:
    from samcmp.training.loop import Trainer

MEMORY_SHARE = 0.35  # of the budget, at most; before the rounds, so that an overrun of theirs takes none of it
PIPELINE_STEPS = 8  # a block through the data path on a GPU is at least this long


def counter_of(run: Results) -> energies.Counter:
    """Return the energy counter of the session's device."""

    def synchronize() -> None:
        if run.on_gpu:
            torch.cuda.synchronize(run.setup.device)

    return energies.Counter(run.gpu, synchronize)


def seconds_after_rounds(run: Results) -> float:
    """Return the seconds to keep for what follows the rounds."""
    budget = run.options.seconds
    wanted = 0.0
    if run.options.energy and counter_of(run).unusable() is None:
        wanted += min(len(run.alive) * 1.2 * energies.WINDOW_SECONDS, 0.4 * budget)
    if run.options.detail or run.options.trace:
        wanted += min(sum(2.5 * _phase_seconds(arm) for arm in run.alive), 0.3 * budget)
    return wanted


def _phase_seconds(arm: Arm) -> float:
    return phases.STEPS * len(arm.shares) * arm.seconds_per_step


# ---------------------------------------------------------------------------------------------- before the rounds


def idle_watts(run: Results) -> float | None:
    """Measure idle power before anything runs, where the budget has room for energy at all."""
    counter = counter_of(run)
    enough = run.options.seconds >= 12 * energies.WINDOW_SECONDS
    if not (run.options.energy and enough) or counter.unusable() is not None:
        return None
    run.say("measuring idle power")
    return counter.idle_watts()


def memory(run: Results) -> None:
    """Weigh each arm on a fresh model before any other is in memory; only what the rounds need ends it early.

    An arm that fails here leaves its reason, and the next goes on.
    """
    if not run.options.memory:
        return
    _load_libraries(run, run.arms[0])
    end = run.seconds_left - MEMORY_SHARE * run.options.seconds
    for i, arm in enumerate(run.arms):
        before = run.seconds_left
        if before < end:
            run.memory[arm.name] = Memory(None, missing={"peak_bytes": "the budget left no time for it"})
            continue
        run.say(f"memory of {arm.name}")
        run.memory[arm.name] = _weighed(run, arm, repeats=1)
        if run.on_gpu and 3 * (before - run.seconds_left) * (len(run.arms) - i) < before - end:
            run.memory[arm.name] = _weighed(run, arm, repeats=3)


def _load_libraries(run: Results, arm: Arm) -> None:
    """Take a step unweighed: what loads or is set up at the first step of a process is nobody's memory."""
    with contextlib.suppress(Exception), arm.turn(arm.key):  # the weighing says why
        MemorySubject(run.setup, arm.case, run.batches, steps=1).run()


def _weighed(run: Results, arm: Arm, *, repeats: int) -> Memory:
    def fresh() -> MemorySubject:
        return MemorySubject(run.setup, arm.case, run.batches)

    try:
        with arm.turn(arm.key):
            return memories.measure(fresh, run.setup.device, gpu=run.gpu, repeats=repeats)
    except Exception as error:
        return Memory(None, missing={"peak_bytes": ": ".join(failure_of(error))})


# ---------------------------------------------------------------------------------------------- after the rounds


def pipeline(run: Results) -> None:
    """Speed through the whole data path. A CPU does one after the other; a GPU overlaps, so there it is timed."""

    def streamed(trainer: Trainer) -> float:
        def through() -> Sequence[int]:
            wanted = range(max(PIPELINE_STEPS, run.steps))
            taken = []
            for _, batch in zip(wanted, run.setup.train_batches(1), strict=False):
                trainer.step(batch)
                taken.append(1)
            return taken

        timed = run.clock.block(through)
        return timed.host_seconds / len(timed.passes)

    for arm in run.alive:
        times = run.step_seconds(arm.name)
        if not len(times) or run.loader_seconds is None:
            continue
        if not run.on_gpu:
            run.pipeline_seconds[arm.name] = float(np.median(times)) + run.loader_seconds
        elif run.seconds_left > 2 * len(arm.shares) * run.steps * arm.seconds_per_step:
            with arm.loaded():
                run.pipeline_seconds[arm.name] = arm.mean(streamed)


def energy(run: Results, *, idle_watts: float | None) -> None:
    """Joules per graph of each arm, from the counter; without one, the reason."""
    missing = counter_of(run).unusable()
    for arm in run.alive if run.options.energy else ():
        if missing is None and run.seconds_left < 1.5 * energies.WINDOW_SECONDS:
            missing = "the budget left no window of 5 s"
        run.energy[arm.name] = Energy(None, missing=missing) if missing else _joules(run, arm, idle_watts)


def _joules(run: Results, arm: Arm, idle_watts: float | None) -> Energy:
    with arm.loaded():
        window = counter_of(run).window(lambda: round(arm.take(run.steps) * run.graphs_per_step))
    energy = energies.energy(window, idle_watts=idle_watts)
    if energy.watts is not None:
        limit = run.gpu.read("power_limit_watts")
        odd = energies.plausible(energy.watts, idle_watts=idle_watts, limit_watts=limit)
        if odd:
            run.warnings.append(f"{arm.name}: {odd}")
    return energy


def details(run: Results) -> None:
    """Add phases, operations and a trace, on request."""
    for arm in run.alive if run.options.detail else ():
        details = run.details.setdefault(arm.name, {})
        if run.seconds_left < 2 * _phase_seconds(arm):
            details["phases_missing"] = "the budget left no time for it"
            continue
        run.say(f"phases of {arm.name}")
        with arm.loaded():
            details |= phases.phases_of(arm, run.setup, run.clock)
            details["flop_per_gradient"] = phases.flops(arm.steps[0].trainer, run.batches)
    if run.options.trace:
        phases.trace(run.alive, run.batches, run.setup.device, path=Path(run.options.trace))
