"""Interleaved rounds: every optimizer runs one block a round, in an order that is balanced over rounds.

A :class:`TimedArm` is a name and callables that run training steps; what they train is not known here. Rounds come in
mirrored pairs (a random order, then its reverse: ABBA for two), so a steady drift cancels and no arm is always
first. Speed ratios are later taken within rounds, where the machine was in one state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from gc import collect
from typing import Literal

import numpy as np

from samcmp.profiling.clocks import HostClock, Timed, collected
from samcmp.profiling.gpu_monitor import GpuMonitor
from samcmp.profiling.ratios import Floats, Ratio, noise_is_stable, ratio

MIN_ROUNDS = 10
MIN_SECONDS = 2.0  # timed, per arm
PRECISION = 0.005  # half-width of the 95 % interval of the log ratio
# A session that ends when its intervals are narrow ends a little early where they are narrow by luck: simulated, 95 %
# intervals then cover 93.1 to 94.7 %. Computed at 96 % they cover what they say. No luck, no price, at the first look.
LEVEL, LEVEL_AFTER_LOOKING = 0.95, 0.96
MOST_DISCARDED = 0.2  # of the rounds

Stopped = Literal["precision", "noise", "budget", "interrupted"]
Run = Callable[[int, int], Sequence[int]]  # (first step of the recorded list, steps) -> passes of each
Loaded = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Part:
    """Steps of one kind, and the share of such steps in a training."""

    run: Run
    steps: int
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class TimedArm:
    """What is timed: a block of every kind of step. The time of a mean step is the sum of share x time of a step.

    ``loaded`` is entered around the blocks of a round: it brings what the steps need into memory, untimed.
    """

    name: str
    parts: tuple[Part, ...]
    loaded: Loaded = nullcontext

    def step_seconds(self, blocks: Sequence[Timed]) -> float:
        """Return the time of a mean step of a training, from a round's block of every kind."""
        return sum(
            part.share * block.seconds / len(block.passes) for part, block in zip(self.parts, blocks, strict=True)
        )


@dataclass(slots=True)
class Track:
    """What one arm did in the kept rounds."""

    name: str
    blocks: list[tuple[Timed, ...]] = field(default_factory=list)  # one tuple a round, one block a part
    failure: tuple[str, str] | None = None  # status, reason
    seconds: float = 0.0


@dataclass(slots=True)
class Session:
    """Everything that interleaved rounds gave, raw."""

    tracks: dict[str, Track]
    orders: list[list[str]] = field(default_factory=list)
    stopped: Stopped = "budget"
    warmup_rounds: int = 0
    warmup_seconds: float = 0.0
    seconds: float = 0.0
    discarded: list[dict[str, object]] = field(default_factory=list)  # cause and raw times of rounds done again
    throttled: bool = False  # more than a fifth had a cause: the rest was kept
    looked_in_vain: bool = False  # an interval was too wide at a look before the last
    step_seconds: dict[str, Floats] = field(default_factory=dict)  # name -> time of a mean step, one a round

    @property
    def rounds(self) -> int:
        return len(self.orders)

    def log_ratios(self, name: str, reference: str) -> Floats:
        """Return ``log(t_reference / t_name)`` of every round that both took part in."""
        a, b = self.step_seconds[reference], self.step_seconds[name]
        n = min(len(a), len(b))
        both: Floats = np.log(a[:n] / b[:n])
        return both

    @property
    def level(self) -> float:
        """The level at which intervals are computed so that they cover 95 %, the looking paid for."""
        return LEVEL_AFTER_LOOKING if self.stopped == "precision" and self.looked_in_vain else LEVEL

    def ratio(self, name: str, reference: str) -> Ratio:
        """Return the speed of ``name`` over that of ``reference`` with its 95 % interval."""
        return ratio(self.log_ratios(name, reference), level=self.level)

    def cycle_ratio(self, name: str, reference: str) -> Ratio | None:
        """Return the same in clock cycles, time x SM clock; None where the clock was not seen in every block."""
        logs = self.log_ratios(name, reference)
        mine, other = (
            [parts[0].mhz for parts in self.tracks[of].blocks[: len(logs)]] if of in self.tracks else [None]
            for of in (name, reference)
        )
        if not len(logs) or None in mine or None in other:
            return None
        return ratio(logs + np.log(np.array(other, dtype=float) / np.array(mine, dtype=float)), level=self.level)


