"""An optimizer around another one: its groups, own vectors apart from its state, weights that can be put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim.tensors import present

SHARED_KEYS = ("rho", "radius")  # group entries of ours that a new group takes from the first


class Wrapper(Optimizer):
    """What a torch optimizer around another keeps: no algorithm yet, see :class:`samcmp.optim.SharpnessAware`.

    Raises ValueError where ``base`` is not such an optimizer, a parameter is complex or ``rho`` is negative.
    """

    def __init__(self, base: Optimizer, *, rho: float | None) -> None:
        _check(base, rho)
        self.base = base
        self.clock = 0  # steps taken
        self.passes = 0  # gradients taken since construction
        self.vectors: dict[str, dict[Tensor, Tensor]] = {}  # own vectors by name, see :meth:`own`
        self.numbers: dict[str, Any] = {}  # own 0-dim tensors and host numbers by name
        self._saved: dict[Tensor, Tensor] = {}  # θ of each parameter while it is displaced
        self._displaced: tuple[list[Tensor], list[Tensor]] = [], []  # what does not hold θ now, and its θ
        self._building = True
        super().__init__(base.param_groups, {} if rho is None else {"rho": rho})
        self._building = False
        self.defaults = {**base.defaults, **self.defaults}
        for group in base.param_groups:
            if rho is not None:
                group.setdefault("rho", rho)

    def own(self, name: str, *, precise: bool = False) -> list[Tensor]:
        """Return this optimizer's own vector of that name, zero at first; it is part of the state.

        ``precise`` keeps at least 32 bits: averages of bf16 numbers stall in bf16.
        """
        held = self.vectors.setdefault(name, {})
        for p in self.params:
            kind = torch.promote_types(p.dtype, torch.float32) if precise else p.dtype
            if p not in held or held[p].shape != p.shape:
                held[p] = torch.zeros_like(p, dtype=kind, requires_grad=False)
            elif held[p].dtype != kind or held[p].device != p.device:
                held[p] = held[p].to(p.device, kind)
        return [held[p] for p in self.params]

    @property
    def params(self) -> list[Tensor]:
        """The parameters of all groups."""
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def rhos(self) -> list[float]:
        """ρ of each parameter: its group's."""
        return [float(group["rho"]) for group in self.param_groups for _ in group["params"]]

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients as they are. Raises ValueError for a sparse one."""
        grads = [p.grad for p in self.params]
        layouts = {grad.layout for grad in present(grads)} - {torch.strided}
        if layouts:
            raise ValueError(
                f"a gradient of layout {layouts.pop()} cannot be perturbed along; "
                "build the layer with sparse=False (torch.nn.Embedding has that option)"
            )
        return grads

    # ---- weights at another place, and back

    @torch.no_grad()
    def displace(self, params: Sequence[Tensor], *, silently: bool = False) -> list[Tensor]:
        """Save what ``params`` hold and return the tensors to write to: :meth:`restore` undoes what is written.

        ``silently`` keeps autograd from noticing, so that a graph made before can still be gone through after.
        """
        for p in params:
            held = self._saved.get(p)
            if held is None or (held.shape, held.dtype, held.device) != (p.shape, p.dtype, p.device):
                self._saved[p] = torch.empty_like(p, requires_grad=False)
        saved = [self._saved[p] for p in params]
        torch._foreach_copy_(saved, list(params))
        self._displaced = [p.data for p in params] if silently else list(params), saved
        return self._displaced[0]

    @torch.no_grad()
    def restore(self) -> None:
        """Give displaced weights what they held, bit for bit; an interrupted call is made good by another one."""
        displaced, saved = self._displaced
        if displaced:
            torch._foreach_copy_(displaced, saved)
            self._displaced = [], []

    def _abandon(self) -> None:
        """Drop what is under way; the weights are at θ after it."""
        self.restore()

    # ---- the base's groups and state, and a state that has both

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
        """The base optimizer's state; own vectors are in ``vectors``."""
        return self.base.state

    @state.setter
    def state(self, value: Any) -> None:
        if not self._building:
            self.base.state = value

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer; its rho is the first group's where it names none."""
        if self._building:
            return
        params = param_group["params"]
        param_group["params"] = [params] if isinstance(params, Tensor) else list(params)
        _refuse_complex([param_group])
        self.base.add_param_group(param_group)
        self._complete_groups()

    def _complete_groups(self) -> None:
        """Give groups that have none of our entries the first group's; the base may have been given one by itself."""
        first, *others = self.param_groups
        for group in others:
            for key in SHARED_KEYS:
                if key in first:
                    group.setdefault(key, first[key])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters."""
        self.base.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state dict and, under ``sharpness``, own vectors, numbers, clock and random state."""
        if self._displaced[0]:
            raise RuntimeError("the weights are perturbed; take the state after the step")
        own = {
            "optimizer": type(self).__name__,
            "clock": self.clock,
            "passes": self.passes,
            "numbers": {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in self.numbers.items()},
            "vectors": {
                name: [held[p].clone() if p in held else None for p in self.params]
                for name, held in self.vectors.items()
            },
            **self.extra_state(),
        }
        return {**self.base.state_dict(), "sharpness": own}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, on whatever device the parameters are now."""
        own = state_dict.get("sharpness")
        if own is None or own["optimizer"] != type(self).__name__:
            owner = "a plain torch optimizer" if own is None else own["optimizer"]
            raise ValueError(f"this is the state of {owner}, not of {type(self).__name__}")
        self._abandon()
        self.base.load_state_dict({k: v for k, v in state_dict.items() if k != "sharpness"})
        self.clock, self.passes = int(own["clock"]), int(own["passes"])
        device = self.params[0].device
        self.numbers = {k: v.to(device, copy=True) if isinstance(v, Tensor) else v for k, v in own["numbers"].items()}
        self.vectors = {
            name: {p: t.to(p.device, copy=True) for p, t in zip(self.params, parts, strict=True) if t is not None}
            for name, parts in own["vectors"].items()
        }
        self.load_extra_state(own)

    def extra_state(self) -> dict[str, Any]:
        """Return what else a subclass keeps, such as its random state; plain values and tensors only."""
        return {}

    def load_extra_state(self, own: Mapping[str, Any]) -> None:
        """Take back what :meth:`extra_state` gave."""

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_saved": {}, "_displaced": ([], [])}
        state.pop("step", None)  # schedulers wrap it and hold this very object
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _check(base: Optimizer, rho: float | None) -> None:
    if not isinstance(base, Optimizer):
        raise ValueError(f"base is a torch.optim.Optimizer instance, got {type(base).__name__}")
    if isinstance(base, torch.optim.LBFGS):
        raise ValueError("LBFGS asks for gradients inside its own step; take a base whose step uses the ones at hand")
    if rho is not None and not rho >= 0:
        raise ValueError(f"rho is a radius and must be >= 0, got {rho}")
    _refuse_complex(base.param_groups)


def _refuse_complex(groups: Sequence[Mapping[str, Any]]) -> None:
    for group in groups:
        if any(p.is_complex() for p in group["params"]):
            raise ValueError("a complex parameter has no norm here: keep it as torch.view_as_real(parameter)")
