"""Profile cases -> Records: all optimizers of one dataset and model, interleaved in one process that holds the device.

One session of ``seconds``, in this order: a memory pass of its own for each optimizer; every one takes its first steps
(a failure is recorded, the others go on); interleaved rounds; the speed through the whole data path; energy where a
counter exists; phases on request. Interrupted, it returns what was measured, marked ``partial``.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from samcmp import machine
from samcmp.errors import UsageError
from samcmp.profiling import session_records
from samcmp.profiling.arms import Arm, Turn, failure_of, recorded
from samcmp.profiling.clocks import clock_for, working_after
from samcmp.profiling.costs import Costs
from samcmp.profiling.gpu_monitor import monitor_for
from samcmp.profiling.lock import device_lock
from samcmp.profiling.memory import HostMemory
from samcmp.profiling.nvml import Gpu, open_torch_device
from samcmp.profiling.results import Results, SessionOptions
from samcmp.profiling.rounds import Rounds
from samcmp.records import Case, Record
from samcmp.training.setup import Options, Setup, assemble

FEWEST_ROUNDS = 6  # below, no signed-rank interval exists
LEAST_FOR_ROUNDS = 0.4  # of the budget, whatever else is asked for
FIRST_STEPS_SHARE = 0.05  # of the budget, for the time of a step
COUNTING_SHARE = 0.05  # of the budget, for counting the kinds of steps where the gradients decide
ROUNDS_SHARE = 0.8  # of the time of rounds; the rest warms up and collects garbage
STILL_BUSY = 0.5  # cores in use when a step has returned
BLOCK_SECONDS = 0.05  # shorter blocks are lengthened to this
Say = Callable[[str], None]


def profile(
    cases: Mapping[str, Case],
    options: Options,
    *,
    session: SessionOptions | None = None,
    say: Say = lambda text: None,
    setup: Setup | None = None,
    turn: Turn = contextlib.nullcontext,
) -> list[Record]:
    """Measure the cases of one dataset and model side by side; ``cases`` maps content keys to profile cases.

    ``turn`` is entered with an arm's key whenever its code runs.
    Raises SamcmpError for what the user can mend (data, names, device, a budget that is not positive).
    """
    session = session or SessionOptions()
    if not (session.seconds > 0 and np.isfinite(session.seconds)):
        raise UsageError(
            f"a budget must be a positive number of seconds, got {session.seconds:g}",
            where="--budget",
            remedy="Give the seconds that one model and dataset may take, such as --budget 60s.",
        )
    families = {(c.dataset, c.model, c.protocol, c.seed, str(c.model_settings)) for c in cases.values()}
    if len(families) != 1:
        raise ValueError(f"a session measures one dataset and model, got {len(families)} kinds of case")
    began = time.perf_counter()
    setup = setup or assemble(next(iter(cases.values())), options)
    gpu = open_torch_device(setup.device)
    key = gpu.read("uuid") or str(setup.device)
    with device_lock(key, wait_seconds=session.wait_seconds, say=say) as unlocked:
        run = _Profile(cases, setup, gpu, options=session, say=say, turn=turn)
        if unlocked:
            run.results.warnings.append(unlocked)
        run.go()
    return session_records.records(run.results, seconds=time.perf_counter() - began)


class _Profile:
    """One session on one device."""

    def __init__(
        self, cases: Mapping[str, Case], setup: Setup, gpu: Gpu, *, options: SessionOptions, say: Say, turn: Turn
    ) -> None:
        self.setup = setup
        self.gpu = gpu
        self.options = options
        self.say = say
        self.on_gpu = setup.device.type == "cuda"
        self.clock = clock_for(setup.device)
        self.start = self.clock.now()
        self.batches = recorded(setup)
        arms = [Arm(key, case, turn=turn) for key, case in cases.items()]
        self.results = Results(setup, arms, self.clock.name)
        self.results.graphs_per_step = float(np.mean([b.num_graphs for b in self.batches]))
        self.results.atoms_per_step = float(np.mean([b.num_atoms for b in self.batches]))
        self.monitor = monitor_for(gpu)
        self.allocations = 0  # by the end of the first round
        self.load = machine.load()
        busy = self.load is not None and self.load > 0.5 * machine.usable_cores()
        if busy and not options.process:  # later processes see the load of the first
            self.results.warnings.append(
                f"the machine was busy before the session (load {self.load} on {machine.usable_cores():g} cores)"
            )
        self.costs = Costs(
            self.results, self.batches, clock=self.clock, gpu=gpu, options=options, left=self.left, say=say
        )

    def left(self) -> float:
        return self.options.seconds - (self.clock.now() - self.start)

    def go(self) -> None:
        """Run the passes in order; an interruption keeps what is there."""
        try:
            self.costs.idle_power()
            self.costs.memory()
            self._prepare()
            if self.results.alive:
                self._loader()
                self._rounds()
                if not self.results.interrupted:
                    self.costs.run()
        except KeyboardInterrupt:
            self.results.interrupted = True
        finally:
            if self.on_gpu:
                torch.cuda.empty_cache()  # no cached blocks of this session are left to whoever comes next
        self.results.device = {"load_before": self.load, **self.gpu.facts(), **self.monitor.summary()}

    # ------------------------------------------------------------------ first steps

    def _prepare(self) -> None:
        """Build every arm and let it take its first steps, untimed, side by side as long as memory allows."""
        memory = HostMemory()
        for arm in self.results.arms:
            full = None if self.on_gpu or self.results.one_at_a_time else memory.full()
            if full is not None:
                self._one_at_a_time(full)
            self._first_steps(arm)
            others = any(other is not arm and other.steps for other in self.results.arms)
            if arm.failure is not None and arm.failure[0] == "out-of-memory" and others:
                self._one_at_a_time(f"{arm.name} did not fit beside those before it")
                arm.failure = None
                self._first_steps(arm)
            memory.note()

    def _first_steps(self, arm: Arm) -> None:
        self.say(f"first steps of {arm.name}")
        try:
            with arm.turn(arm.key):
                self._prepare_one(arm)
        except Exception as error:
            arm.failure = failure_of(error)
        if self.results.one_at_a_time or arm.failure is not None:
            arm.release()

    def _prepare_one(self, arm: Arm) -> None:
        began = self.clock.now()
        arm.prepare(self.setup, self.batches)
        arm.build_seconds = self.clock.now() - began
        trainer = arm.steps[0].trainer
        self.results.parameters = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        self._time_a_step(arm)
        self._look_for_threads(arm)
        if self.results.one_at_a_time:
            arm.release()
        arm.count_kinds(self.clock.now, seconds=COUNTING_SHARE * self.options.seconds)

    def _one_at_a_time(self, why: str) -> None:
        """Keep no optimizer in memory but the one that is timed: each is built anew for its block of every round."""
        self.results.one_at_a_time = why
        self.results.warnings.append(f"not side by side in memory ({why}): each was built anew for each of its blocks")
        for arm in self.results.arms:
            arm.release()

    def _time_a_step(self, arm: Arm) -> None:
        """Take the fastest of three steps of each kind; of fewer where they are slow against the budget."""
        seconds = []
        most = FIRST_STEPS_SHARE * self.options.seconds / len(self.results.arms) / len(arm.steps)
        for steps in arm.steps:
            times: list[float] = []
            while len(times) < 3 and sum(times) < most:
                times.append(self.clock.block(lambda steps=steps: steps(0, 1)).seconds)  # type: ignore[misc]
            seconds.append(min(times))
        arm.seconds_per_step = sum(seconds) / len(seconds)  # of a block of each kind, which a round takes

    def _look_for_threads(self, arm: Arm) -> None:
        """A CPU optimizer that works on in a thread would be timed too fast; on a GPU the two clocks tell."""
        if not self.on_gpu and working_after() > STILL_BUSY:
            again = working_after(seconds=0.05)
            if again > STILL_BUSY:
                self.results.warnings.append(
                    f"{arm.name}: {again:.1f} cores are busy after its step has returned: its time is not all of it"
                )

    def _loader(self) -> None:
        """Time the data path alone: slicing, collating and, on a GPU, copying the batches of an epoch."""
        wanted = min(len(self.batches), 64)

        def load() -> Sequence[int]:
            return [0 for _, _batch in zip(range(wanted), self.setup.train_batches(1), strict=False)]

        times = [self.clock.block(load) for _ in range(3)]
        self.results.loader_seconds = float(np.median([t.seconds / max(1, len(t.passes)) for t in times]))

    # ------------------------------------------------------------------ rounds

    def _rounds(self) -> None:
        arms = self.results.alive
        per_step = sum(arm.seconds_per_step * len(arm.shares) for arm in arms)
        budget = max(LEAST_FOR_ROUNDS * self.options.seconds, self.left() - self.costs.reserved_seconds())
        steps = self._block_steps(arms, per_step, budget)
        self.results.steps = steps
        timed = [arm.timed(steps) for arm in arms]
        gradient = self._gradient()
        if gradient is not None:
            timed.append(gradient.timed(steps))
        self.say(f"interleaved rounds: {len(arms)} optimizers, blocks of {steps} steps, up to {budget:.0f} s")
        names = [arm.name for arm in arms]
        references = [name for name in self.results.references if name in names] or names[:1]
        rounds = Rounds(
            timed,
            self.clock,
            seconds=budget,
            seed=self.setup.case.seed + self.options.process,
            pairs=[(name, reference) for reference in references for name in names if name != reference],
            monitor=self.monitor,
            expected_seconds=per_step * steps,
            failing=failure_of,
            on_round=self._after_round,
        )
        session = self.results.session = rounds.run()
        for arm in arms:
            arm.failure = session.tracks[arm.name].failure
        grown = self._allocations() - self.allocations
        if grown > 0 and not self.results.one_at_a_time and session.rounds > 1:
            self.results.warnings.append(f"the allocator asked the device for memory {grown} times after round one")
        self.results.interrupted = session.stopped == "interrupted"

    def _after_round(self, n: int) -> None:
        if n == 1:
            self.allocations = self._allocations()
        self.say(f"round {n}")

    def _allocations(self) -> int:
        """Return how often the allocator has asked the device for memory; 0 on a CPU."""
        if not self.on_gpu:
            return 0
        return int(torch.cuda.memory_stats(self.setup.device).get("num_device_alloc", 0))

    def _block_steps(self, arms: Sequence[Arm], per_step: float, budget: float) -> int:
        """Return the steps of a block: more where they are short or each is built anew, fewer to hold six rounds."""
        fastest = min(arm.seconds_per_step for arm in arms)
        build = sum(arm.build_seconds for arm in arms) if self.results.one_at_a_time else 0.0  # in each round
        steps = math.ceil(max(BLOCK_SECONDS / max(1e-9, fastest), build / max(1e-9, per_step)))
        while steps > 1 and 2 * FEWEST_ROUNDS * (build + steps * per_step) > 0.8 * budget:
            steps -= 1
        per_round = (per_step + fastest) / ROUNDS_SHARE  # of one step each: the bare gradient and warming up, too
        most = int((budget / FEWEST_ROUNDS - build) / max(1e-9, per_round))
        return max(1, min(steps, most, 4096))

    def _gradient(self) -> Arm | None:
        """Closure calls alone, for the gradient-count bound; needs the plain base beside them."""
        base = next((arm for arm in self.results.alive if arm.case.is_base), None)
        if base is None:
            return None
        gradient = Arm(base.key, base.case, gradients_only=True, turn=base.turn)
        try:
            with gradient.turn(gradient.key):
                gradient.prepare(self.setup, self.batches)
        except Exception as error:
            self.results.warnings.append(f"no gradient-count bound: {failure_of(error)[1]}")
            return None
        if self.results.one_at_a_time:
            gradient.release()
        return gradient
