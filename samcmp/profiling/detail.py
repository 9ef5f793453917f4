"""Where a step's time goes (--detail) and its timeline (--trace): a pass of its own, because it slows what it sees."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from samcmp.errors import UsageError
from samcmp.profiling.contenders import Arm
from samcmp.profiling.found import Found, Wishes
from samcmp.profiling.phases import Phases, phases_for
from samcmp.training.loop import StepClosure

if TYPE_CHECKING:
    from torch import Tensor

    from samcmp.graphs.batch import GraphBatch

STEPS = 16
TRACE_STEPS = 4
ADDS_UP = 0.01


class PhasedClosure(StepClosure):
    """A step's closure that notes where forward ends and backward begins."""

    def __init__(self, plain: StepClosure, phases: Phases) -> None:
        super().__init__(plain.model, plain.criterion, loss_power=plain.loss_power, loss_term=plain.loss_term)
        self.phases = phases

    def _loss(self, batch: GraphBatch) -> Tensor:
        with self.phases.inside("forward"):
            return super()._loss(batch)

    def _backward(self, loss: Tensor, weight: Tensor | None = None) -> Tensor:
        with self.phases.inside("backward"):
            return super()._backward(loss, weight)

    def losses(self) -> Tensor:
        with self.phases.inside("forward"):
            return super().losses()


def add(
    found: Found,
    batches: Sequence[GraphBatch],
    *,
    wishes: Wishes,
    left: Callable[[], float],
    say: Callable[[str], None],
) -> None:
    """Add phases, operations and, on request, a trace to ``found.details``."""
    alive = [arm for arm in found.arms if arm.failure is None]
    for arm in alive if wishes.detail else ():
        if left() < 2 * STEPS * arm.seconds_per_step:
            found.details.setdefault(arm.name, {})["phases_missing"] = "the budget left no time for it"
            continue
        say(f"phases of {arm.name}")
        with arm.held():
            found.details.setdefault(arm.name, {}).update(_phases(found, arm))
            found.details[arm.name].update(_operations(found, arm, batches))
    if wishes.trace:
        trace(found, alive, batches, path=Path(wishes.trace))


def _phases(found: Found, arm: Arm) -> dict[str, Any]:
    """Time loading, forward, backward and optimizer apart over a stretch of the data path."""
    setup, trainer = found.setup, arm.trainer
    phases = phases_for(setup.device)
    plain = trainer.closure
    trainer.closure = PhasedClosure(plain, phases)
    period = arm.cadence.period
    steps = period * -(-STEPS // period)
    try:
        source = itertools.chain.from_iterable(setup.train_batches(epoch) for epoch in itertools.count(2))
        phases.start()
        with phases.inside("optimizer"):  # around all steps: on a GPU an event between two of them takes time itself
            for _ in range(steps):
                with phases.inside("loading"):
                    batch = next(source)
                trainer.step(batch)
        seconds, wall = phases.stop()
    finally:
        trainer.closure = plain
    total = sum(seconds.values())
    return {
        "phases_seconds": {name: value / steps for name, value in seconds.items()},
        "phases_wall_seconds": wall / steps,
        "phases_steps": steps,
        "phases_sum_over_wall": total / wall,
        "phases_add_up": abs(total / wall - 1) <= ADDS_UP,
    }


def _operations(found: Found, arm: Arm, batches: Sequence[GraphBatch]) -> dict[str, Any]:
    """Count the floating-point operations of a gradient (matrix products and the like) and their rate in a step."""
    from torch.utils.flop_counter import FlopCounterMode

    session = found.session
    closure = arm.trainer.closure
    closure.batch = batches[0]
    before = closure.passes
    with FlopCounterMode(display=False) as counter:
        closure()
    closure.passes = before
    share = found.shares.get(arm.name)
    if session is None or share is None or not len(session.step_seconds[arm.name]):
        return {"flop_per_gradient": counter.get_total_flops()}
    flops = counter.get_total_flops() * batches_ratio(batches) * share["mean_passes"]
    return {
        "flop_per_gradient": counter.get_total_flops(),
        "flop_per_step": flops,
        "tflop_per_second": flops / float(np.median(session.step_seconds[arm.name])) / 1e12,
        "flop_counted": "matrix products, convolutions and attention of forward and backward; element-wise work is not",
    }


def batches_ratio(batches: Sequence[GraphBatch]) -> float:
    """Return how much larger the mean batch is than the first, in atoms."""
    return sum(b.num_atoms for b in batches) / len(batches) / batches[0].num_atoms


def trace(found: Found, arms: Sequence[Arm], batches: Sequence[GraphBatch], *, path: Path) -> None:
    """Write a timeline of a few steps of each arm, in the format that chrome://tracing and perfetto.dev read."""
    from torch.profiler import ProfilerActivity, profile, record_function

    activities = [ProfilerActivity.CPU]
    if found.setup.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for arm in arms:
            with arm.held():
                for i in range(TRACE_STEPS):
                    with record_function(f"{arm.name} step {i}"):
                        arm.trainer.step(batches[i % len(batches)])
        if found.setup.device.type == "cuda":
            torch.cuda.synchronize(found.setup.device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(path))
    except OSError as error:
        raise UsageError(f"the trace cannot be written: {error.strerror}", where=f"--trace {path}") from None
