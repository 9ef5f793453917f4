"""A 12-16-1 tanh network, 40 steps, and what an optimizer of the catalogue makes of it: for oracles and twins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from samcmp import optim
from tests.places import ORACLES

FOLDER = ORACLES / "optimizers"
STEPS_PER_EPOCH = 10


def stored(name: str) -> dict[str, NDArray[Any]]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 16, dtype=torch.float64), nn.Linear(16, 1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(torch.tanh(self.fc1(x)))
        return out  # (G, 1)

    @torch.no_grad()
    def set(self, theta: NDArray[Any]) -> None:
        offset = 0
        for p in self.parameters():
            p.copy_(torch.from_numpy(theta[offset : offset + p.numel()].copy()).view(p.shape))
            offset += p.numel()

    def get(self) -> NDArray[Any]:
        return torch.cat([p.detach().reshape(-1) for p in self.parameters()]).numpy().copy()


class Closure:
    """What a training loop hands to step(): counts passes and notes losses."""

    def __init__(self, model: Net, *, loss_power: int = 1, term: Any = None) -> None:
        self.model, self.loss_power, self.extra = model, loss_power, term
        self.x = self.y = torch.empty(0)
        self.rows = torch.empty(0, dtype=torch.int64)
        self.passes, self.forwards = 0, 0
        self.seen: list[float] = []

    def _loss(self, keep: Tensor | None = None) -> Tensor:
        z = self.model(self.x)
        picked = slice(None) if keep is None else keep
        loss = functional.binary_cross_entropy_with_logits(z[picked], self.y[picked])
        if self.extra is not None:
            reference = {}
            if getattr(self.extra, "needs_reference", False):
                with torch.no_grad(), self.extra.teacher():
                    reference["reference"] = self.model(self.x)
                self.forwards += 1
            loss = loss + self.extra.term(self.rows, z, self.y, **reference)
        return loss

    def __call__(self, keep: Tensor | None = None, *, loss_power: int | None = None) -> Tensor:
        self.passes += 1
        loss = self._loss(keep)
        loss.backward(loss.detach() if (loss_power or self.loss_power) == 2 else None)
        self.seen.append(float(loss.detach()))
        return loss.detach()

    def losses(self) -> Tensor:
        self.forwards += 1
        with torch.no_grad():
            z = self.model(self.x)
            return functional.binary_cross_entropy_with_logits(z, self.y, reduction="none")[:, 0]

    def plain(self) -> Tensor:
        return self(loss_power=1)

    def on(self, keep: Tensor) -> Tensor:
        return self(keep)


def follow(
    problem: Mapping[str, NDArray[Any]],
    make: Callable[[torch.optim.Optimizer], optim.Recipe],
    *,
    base: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    base_settings: Mapping[str, Any] | None = None,
) -> tuple[NDArray[Any], list[int], Net, optim.Recipe]:
    """Train along the problem's batches: parameters (41, 225), passes per step, the model and its recipe."""
    model = Net()
    model.set(problem["theta0"])
    recipe = make(base(model.parameters(), **(base_settings or {"lr": 1e-3})))
    closure = Closure(model, loss_power=recipe.loss_power, term=recipe.loss_term)
    x, y = torch.from_numpy(problem["X"]), torch.from_numpy(problem["Y"]).double()[:, None]
    path, passes = [model.get()], []
    for t, rows in enumerate(problem["batch_idx"]):
        if t % STEPS_PER_EPOCH == 0 and recipe.loss_term is not None:
            recipe.loss_term.start_epoch(t // STEPS_PER_EPOCH)
        closure.x, closure.y, closure.rows = x[rows], y[rows], torch.from_numpy(rows)
        before = closure.passes
        recipe.optimizer.step(closure)
        for scheduler in recipe.step_schedulers:
            scheduler.step()
        if (t + 1) % STEPS_PER_EPOCH == 0:
            for scheduler in recipe.epoch_schedulers:
                scheduler.step()
        path.append(model.get())
        passes.append(closure.passes - before)
    return np.stack(path), passes, model, recipe
