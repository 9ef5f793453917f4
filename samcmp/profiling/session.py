"""Profile cases -> Records: all optimizers of one dataset and model, interleaved in one process that holds the device.

One session of ``seconds``: every optimizer takes its first steps (a failure is recorded, the others go on), then
interleaved rounds, then a memory pass of its own for each, then energy where a counter exists. Interrupted, it returns
what was measured, marked ``partial``.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from samcmp import machine
from samcmp.errors import SamcmpError, UsageError, cause_of, in_one_line
from samcmp.profiling import contenders as ready
from samcmp.profiling import facts as profile_facts
from samcmp.profiling import shares
from samcmp.profiling.after import UNTIMED_SHARE, After
from samcmp.profiling.clocks import Clock, clock_for, working_after
from samcmp.profiling.contenders import Arm
from samcmp.profiling.found import Found, Wishes
from samcmp.profiling.lock import device_lock
from samcmp.profiling.nvml import Gpu, open_torch_device
from samcmp.profiling.residency import HostMemory
from samcmp.profiling.rounds import Rounds
from samcmp.profiling.watch import watch_for
from samcmp.records import Case, Record
from samcmp.training.setup import Options, Setup, assemble

BUDGET_SECONDS = 240.0
FEWEST = 6  # rounds: below, no signed-rank interval exists
LEAST_FOR_ROUNDS = 0.4  # of the budget, whatever else is wished for
VISITS_SHARE = 0.05  # of the budget, for finding out what steps cost
ROUNDS_SHARE = 0.8  # of the time of rounds; the rest warms up and collects garbage
STILL_BUSY = 0.5  # cores in use when a step has returned
BLOCK_SECONDS = 0.05  # shorter blocks are lengthened to this
Say = Callable[[str], None]


def profile(
    cases: Mapping[str, Case],
    options: Options,
    *,
    budget_seconds: float = BUDGET_SECONDS,
    wishes: Wishes | None = None,
    say: Say = lambda text: None,
    setup: Setup | None = None,
) -> list[Record]:
    """Measure the cases of one dataset and model side by side; ``cases`` maps content keys to profile cases.

    Raises SamcmpError for what the user can mend (data, names, device, a budget that is not positive).
    """
    wishes = replace(wishes or Wishes(), seconds=budget_seconds)
    if not (wishes.seconds > 0 and np.isfinite(wishes.seconds)):
        raise UsageError(
            f"a budget must be a positive number of seconds, got {wishes.seconds:g}",
            where="--budget",
            remedy="Give the seconds that one model and dataset may take, such as --budget 60s.",
        )
    _check_one_family(cases)
    began = time.perf_counter()
    setup = setup or assemble(next(iter(cases.values())), options)
    gpu = open_torch_device(setup.device)
    key = gpu.read("uuid") or str(setup.device)
    with device_lock(key, wait_seconds=wishes.wait_seconds, say=say) as unlocked:
        run = _Profile(cases, setup, gpu, wishes=wishes, say=say)
        if unlocked:
            run.found.warnings.append(unlocked)
        run.go()
    return profile_facts.records(run.found, cases, seconds=time.perf_counter() - began)


def _check_one_family(cases: Mapping[str, Case]) -> None:
    families = {(c.dataset, c.model, c.protocol, c.seed, str(c.model_settings)) for c in cases.values()}
    if len(families) != 1:
        raise ValueError(f"a session measures one dataset and model, got {len(families)} kinds of case")


def cause(error: Exception) -> tuple[str, str]:
    """Name why a contender failed: a status and a reason in one line. The others go on."""
    if isinstance(error, SamcmpError):
        return "error", in_one_line(error)[:300]
    status, reason = cause_of(error)
    if status == "out-of-memory" and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return status, reason


class _Profile:
    """One session on one device."""

    def __init__(self, cases: Mapping[str, Case], setup: Setup, gpu: Gpu, *, wishes: Wishes, say: Say) -> None:
        self.setup = setup
        self.gpu = gpu
        self.wishes = wishes
        self.say = say
        self.clock: Clock = clock_for(setup.device)
        self.start = self.clock.now()
        self.batches = ready.recorded(setup)
        arms = [Arm(key, case) for key, case in cases.items()]
        self.found = Found(setup, arms, self.clock.name)
        graphs = [b.num_graphs for b in self.batches]
        self.found.graphs_per_step = float(np.mean(graphs))
        self.found.atoms_per_step = float(np.mean([b.num_atoms for b in self.batches]))
        self.watch = watch_for(gpu)
        self.allocations = 0  # by the end of the first round
        self.load = machine.load()
        busy = self.load is not None and self.load > 0.5 * machine.usable_cores()
        if busy and not wishes.draw:  # later processes see the load of the first
            self.found.warnings.append(
                f"the machine was busy before the session (load {self.load} on {machine.usable_cores():g} cores)"
            )
        self.after = After(
            self.found, self.batches, clock=self.clock, gpu=gpu, wishes=wishes, left=self.left, say=say, cause=cause
        )

    @property
    def alive(self) -> list[Arm]:
        return [arm for arm in self.found.arms if arm.failure is None]

    def left(self) -> float:
        return self.wishes.seconds - (self.clock.now() - self.start)

    def go(self) -> None:
        """Run the passes in order; an interruption keeps what is there."""
        try:
            with _quiet_allocator(self.setup.device):
                self.after.idle()
                self._prepare()
                if self.alive:
                    self._loader()
                    self._rounds()
                    if not self.found.interrupted:
                        self.after.run()
        except KeyboardInterrupt:
            self.found.interrupted = True
        self.found.device = {"load_before": self.load, **self.gpu.facts(), **self.watch.summary()}

    # ------------------------------------------------------------------ first steps

    def _prepare(self) -> None:
        """Build every arm and let it take its first steps, untimed, side by side as long as memory allows."""
        memory = HostMemory()
        for arm in self.found.arms:
            full = memory.full() if self.setup.device.type == "cpu" and not self.found.apart else None
            if full is not None:
                self._set_apart(full)
            self._first_steps(arm)
            others = any(other is not arm and other.main is not None for other in self.found.arms)
            if arm.failure is not None and arm.failure[0] == "out-of-memory" and others:
                self._set_apart(f"{arm.name} did not fit beside those before it")
                arm.failure = None
                self._first_steps(arm)
            memory.note()

    def _first_steps(self, arm: Arm) -> None:
        self.say(f"first steps of {arm.name}")
        began = self.clock.now()
        try:
            arm.prepare(self.setup, self.batches)
            making = self.clock.now() - began
            self.found.parameters = sum(p.numel() for p in arm.trainer.model.parameters() if p.requires_grad)
            arm.seconds_per_step = self._seconds_per_pass(arm) * (arm.cadence.mean_passes or 1.5)
            self._look_after(arm)
            arm.making_seconds = making
        except Exception as error:
            arm.failure = cause(error)
        if self.found.apart or arm.failure is not None:
            arm.release()

    def _set_apart(self, why: str) -> None:
        """Keep no optimizer in memory but the one that is timed: each is built anew for its block of every round."""
        self.found.apart = why
        self.found.warnings.append(f"not side by side in memory ({why}): each was built anew for each of its blocks")
        for arm in self.found.arms:
            arm.release()

    def _seconds_per_pass(self, arm: Arm) -> float:
        """The fastest of three steps; of fewer where they are slow against the budget."""
        times: list[float] = []
        while len(times) < 3 and sum(times) < VISITS_SHARE * self.wishes.seconds / len(self.found.arms):
            timed = self.clock.block(lambda mark: arm.take(0, 1, mark))
            times.append(timed.seconds / max(1, sum(timed.passes)))
        return min(times)

    def _look_after(self, arm: Arm) -> None:
        """A CPU optimizer that works on in a thread would be timed too fast; on a GPU the two clocks tell."""
        if self.setup.device.type == "cpu" and working_after() > STILL_BUSY:
            again = working_after(seconds=0.05)
            if again > STILL_BUSY:
                self.found.warnings.append(
                    f"{arm.name}: {again:.1f} cores are busy after its step has returned: its time is not all of it"
                )

    def _loader(self) -> None:
        """Time the data path alone: slicing, collating and, on a GPU, copying the batches of an epoch."""
        wanted = min(len(self.batches), 64)

        def load(mark: Any) -> Sequence[int]:
            batches = self.setup.train_batches(1)
            return [0 for _, _batch in zip(range(wanted), batches, strict=False)]

        times = []
        for _ in range(3):
            timed = self.clock.block(load)
            times.append(timed.seconds / max(1, len(timed.passes)))
        self.found.loader_seconds = float(np.median(times))

    # ------------------------------------------------------------------ rounds

    def _rounds(self) -> None:
        arms = self.alive
        per_step = sum(arm.seconds_per_step for arm in arms)
        budget = max(LEAST_FOR_ROUNDS * self.wishes.seconds, self.left() - self.after.reserved())
        steps = self._block_steps(arms, per_step, budget)
        self.found.steps = steps
        contenders = [arm.contender(steps) for arm in arms]
        gradient = self._gradient()
        if gradient is not None:
            contenders.append(gradient.contender(steps))
        self.say(f"interleaved rounds: {len(arms)} optimizers, blocks of {steps} steps, up to {budget:.0f} s")
        rounds = Rounds(
            contenders,
            self.clock,
            seconds=budget,
            seed=self.setup.case.seed + self.wishes.draw,
            pairs=self._pairs(arms),
            watch=self.watch,
            expected_seconds=per_step * steps,
            failing=cause,
            on_round=self._after_round,
        )
        self.found.session = rounds.run()
        self._look_at_allocator()
        self.found.interrupted = self.found.session.stopped == "interrupted"
        shares.note(self.found, rounds, seconds=UNTIMED_SHARE * self.wishes.seconds)

    def _after_round(self, n: int) -> None:
        if n == 1:
            self.allocations = self._allocations()
        self.say(f"round {n}")

    def _allocations(self) -> int:
        """Return how often the allocator has asked the device for memory; 0 on a CPU."""
        if self.setup.device.type != "cuda":
            return 0
        return int(torch.cuda.memory_stats(self.setup.device).get("num_device_alloc", 0))

    def _look_at_allocator(self) -> None:
        grown = self._allocations() - self.allocations
        if grown > 0 and not self.found.apart and self.found.session is not None and self.found.session.rounds > 1:
            self.found.warnings.append(f"the allocator asked the device for memory {grown} times after the first round")

    def _block_steps(self, arms: Sequence[Arm], per_step: float, budget: float) -> int:
        """Whole periods for all, longer where steps are short, shorter where six rounds would not fit."""
        whole = ready.block_steps(arms)
        fastest = min(arm.seconds_per_step for arm in arms)
        making = sum(arm.making_seconds for arm in arms) if self.found.apart else 0.0  # in each round
        shortest = max(BLOCK_SECONDS / max(1e-9, fastest), making / max(1e-9, per_step))
        steps = whole * max(1, math.ceil(shortest / whole))
        while steps > whole and 12 * (making + steps * per_step) > 0.8 * budget:
            steps -= whole
        per_round = (per_step + fastest) / ROUNDS_SHARE  # of one step each: the bare gradient and warming up, too
        if FEWEST * (making + whole * per_round) > budget:
            steps = max(1, int((budget / FEWEST - making) / per_round))
            if steps < whole:
                self.found.warnings.append(
                    f"the budget does not hold six rounds of whole periods ({whole} steps): "
                    f"blocks of {steps} steps, the time of a mean step is composed from the kinds of steps"
                )
        return min(steps, max(whole, 4096))

    def _gradient(self) -> Arm | None:
        """Closure calls alone, for the gradient-count bound; needs the plain base beside them."""
        base = next((a for a in self.alive if a.case.is_base), None)
        if base is None:
            return None
        gradient = Arm("", base.case, bare=True)
        try:
            gradient.prepare(self.setup, self.batches)
        except Exception as error:
            self.found.warnings.append(f"no gradient-count bound: {cause(error)[1]}")
            return None
        if self.found.apart:
            gradient.release()
        return gradient

    def _pairs(self, arms: Sequence[Arm]) -> list[tuple[str, str]]:
        """Return the declared comparisons: each against the base and against SAM."""
        names = [arm.name for arm in arms]
        anchors = [n for n in profile_facts.anchors(self.found) if n in names] or names[:1]
        return [(name, anchor) for anchor in anchors for name in names if name != anchor]


@contextlib.contextmanager
def _quiet_allocator(device: torch.device) -> Iterator[None]:
    """Leave no cached blocks of this session to whoever comes next."""
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


__all__ = ["BUDGET_SECONDS", "Found", "Wishes", "profile"]
