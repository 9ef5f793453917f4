"""What the catalogue says of an optimizer, and what is made of it. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer

SCHEDULED: Mapping[str, Any] = {"rho_schedule": "constant", "gamma": 0.5, "period": 1}
ADAPTIVE: Mapping[str, Any] = {"adaptive": False, "eta": 0.01}


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the catalogue. ``settings`` are what a user may set, with their defaults."""

    module: str
    class_name: str
    summary: str
    paper: str
    passes: str  # gradient evaluations a step; N steps an epoch, T steps in all
    settings: Mapping[str, Any] = field(default_factory=dict)
    loss_power: int = 1  # 2: the updating gradient is multiplied by the loss
    schedule: str | None = None  # a released learning-rate schedule in place of the protocol's

    @property
    def has_rho(self) -> bool:
        return "rho" in self.settings


@dataclass(frozen=True, slots=True)
class Recipe:
    """An optimizer and what the training loop does around its steps."""

    optimizer: Optimizer
    epoch_schedulers: tuple[Any, ...] = ()  # .step() after each epoch
    step_schedulers: tuple[Any, ...] = ()  # .step() after each optimizer step
    loss_power: int = 1
    loss_term: Any = None  # .term(rows, prediction, y) -> scalar, .start_epoch(e)
    schedule: str | None = None
