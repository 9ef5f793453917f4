"""The passes after the rounds: the whole data path, energy, phases, and memory. None of them touches a timed block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from samcmp.profiling import contenders as ready
from samcmp.profiling import detail
from samcmp.profiling import energy as energies
from samcmp.profiling import memory as memories
from samcmp.profiling.clocks import Clock
from samcmp.profiling.contenders import Arm
from samcmp.profiling.found import Found, Wishes
from samcmp.profiling.nvml import Gpu
from samcmp.records import Energy, Memory

if TYPE_CHECKING:
    from samcmp.graphs.batch import GraphBatch

MEMORY_SHARE = 0.35  # of the budget, at most
UNTIMED_SHARE = 0.05  # of the budget, for counting the kinds of steps that nothing else tells
PIPELINE_STEPS = 8  # a block through the data path on a GPU is at least this long
Cause = Callable[[Exception], tuple[str, str]]


class After:
    """What is measured once the rounds are over, each within the seconds that ``left()`` returns."""

    def __init__(
        self,
        found: Found,
        batches: Sequence[GraphBatch],
        *,
        clock: Clock,
        gpu: Gpu,
        wishes: Wishes,
        left: Callable[[], float],
        say: Callable[[str], None],
        cause: Cause,
    ) -> None:
        self.found = found
        self.setup = found.setup
        self.batches = batches
        self.clock = clock
        self.gpu = gpu
        self.wishes = wishes
        self.left = left
        self.say = say
        self.cause = cause
        self.idle_watts: float | None = None
        self.counter = energies.Counter(gpu, synchronize=self._synchronize)

    @property
    def alive(self) -> list[Arm]:
        return [arm for arm in self.found.arms if arm.failure is None]

    @property
    def on_gpu(self) -> bool:
        return self.setup.device.type == "cuda"

    def _synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.setup.device)

    def idle(self) -> None:
        """Measure idle power before anything runs, where the budget has room for energy at all."""
        enough = self.wishes.seconds >= 12 * energies.WINDOW_SECONDS
        if self.wishes.energy and enough and self.counter.unusable() is None:
            self.say("measuring idle power")
            self.idle_watts = self.counter.idle_watts()

    def reserved(self) -> float:
        """Return the seconds to keep for these passes."""
        budget = self.wishes.seconds
        wanted = self._memory_reserve()
        if self.wishes.energy and self.counter.unusable() is None:
            wanted += min(len(self.alive) * 1.2 * energies.WINDOW_SECONDS, 0.4 * budget)
        if self.wishes.detail or self.wishes.trace:
            wanted += min(sum(2.5 * detail.STEPS * arm.seconds_per_step for arm in self.alive), 0.3 * budget)
        return wanted + UNTIMED_SHARE * budget * any(arm.cadence.kind == "data-dependent" for arm in self.alive)

    def _memory_reserve(self) -> float:
        if not self.wishes.memory:
            return 0.0
        repeats = 3 if self.on_gpu else 1
        # a fresh model's first steps are slow: allocator, threads and caches are cold
        costs = (1.5 * memory_steps(arm) * arm.seconds_per_step + 0.3 for arm in self.alive)
        return min(repeats * sum(costs), MEMORY_SHARE * self.wishes.seconds)

    def run(self) -> None:
        """Run every pass that was asked for and fits."""
        self.pipeline()
        if self.wishes.energy:
            self.energy()
        if self.wishes.detail or self.wishes.trace:
            detail.add(self.found, self.batches, wishes=self.wishes, left=self._left_for_detail, say=self.say)
        for arm in self.found.arms:
            arm.release()  # timed trainers must not weigh in the memory pass
        if self.wishes.memory:
            self.memory()

    def _left_for_detail(self) -> float:
        return self.left() - self._memory_reserve()

    # ------------------------------------------------------------------ the data path

    def pipeline(self) -> None:
        """Speed through the whole data path. A CPU does one after the other; a GPU overlaps, so there it is timed."""
        session, loader = self.found.session, self.found.loader_seconds
        if session is None or loader is None:
            return
        for arm in self.alive:
            times = session.step_seconds[arm.name]
            if not len(times):
                continue
            if not self.on_gpu:
                self.found.pipeline_seconds[arm.name] = float(np.median(times)) + loader
            elif self.left() > 2 * self.found.steps * arm.seconds_per_step:
                self.found.pipeline_seconds[arm.name] = self._streamed(arm)

    def _streamed(self, arm: Arm) -> float:
        def through(mark: Any) -> Sequence[int]:
            wanted = range(max(PIPELINE_STEPS, self.found.steps))
            taken = []
            for _, batch in zip(wanted, self.setup.train_batches(1), strict=False):
                before = arm.trainer.closure.passes
                arm.trainer.step(batch)
                taken.append(arm.trainer.closure.passes - before)
            return taken

        with arm.held():
            timed = self.clock.block(through)
        return timed.host_seconds / len(timed.passes)

    # ------------------------------------------------------------------ energy

    def energy(self) -> None:
        """Joules per graph of each arm, from the counter; without one, the reason."""
        missing = self.counter.unusable()
        for arm in self.alive:
            if missing is None and self.left() < 1.5 * energies.WINDOW_SECONDS:
                missing = "the budget left no window of 5 s"
            self.found.energy[arm.name] = Energy(None, missing=missing) if missing else self._joules(arm)

    def _joules(self, arm: Arm) -> Energy:
        steps, graphs = self.found.steps, self.found.graphs_per_step

        def block() -> int:
            return round(len(arm.take(0, steps, lambda: None)) * graphs)

        with arm.held():
            window = self.counter.window(block)
        found = energies.energy(window, idle_watts=self.idle_watts, missing=None)
        if found.watts is not None:
            limit = self.gpu.read("power_limit_watts")
            odd = energies.plausible(found.watts, idle_watts=self.idle_watts, limit_watts=limit)
            if odd:
                self.found.warnings.append(f"{arm.name}: {odd}")
        return found

    # ------------------------------------------------------------------ memory

    def memory(self) -> None:
        """Weigh each arm on a fresh model; one that fails leaves its reason and the next goes on."""
        for arm in self.alive:
            steps = memory_steps(arm)
            cost = steps * arm.seconds_per_step
            if self.left() < cost:
                self.found.memory[arm.name] = Memory(None, missing={"peak_bytes": "the budget left no time for it"})
                continue
            self.say(f"memory of {arm.name}")
            self.found.memory[arm.name] = self._weighed(arm, steps, repeats=3 if self.left() > 6 * cost else 1)

    def _weighed(self, arm: Arm, steps: int, *, repeats: int) -> Memory:
        def fresh() -> ready.MemorySubject:
            return ready.MemorySubject(self.setup, arm.case, self.batches, steps=steps)

        try:
            return memories.measure(fresh, self.setup.device, gpu=self.gpu, repeats=repeats)
        except Exception as error:
            return Memory(None, missing={"peak_bytes": ": ".join(self.cause(error))})


def memory_steps(arm: Arm) -> int:
    """Return the steps after which all state exists: two periods of a short rhythm, else anchor and plain steps."""
    return 2 * arm.cadence.period + 1 if arm.cadence.kind == "periodic" and arm.cadence.period < 5 else 4
