"""Measure the measuring: differences that are there must be found, and those that are not must not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from samcmp import optim
from samcmp.optim.entry import NEVER
from samcmp.printable import counted
from samcmp.profiling.clocks import HostClock, clock_for, working_after
from samcmp.profiling.memory import measure as weigh
from samcmp.profiling.phases import Phases
from samcmp.profiling.ratios import Ratio
from samcmp.profiling.rounds import Part, Rounds, Session, TimedArm
from samcmp.profiling.session import STILL_BUSY
from samcmp.profiling.steps import EPOCHS

SLOWDOWN = 0.02
STEPS = 8
EPOCH_STEPS = 20  # of GraphSAM's epochs: no block of 8 is a whole one
GRAPHS, WIDTH = 512, 192


@dataclass(frozen=True, slots=True)
class Check:
    """One check: passed, failed, or None where this machine is too noisy or lacks what it needs."""

    name: str
    passed: bool | None
    measured: str


class Toy:
    """A small network that an optimizer trains on one batch: the device's own noise, and no data."""

    def __init__(self, device: torch.device, wrap: Callable[[Any], Any], *, seed: int = 0) -> None:
        torch.manual_seed(seed)
        layers = (nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
        self.model = nn.Sequential(*layers).to(device)
        self.x = torch.randn(GRAPHS, WIDTH, device=device)
        self.y = torch.randn(GRAPHS, 1, device=device)
        self.optimizer = wrap(torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True))
        self.passes = 0

    def loss(self) -> torch.Tensor:
        return nn.functional.mse_loss(self.model(self.x), self.y)

    def closure(self) -> torch.Tensor:
        self.passes += 1
        self.model.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def step(self) -> None:
        self.optimizer.step(self.closure)

    def run(self, first: int = 0, steps: int = STEPS) -> Sequence[int]:
        taken = []
        for _ in range(steps):
            before = self.passes
            self.step()
            taken.append(self.passes - before)
        return taken

    def tensors(self) -> dict[str, list[Any]]:
        parameters = list(self.model.parameters())
        return {"parameters": parameters, "gradients": [p.grad for p in parameters]}


class Slowed(Toy):
    """A toy whose steps take a known share longer, by waiting on the host after the device is done."""

    seconds = 0.0
    synchronize: Callable[[], None] = staticmethod(lambda: None)

    def step(self) -> None:
        super().step()
        self.synchronize()
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            pass


class Careless(Toy):
    """A toy that leaves work behind: in a thread on a CPU, on a stream that nobody waits for on a GPU."""

    busy_seconds = 0.4

    def step(self) -> None:
        super().step()
        if self.x.device.type == "cuda":
            aside = torch.cuda.Stream(self.x.device)  # type: ignore[no-untyped-call]
            with torch.cuda.stream(aside):
                for _ in range(40):
                    torch.randn(2048, 2048, device=self.x.device).mm(torch.randn(2048, 2048, device=self.x.device))
        else:
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        until = time.perf_counter() + self.busy_seconds
        while time.perf_counter() < until:
            sum(range(2000))


def run(device: torch.device, *, seconds: float = 60.0, seed: int = 0) -> Iterator[Check]:
    """Yield the checks, each as soon as it is done. ``seconds`` are shared by those that need rounds."""
    from samcmp.optim.sam import SAM

    def plain(base: Any) -> Any:
        return base

    clock = clock_for(device)
    yield clocks(device, clock)
    yield phases(device, clock, seed=seed)
    yield memory(device)
    yield careless(device, clock)
    toys = {"adam": Toy(device, plain), "adam again": Toy(device, plain), "sam": Toy(device, SAM)}
    toys["sam again"] = Toy(device, SAM)
    session = rounds(
        toys, clock, seconds=0.4 * seconds, seed=seed, pairs=[("adam again", "adam"), ("sam again", "sam")]
    )
    yield equal(session, "adam")
    yield equal(session, "sam")
    yield two_passes(session)
    yield whole_epochs(device, clock, seconds=0.25 * seconds, seed=seed)
    yield slowdown(device, clock, seconds=0.35 * seconds, seed=seed)


def rounds(
    toys: dict[str, Toy],
    clock: HostClock,
    *,
    seconds: float,
    seed: int,
    pairs: list[tuple[str, str]],
    steps: int = STEPS,
) -> Session:
    """Let toys run in interleaved rounds."""
    arms = [TimedArm(name, (Part(toy.run, steps),)) for name, toy in toys.items()]
    return Rounds(arms, clock, seconds=seconds, seed=seed, pairs=pairs).run()


def clocks(device: torch.device, clock: HostClock) -> Check:
    """Events against the host (GPU); two independent host clocks against each other (CPU)."""
    toy = Toy(device, lambda base: base)
    toy.run()
    other = time.monotonic()
    timed = clock.block(lambda: toy.run(0, 200))
    other = time.monotonic() - other
    if device.type == "cuda":
        share = timed.seconds / timed.host_seconds
        return Check("events against host clock", timed.agrees, f"events/host {share:.4f}, within 1 % wanted")
    share = timed.seconds / other
    resolution = time.get_clock_info("perf_counter").resolution
    text = f"perf_counter/monotonic {share:.4f}, resolution {resolution * 1e9:.0f} ns"
    return Check("two host clocks agree", abs(share - 1) < 0.02 and resolution < 1e-6, text)


def phases(device: torch.device, clock: HostClock, *, seed: int) -> Check:
    """Forward, backward and optimizer must add up to the wall time."""
    toy = Toy(device, lambda base: base, seed=seed)
    toy.run()
    timer = Phases(clock)
    timer.start()
    with timer.inside("optimizer"):  # around all steps: on a GPU an event between two of them takes time itself
        for _ in range(64):
            with timer.inside("forward"):
                loss = toy.loss()
            with timer.inside("backward"):
                toy.model.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
            toy.optimizer.step()
    seconds, wall = timer.stop()
    share = sum(seconds.values()) / wall
    return Check("phases add up to wall time", abs(share - 1) <= 0.01, f"sum/wall {share:.4f}, within 1 % wanted")


