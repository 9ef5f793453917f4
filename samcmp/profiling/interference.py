"""What one optimizer of a session could change for the others that are timed in the same process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from samcmp import machine


class Watch:
    """Compares the state of this process before and after each turn of an optimizer.

    Args:
        watched: keys of the arms whose code may change it.
        begins: called with an arm's key before its turn; the one that is named last is to blame where the process ends.
        changed: called with an arm's key and what it changed.
    """

    def __init__(
        self, watched: set[str], *, begins: Callable[[str], None], changed: Callable[[str, str], None]
    ) -> None:
        self.watched = watched
        self.begins = begins
        self.changed = changed
        for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
            kind([nn.Parameter(torch.zeros(1))])  # torch wraps step() of a class when it is first called
        self.before = State.now()

    @contextlib.contextmanager
    def __call__(self, key: str) -> Iterator[None]:
        self.begins(key)
        try:
            yield
        finally:
            if key in self.watched:
                different = self.before.changes(State.now())
                if different:
                    self.changed(key, different)


@dataclass(frozen=True)
class State:
    """Everything that decides how and what torch and this project compute in this process."""

    settings: Mapping[str, Any]
    functions: Mapping[type | ModuleType, Mapping[str, Any]]  # of modules and classes; a replaced one is another object

    @classmethod
    def now(cls) -> State:
        return cls(_settings(), {owner: _callables(owner) for owner in _owners()})

    def changes(self, after: State) -> str:
        """Name what differs in ``after``, settings with both values; empty where nothing does."""
        changed = [
            f"{name} ({old} before, {after.settings[name]} after)"
            for name, old in self.settings.items()
            if old != after.settings[name]
        ]
        for owner, old in self.functions.items():
            new = after.functions.get(owner, {})
            if old != new:
                # a module may get further names when a part of it is imported, a class gets none by itself
                names = [*old] if isinstance(owner, ModuleType) else [*{**old, **new}]
                changed += [
                    f"{_name(owner)}.{name}"
                    for name in names
                    if not _same(old.get(name, _inherited(owner, name)), new.get(name))
                ]
        return ", ".join(changed)


def _inherited(owner: type | ModuleType, name: str) -> Any:
    """Return what a class has of its bases under ``name``; None where nothing, and for a module."""
    bases = owner.__mro__[1:] if isinstance(owner, type) else ()
    return next((vars(base)[name] for base in bases if name in vars(base)), None)


def _same(old: Any, new: Any) -> bool:
    wrapped_by_torch = getattr(new, "hooked", False) and getattr(new, "__wrapped__", None) is old  # step()
    return old is new or bool(wrapped_by_torch)


def _name(owner: type | ModuleType) -> str:
    return owner.__name__ if isinstance(owner, ModuleType) else f"{owner.__module__}.{owner.__qualname__}"


def _settings() -> dict[str, Any]:
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": str(torch.get_default_device()),
        "threads": torch.get_num_threads(),
        "cores": machine.affinity(),
        "gradients are recorded": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "precision of matrix products": torch.get_float32_matmul_precision(),
        "mkldnn": torch._C._get_mkldnn_enabled(),
        "cudnn": (
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.allow_tf32,
        ),
        "small numbers are flushed to zero": float(torch.tensor(1e-310, dtype=torch.float64) * 1.0) == 0.0,
        "global hooks of modules": {
            name: len(hooks) for name, hooks in vars(nn.modules.module).items() if _is_table_of_hooks(name, hooks)
        },
        "trace function": sys.gettrace() is not None or sys.getprofile() is not None,
        "current folder": _folder(),
        "settings of the environment": machine.settings(),
    }


def _is_table_of_hooks(name: str, value: Any) -> bool:
    return name.startswith("_global_") and isinstance(value, dict)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _owners() -> set[type | ModuleType]:
    ours = [module for name, module in list(sys.modules.items()) if name.startswith("samcmp.") and module]
    owners: set[type | ModuleType] = {nn.functional, nn.init, torch.autograd, *ours}
    for module in (torch, nn, torch.optim, *ours):
        owners.add(module)
        owners |= {each for each in vars(module).values() if isinstance(each, type) and _is_of(each, module)}
    return owners


def _is_of(kind: type, module: ModuleType) -> bool:
    return kind.__module__.startswith("samcmp." if module.__name__.startswith("samcmp.") else "torch.") or (
        kind.__module__ == "torch"
    )


def _callables(owner: type | ModuleType) -> dict[str, Any]:
    return {name: value for name, value in list(vars(owner).items()) if callable(value)}
