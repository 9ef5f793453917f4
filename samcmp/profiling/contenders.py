"""Optimizers made ready to be timed: equal models, one recorded list of batches, blocks that fit each rhythm."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from samcmp.profiling import cadence
from samcmp.profiling.clocks import Mark
from samcmp.profiling.memory import tensors_in
from samcmp.profiling.rounds import Contender, Held, Part, Run
from samcmp.profiling.runners import EPOCHS, LEAD, EarlyRunner, GradientRunner, Runner, SpreadRunner
from samcmp.records import Case, canonical_json
from samcmp.training.loop import stream

if TYPE_CHECKING:
    from samcmp.graphs.batch import GraphBatch
    from samcmp.training.loop import Trainer
    from samcmp.training.setup import Setup

ENDLESS = 10**9  # epochs of a training whose end no session reaches
SAM = "sam"  # catalogue name of a reference; the other one is the base optimizer alone
GRADIENT = "(gradient)"  # closure calls without an optimizer, for the gradient-count bound


def training_case(case: Case) -> Case:
    """Return ``case`` with the length of a training: a profile case leaves it out."""
    return replace(case, protocol=replace(case.protocol, epochs=max(EPOCHS, case.protocol.epochs)))


def rhythm(setup: Setup, case: Case) -> cadence.Cadence:
    """Find how many gradient evaluations the steps of ``case``'s optimizer take."""
    settings = canonical_json(case.optimizer_settings)
    epochs = training_case(case).protocol.epochs
    return _rhythm(case.optimizer, settings, seed=case.seed, steps_per_epoch=setup.steps_per_epoch, epochs=epochs)


@functools.cache  # thousands of steps on a toy, asked for before each block where optimizers are built anew
def _rhythm(optimizer: str, settings: str, *, seed: int, steps_per_epoch: int, epochs: int) -> cadence.Cadence:
    from samcmp import optim

    def build(base: Any, steps_per_epoch: int, epochs: int) -> Any:
        return optim.build(
            optimizer,
            base,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            seed=stream(seed, "optimizer"),
            settings=json.loads(settings),
        )

    return cadence.of(build, steps_per_epoch=steps_per_epoch, epochs=epochs)


def recorded(setup: Setup) -> list[GraphBatch]:
    """Return the first epoch's batches on the device, full ones only, so that every block has as many graphs."""
    batches = list(setup.train_batches(0))
    full = [b for b in batches if b.num_graphs == batches[0].num_graphs]
    return full or batches


@dataclass(slots=True)
class Arm:
    """One optimizer of a session: its trainers, its rhythm, and what went wrong while it was made."""

    key: str
    case: Case
    bare: bool = False  # closure calls alone, for the gradient-count bound
    cadence: cadence.Cadence = field(default_factory=lambda: cadence.Cadence("periodic", 1, {1: 1.0}))
    main: Runner | GradientRunner | None = None
    twin: Runner | None = None  # steps that are rare or early in training, in blocks of their own
    early_share: float | None = None  # of the steps before a loss term begins, where that changes their price
    seen: list[tuple[int, int]] = field(default_factory=list)  # see SpreadRunner
    failure: tuple[str, str] | None = None
    seconds_per_step: float = math.nan
    making_seconds: float = 0.0  # before each block, where it does not stay in memory
    _made_of: tuple[Setup, Sequence[GraphBatch]] | None = None

    @property
    def name(self) -> str:
        return GRADIENT if self.bare else self.case.arm

    @property
    def trainer(self) -> Trainer:
        if self.main is None:
            raise ValueError(f"{self.name} has no trainer: {self.failure}")
        return self.main.trainer

    def prepare(self, setup: Setup, batches: Sequence[GraphBatch]) -> None:
        """Build the trainer and, where some steps need blocks of their own, a twin that takes them; run each once."""
        self._made_of = (setup, batches)
        if self.bare:
            self.main = GradientRunner(setup.new_trainer(training_case(self.case)), batches)
        else:
            self.cadence = rhythm(setup, self.case)
            endless = {"epochs": ENDLESS} if self.cadence.kind == "late" else {}  # the late steps are the twin's
            self.main = self._runner(setup, batches, **endless)
            self._make_twin(setup, batches)
        for runner in (self.main, self.twin):
            if runner is not None:
                runner(0, max(2, min(self.cadence.period + 1, 4)), lambda: None)

    def _make_twin(self, setup: Setup, batches: Sequence[GraphBatch]) -> None:
        late = teaching_share(self.trainer)
        if self.cadence.kind in ("rare", "late") and self.cadence.twin_share > 0:
            self.twin = self._runner(setup, batches, steps_per_epoch=1, epochs=self.cadence.twin_epochs)
        elif 0 < late < 1:
            self.twin = EarlyRunner(self.trainer, batches, steps_per_epoch=setup.steps_per_epoch)
            self.early_share = 1 - late

    def _runner(self, setup: Setup, batches: Sequence[GraphBatch], **lengths: int) -> Runner:
        trainer = setup.new_trainer(training_case(self.case), **lengths)
        n = setup.steps_per_epoch  # the twin's, too: its radius must not decay by step
        if self.cadence.kind == "data-dependent":
            return SpreadRunner(trainer, batches, steps_per_epoch=n, seen=self.seen)
        if trainer.recipe.loss_term is None:
            return Runner(trainer, batches, steps_per_epoch=n)
        trainer.epochs = EPOCHS - 1 - LEAD
        runner = Runner(trainer, batches, steps_per_epoch=n)
        runner.pass_epochs(LEAD)
        return runner

    def release(self) -> None:
        """Let go of what was built; :meth:`held` builds it again."""
        self.main = self.twin = None
        gc.collect()
        if self._made_of is not None and self._made_of[0].device.type == "cuda":
            torch.cuda.empty_cache()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Have the trainer in memory inside; where it does not stay there it is built anew for the time."""
        if self.main is not None or self._made_of is None:
            yield
            return
        try:
            self.prepare(*self._made_of)
            yield
        finally:
            self.release()

    def take(self, first: int, steps: int, mark: Mark) -> Sequence[int]:
        """Take steps of the recorded list; see :data:`samcmp.profiling.rounds.Run`."""
        if self.main is None:
            raise ValueError(f"{self.name} is not in memory")
        return self.main(first, steps, mark)

    def take_aside(self, first: int, steps: int, mark: Mark) -> Sequence[int]:
        """Take the twin's steps."""
        if self.twin is None:
            raise ValueError(f"{self.name} has no twin in memory")
        return self.twin(first, steps, mark)

    def contender(self, steps: int) -> Contender:
        """Return what the rounds time: blocks of ``steps`` steps, and the twin's where there is one."""
        rhythm = self.cadence
        if self.early_share is not None:
            parts = (Part(self.take, steps, 1 - self.early_share), Part(self.take_aside, steps, self.early_share))
            return Contender(self.name, parts, held=self.held)
        if self.twin is not None:
            return composed(self.name, self.take, self.take_aside, rhythm, steps=steps, held=self.held)
        whole = rhythm.kind == "periodic" and steps % rhythm.period == 0
        return Contender(self.name, (Part(self.take, steps),), whole=whole, shares=rhythm.shares, held=self.held)


