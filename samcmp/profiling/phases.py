"""Where a step's time goes (--detail) and its timeline (--trace): a pass of its own, because it slows what it sees."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from samcmp.errors import UsageError
from samcmp.training.loop import StepClosure, Trainer

if TYPE_CHECKING:
    from torch import Tensor

    from samcmp.profiling.arms import Arm
    from samcmp.profiling.clocks import HostClock
    from samcmp.training.loop import Batch
    from samcmp.training.setup import Setup

STEPS = 16
TRACE_STEPS = 4
ADDS_UP = 0.01
PHASES = ("loading", "forward", "backward", "optimizer")


class Phases:
    """Time by phases, read at their edges: the phase that was innermost gets the time since the last edge.

    The edges are the device's, the time of the whole stretch is the host's.
    """

    def __init__(self, clock: HostClock) -> None:
        self.clock = clock
        self.names: list[str] = []
        self.edges: list[tuple[Any, str | None]] = []  # (moment, phase that ended or was interrupted here)
        self.began = 0.0

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Count the time inside for ``name``, except what an inner phase takes."""
        self.edges.append((self.clock.mark(), self.names[-1] if self.names else None))
        self.names.append(name)
        try:
            yield
        finally:
            self.edges.append((self.clock.mark(), name))
            self.names.pop()

    def start(self) -> None:
        self.clock.wait()
        self.began = self.clock.now()

    def stop(self) -> tuple[dict[str, float], float]:
        """Return seconds by phase, and of the whole stretch."""
        self.clock.wait()
        wall = self.clock.now() - self.began
        seconds: dict[str, float] = {}
        for (before, _), (after, name) in itertools.pairwise(self.edges):
            if name is not None:
                seconds[name] = seconds.get(name, 0.0) + self.clock.between(before, after)
        return seconds, wall


# ---------------------------------------------------------------------------------------------- the pass


class PhasedClosure(StepClosure):
    """A step's closure that notes where forward ends and backward begins."""

    def __init__(self, plain: StepClosure, phases: Phases) -> None:
        super().__init__(plain.model, plain.criterion, loss_power=plain.loss_power, loss_term=plain.loss_term)
        self.phases = phases

    def _loss(self, batch: Batch, *, elements: bool = False) -> Tensor:
        with self.phases.inside("forward"):
            return super()._loss(batch, elements=elements)

    def _backward(self, loss: Tensor, weight: Tensor | None = None) -> Tensor:
        with self.phases.inside("backward"):
            return super()._backward(loss, weight)

    def losses(self) -> Tensor:
        with self.phases.inside("forward"):
            return super().losses()


def phases_of(arm: Arm, setup: Setup, clock: HostClock) -> dict[str, Any]:
    """Time loading, forward, backward and optimizer apart, in a mean step of a training through the data path."""
    timed = [(share, *_timed(steps.trainer, setup, clock)) for share, steps in zip(arm.shares, arm.steps, strict=True)]
    seconds = {name: sum(share * parts.get(name, 0.0) for share, parts, _ in timed) for name in PHASES}
    wall = sum(share * wall for share, _, wall in timed)
    over = sum(seconds.values()) / wall
    return {
        "phases_seconds": seconds,
        "phases_wall_seconds": wall,
        "phases_steps": STEPS * len(timed),
        "phases_sum_over_wall": over,
        "phases_add_up": abs(over - 1) <= ADDS_UP,
    }


def _timed(trainer: Trainer, setup: Setup, clock: HostClock) -> tuple[dict[str, float], float]:
    """Return the seconds of each phase and of the whole, a step."""
    phases = Phases(clock)
    plain = trainer.closure
    trainer.closure = PhasedClosure(plain, phases)
    try:
        source = itertools.chain.from_iterable(setup.train_batches(epoch) for epoch in itertools.count(2))
        phases.start()
        with phases.inside("optimizer"):  # around all steps: on a GPU an event between two of them takes time itself
            for _ in range(STEPS):
                with phases.inside("loading"):
                    batch = next(source)
                trainer.step(batch)
        seconds, wall = phases.stop()
    finally:
        trainer.closure = plain
    return {name: value / STEPS for name, value in seconds.items()}, wall / STEPS


def flops(trainer: Trainer, batches: Sequence[Batch]) -> float:
    """Count the floating-point operations of a gradient over the mean batch: matrix products and the like."""
    from torch.utils.flop_counter import FlopCounterMode

    closure = trainer.closure
    closure.batch = batches[0]
    before = closure.passes
    with FlopCounterMode(display=False) as counter:
        closure()
    closure.passes = before
    mean_work = sum(b.work for b in batches) / len(batches)
    return float(counter.get_total_flops() * mean_work / batches[0].work)


def trace(arms: Sequence[Arm], batches: Sequence[Batch], device: torch.device, *, path: Path) -> None:
    """Write a timeline of a few steps of each arm, in the format that chrome://tracing and perfetto.dev read."""
    from torch.profiler import ProfilerActivity, profile, record_function

    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for arm in arms:
            with arm.loaded():
                for kind, i in itertools.product(arm.steps, range(TRACE_STEPS)):
                    with record_function(f"{arm.name} step {i}"):
                        kind.trainer.step(batches[i % len(batches)])
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(path))
    except OSError as error:
        raise UsageError(f"the trace cannot be written: {error.strerror}", where=f"--trace {path}") from None
