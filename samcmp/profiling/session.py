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
from samcmp.printable import counted
from samcmp.profiling import BUSY_BEFORE, costs, session_records
from samcmp.profiling.arms import Arm, Turn, failure_of, recorded
from samcmp.profiling.clocks import clock_for, working_after
from samcmp.profiling.gpu_monitor import GpuMonitor
from samcmp.profiling.lock import device_lock
from samcmp.profiling.memory import HostMemory
from samcmp.profiling.nvml import open_torch_device
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
        clock = clock_for(setup.device)
        start = clock.now()
        arms = [Arm(key, case, turn=turn) for key, case in cases.items()]
        run = Results(setup, arms, recorded(setup), session, clock, gpu, say, start)
        if unlocked:
            run.warnings.append(unlocked)
        measure(run)
    return session_records.records(run, seconds=time.perf_counter() - began)


def measure(run: Results) -> None:
    """Run the passes in order; an interruption keeps what is there."""
    monitor = GpuMonitor(run.gpu)
    load = machine.load()
    cores = machine.usable_cores()
    if load is not None and load > 0.5 * cores and not run.options.process:  # later processes see the load of the first
        run.warnings.append(f"{BUSY_BEFORE} the session (load {load} on {cores:g} cores)")
    try:
        idle_watts = costs.idle_watts(run)
        costs.memory(run)
        _first_steps_of_all(run)
        if run.alive:
            _time_the_loader(run)
            _rounds(run, monitor)
            if not run.interrupted:
                costs.pipeline(run)
                costs.energy(run, idle_watts=idle_watts)
                costs.details(run)
    except KeyboardInterrupt:
        run.interrupted = True
    finally:
        if run.on_gpu:
            torch.cuda.empty_cache()  # no cached blocks of this session are left to whoever comes next
    run.device = {"load_before": load, **run.gpu.facts(), **monitor.summary()}


# ---------------------------------------------------------------------------------------------- first steps


def _first_steps_of_all(run: Results) -> None:
    """Build every arm and let it take its first steps, untimed, side by side as long as memory allows."""
    memory = HostMemory()
    for arm in run.arms:
        full = None if run.on_gpu or run.one_at_a_time else memory.full()
        if full is not None:
            _one_at_a_time(run, full)
        _first_steps(run, arm)
        others = any(other is not arm and other.steps for other in run.arms)
        if arm.failure is not None and arm.failure[0] == "out-of-memory" and others:
            _one_at_a_time(run, f"{arm.name} did not fit beside those before it")
            arm.failure = None
            _first_steps(run, arm)
        memory.note()


def _one_at_a_time(run: Results, why: str) -> None:
    """Keep no optimizer in memory but the one that is timed: each is built anew for its block of every round."""
    run.one_at_a_time = why
    run.warnings.append(f"not side by side in memory ({why}): each was built anew for each of its blocks")
    for arm in run.arms:
        arm.release()


def _first_steps(run: Results, arm: Arm) -> None:
    run.say(f"first steps of {arm.name}")
    try:
        with arm.turn(arm.key):
            began = run.clock.now()
            arm.prepare(run.setup, run.batches)
            arm.build_seconds = run.clock.now() - began
            model = arm.steps[0].trainer.model
            run.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
            _time_a_step(run, arm)
            _look_for_threads(run, arm)
            if run.one_at_a_time:
                arm.release()
            arm.count_kinds(run.clock.now, seconds=COUNTING_SHARE * run.options.seconds)
    except Exception as error:
        arm.failure = failure_of(error)
    if run.one_at_a_time or arm.failure is not None:
        arm.release()


def _time_a_step(run: Results, arm: Arm) -> None:
    """Take the fastest of three steps of each kind; of fewer where they are slow against the budget."""
    seconds = []
    most = FIRST_STEPS_SHARE * run.options.seconds / len(run.arms) / len(arm.steps)
    for steps in arm.steps:
        times: list[float] = []
        while len(times) < 3 and sum(times) < most:
            times.append(run.clock.block(lambda steps=steps: steps(0, 1)).seconds)  # type: ignore[misc]
        seconds.append(min(times))
    arm.seconds_per_step = sum(seconds) / len(seconds)  # of a block of each kind, which a round takes


