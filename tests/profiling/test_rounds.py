"""Interleaved rounds on simulated machines: coverage, stopping, discarding, failing, interruption."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from samcmp.profiling import rounds
from samcmp.profiling.gpu_monitor import GpuMonitor
from samcmp.profiling.rounds import MIN_ROUNDS, PRECISION, Part, Rounds, Session, TimedArm, orders
from tests.profiling.world import World, patterned, steady

TRUE = 1.05


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of simulated rounds need no collection of real garbage; one test below looks at the real thing."""
    monkeypatch.setattr(rounds, "collected", contextlib.nullcontext)
    monkeypatch.setattr(rounds, "collect", lambda: None)


def session(world: World, *, true: float = TRUE, seconds: float = 600, seed: int = 0) -> Session:
    arms = [steady(world, "a", 0.05 * true), steady(world, "b", 0.05)]
    return Rounds(arms, world.clock(), seconds=seconds, seed=seed).run()


@pytest.mark.parametrize(
    ("noise", "drift", "burst", "seconds"),
    [
        (0.005, 0.0003, 0.05, 600),  # quiet, stops early for precision
        (0.01, 0.001, 0.05, 600),  # noisy, stops late for precision
        (0.02, 0.001, 0.1, 20),  # bad neighbours, ends with the budget
        (0.008, 0.0, 0.0, 600),  # nothing but noise: the stopping rule's own bias would show here
    ],
)
def test_the_interval_covers_the_true_ratio_in_93_to_97_per_cent_of_1000_sessions(
    noise: float, drift: float, burst: float, seconds: float
) -> None:
    hits = 0
    for seed in range(1000):
        world = World(seed=seed, noise=noise, drift=drift, burst=burst)
        found = session(world, seconds=seconds, seed=seed).ratio("b", "a")
        hits += found.low <= TRUE <= found.high
    assert 930 <= hits <= 970


def test_a_steady_drift_does_not_bias_the_ratio() -> None:
    """Blocked order under this drift would be wrong by several per cent."""
    world = World(noise=0.0, drift=0.01)
    found = session(world, true=1.0, seconds=40).ratio("b", "a")
    assert found.ratio == pytest.approx(1.0, abs=2e-3)


def test_equal_arms_are_never_called_fast_or_slow() -> None:
    verdicts = Counter(
        session(World(seed=s, noise=0.02, drift=0.002, burst=0.1), true=1.0, seconds=30).ratio("b", "a").word
        for s in range(200)
    )
    assert verdicts["faster"] + verdicts["slower"] == 0
    assert verdicts["same"] > 0


def test_a_slowdown_of_five_per_cent_is_found() -> None:
    found = session(World(noise=0.005), true=0.95).ratio("b", "a")
    assert found.word == "slower"


def test_it_stops_for_precision_when_every_pair_is_precise() -> None:
    found = session(World(noise=0.004))
    assert found.stopped == "precision"
    assert found.rounds >= MIN_ROUNDS
    assert found.ratio("b", "a").half_width <= PRECISION


def test_it_stops_for_noise_when_more_rounds_would_not_help() -> None:
    found = session(World(noise=0.06), seconds=100_000)
    assert found.stopped == "noise"
    assert found.ratio("b", "a").half_width > PRECISION


@pytest.mark.parametrize("seconds", [2.0, 5.0, 17.0, 60.0])
def test_it_stops_within_the_budget_and_says_so(seconds: float) -> None:
    world = World(noise=0.05, burst=0.05)
    found = session(world, seconds=seconds)
    assert found.stopped == "budget"
    assert world.nanoseconds / 1e9 <= 1.1 * seconds
    assert world.nanoseconds / 1e9 >= 0.6 * seconds


def test_a_budget_too_small_for_one_round_still_gives_one() -> None:
    found = session(World(), seconds=0.01)
    assert found.rounds == 1
    assert found.stopped == "budget"


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_budget_that_is_not_positive_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        session(World(), seconds=seconds)


def test_each_arm_is_as_often_early_as_late() -> None:
    names = ["a", "b", "c", "d", "e"]
    following = orders(names, np.random.default_rng(0))
    drawn = [following() for _ in range(40)]
    for name in names:
        assert np.mean([order.index(name) for order in drawn]) == pytest.approx(2.0)
    assert len({tuple(order) for order in drawn}) > 10


def test_every_arm_of_a_round_runs_on_the_same_batches() -> None:
    world = World(noise=0)
    seen: dict[str, list[int]] = {"a": [], "b": []}

    def make(name: str) -> TimedArm:
        def run(first: int, count: int) -> Sequence[int]:
            seen[name].append(first)
            world.work(0.1 * count)
            return [1] * count

        return TimedArm(name, (Part(run, 4),))

    Rounds([make("a"), make("b")], world.clock(), seconds=30).run()
    assert seen["a"] == seen["b"]
    assert sorted(set(seen["a"])) == list(range(0, 4 * len(seen["a"]), 4))


# ---------------------------------------------------------------------------------------------- bad days


