"""A user's own optimizer: a ``torch.optim.Optimizer`` of any of the usual forms, named ``my_sam.py:MySAM``.

    MySAM(base, ...)                     around a torch optimizer; step(closure)
    MySAM(params, ...)                   by itself, with the protocol's lr and weight_decay; step(closure)
    MySAM(params, base_optimizer, ...)   with the class of the base, as SAM is often written

Where a class has ``first_step()`` and ``second_step()``, a step is: a gradient, the first, a gradient, the second.
A constructor that names ``anchor_every`` (steps an epoch), ``total_steps`` or ``seed`` gets them; its other arguments
are settings. ``package.module:MySAM`` names an installed class. Nothing here imports torch before one is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samcmp import modules
from samcmp.errors import UsageError, unknown
from samcmp.optim.entry import OptimizerEntry
from samcmp.userfile import class_in, helpers_of, imported

if TYPE_CHECKING:
    from torch.optim import Optimizer

PARAMETERS = ("params", "parameters")  # a first argument of these names gets the parameters, any other the base
BASE_CLASS = ("base_optimizer", "base_optimizer_cls", "base_optimizer_class", "base_cls", "base", "optimizer_class")
OF_TRAINING = ("anchor_every", "total_steps", "seed")
OF_BASE = ("lr", "weight_decay")  # that an optimizer by itself shares with the base: the protocol's


def entry(source: str) -> OptimizerEntry:
    """Describe the class that ``source`` names, as far as it is written; the file is not run."""
    place, _, name = source.rpartition(":")
    found = modules.constructor(place, name)
    first, *rest = found.names or ("",)
    given = {*OF_TRAINING, *((*OF_BASE, *BASE_CLASS) if first in PARAMETERS else ())}
    plain = {k: v for k, v in found.defaults.items() if v is None or isinstance(v, (bool, int, float, str))}
    settings = {key: value for key, value in plain.items() if key in rest and key not in given}
    others = None if found.anything else tuple(key for key in rest if key not in {*settings, *given})
    return OptimizerEntry(
        "samcmp.optim.user", name, "an optimizer of your own", "", "n/a", settings, source=source, others=others
    )


def build(
    source: str, base: Optimizer, *, settings: Mapping[str, Any], of_training: Mapping[str, Any] | None = None
) -> Optimizer:
    """Build the class that ``source`` names, around ``base`` or in its place.

    Raises UsageError where file or class is not there, or the constructor needs what nobody gives it.
    """
    from torch.optim import Optimizer

    place, _, name = source.rpartition(":")
    where = f"--optimizer {source}"
    module = imported(place, where=where)
    made = class_in(module, name, (Optimizer,), where=where)
    with helpers_of(module):
        return around(made, base, settings=settings, of_training=of_training, where=where)


def around(
    made: Any, base: Optimizer, *, settings: Mapping[str, Any], of_training: Mapping[str, Any] | None, where: str
) -> Optimizer:
    """Call a class with what its constructor names. Raises UsageError."""
    takes = inspect.signature(made).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    names = [key for key, p in takes.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    first = names[0] if names else ""
    given: dict[str, Any] = {key: value for key, value in (of_training or {}).items() if key in names}
    if first in PARAMETERS:
        of_base = next((key for key in names[1:] if key in BASE_CLASS), None)
        given |= _in_place_of(base, names=names, anything=anything, of_base=of_base, where=where)
        given |= {first: _groups(base, whole=of_base is not None)}
    else:
        given |= {first: base}
    for key in settings:
        if key not in names and not anything:
            raise unknown(f"setting of {made.__name__}", key, [k for k in names if k not in given], where=where)
    given |= settings
    missing = [key for key in names if key not in given and takes[key].default is takes[key].empty]
    if missing:
        raise UsageError(
            f"its constructor needs {', '.join(missing)}",
            where=where,
            remedy=f"Give a default, or --set {made.__name__}.{missing[0]}=VALUE. The first argument is the base "
            f"optimizer; one called params gets the parameters, {BASE_CLASS[0]} after it the base's class.",
        )
    optimizer: Optimizer = _with_whole_step(made)(given.pop(first), **given)
    return optimizer


def _groups(base: Optimizer, *, whole: bool) -> list[dict[str, Any]]:
    """The base's groups: all that they say where a base is made of them again, else what the protocol says."""
    keep = {"params", *OF_BASE}
    return [{key: value for key, value in group.items() if whole or key in keep} for group in base.param_groups]


def _in_place_of(
    base: Optimizer, *, names: list[str], anything: bool, of_base: str | None, where: str
) -> dict[str, Any]:
    """What a class that takes parameters shares with the base optimizer. Raises UsageError."""
    if of_base is not None:
        return {of_base: type(base), **({"lr": base.defaults["lr"]} if "lr" in names or anything else {})}
    decay = float(base.defaults.get("weight_decay", 0.0))
    if decay and "weight_decay" not in names and not anything:
        raise UsageError(
            f"takes no weight_decay, and the protocol's is {decay:g}",
            where=where,
            remedy="Let its constructor take weight_decay, or set that of the protocol to 0.",
        )
    return {key: base.defaults[key] for key in OF_BASE if key in names and key in base.defaults}


def _with_whole_step(made: Any) -> Any:
    """Return the class, or one whose step(closure) takes both gradients where it has a first and a second step."""
    if not all(callable(getattr(made, name, None)) for name in ("first_step", "second_step")):
        return made

    def step(self: Any, closure: Any = None) -> Any:
        import torch

        if closure is None:
            return made.step(self)
        with torch.enable_grad():
            loss = closure()
        self.first_step()
        with torch.enable_grad():
            closure()
        self.second_step()
        return loss

    return type(made.__name__, (made,), {"step": step, "__module__": made.__module__, "__doc__": made.__doc__})
