"""The measuring measured: what selfcheck must find, and what it must not."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch

from samcmp.profiling import selfcheck
from samcmp.profiling.clocks import HostClock, working_after
from samcmp.profiling.rounds import Session, Track

CPU = torch.device("cpu")


def made(**log_times: list[float]) -> Session:
    session = Session({name: Track(name) for name in log_times}, orders=[[]] * 12)
    session.step_seconds = {name.replace("_", " "): np.exp(x) for name, x in log_times.items()}
    return session


def jitter(centre: float, seed: int) -> list[float]:
    return list(np.random.default_rng(seed).normal(centre, 0.003, 12))


@pytest.mark.parametrize(("shift", "passed"), [(0.0, True), (0.1, False), (-0.1, False)])
def test_equal_things_pass_and_unequal_ones_fail(shift: float, passed: bool) -> None:
    check = selfcheck.equal(made(sam=jitter(0, 0), sam_again=jitter(shift, 1)), "sam")
    assert check.passed is passed


def test_an_unsettled_comparison_is_neither_passed_nor_failed() -> None:
    noisy = list(np.random.default_rng(0).normal(0, 0.2, 12))
    assert selfcheck.equal(made(sam=jitter(0, 0), sam_again=noisy), "sam").passed is None


@pytest.mark.parametrize(("speed", "passed"), [(0.5, True), (0.9, True), (0.3, False), (1.3, False)])
def test_sam_must_be_within_what_two_passes_allow(speed: float, passed: bool) -> None:
    check = selfcheck.two_passes(made(adam=jitter(0, 0), sam=jitter(-math.log(speed), 1)))
    assert check.passed is passed


def test_work_left_in_a_thread_is_noticed() -> None:
    """A long look: where others take the processor, too, the thread gets its share within it."""
    guilty = selfcheck.Careless(CPU, lambda base: base)
    guilty.busy_seconds = 1.2
    guilty.run(0, 1)
    assert working_after(seconds=1.0) > 0.05


def test_a_quiet_process_is_not_accused() -> None:
    ticks = iter([0, 20_000_000])
    cpu = iter([0, 400_000])
    share = working_after(sleep=lambda s: None, counter=lambda: next(ticks), cpu_counter=lambda: next(cpu))
    assert share == pytest.approx(0.02)


def test_every_check_runs_on_a_cpu_and_says_what_it_found() -> None:
    checks = list(selfcheck.run(CPU, seconds=4))
    assert len(checks) == 9
    assert all(check.measured for check in checks)
    by_name = {check.name: check for check in checks}
    assert by_name["SAM at 0.45 to 1 of the base"].passed is not False
    assert by_name["a known allocation is found"].passed is not False
    assert "a composed epoch is a whole one" in by_name


def test_the_phases_of_a_step_add_up() -> None:
    assert selfcheck.phases(CPU, HostClock(time.process_time_ns), seed=0).passed


def test_the_injected_slowdown_is_what_it_claims() -> None:
    """The slowed toy waits for the seconds that it was given, on top of its step."""
    toy = selfcheck.Slowed(CPU, lambda base: base)
    toy.seconds = 0.02
    timed = HostClock().block(lambda: toy.run(0, 5))
    assert timed.seconds >= 0.1