class Weight:
    """Keeps 48 MiB and uses 32 MiB for a moment."""

    kept, passing = 48 << 20, 32 << 20

    def __init__(self, device: torch.device) -> None:
        self.tensor = torch.ones(self.kept // 4, device=device)

    def run(self) -> None:
        torch.ones(self.passing // 4, device=self.tensor.device).sum()

    def tensors(self) -> dict[str, list[Any]]:
        return {"parameters": [self.tensor]}


def memory(device: torch.device) -> Check:
    """A known allocation must be found."""
    measured = weigh(lambda: Weight(device), device)
    name = "a known allocation is found"
    if measured.peak_bytes is None:
        return Check(name, None, measured.missing.get("peak_bytes", "not measured"))
    wanted = Weight.kept + Weight.passing
    text = f"{measured.peak_bytes / 2**20:.1f} MiB, {wanted / 2**20:.1f} MiB wanted"
    return Check(name, abs(measured.peak_bytes - wanted) < 0.06 * wanted, text)


def careless(device: torch.device, clock: HostClock) -> Check:
    """An optimizer that does not wait for its own work must be caught, and an honest one must not."""
    name = "an unsynchronised optimizer is caught"
    honest, guilty = Toy(device, lambda base: base), Careless(device, lambda base: base)
    for toy in (honest, guilty):
        toy.run(0, 1)
        time.sleep(0.0 if device.type == "cuda" else 1.5 * Careless.busy_seconds)
    if device.type == "cuda":
        good, bad = clock.block(lambda: honest.run(0, 200)), clock.block(lambda: guilty.run(0, 4))
        text = (
            f"events/host {good.seconds / good.host_seconds:.3f} honest, {bad.seconds / bad.host_seconds:.3f} careless"
        )
        return Check(name, good.agrees and not bad.agrees, text)
    honest.run()
    idle = working_after()
    guilty.run(0, 2)
    busy = working_after()
    time.sleep(1.5 * Careless.busy_seconds)
    passed = idle <= STILL_BUSY < busy
    return Check(name, passed, f"cores busy after the step: {idle:.2f} honest, {busy:.2f} careless")


def equal(session: Session, name: str) -> Check:
    """The same optimizer twice must not come out faster or slower."""
    return alike(f"{name} against itself", session, f"{name} again", name)


def alike(what: str, session: Session, name: str, reference: str) -> Check:
    """Two ways to the same time must not come out faster or slower."""
    ratio = session.ratio(name, reference)
    passed = None if ratio.word == "ambiguous" else ratio.word == "same"
    return Check(what, passed, f"{shown(ratio)}: {ratio.word}, {counted(session.rounds, 'round')}")


def whole_epochs(device: torch.device, clock: HostClock, *, seconds: float, seed: int) -> Check:
    """GraphSAM's mean step, composed from blocks of plain and of anchored steps, must be that of whole epochs."""

    def part(steps_per_epoch: int, steps: int, share: float) -> Part:
        def wrap(base: Any) -> Any:
            return optim.build("graphsam", base, steps_per_epoch=steps_per_epoch, epochs=EPOCHS, seed=seed).optimizer

        toy = Toy(device, wrap)
        toy.run(0, EPOCH_STEPS)
        return Part(toy.run, steps, share)

    anchors = 1 / EPOCH_STEPS
    whole = TimedArm("whole epochs", (part(EPOCH_STEPS, EPOCH_STEPS, 1.0),))
    kinds = TimedArm("composed", (part(NEVER, STEPS, 1 - anchors), part(1, STEPS // 4, anchors)))
    session = Rounds([whole, kinds], clock, seconds=seconds, seed=seed).run()
    return alike("a composed epoch is a whole one", session, "composed", "whole epochs")


def two_passes(session: Session) -> Check:
    """SAM takes two gradients a step: 0.45 to 1 of the base's speed."""
    ratio = session.ratio("sam", "adam")
    passed = ratio.high >= 0.45 and ratio.low <= 1.0
    return Check("SAM at 0.45 to 1 of the base", passed, shown(ratio))


def slowdown(device: torch.device, clock: HostClock, *, seconds: float, seed: int) -> Check:
    """A slowdown of 2 % must be found: the interval holds 0.98 and excludes 1."""

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    names = ("as it is", "slower")
    toys: dict[str, Toy] = {name: Slowed(device, lambda base: base) for name in names}
    for toy in toys.values():
        toy.synchronize = synchronize  # type: ignore[attr-defined]
        toy.run()
    step = min(clock.block(lambda: toys["as it is"].run(0, STEPS)).seconds for _ in range(9)) / STEPS
    toys["slower"].seconds = SLOWDOWN / (1 - SLOWDOWN) * step  # type: ignore[attr-defined]
    session = rounds(toys, clock, seconds=seconds, seed=seed, pairs=[("slower", "as it is")])
    ratio = session.ratio("slower", "as it is")
    text = f"{shown(ratio)}, {1 - SLOWDOWN:.2f} injected, {counted(session.rounds, 'round')}"
    name = f"an injected slowdown of {SLOWDOWN:.0%} is found"
    if ratio.half_width > SLOWDOWN:
        return Check(name, None, f"{text}: this machine is too noisy for it now")
    return Check(name, ratio.high < 1.0 and ratio.low > 1 - 3 * SLOWDOWN, text)


def shown(ratio: Ratio) -> str:
    """Return a ratio with its interval."""
    return f"{ratio.ratio:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]"