def orders(names: Sequence[str], rng: np.random.Generator) -> Callable[[], list[str]]:
    """Return a function that gives the next round's order: a random one, then the same reversed, and so on."""
    reversed_order: list[list[str]] = []

    def following() -> list[str]:
        if reversed_order:
            return reversed_order.pop()
        order = [names[i] for i in rng.permutation(len(names))]
        reversed_order.append(order[::-1])
        return order

    return following


class Rounds:
    """Runs rounds of ``arms`` on ``clock`` until they are precise enough or ``seconds`` are spent.

    Args:
        pairs: (arm, reference) whose ratios decide when to stop; default: each against the first.
        start: session time at which the budget began, ``clock.now()`` where it begins here.
        expected_seconds: what one round will take, where the caller knows: a round that exceeds the warm-up's share
            of the budget is not run for warming up.
        failing: maps an exception of an arm to (status, reason), or None where it must be raised.
        on_round: called after each round with the number of rounds so far.
    """

    def __init__(
        self,
        arms: Sequence[TimedArm],
        clock: HostClock,
        *,
        seconds: float,
        seed: int = 0,
        pairs: Sequence[tuple[str, str]] | None = None,
        monitor: GpuMonitor | None = None,
        start: float | None = None,
        expected_seconds: float = 0.0,
        failing: Callable[[Exception], tuple[str, str] | None] = lambda error: None,
        on_round: Callable[[int], None] = lambda n: None,
    ) -> None:
        if not seconds > 0:
            raise ValueError(f"a budget must be positive, got {seconds} s")
        self.arms = {arm.name: arm for arm in arms}
        if len(self.arms) != len(arms):
            raise ValueError("arms need different names")
        self.clock = clock
        self.seconds = seconds
        first = arms[0].name
        self.pairs = [(arm.name, first) for arm in arms[1:]] if pairs is None else list(pairs)
        self.monitor = monitor or GpuMonitor()
        self.start = clock.now() if start is None else start
        self.expected_seconds = expected_seconds
        self.failing = failing
        self.on_round = on_round
        self.rng = np.random.default_rng(seed)
        self.session = Session({arm.name: Track(arm.name) for arm in arms})
        self._round_seconds: list[float] = []
        self._first_step = 0
        self._looks: list[bool] = []
        self._next_look = 0

    # ------------------------------------------------------------------ the run

    def run(self) -> Session:
        """Warm up, measure, and say why it ended. A KeyboardInterrupt ends it with what was measured."""
        session = self.session
        began = self.clock.now()
        try:
            with collected():
                self._warm_up()
                self._measure()
        except KeyboardInterrupt:
            session.stopped = "interrupted"
        session.seconds = self.clock.now() - began
        self._compose()
        return session

    def _left(self) -> float:
        return self.seconds - (self.clock.now() - self.start)

    def _alive(self) -> list[str]:
        return [name for name, track in self.session.tracks.items() if track.failure is None]

    def _one_round(self, order: Sequence[str]) -> tuple[dict[str, tuple[Timed, ...]], str | None]:
        began = self.clock.now()
        done: dict[str, tuple[Timed, ...]] = {}
        cause: str | None = None
        for name in order:
            if self.session.tracks[name].failure is not None:
                continue
            try:
                with self.arms[name].loaded():
                    done[name], spoiled = self._blocks(self.arms[name])
                    cause = spoiled or cause
            except Exception as error:
                failure = self.failing(error)
                if failure is None:
                    raise
                self.session.tracks[name].failure = failure
        self._round_seconds.append(self.clock.now() - began)
        return done, cause

    def _blocks(self, arm: TimedArm) -> tuple[tuple[Timed, ...], str | None]:
        collect()
        self.monitor.begin()
        try:
            blocks = tuple(self._block(part) for part in arm.parts)
        finally:
            cause = self.monitor.end()
        return tuple(replace(block, mhz=self.monitor.mhz) for block in blocks), cause

    def _block(self, part: Part) -> Timed:
        first = self._first_step
        return self.clock.block(lambda: part.run(first, part.steps))

    def _advance(self) -> None:
        self._first_step += max(self.arms[name].parts[0].steps for name in self.arms)

    # ------------------------------------------------------------------ warm-up

    def _warm_up(self) -> None:
        """Run rounds that do not count until two in a row agree within 5 %, for at most 15 % of the budget."""
        began = self.clock.now()
        limit = 0.15 * self.seconds
        previous: float | None = None
        while True:
            left = limit - (self.clock.now() - began)
            cost = self._round_seconds[-1] if self._round_seconds else 0.0
            if self.session.warmup_rounds and cost > left:
                break
            if self.session.warmup_rounds == 0 and self.expected_seconds > left:
                break
            done, _ = self._one_round(self._alive())
            self._advance()
            self.session.warmup_rounds += 1
            total = sum(t.seconds for blocks in done.values() for t in blocks)
            settled = previous is not None and abs(total / previous - 1) < 0.05
            if settled and self.clock.now() - began >= min(3.0, limit):
                break
            previous = total
        self.session.warmup_seconds = self.clock.now() - began

    # ------------------------------------------------------------------ measuring

    def _measure(self) -> None:
        names = self._alive()
        following = orders(names, self.rng)
        while self._alive():
            stop = self._why_stop()
            if stop is not None:
                self.session.stopped = stop
                return
            order = following()
            done, cause = self._one_round(order)
            kept = self._keep(done, order, cause)
            self._advance()
            if kept:
                self.on_round(self.session.rounds)

    def _keep(self, done: dict[str, tuple[Timed, ...]], order: Sequence[str], cause: str | None) -> bool:
        session = self.session
        if cause is not None and not session.throttled:
            if len(session.discarded) + 1 <= max(1.0, MOST_DISCARDED * (session.rounds + len(session.discarded) + 1)):
                times = {name: [t.seconds for t in blocks] for name, blocks in done.items()}
                session.discarded.append({"cause": cause, "seconds": times})
                return False
            session.throttled = True
        for name, blocks in done.items():
            track = session.tracks[name]
            track.blocks.append(blocks)
            track.seconds += sum(t.seconds for t in blocks)
        session.orders.append([name for name in order if name in done])
        return True

    def _why_stop(self) -> Stopped | None:
        session = self.session
        if session.rounds and self._round_seconds and self._left() < max(self._round_seconds[-2:]):
            return "budget"
        enough = min((session.tracks[n].seconds for n in self._alive()), default=0.0) >= MIN_SECONDS
        if session.rounds < max(MIN_ROUNDS, self._next_look) or session.rounds % 2 or not enough:
            return None
        self._next_look = session.rounds + max(2, session.rounds // 10)
        self._compose()
        alive = set(self._alive())
        declared = [session.log_ratios(a, b) for a, b in self.pairs if a in alive and b in alive]
        if not declared:
            return None
        # two looks in a row: one lucky look would end the session where the interval happens to be too narrow
        self._looks.append(all(ratio(x, level=LEVEL_AFTER_LOOKING).half_width <= PRECISION for x in declared))
        if self._looks[-2:] == [True, True]:
            session.looked_in_vain = not all(self._looks)
            return "precision"
        if all(noise_is_stable(x) for x in declared):
            return "noise"
        return None

    def _compose(self) -> None:
        for name, track in self.session.tracks.items():
            times = [self.arms[name].step_seconds(blocks) for blocks in track.blocks]
            self.session.step_seconds[name] = np.array(times, dtype=np.float64)
