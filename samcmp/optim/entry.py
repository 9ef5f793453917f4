"""What the catalogue says of an optimizer, and what is made of it. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer

SCHEDULED: Mapping[str, Any] = {"rho_schedule": "constant", "gamma": 0.5, "period": 1}
ADAPTIVE: Mapping[str, Any] = {"adaptive": False, "eta": 0.01}


NEVER = 10**9  # steps or epochs: more than any training has


@dataclass(frozen=True, slots=True)
class StepKinds:
    """What an optimizer declares whose steps take one gradient evaluation or two: how to build it with one kind only.

    ``one_pass`` and ``two_pass`` replace settings, or the training's ``steps_per_epoch`` and ``epochs``; all steps but
    the first are then of that kind. Time, energy and memory of a training follow from the kinds and their shares.
    """

    one_pass: Mapping[str, Any]
    two_pass: Mapping[str, Any]
    # settings, steps per epoch, epochs -> share of two-pass steps in a training; None: the gradients decide
    share: Callable[[Mapping[str, Any], int, int], float] | None


ANCHOR_EVERY_K_STEPS = StepKinds({"k": NEVER}, {"k": 1}, lambda settings, n, epochs: 1 / settings["k"])
ANCHOR_EVERY_EPOCH = StepKinds({"steps_per_epoch": NEVER}, {"steps_per_epoch": 1}, lambda settings, n, epochs: 1 / n)
ANCHOR_EVERY_K_EPOCHS = StepKinds(
    {"steps_per_epoch": NEVER},
    {"steps_per_epoch": 1, "K": 1},
    lambda settings, n, epochs: math.ceil(epochs / settings["K"]) / (n * epochs),
)
DRAWN = StepKinds({"p": 0.0}, {"p": 1.0}, lambda settings, n, epochs: float(settings["p"]))
LAST_EPOCHS = StepKinds(
    {"share": 0.0, "epochs": NEVER},
    {"share": 1.0},
    lambda settings, n, epochs: 1 - math.floor((1 - settings["share"]) * epochs + 1e-9) / epochs,
)
BY_GRADIENT = StepKinds(
    {"lambda1": 1e9, "lambda2": 1e9, "delta": 0.9}, {"lambda1": -1e9, "lambda2": -1e9, "delta": 0.9}, None
)


@dataclass(frozen=True, slots=True)
class OptimizerEntry:
    """One name of the catalogue. ``settings`` are what a user may set, with their defaults."""

    module: str
    class_name: str
    summary: str
    paper: str
    passes: str  # gradient evaluations a step; N steps an epoch, T steps in all
    settings: Mapping[str, Any] = field(default_factory=dict)
    loss_power: int = 1  # 2: losses are weighted by themselves, as half the sum of their squares is
    schedule: str | None = None  # a released learning-rate schedule in place of the protocol's
    kinds: StepKinds | None = None  # None: every step is alike
    source: str = ""  # file.py:Class or package.module:Class, of an optimizer of the user's own
    others: tuple[str, ...] | None = ()  # further settings, whose defaults are not plain values; None: any name


@dataclass(frozen=True, slots=True)
class Recipe:
    """An optimizer and what the training loop does around its steps."""

    optimizer: Optimizer
    epoch_schedulers: tuple[Any, ...] = ()  # .step() after each epoch
    step_schedulers: tuple[Any, ...] = ()  # .step() after each optimizer step
    loss_power: int = 1
    loss_term: Any = None  # .term(rows, prediction, y) -> scalar, .start_epoch(e)
    schedule: str | None = None
