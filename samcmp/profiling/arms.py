"""The optimizers of a session made ready to be timed: equal models, one recorded list of batches.

An optimizer whose steps take one gradient evaluation or two (:class:`samcmp.optim.entry.StepKinds`) is built twice,
once for either kind, and each is timed in blocks of its own: the time of a mean step of a training then follows from
the share of either, whatever steps a block happened to hold.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from samcmp import optim
from samcmp.errors import cause_of
from samcmp.optim.entry import StepKinds
from samcmp.profiling.memory import tensors_in
from samcmp.profiling.rounds import Part, TimedArm
from samcmp.profiling.steps import EPOCHS, FirstEpochSteps, GradientsOnly, SpreadSteps, Steps
from samcmp.records import Case

if TYPE_CHECKING:
    from samcmp.training.loop import Batch, Trainer
    from samcmp.training.setup import Setup

SAM = "sam"  # catalogue name of a reference; the other one is the base optimizer alone
GRADIENT = "(gradient)"  # closure calls without an optimizer, for the gradient-count bound
Turn = Callable[[str], contextlib.AbstractContextManager[object]]  # entered, with the arm's key, when its code runs
FIRST_STEPS = 3  # of every build, untimed: caches fill and state comes into being
MEMORY_STEPS = 4  # after which all state exists
_LENGTHS = ("steps_per_epoch", "epochs")
UNTOLD_SHARE = 0.5  # of two-pass steps, until they are counted


def recorded(setup: Setup) -> list[Batch]:
    """Return the first epoch's batches on the device, full ones only, so that every block has as many samples."""
    batches = list(setup.train_batches(0))
    full = [b for b in batches if b.size == batches[0].size]
    return full or batches


def new_trainer(setup: Setup, case: Case, replaced: Mapping[str, Any] | None = None) -> Trainer:
    """Build a trainer with the length of a training, which a profile case leaves out; ``replaced``: see StepKinds."""
    replaced = replaced or {}
    lengths = {key: value for key, value in replaced.items() if key in _LENGTHS}
    settings = {key: value for key, value in replaced.items() if key not in _LENGTHS}
    protocol = replace(case.protocol, epochs=max(EPOCHS, case.protocol.epochs))
    settings = {**case.optimizer_settings, **settings}
    return setup.new_trainer(replace(case, protocol=protocol, optimizer_settings=settings), **lengths)