def composed(
    name: str, main: Run, twin: Run, rhythm: cadence.Cadence, *, steps: int, held: Held = contextlib.nullcontext
) -> Contender:
    """Return a contender with blocks of its own for rare steps: those of a twin in which they are frequent."""
    part = rhythm.unusual_share / rhythm.twin_share
    length = rhythm.period * max(1, steps // (4 * rhythm.period))
    return Contender(name, (Part(main, steps, 1 - part), Part(twin, length, part)), shares=rhythm.shares, held=held)


def teaching_share(trainer: Trainer) -> float:
    """Return the share of a training's epochs in which a loss term asks for a forward pass of its own (MESA)."""
    term = trainer.recipe.loss_term
    if not hasattr(term, "needs_reference"):
        return 0.0
    asks = 0
    for epoch in range(EPOCHS):
        term.start_epoch(epoch)
        asks += bool(term.needs_reference)
    return asks / EPOCHS


def block_steps(arms: Iterable[Arm], *, longest: int = 64) -> int:
    """Return the shortest block that is whole periods for every arm whose period fits."""
    steps = 1
    for arm in arms:
        if arm.cadence.kind == "periodic":
            common = math.lcm(steps, arm.cadence.period)
            steps = common if common <= longest else steps
    return steps


class MemorySubject:
    """A fresh trainer that steps over the largest batches as late in training, for the memory pass."""

    def __init__(self, setup: Setup, case: Case, batches: Sequence[GraphBatch], *, steps: int) -> None:
        found = rhythm(setup, case)
        lengths = {"steps_per_epoch": 1, "epochs": found.twin_epochs} if found.kind == "late" else {}
        self.trainer = setup.new_trainer(training_case(case), **lengths)
        if self.trainer.recipe.loss_term is not None:
            self.trainer.recipe.loss_term.start_epoch(EPOCHS - 1)
        order = sorted(batches, key=lambda b: b.num_atoms + b.num_bonds, reverse=True)
        self.batches = order[: max(1, min(4, len(order)))]
        self.steps = steps

    def run(self) -> None:
        for i in range(self.steps):
            self.trainer.step(self.batches[i % len(self.batches)])

    def tensors(self) -> Mapping[str, Iterable[Any]]:
        model, optimizer = self.trainer.model, self.trainer.optimizer
        base = getattr(optimizer, "base", None)
        parameters = list(model.parameters())
        return {
            "parameters": parameters,
            "buffers": list(model.buffers()),
            "gradients": [p.grad for p in parameters],
            "base_state": tensors_in(dict((base if base is not None else optimizer).state)),
            "perturbation_state": [*tensors_in(dict(optimizer.state)), *own_tensors(optimizer, self.trainer.recipe)],
        }


def own_tensors(optimizer: Any, recipe: Any) -> list[Any]:
    """Collect the tensors an optimizer or a loss term keeps beyond the base's state, wherever it keeps them."""
    found: list[Any] = []
    for owner in (optimizer, recipe.loss_term):
        if owner is None:
            continue
        for name, value in vars(owner).items():
            if name not in {"base", "param_groups", "defaults", "model", "state"}:
                found += tensors_in(value)
    return found
