"""What a session is asked to do, and everything it measures before it becomes Records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from samcmp.graphs.batch import GraphBatch
from samcmp.profiling.arms import GRADIENT, SAM, Arm
from samcmp.profiling.clocks import HostClock
from samcmp.profiling.nvml import Gpu
from samcmp.profiling.ratios import Floats
from samcmp.profiling.rounds import Session
from samcmp.records import Energy, Memory
from samcmp.training.setup import Setup

if TYPE_CHECKING:
    from samcmp.training.loop import Batch


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session should do, and for how long; nothing here changes what a Record is about."""

    seconds: float = 240.0
    detail: bool = False
    trace: str | None = None
    energy: bool = True
    memory: bool = True
    wait_seconds: float = 1800.0  # for another samcmp on the device
    process: int = 0  # of several: each draws other orders of rounds


@dataclass(slots=True)
class Results:
    """Where a session measures, and everything it has measured, before it becomes Records."""

    setup: Setup
    arms: list[Arm]
    batches: Sequence[Batch]  # the recorded list, on the device
    options: SessionOptions
    clock: HostClock
    gpu: Gpu
    say: Callable[[str], None]
    start: float  # of the budget, in the clock's time
    steps: int = 0  # of a block
    session: Session | None = None
    memory: dict[str, Memory] = field(default_factory=dict)
    energy: dict[str, Energy] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    loader_seconds: float | None = None  # per step
    pipeline_seconds: dict[str, float] = field(default_factory=dict)  # per step
    device: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    one_at_a_time: str | None = None  # why the optimizers were not in memory side by side
    interrupted: bool = False
    parameters: int | None = None

    @property
    def on_gpu(self) -> bool:
        return self.setup.device.type == "cuda"

    @property
    def seconds_left(self) -> float:
        return self.options.seconds - (self.clock.now() - self.start)

    @property
    def graphs_per_step(self) -> float:
        """Graphs, or images."""
        return float(np.mean([b.size for b in self.batches]))

    @property
    def atoms_per_step(self) -> float | None:
        """None: of images."""
        atoms = [b.num_atoms for b in self.batches if isinstance(b, GraphBatch)]
        return float(np.mean(atoms)) if atoms else None

    @property
    def alive(self) -> list[Arm]:
        return [arm for arm in self.arms if arm.failure is None]

    @property
    def base(self) -> str | None:
        """The arm that is the base optimizer alone."""
        return next((arm.name for arm in self.arms if arm.case.is_base), None)

    @property
    def sam(self) -> str | None:
        return next((arm.name for arm in self.arms if arm.case.optimizer == SAM), None)

    @property
    def references(self) -> list[str]:
        """The arms that ratios are to: the base alone and SAM, where they are in the session."""
        return [name for name in (self.base, self.sam) if name is not None]

    def step_seconds(self, name: str | None) -> Floats:
        """Return the time of a mean step of an arm, one a round; empty where it was not timed."""
        if self.session is None or name is None:
            return np.empty(0)
        return self.session.step_seconds.get(name, np.empty(0))

    @property
    def bound(self) -> tuple[float, float] | None:
        """(F, g): fixed cost of a base step, and cost of a gradient, in seconds; None where not measured."""
        g, whole = self.step_seconds(GRADIENT), self.step_seconds(self.base)
        n = min(len(g), len(whole))
        return None if n == 0 else (float(np.median(whole[:n] - g[:n])), float(np.median(g[:n])))