def _look_for_threads(run: Results, arm: Arm) -> None:
    """A CPU optimizer that works on in a thread would be timed too fast; on a GPU the two clocks tell."""
    if not run.on_gpu and working_after() > STILL_BUSY:
        again = working_after(seconds=0.05)
        if again > STILL_BUSY:
            run.warnings.append(
                f"{arm.name}: {again:.1f} cores are busy after its step has returned: its time is not all of it"
            )


def _time_the_loader(run: Results) -> None:
    """Time the data path alone: slicing, collating and, on a GPU, copying the batches of an epoch."""
    wanted = min(len(run.batches), 64)

    def load() -> Sequence[int]:
        return [0 for _, _batch in zip(range(wanted), run.setup.train_batches(1), strict=False)]

    times = [run.clock.block(load) for _ in range(3)]
    run.loader_seconds = float(np.median([t.seconds / max(1, len(t.passes)) for t in times]))


# ---------------------------------------------------------------------------------------------- rounds


def _rounds(run: Results, monitor: GpuMonitor) -> None:
    arms = run.alive
    per_step = sum(arm.seconds_per_step * len(arm.shares) for arm in arms)
    budget = max(LEAST_FOR_ROUNDS * run.options.seconds, run.seconds_left - costs.seconds_after_rounds(run))
    run.steps = steps = _block_steps(run, per_step, budget)
    gradient = _gradient(run)
    timed = [arm.timed(steps) for arm in (*arms, gradient) if arm is not None]
    optimizers, block = counted(len(arms), "optimizer"), counted(steps, "step")
    run.say(f"interleaved rounds: {optimizers}, blocks of {block}, up to {budget:.0f} s")
    names = [arm.name for arm in arms]
    references = [name for name in run.references if name in names] or names[:1]
    allocations = 0  # by the end of the first round

    def after_round(n: int) -> None:
        nonlocal allocations
        if n == 1:
            allocations = _allocations(run)
        run.say(f"round {n}")

    session = run.session = Rounds(
        timed,
        run.clock,
        seconds=budget,
        seed=run.setup.case.seed + run.options.process,
        pairs=[(name, reference) for reference in references for name in names if name != reference],
        monitor=monitor,
        expected_seconds=per_step * steps,
        failing=failure_of,
        on_round=after_round,
    ).run()
    for arm in arms:
        arm.failure = session.tracks[arm.name].failure
    grown = _allocations(run) - allocations
    if grown > 0 and not run.one_at_a_time and session.rounds > 1:
        run.warnings.append(f"the allocator asked the device for memory {grown} times after round one")
    run.interrupted = session.stopped == "interrupted"


def _allocations(run: Results) -> int:
    """Return how often the allocator has asked the device for memory; 0 on a CPU."""
    return int(torch.cuda.memory_stats(run.setup.device).get("num_device_alloc", 0)) if run.on_gpu else 0


def _block_steps(run: Results, per_step: float, budget: float) -> int:
    """Return the steps of a block: more where they are short or each is built anew, fewer to hold six rounds."""
    fastest = min(arm.seconds_per_step for arm in run.alive)
    build = sum(arm.build_seconds for arm in run.alive) if run.one_at_a_time else 0.0  # in each round
    steps = math.ceil(max(BLOCK_SECONDS / max(1e-9, fastest), build / max(1e-9, per_step)))
    while steps > 1 and 2 * FEWEST_ROUNDS * (build + steps * per_step) > 0.8 * budget:
        steps -= 1
    per_round = (per_step + fastest) / ROUNDS_SHARE  # of one step each: the bare gradient and warming up, too
    most = int((budget / FEWEST_ROUNDS - build) / max(1e-9, per_round))
    return max(1, min(steps, most, 4096))


def _gradient(run: Results) -> Arm | None:
    """Closure calls alone, for the gradient-count bound; needs the plain base beside them."""
    base = next((arm for arm in run.alive if arm.case.is_base), None)
    if base is None:
        return None
    gradient = Arm(base.key, base.case, gradients_only=True, turn=base.turn)
    try:
        with gradient.turn(gradient.key):
            gradient.prepare(run.setup, run.batches)
    except Exception as error:
        run.warnings.append(f"no gradient-count bound: {failure_of(error)[1]}")
        return None
    if run.one_at_a_time:
        gradient.release()
    return gradient