class Throttling(GpuMonitor):
    """Says that every n-th block was spoiled."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.blocks = 0

    def begin(self) -> None:
        self.blocks += 1

    def end(self) -> str | None:
        return "thermal slowdown" if self.blocks % self.every == 0 else None


def test_a_spoiled_round_is_measured_again_and_its_times_are_kept_aside() -> None:
    world = World(noise=0.05)
    arms = [steady(world, "a", 0.05), steady(world, "b", 0.05)]
    found = Rounds(arms, world.clock(), seconds=60, monitor=Throttling(30)).run()
    assert found.discarded
    assert not found.throttled
    assert found.discarded[0]["cause"] == "thermal slowdown"
    assert len(found.discarded) <= 0.2 * (found.rounds + len(found.discarded)) + 1


class Clocked(GpuMonitor):
    """A GPU whose clock is higher while the second arm runs; its blocks are told by what they last."""

    def __init__(self, world: World, *, slower: float) -> None:
        self.world, self.slower, self.began = world, slower, 0

    def begin(self) -> None:
        self.began = self.world.nanoseconds

    def end(self) -> str | None:
        self.mhz = 1755.0 if self.world.nanoseconds - self.began > self.slower * 1e9 else 1755.0 * 1.05
        return None


def test_a_difference_that_is_the_clocks_alone_is_none_in_cycles() -> None:
    world = World(noise=0.001)
    arms = [steady(world, "a", 0.05 * 1.05), steady(world, "b", 0.05)]
    found = Rounds(arms, world.clock(), seconds=60, monitor=Clocked(world, slower=0.205)).run()
    cycles = found.cycle_ratio("b", "a")
    assert found.ratio("b", "a").word == "faster"
    assert cycles is not None
    assert cycles.word == "same"
    assert cycles.ratio == pytest.approx(1.0, abs=2e-3)


def test_where_nobody_saw_the_clock_there_are_no_cycles() -> None:
    assert session(World()).cycle_ratio("b", "a") is None


def test_where_too_many_rounds_are_spoiled_the_rest_is_kept_and_marked() -> None:
    world = World(noise=0.05)
    arms = [steady(world, "a", 0.05), steady(world, "b", 0.05)]
    found = Rounds(arms, world.clock(), seconds=60, monitor=Throttling(2)).run()
    assert found.throttled
    assert found.rounds > 10


def failing_after(world: World, blocks: int) -> TimedArm:
    done = 0

    def run(first: int, count: int) -> Sequence[int]:
        nonlocal done
        done += 1
        if done > blocks:
            raise MemoryError("out of memory on purpose")
        world.work(0.05 * count)
        return [1] * count

    return TimedArm("b", (Part(run, 4),))


def test_an_arm_that_runs_out_of_memory_is_recorded_and_the_others_go_on() -> None:
    world = World(noise=0.05)
    arms = [steady(world, "a", 0.05), failing_after(world, 5), steady(world, "c", 0.05)]
    found = Rounds(arms, world.clock(), seconds=30, failing=lambda error: ("out-of-memory", str(error))).run()
    assert found.tracks["b"].failure == ("out-of-memory", "out of memory on purpose")
    assert found.tracks["a"].failure is None
    assert len(found.step_seconds["a"]) == len(found.step_seconds["c"]) > len(found.step_seconds["b"])


def test_an_error_that_nobody_names_is_raised() -> None:
    world = World()
    with pytest.raises(MemoryError):
        Rounds([failing_after(world, 1)], world.clock(), seconds=30).run()


def test_an_interruption_keeps_the_rounds_that_were_complete() -> None:
    world = World(noise=0.05)
    blocks = 0

    def run(first: int, count: int) -> Sequence[int]:
        nonlocal blocks
        blocks += 1
        if blocks == 61:
            raise KeyboardInterrupt
        world.work(0.05 * count)
        return [1] * count

    found = Rounds([steady(world, "a", 0.05), TimedArm("b", (Part(run, 4),))], world.clock(), seconds=60).run()
    assert found.stopped == "interrupted"
    assert len(found.step_seconds["a"]) == len(found.step_seconds["b"]) == found.rounds > 0


def test_no_collection_happens_inside_a_block_and_it_is_on_again_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    world, states = World(noise=0), []

    def run(first: int, count: int) -> Sequence[int]:
        states.append(gc.isenabled())
        world.work(0.5 * count)
        return [1] * count

    Rounds([TimedArm("a", (Part(run, 4),))], world.clock(), seconds=10).run()
    assert states
    assert not any(states)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


# ---------------------------------------------------------------------------------------------- kinds of steps


def test_rare_steps_are_composed_from_a_block_of_their_own() -> None:
    world = World(noise=0.002)
    one = patterned(world, "one pass", [1], steps=8).parts[0]
    two = patterned(world, "two passes", [2], steps=2).parts[0]
    n = 51
    graphsam = TimedArm("graphsam", (Part(one.run, 8, 1 - 1 / n), Part(two.run, 2, 1 / n)))
    plain = patterned(world, "plain", [1], steps=8)
    found = Rounds([plain, graphsam], world.clock(), seconds=30).run()
    assert found.ratio("plain", "graphsam").ratio == pytest.approx(1 + 1 / n, rel=2e-3)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_mean_step_is_the_sum_of_share_times_time(share: float) -> None:
    world = World(noise=0.002)
    one = patterned(world, "one pass", [1], steps=8).parts[0]
    two = patterned(world, "two passes", [2], steps=4).parts[0]
    mixed = TimedArm("mixed", (Part(one.run, 8, 1 - share), Part(two.run, 4, share)))
    found = Rounds([patterned(world, "plain", [1], steps=8), mixed], world.clock(), seconds=30).run()
    assert found.ratio("plain", "mixed").ratio == pytest.approx(1 + share, rel=4e-3)
