"""Where a step's time goes (--detail) and its timeline (--trace): a pass of its own, because it slows what it sees."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from samcmp.errors import UsageError
from samcmp.profiling.clocks import event_now
from samcmp.training.loop import StepClosure, Trainer

if TYPE_CHECKING:
    from torch import Tensor

    from samcmp.graphs.batch import GraphBatch
    from samcmp.profiling.arms import Arm
    from samcmp.training.setup import Setup

STEPS = 16
TRACE_STEPS = 4
ADDS_UP = 0.01
PHASES = ("loading", "forward", "backward", "optimizer")


class HostPhases:
    """Phases by the host's clock, read at their edges: the phase that was innermost gets the time since the last edge.

    ``wall`` of the whole stretch is a reading of its own.
    """

    def __init__(self, counter: Callable[[], int] = time.perf_counter_ns) -> None:
        self.counter = counter
        self.names: list[str] = []
        self.edges: list[tuple[Any, str | None]] = []  # (reading, phase that ended or was interrupted here)
        self.began = 0

    def read(self) -> Any:
        return self.counter()

    def between(self, before: Any, after: Any) -> float:
        """Return the seconds between two readings."""
        return float(after - before) / 1e9

    def wait(self) -> None:
        """Wait until what was begun is done."""

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Count the time inside for ``name``, except what an inner phase takes."""
        self.edges.append((self.read(), self.names[-1] if self.names else None))
        self.names.append(name)
        try:
            yield
        finally:
            self.edges.append((self.read(), name))
            self.names.pop()

    def start(self) -> None:
        self.wait()
        self.began = self.counter()

    def stop(self) -> tuple[dict[str, float], float]:
        """Return seconds by phase, and of the whole stretch."""
        self.wait()
        wall = (self.counter() - self.began) / 1e9
        seconds: dict[str, float] = {}
        for (before, _), (after, name) in itertools.pairwise(self.edges):
            if name is not None:
                seconds[name] = seconds.get(name, 0.0) + self.between(before, after)
        return seconds, wall


class CudaPhases(HostPhases):
    """Phases by CUDA events on the current stream; the wall time is the host's, between two synchronisations."""

    def __init__(self, device: Any, *, cuda: Any = None, counter: Callable[[], int] = time.perf_counter_ns) -> None:
        super().__init__(counter)
        self.cuda = torch.cuda if cuda is None else cuda
        self.device = device

    def read(self) -> Any:
        return event_now(self.cuda, self.device)

    def between(self, before: Any, after: Any) -> float:
        return float(before.elapsed_time(after)) / 1e3

    def wait(self) -> None:
        self.cuda.synchronize(self.device)


def phases_for(device: torch.device) -> HostPhases:
    return CudaPhases(device) if device.type == "cuda" else HostPhases()


# ---------------------------------------------------------------------------------------------- the pass


class PhasedClosure(StepClosure):
    """A step's closure that notes where forward ends and backward begins."""

    def __init__(self, plain: StepClosure, phases: HostPhases) -> None:
        super().__init__(plain.model, plain.criterion, loss_power=plain.loss_power, loss_term=plain.loss_term)
        self.phases = phases

    def _loss(self, batch: GraphBatch, *, elements: bool = False) -> Tensor:
        with self.phases.inside("forward"):
            return super()._loss(batch, elements=elements)

    def _backward(self, loss: Tensor, weight: Tensor | None = None) -> Tensor:
        with self.phases.inside("backward"):
            return super()._backward(loss, weight)

    def losses(self) -> Tensor:
        with self.phases.inside("forward"):
            return super().losses()


def phases_of(arm: Arm, setup: Setup) -> dict[str, Any]:
    """Time loading, forward, backward and optimizer apart, in a mean step of a training through the data path."""
    timed = [(share, *_timed(steps.trainer, setup)) for share, steps in zip(arm.shares, arm.steps, strict=True)]
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


def _timed(trainer: Trainer, setup: Setup) -> tuple[dict[str, float], float]:
    """Return the seconds of each phase and of the whole, a step."""
    phases = phases_for(setup.device)
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


def flops(trainer: Trainer, batches: Sequence[GraphBatch]) -> float:
    """Count the floating-point operations of a gradient over the mean batch: matrix products and the like."""
    from torch.utils.flop_counter import FlopCounterMode

    closure = trainer.closure
    closure.batch = batches[0]
    before = closure.passes
    with FlopCounterMode(display=False) as counter:
        closure()
    closure.passes = before
    mean_atoms = sum(b.num_atoms for b in batches) / len(batches)
    return float(counter.get_total_flops() * mean_atoms / batches[0].num_atoms)


def trace(arms: Sequence[Arm], batches: Sequence[GraphBatch], device: torch.device, *, path: Path) -> None:
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
