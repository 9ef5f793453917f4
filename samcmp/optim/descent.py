"""θ ← base(ω): the base optimizer's step, at a lower price where large parameters lie on the CPU.

Two things cost fused Adam time there beside its arithmetic: its averages lie in small pages, and every step looks up
every tensor anew. Here the averages move into buffers like the parameters' own, and Adam's and AdamW's fused kernel
is called with lists that were made once. The numbers are the same, bit for bit. Whatever else a base is or does
(another class, hooks, a scheduler that counts its steps, a frozen parameter) gets its own ``step()``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer
from torch.optim import optimizer as torch_optimizer

from samcmp.optim.space import Space, movable

_GRAD = operator.attrgetter("grad")
_KERNELS: Mapping[type, Callable[..., None]] = {Adam: torch._fused_adam_, AdamW: torch._fused_adamw_}
_OTHER_WAYS = ("amsgrad", "capturable", "differentiable")


class Descent:
    """The steps of one base optimizer over one space."""

    def __init__(self, base: Optimizer, space: Space) -> None:
        self.base, self.space = base, space
        self._seen: Any = None  # the first parameter's state when the lists were made: a loaded state is another
        self._groups: list[_Group] | None = None

    def step(self) -> None:
        """Let the base optimizer take a step with the gradients as they are."""
        groups = self._groups if self.space.large and self._first() is self._seen and self._is_plain() else None
        grads = [list(map(_GRAD, group.params)) for group in groups or ()]
        if groups is None or any(type(None) in set(map(type, some)) for some in grads):
            self.base.step()
            if self.space.large and self._first() is not self._seen:
                self._settle()
            return
        for group, some in zip(groups, grads, strict=True):
            group.step(some)

    def _first(self) -> Any:
        return next(iter(self.base.state.values()), None)

    def _is_plain(self) -> bool:
        """Tell whether a call of ``base.step()`` would do nothing but call the kernel for each group."""
        base: Any = self.base
        own = vars(base)
        return not (
            "step" in own  # a scheduler counts
            or "grad_scale" in own  # a GradScaler looks on
            or "found_inf" in own
            or base._optimizer_step_pre_hooks
            or base._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
        )

    @torch.no_grad()
    def _settle(self) -> None:
        """Move the base's averages, and make the lists if its kernel is one that can be called."""
        self._seen, self._groups = self._first(), None
        for key in self._seen or ():
            held = [(i, self.base.state.get(param, {}).get(key)) for i, param in enumerate(self.space.params)]
            moving = [(i, value) for i, value in held if _like(value, self.space.params[i]) and movable(value)]
            homes = self.space.new().parts if moving else []
            for i, value in moving:
                value.data = homes[i].copy_(value)  # type: ignore[union-attr]  # a new vector has all parts
        kernel = _KERNELS.get(type(self.base))
        groups = self.base.param_groups
        if kernel is not None and all(g["fused"] and not any(g[way] for way in _OTHER_WAYS) for g in groups):
            states = [[self.base.state.get(p) for p in group["params"]] for group in groups]
            if all(all(some) for some in states):
                self._groups = [_Group.made(kernel, g, some) for g, some in zip(groups, states, strict=True)]


@dataclass(frozen=True, slots=True)
class _Group:
    """A param group's tensors in the order in which the kernel takes them."""

    kernel: Callable[..., None]
    options: dict[str, Any]  # the group itself: a scheduler's learning rate is seen
    params: list[Tensor]
    averages: list[Tensor]
    squares: list[Tensor]
    clock: np.ndarray  # every parameter's count of steps,
    clocks: list[Tensor]  # and its numbers as tensors, which the base's state holds

    @classmethod
    def made(cls, kernel: Callable[..., None], options: dict[str, Any], states: list[Any]) -> _Group:
        averages, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        counts = torch.stack([s["step"] for s in states])
        clocks = list(counts.unbind())
        for state, view in zip(states, clocks, strict=True):
            state["step"] = view
        return cls(kernel, options, options["params"], averages, squares, counts.numpy(), clocks)

    def step(self, grads: list[Tensor]) -> None:
        np.add(self.clock, 1, out=self.clock)
        beta1, beta2 = map(float, self.options["betas"])
        chosen = {name: self.options[name] for name in ("lr", "weight_decay", "eps", "maximize")}
        lists = (self.params, grads, self.averages, self.squares)
        self.kernel(*lists, [], self.clocks, amsgrad=False, beta1=beta1, beta2=beta2, **chosen)


def _like(value: Any, param: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == param.shape and value.dtype == param.dtype
