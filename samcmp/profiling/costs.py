"""What an optimizer costs beyond its time: memory before anything is timed, then the data path, energy and phases.

None of it touches a timed block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from samcmp.profiling import energy as energies
from samcmp.profiling import memory as memories
from samcmp.profiling import phases
from samcmp.profiling.arms import Arm, MemorySubject, failure_of
from samcmp.profiling.clocks import HostClock
from samcmp.profiling.nvml import Gpu
from samcmp.profiling.results import Results, SessionOptions
from samcmp.records import Energy, Memory

if TYPE_CHECKING:
    from samcmp.graphs.batch import GraphBatch
    from samcmp.training.loop import Trainer

MEMORY_SHARE = 0.35  # of the budget, at most; before the rounds, so that an overrun of theirs takes none of it
PIPELINE_STEPS = 8  # a block through the data path on a GPU is at least this long


class Costs:
    """Measures within the seconds that ``left()`` returns, and writes into ``results``."""

    def __init__(
        self,
        results: Results,
        batches: Sequence[GraphBatch],
        *,
        clock: HostClock,
        gpu: Gpu,
        options: SessionOptions,
        left: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self.results = results
        self.setup = results.setup
        self.batches = batches
        self.clock = clock
        self.gpu = gpu
        self.options = options
        self.left = left
        self.say = say
        self.on_gpu = self.setup.device.type == "cuda"
        self.idle_watts: float | None = None
        self.counter = energies.Counter(gpu, synchronize=self._synchronize)

    def _synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.setup.device)

    def reserved_seconds(self) -> float:
        """Return the seconds to keep for what follows the rounds."""
        budget = self.options.seconds
        wanted = 0.0
        if self.options.energy and self.counter.unusable() is None:
            wanted += min(len(self.results.alive) * 1.2 * energies.WINDOW_SECONDS, 0.4 * budget)
        if self.options.detail or self.options.trace:
            wanted += min(sum(2.5 * self._phase_seconds(arm) for arm in self.results.alive), 0.3 * budget)
        return wanted

    def _phase_seconds(self, arm: Arm) -> float:
        return phases.STEPS * len(arm.shares) * arm.seconds_per_step

    # ------------------------------------------------------------------ before the rounds

    def idle_power(self) -> None:
        """Measure idle power before anything runs, where the budget has room for energy at all."""
        enough = self.options.seconds >= 12 * energies.WINDOW_SECONDS
        if self.options.energy and enough and self.counter.unusable() is None:
            self.say("measuring idle power")
            self.idle_watts = self.counter.idle_watts()

    def memory(self) -> None:
        """Weigh each arm on a fresh model before any other is in memory; only what the rounds need ends it early.

        An arm that fails here leaves its reason, and the next goes on.
        """
        if not self.options.memory:
            return
        arms = self.results.arms
        self._load_libraries(arms[0])
        end = self.left() - MEMORY_SHARE * self.options.seconds
        for i, arm in enumerate(arms):
            before = self.left()
            if before < end:
                self.results.memory[arm.name] = Memory(None, missing={"peak_bytes": "the budget left no time for it"})
                continue
            self.say(f"memory of {arm.name}")
            self.results.memory[arm.name] = self._weighed(arm, repeats=1)
            if self.on_gpu and 3 * (before - self.left()) * (len(arms) - i) < before - end:
                self.results.memory[arm.name] = self._weighed(arm, repeats=3)

    def _load_libraries(self, arm: Arm) -> None:
        """Take a step unweighed: what loads or is set up at the first step of a process is nobody's memory."""
        with contextlib.suppress(Exception), arm.turn(arm.key):  # the weighing says why
            MemorySubject(self.setup, arm.case, self.batches, steps=1).run()

    def _weighed(self, arm: Arm, *, repeats: int) -> Memory:
        def fresh() -> MemorySubject:
            return MemorySubject(self.setup, arm.case, self.batches)

        try:
            with arm.turn(arm.key):
                return memories.measure(fresh, self.setup.device, gpu=self.gpu, repeats=repeats)
        except Exception as error:
            return Memory(None, missing={"peak_bytes": ": ".join(failure_of(error))})

    # ------------------------------------------------------------------ after the rounds

    def run(self) -> None:
        """Measure all else that was asked for and fits."""
        self.pipeline()
        if self.options.energy:
            self.energy()
        self.details()

    def pipeline(self) -> None:
        """Speed through the whole data path. A CPU does one after the other; a GPU overlaps, so there it is timed."""
        for arm in self.results.alive:
            times = self.results.step_seconds(arm.name)
            if not len(times) or self.results.loader_seconds is None:
                continue
            if not self.on_gpu:
                self.results.pipeline_seconds[arm.name] = float(np.median(times)) + self.results.loader_seconds
            elif self.left() > 2 * len(arm.shares) * self.results.steps * arm.seconds_per_step:
                with arm.loaded():
                    self.results.pipeline_seconds[arm.name] = arm.mean(self._streamed)

    def _streamed(self, trainer: Trainer) -> float:
        def through() -> Sequence[int]:
            wanted = range(max(PIPELINE_STEPS, self.results.steps))
            taken = []
            for _, batch in zip(wanted, self.setup.train_batches(1), strict=False):
                trainer.step(batch)
                taken.append(1)
            return taken

        timed = self.clock.block(through)
        return timed.host_seconds / len(timed.passes)

    def energy(self) -> None:
        """Joules per graph of each arm, from the counter; without one, the reason."""
        missing = self.counter.unusable()
        for arm in self.results.alive:
            if missing is None and self.left() < 1.5 * energies.WINDOW_SECONDS:
                missing = "the budget left no window of 5 s"
            self.results.energy[arm.name] = Energy(None, missing=missing) if missing else self._joules(arm)

    def _joules(self, arm: Arm) -> Energy:
        with arm.loaded():
            window = self.counter.window(lambda: round(arm.take(self.results.steps) * self.results.graphs_per_step))
        energy = energies.energy(window, idle_watts=self.idle_watts)
        if energy.watts is not None:
            limit = self.gpu.read("power_limit_watts")
            odd = energies.plausible(energy.watts, idle_watts=self.idle_watts, limit_watts=limit)
            if odd:
                self.results.warnings.append(f"{arm.name}: {odd}")
        return energy

    def details(self) -> None:
        """Add phases, operations and, on request, a trace."""
        for arm in self.results.alive if self.options.detail else ():
            details = self.results.details.setdefault(arm.name, {})
            if self.left() < 2 * self._phase_seconds(arm):
                details["phases_missing"] = "the budget left no time for it"
                continue
            self.say(f"phases of {arm.name}")
            with arm.loaded():
                details |= phases.phases_of(arm, self.setup)
                details["flop_per_gradient"] = phases.flops(arm.steps[0].trainer, self.batches)
        if self.options.trace:
            phases.trace(self.results.alive, self.batches, self.setup.device, path=Path(self.options.trace))
