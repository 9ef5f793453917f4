"""Schedules of rho: small schedulers over ``param_groups[...]["rho"]``, usable with every optimizer.

They look like torch's: build one around the optimizer, call ``step()`` once an epoch (or once an optimizer step),
``state_dict`` and ``load_state_dict`` for a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer


class RhoSchedule:
    """ρ stays ρ₀. ``keys`` are the group entries that follow the schedule."""

    def __init__(self, optimizer: Optimizer, *, keys: tuple[str, ...] = ("rho",)) -> None:
        self.optimizer, self.keys = optimizer, keys
        self.last_epoch = 0
        for group in optimizer.param_groups:
            if "rho" not in group:
                raise ValueError(f"{type(optimizer).__name__} has no rho to schedule")
            for key in keys:
                group.setdefault(f"initial_{key}", group[key])
        self._write()

    def factor(self, group: Mapping[str, Any]) -> float:
        """Return ρ/ρ₀ for a group now."""
        return 1.0

    def step(self) -> None:
        """Count an epoch and set every group's ρ."""
        self.last_epoch += 1
        self._write()

    def get_last_rho(self) -> list[float]:
        """Return every group's ρ now, as ``get_last_lr`` of torch's schedulers returns learning rates."""
        return [float(group["rho"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the schedule; ρ itself is in the optimizer's groups."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.last_epoch = int(state_dict["last_epoch"])
        self._write()

    def _write(self) -> None:
        for group in self.optimizer.param_groups:
            for key in self.keys:  # groups added later begin with what they have
                group[key] = group.setdefault(f"initial_{key}", group[key]) * self.factor(group)


class ConstantRho(RhoSchedule):
    """ρ_e = ρ₀."""


class StepRho(RhoSchedule):
    """ρ_e = ρ₀ γ^⌊e/λ⌋ (GraphSAM, Wang et al. 2024, Equation 4); ``period`` is λ, in epochs."""

    def __init__(
        self, optimizer: Optimizer, *, gamma: float = 0.5, period: int = 1, keys: tuple[str, ...] = ("rho",)
    ) -> None:
        if not gamma >= 0 or period < 1:
            raise ValueError(f"gamma must be >= 0 and period >= 1 epoch, got {gamma} and {period}")
        self.gamma, self.period = gamma, period
        super().__init__(optimizer, keys=keys)

    def factor(self, group: Mapping[str, Any]) -> float:
        return float(self.gamma ** (self.last_epoch // self.period))


class CompoundedRho(StepRho):
    """ρ_e = ρ₀ γ^{m(m+1)/2}, m = ⌊e/λ⌋: the released GraphSAM multiplies the already shrunken ρ each time."""

    def factor(self, group: Mapping[str, Any]) -> float:
        m = self.last_epoch // self.period
        return float(self.gamma ** (m * (m + 1) // 2))


class ProportionalRho(RhoSchedule):
    """ρ_t = ρ_min + (ρ₀ − ρ_min) (lr_t − lr_min)/(lr_max − lr_min) (Zhuang et al. 2022, GSAM); step it with the lr.

    ``lr_max`` is the learning rate at which ρ = ρ₀; by default the group's ``initial_lr``, or its lr now.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        rho_min: float = 0.0,
        lr_min: float = 0.0,
        lr_max: float | None = None,
        keys: tuple[str, ...] = ("rho",),
    ) -> None:
        self.rho_min, self.lr_min = rho_min, lr_min
        firsts = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        self.lr_max = max(firsts) if lr_max is None else lr_max
        if self.lr_max < lr_min:
            raise ValueError(f"lr_max must not be below lr_min, got {self.lr_max} and {lr_min}")
        super().__init__(optimizer, keys=keys)

    def factor(self, group: Mapping[str, Any]) -> float:
        if self.lr_max == self.lr_min:  # a learning rate that never moves
            return 1.0
        share = (float(group["lr"]) - self.lr_min) / (self.lr_max - self.lr_min)
        first = float(group["initial_rho"])
        return share if first == 0 else (self.rho_min + (first - self.rho_min) * share) / first


SCHEDULES: dict[str, type[RhoSchedule]] = {
    "constant": ConstantRho,
    "step": StepRho,
    "compounded": CompoundedRho,
    "lr": ProportionalRho,
}