@dataclass(slots=True)
class Arm:
    """One optimizer of a session: its trainers, the kinds of its steps, and what went wrong while it was made."""

    key: str
    case: Case
    gradients_only: bool = False  # for the gradient-count bound
    steps: list[Steps | GradientsOnly] = field(default_factory=list)  # one for each kind; empty: not in memory
    two_pass_share: float | None = None  # where steps are of two kinds; see also ``counted``
    counted: list[tuple[int, int]] = field(default_factory=list)  # epoch and passes of steps that told the share
    first_epochs_share: float | None = None  # of the steps before a loss term begins, where that changes their cost
    failure: tuple[str, str] | None = None
    seconds_per_step: float = math.nan
    build_seconds: float = 0.0
    turn: Turn = contextlib.nullcontext
    _made_of: tuple[Setup, Sequence[Batch]] | None = None

    @property
    def name(self) -> str:
        return GRADIENT if self.gradients_only else self.case.arm

    @property
    def kinds(self) -> StepKinds | None:
        return None if self.gradients_only else optim.entry(self.case.optimizer).kinds

    @property
    def shares(self) -> list[float]:
        """The share of each kind in the steps of a training."""
        if self.first_epochs_share is not None:
            return [1 - self.first_epochs_share, self.first_epochs_share]
        if self.kinds is not None:
            two = UNTOLD_SHARE if self.two_pass_share is None else self.two_pass_share
            return [1 - two, two]
        return [1.0]

    # ------------------------------------------------------------------ in memory

    def prepare(self, setup: Setup, batches: Sequence[Batch]) -> None:
        """Build what takes the steps of each kind, and take the first ones."""
        self._made_of = (setup, batches)
        kinds = self.kinds
        if self.gradients_only:
            self.steps = [GradientsOnly(new_trainer(setup, self.case), batches)]
        elif kinds is not None:
            if kinds.share is not None:
                settings = {**optim.entry(self.case.optimizer).settings, **self.case.optimizer_settings}
                self.two_pass_share = kinds.share(settings, setup.steps_per_epoch, EPOCHS)
            self.steps = [self._steps(kind) for kind in (kinds.one_pass, kinds.two_pass)]
        else:
            self.steps = [self._steps({})]
            late = teaching_share(self.steps[0].trainer)
            if 0 < late < 1:
                own = FirstEpochSteps(self.steps[0].trainer, batches, steps_per_epoch=setup.steps_per_epoch)
                self.steps.append(own)
                self.first_epochs_share = 1 - late
        for steps in self.steps:
            steps(0, FIRST_STEPS)

    def _steps(self, replaced: Mapping[str, Any]) -> Steps:
        if self._made_of is None:
            raise ValueError(f"{self.name} was never prepared")
        setup, batches = self._made_of
        steps = Steps(new_trainer(setup, self.case, replaced), batches, steps_per_epoch=setup.steps_per_epoch)
        if steps.trainer.recipe.loss_term is not None:
            steps.go_to_last_epochs()
        return steps

    def release(self) -> None:
        """Let go of what was built; :meth:`loaded` builds it again."""
        self.steps = []
        gc.collect()
        if self._made_of is not None and self._made_of[0].device.type == "cuda":
            torch.cuda.empty_cache()

    @contextlib.contextmanager
    def loaded(self) -> Iterator[None]:
        """Have the trainers in memory inside; where they do not stay there they are built anew for the time."""
        with self.turn(self.key):
            if self.steps or self._made_of is None:
                yield
                return
            try:
                self.prepare(*self._made_of)
                yield
            finally:
                self.release()

    # ------------------------------------------------------------------ what is timed

    def timed(self, steps: int) -> TimedArm:
        """Return what the rounds time: blocks of ``steps`` steps, shorter ones of a kind that is rarer than others."""
        shares = self.shares
        most = max(shares)
        parts = tuple(
            Part(self._run(i), max(1, steps if share == most else steps // 2 if share > 0.25 else steps // 4), share)
            for i, share in enumerate(shares)
        )
        return TimedArm(self.name, parts, loaded=self.loaded)

    def _run(self, kind: int) -> Callable[[int, int], Sequence[int]]:
        def run(first: int, steps: int) -> Sequence[int]:
            if not self.steps:
                raise ValueError(f"{self.name} is not in memory")
            return self.steps[kind](first, steps)

        return run

    def mean(self, measure: Callable[[Trainer], float]) -> float:
        """Measure something of the steps of each kind and return its mean over a training."""
        return sum(
            share * measure(steps.trainer) for share, steps in zip(self.shares, self.steps, strict=True) if share > 0
        )

    def take(self, steps: int) -> int:
        """Take ``steps`` steps or more in the proportion of a training; return how many."""
        shares = self.shares
        rarest = min((share for share in shares if share > 0), default=1.0)
        counts = [round(share * max(steps, 1 / rarest)) for share in shares]
        for kind, count in zip(self.steps, counts, strict=True):
            kind(0, count)
        return sum(counts)

    def count_kinds(self, now: Callable[[], float], *, seconds: float) -> None:
        """Where the gradients decide, count two-pass steps for ``seconds``, at most those of a whole training."""
        if self._made_of is None or self.kinds is None or self.kinds.share is not None:
            return
        setup, batches = self._made_of
        trainer = new_trainer(setup, self.case)
        steps = SpreadSteps(trainer, batches, steps_per_epoch=setup.steps_per_epoch, seen=self.counted)
        began = now()
        while len(self.counted) < EPOCHS * setup.steps_per_epoch:
            spent = now() - began
            if spent > (seconds if len(self.counted) >= SpreadSteps.FEWEST else 4 * seconds):
                break
            steps(len(self.counted), 1)
        if self.counted:
            self.two_pass_share = sum(passes > 1 for _, passes in self.counted) / len(self.counted)


def failure_of(error: Exception) -> tuple[str, str]:
    """Name why an arm failed: a status and a reason in one line. The others go on."""
    status, reason = cause_of(error)
    if status == "out-of-memory" and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return status, reason


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


class MemorySubject:
    """A fresh trainer that steps over the largest batches, as late in training and with two passes where it has any."""

    def __init__(self, setup: Setup, case: Case, batches: Sequence[Batch], *, steps: int = MEMORY_STEPS) -> None:
        kinds = optim.entry(case.optimizer).kinds
        self.trainer = new_trainer(setup, case, kinds.two_pass if kinds is not None else None)
        if self.trainer.recipe.loss_term is not None:
            self.trainer.recipe.loss_term.start_epoch(EPOCHS - 1)
        order = sorted(batches, key=lambda b: b.work, reverse=True)
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
    own: list[Any] = []
    for owner in (optimizer, recipe.loss_term):
        if owner is None:
            continue
        for name, value in vars(owner).items():
            if name not in {"base", "param_groups", "defaults", "model", "state"}:
                own += tensors_in(value)
    return own
