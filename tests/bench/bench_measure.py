"""What measuring costs: the clock around a block, the pass counter, the collector, and the analysis.

Each cost is held against a step of the same model without any of it, by process CPU time; rounds are interleaved.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import numpy as np

ROUNDS = 15
LIMIT = 0.005  # of a step


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def interleaved(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Median CPU seconds of either, run in ABBA order."""
    a, b = [], []
    for i in range(ROUNDS):
        for which in (0, 1) if i % 2 else (1, 0):
            (b if which else a).append(cpu_seconds(second if which else first))
    return float(np.median(a)), float(np.median(b))


def steps_with_and_without() -> tuple[float, float, int]:
    """CPU seconds of a block of SAM steps on GCN and demo: bare loop, and the timed block as sessions run it."""
    from samcmp.profiling.arms import Arm, recorded
    from samcmp.profiling.clocks import HostClock
    from samcmp.records import Case, Protocol
    from samcmp.training.setup import Options, assemble

    case = Case("profile", "demo", "gcn", "sam", Protocol(epochs=1, subset=200))
    setup = assemble(case, Options())
    batches = recorded(setup)
    arm = Arm("", case)
    arm.prepare(setup, batches)
    runner, clock, steps = arm.steps[0], HostClock(), 8
    trainer = runner.trainer

    def bare() -> None:
        gc.disable()
        for i in range(steps):
            trainer.step(batches[i % len(batches)])
        gc.enable()

    def timed() -> None:
        clock.block(lambda: runner(0, steps))

    for _ in range(3):
        bare()
        timed()
    without, with_all = interleaved(bare, timed)
    return without, with_all, steps


def empty_block(steps: int = 8) -> float:
    """CPU seconds of a timed block that does nothing: the instrumentation by itself."""
    from samcmp.profiling.clocks import HostClock

    clock = HostClock()

    repeats = 2000
    return cpu_seconds(lambda: [clock.block(lambda: [1] * steps) for _ in range(repeats)]) / repeats


def analysis(rounds: int) -> float:
    """CPU seconds of one ratio with its interval."""
    from samcmp.profiling.ratios import ratio

    x = np.random.default_rng(0).normal(0, 0.01, rounds)
    ratio(x)
    return cpu_seconds(lambda: [ratio(x) for _ in range(20)]) / 20


def main() -> None:
    """Print the table: name, figure, peer, ratio."""
    without, with_all, steps = steps_with_and_without()
    empty = empty_block(steps)
    rows = [
        ("block of 8 SAM steps, GCN (ms CPU)", with_all * 1e3, f"bare loop {without * 1e3:.2f} ms", with_all / without),
        ("instrumentation of a block (us CPU)", empty * 1e6, f"limit {LIMIT:.1%} of a block", empty / without),
        ("ratio and interval, 20 rounds (us CPU)", analysis(20) * 1e6, "once a look", analysis(20) / without),
        ("ratio and interval, 200 rounds (us CPU)", analysis(200) * 1e6, "once a look", analysis(200) / without),
    ]
    print(f"{'what':<42} {'figure':>10}  {'peer':<26} {'ratio':>9}")
    for name, figure, peer, share in rows:
        print(f"{name:<42} {figure:>10.2f}  {peer:<26} {share:>9.5f}")


if __name__ == "__main__":
    main()
