"""From a catalogue entry and settings to a Recipe."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from samcmp.errors import UsageError, unknown
from samcmp.optim.entry import SCHEDULED, OptimizerEntry, Recipe
from samcmp.optim.radius import Adaptive, every_tensor, is_weight
from samcmp.optim.schedules import SCHEDULES, CompoundedRho, ProportionalRho, RhoSchedule, StepRho

RENAMED = {"gamma_data": "gamma", "weight": "gamma"}  # "gamma" by itself is the rho schedule's


def assemble(
    name: str,
    entry: OptimizerEntry,
    base: Optimizer,
    *,
    steps_per_epoch: int,
    epochs: int,
    seed: int,
    settings: Mapping[str, Any],
) -> Recipe:
    """Build the Recipe of ``entry``. Raises UsageError for an unknown setting."""
    of_training = {"anchor_every": steps_per_epoch, "total_steps": steps_per_epoch * epochs, "seed": seed}
    if entry.source:
        from samcmp.optim import user

        own = user.build(entry.source, base, settings=settings, of_training=of_training)
        return Recipe(own, loss_term=getattr(own, "term", None))
    for key in settings:
        if key not in entry.settings:
            raise unknown(f"setting of {name}", key, entry.settings)
    chosen = {**entry.settings, **settings}
    maker = getattr(importlib.import_module(entry.module), entry.class_name)
    takes = inspect.signature(maker).parameters
    _refuse_idle(settings, chosen)
    scheduling = {key: chosen.pop(key) for key in SCHEDULED} if "rho_schedule" in chosen else {}
    arguments: dict[str, Any] = {key: value for key, value in of_training.items() if key in takes and key not in chosen}
    if "share" in chosen:
        share = float(chosen.pop("share"))
        if not 0 <= share <= 1:
            raise ValueError(f"share is a part of the epochs and must be in [0, 1], got {share}")
        arguments["start"] = math.floor((1 - share) * epochs + 1e-9) * steps_per_epoch
    arguments |= _radius(chosen, takes)
    optimizer = maker(base, **arguments, **{RENAMED.get(key, key): value for key, value in chosen.items()})
    every_epoch, every_step = _schedulers(optimizer, scheduling)
    return Recipe(
        optimizer,
        every_epoch,
        every_step,
        loss_power=entry.loss_power,
        loss_term=getattr(optimizer, "term", None),
        schedule=entry.schedule,
    )


def _refuse_idle(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    """Raise UsageError for a setting that changes nothing: its owner would compare an optimizer with itself."""
    for keys, switch, off, on in (
        (("gamma", "period"), "rho_schedule", ("constant", "lr"), "step"),
        (("eta",), "adaptive", (False,), "true"),
    ):
        if chosen.get(switch) in off:
            for key in settings.keys() & set(keys):
                raise UsageError(
                    f"{key} changes nothing while {switch} is {str(chosen[switch]).lower()}",
                    remedy=f"Set {switch}={on} as well, or leave {key} out.",
                )


def _radius(chosen: dict[str, Any], takes: Mapping[str, Any]) -> dict[str, Any]:
    """Take the settings of the radius rule out of ``chosen`` and return the arguments they stand for."""
    if "all_tensors" in chosen:
        return {"weights": every_tensor if chosen.pop("all_tensors") else is_weight}
    if "radius" not in takes or "eta" not in chosen:
        return {}
    eta = float(chosen.pop("eta"))
    return {"radius": Adaptive(eta)} if chosen.pop("adaptive") else {}


def _schedulers(
    optimizer: Optimizer, scheduling: Mapping[str, Any]
) -> tuple[tuple[RhoSchedule, ...], tuple[RhoSchedule, ...]]:
    if not scheduling or scheduling["rho_schedule"] == "constant":
        return (), ()
    kind = str(scheduling["rho_schedule"])
    if kind not in SCHEDULES:
        raise unknown("rho schedule", kind, SCHEDULES)
    maker = SCHEDULES[kind]
    if maker is ProportionalRho:
        return (), (ProportionalRho(optimizer),)
    keys = ("rho", "radius") if "radius" in optimizer.param_groups[0] else ("rho",)
    if maker in (StepRho, CompoundedRho):
        gamma, period = float(scheduling["gamma"]), scheduling["period"]
        if not gamma >= 0 or int(period) != period or period < 1:
            raise UsageError(f"gamma must be >= 0 and period a number of epochs from 1, got {gamma} and {period}")
        step = StepRho if maker is StepRho else CompoundedRho
        return (step(optimizer, gamma=gamma, period=int(period), keys=keys),), ()
    return (maker(optimizer, keys=keys),), ()
