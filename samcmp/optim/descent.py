"""θ ← base(ω): the base optimizer's step, at a lower price where large parameters lie on the CPU.

Two things cost fused Adam time there beside its arithmetic: its averages lie in small pages, and every step looks up
every tensor anew. Here the averages move into buffers like the parameters' own, and Adam's and AdamW's fused kernel
is called with lists that were made once. The numbers are the same, bit for bit. Whatever else a base is or does
(another class, hooks, a scheduler that counts its steps, a frozen parameter, a state that somebody replaced) gets its
own ``step()``.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer
from torch.optim import optimizer as torch_optimizer

from samcmp.optim.space import Space, movable

_GRAD = operator.attrgetter("grad")
_APART = 5 * 4096 + 320  # bytes: no page and no cache line of one average ends as another's
_OTHER_WAYS = ("amsgrad", "capturable", "differentiable")


class Descent:
    """The steps of one base optimizer over one space."""

    def __init__(self, base: Optimizer, space: Space) -> None:
        self.base, self.space = base, space
        self._seen: Any = None  # the first parameter's state when the averages moved: a loaded state is another
        self._groups: list[_Group] | None = None
        self._held: list[Any] = []  # what the base's state held when the groups' lists were made

    def step(self) -> None:
        """Let the base optimizer take a step with the gradients as they are."""
        current = self._groups is not None and all(map(operator.is_, self._entries(), self._held))
        groups = self._groups if current and self._is_plain() else None
        grads = [list(map(_GRAD, options["params"])) for options in self.base.param_groups] if groups else []
        if groups is None or any(type(None) in set(map(type, some)) for some in grads):
            self.base.step()
            if self.space.large and not current:
                self._move_averages()
                self._make_lists()
            return
        for group, options, some in zip(groups, self.base.param_groups, grads, strict=True):
            group.step(options, some)

    def _first(self) -> Any:
        return next(iter(self.base.state.values()), None)

    def _entries(self) -> Iterator[Any]:
        """Give what the base's state holds, and None at its end."""
        return chain(chain.from_iterable(map(dict.values, self.base.state.values())), [None])

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
            or not all(map(_is_fused, base.param_groups))
        )

    @torch.no_grad()
    def _move_averages(self) -> None:
        """Move the averages of a new or loaded state into buffers."""
        if self._first() is self._seen:
            return
        self._seen = self._first()
        for k, key in enumerate(self._seen or (), start=1):
            held = [(i, self.base.state.get(param, {}).get(key)) for i, param in enumerate(self.space.params)]
            moving = [(i, value) for i, value in held if _like(value, self.space.params[i]) and movable(value)]
            homes = self.space.new(apart=k * _APART).parts if moving else []
            for i, value in moving:
                value.data = homes[i].copy_(value)  # type: ignore[union-attr]  # a new vector has all parts

    def _make_lists(self) -> None:
        """Make the kernel's lists if the base is one whose kernel can be called."""
        self._groups = None
        if type(self.base) in (Adam, AdamW) and all(map(_is_fused, self.base.param_groups)):
            states = [[self.base.state.get(p) for p in group["params"]] for group in self.base.param_groups]
            if all(all(some) for some in states):
                self._groups = list(map(_Group.made, states))
                self._held = list(self._entries())


@dataclass(frozen=True, slots=True)
class _Group:
    """A param group's tensors in the order in which the kernel takes them."""

    averages: list[Tensor]
    squares: list[Tensor]
    clock: np.ndarray  # every parameter's count of steps,
    clocks: list[Tensor]  # and its numbers as tensors, which the base's state holds

    @classmethod
    def made(cls, states: Sequence[Any]) -> _Group:
        averages, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        counts = torch.stack([s["step"] for s in states]) if states else torch.zeros(0)
        clocks = list(counts.unbind())
        for state, view in zip(states, clocks, strict=True):
            state["step"] = view
        return cls(averages, squares, counts.numpy(), clocks)

    def step(self, options: dict[str, Any], grads: list[Tensor]) -> None:
        if not grads:
            return
        np.add(self.clock, 1, out=self.clock)
        beta1, beta2 = map(float, options["betas"])
        chosen = {name: options[name] for name in ("lr", "weight_decay", "eps", "maximize")}
        lists = (options["params"], grads, self.averages, self.squares)
        kernel = torch._fused_adamw_ if options["decoupled_weight_decay"] else torch._fused_adam_
        kernel(*lists, [], self.clocks, amsgrad=False, beta1=beta1, beta2=beta2, **chosen)


def _is_fused(options: dict[str, Any]) -> bool:
    return bool(options["fused"]) and not any(options[way] for way in _OTHER_WAYS)


def _like(value: Any, param: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == param.shape and value.dtype == param.dtype
