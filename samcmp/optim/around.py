"""An optimizer around another one: its groups, own vectors beside them, and a state that has both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim.descent import Descent
from samcmp.optim.space import Space
from samcmp.optim.vector import Vector


class Around(Optimizer):
    """What a torch optimizer around another keeps: no algorithm yet, see :class:`samcmp.optim.base.SharpnessAware`.

    Raises ValueError where ``base`` is not an optimizer or ``rho`` is negative.
    """

    def __init__(self, base: Optimizer, *, rho: float | None, flat: bool) -> None:
        if not isinstance(base, Optimizer):
            raise ValueError(f"base is a torch.optim.Optimizer instance, got {type(base).__name__}")
        if isinstance(base, torch.optim.LBFGS):
            raise ValueError(
                "LBFGS asks for gradients inside its own step; take a base whose step uses the ones at hand"
            )
        if rho is not None and not rho >= 0:
            raise ValueError(f"rho is a radius and must be >= 0, got {rho}")
        self.base = base
        self.clock = 0  # steps taken
        self.passes = 0  # gradients asked for since construction
        self.kept: dict[str, Vector] = {}  # own vectors by name
        self.numbers: dict[str, Any] = {}  # own 0-dim tensors and host numbers by name
        self._flat = flat
        self._building = True
        super().__init__(base.param_groups, {} if rho is None else {"rho": rho})
        self._building = False
        self.defaults = {**base.defaults, **self.defaults}
        for group in base.param_groups:
            if rho is not None:
                group.setdefault("rho", rho)
        self._lay_out()

    def _abandon(self) -> None:
        """Drop a step under way, where a subclass has steps of several parts."""

    def descend(self) -> None:
        """θ ← base(ω): let the base optimizer take its step with the gradients as they are."""
        self._descent.step()

    @property
    def rhos(self) -> list[float]:
        """ρ of each param group."""
        return [float(group["rho"]) for group in self.param_groups]

    def keep(self, name: str, *, precise: bool = False) -> Vector:
        """Return this optimizer's own vector of that name, zero at first; it is part of the state."""
        if name not in self.kept:
            self.kept[name] = self.space.new(precise=precise)
        return self.kept[name]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's own groups."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, value: list[dict[str, Any]]) -> None:
        if not self._building:
            self.base.param_groups = value

    @property
    def state(self) -> Any:
        """The base optimizer's state; own vectors are in ``kept``."""
        return self.base.state

    @state.setter
    def state(self, value: Any) -> None:
        if not self._building:
            self.base.state = value

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer; its rho is the first group's where it names none."""
        if self._building:
            return
        self.base.add_param_group(param_group)
        self._relay()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none=set_to_none)

    def _lay_out(self, mine: Collection[int] = ()) -> None:
        self.space = Space(self.param_groups, flat=self._flat, mine=mine)
        self._descent = Descent(self.base, self.space)

    @torch.no_grad()
    def _relay(self) -> None:
        """Lay the space out anew after parameters came or moved; own vectors follow their parameters."""
        if self.space.away:
            raise RuntimeError("parameters moved while they were perturbed")
        for key in {"rho", "radius"} & set(self.param_groups[0]):
            for group in self.param_groups[1:]:  # one that the base was given has none
                group.setdefault(key, self.param_groups[0][key])
        old = self.space
        self._lay_out(mine=old.storages)
        number = {id(p): i for i, p in enumerate(old.params)}
        for name, vector in self.kept.items():
            parts = [vector.parts[number[id(p)]] if id(p) in number else None for p in self.space.params]
            wide = any(t.dtype != p.dtype for t, p in zip(vector.parts, old.params, strict=True) if t is not None)
            self.kept[name] = self._filled(parts, precise=wide)

    def _filled(self, parts: Sequence[Tensor | None], *, precise: bool) -> Vector:
        vector = self.space.new(precise=precise)
        for mine, part in zip(vector.parts, parts, strict=True):
            if mine is not None and part is not None:
                mine.copy_(part)
        return vector

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state dict and, under ``sharpness``, own vectors, numbers, clock and random state."""
        if self.space.away:
            raise RuntimeError("the weights are perturbed; take the state after the step")
        own = {
            "optimizer": type(self).__name__,
            "clock": self.clock,
            "passes": self.passes,
            "numbers": {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in self.numbers.items()},
            "vectors": {k: [None if t is None else t.clone() for t in v.parts] for k, v in self.kept.items()},
            **self.extra_state(),
        }
        return {**self.base.state_dict(), "sharpness": own}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, on whatever device the parameters are now."""
        own = state_dict.get("sharpness")
        if own is None or own["optimizer"] != type(self).__name__:
            found = "a plain torch optimizer" if own is None else own["optimizer"]
            raise ValueError(f"this is the state of {found}, not of {type(self).__name__}")
        self._abandon()
        self.base.load_state_dict({k: v for k, v in state_dict.items() if k != "sharpness"})
        if not self.space.holds(self.param_groups):
            self._relay()
        self.clock, self.passes = int(own["clock"]), int(own["passes"])
        device = self.space.params[0].device if self.space.params else torch.device("cpu")
        self.numbers = {k: v.to(device, copy=True) if isinstance(v, Tensor) else v for k, v in own["numbers"].items()}
        self.kept = {}
        for name, parts in own["vectors"].items():
            wide = any(
                t is not None and torch.promote_types(t.dtype, p.dtype) != p.dtype
                for t, p in zip(parts, self.space.params, strict=True)
            )
            self.kept[name] = self._filled(parts, precise=wide)
        self.load_extra_state(own)

    def extra_state(self) -> dict[str, Any]:
        """Return what else a subclass keeps, such as its random state; plain values and tensors only."""
        return {}

    def load_extra_state(self, own: Mapping[str, Any]) -> None:
        """Take back what :meth:`extra_state` gave."""

    def __getstate__(self) -> dict[str, Any]:
        """Give everything but buffers that are views: a deep copy lays its own parameters out."""
        state = {k: v for k, v in self.__dict__.items() if k not in ("space", "kept", "_descent")}
        state.pop("step", None)  # schedulers wrap it and hold this very object
        state["_vectors"] = {k: list(v.parts) for k, v in self.kept.items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = state.pop("_vectors")
        self.__dict__.update(state)
        with torch.no_grad():
            self._lay_out()
            wide = {
                name: any(t.dtype != p.dtype for t, p in zip(parts, self.space.params, strict=True))
                for name, parts in kept.items()
            }
            self.kept = {name: self._filled(parts, precise=wide[name]) for name, parts in kept.items()}
