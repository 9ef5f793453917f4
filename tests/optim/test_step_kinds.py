"""Every optimizer declares which of its steps take one gradient and which two; what it declares is what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from samcmp import optim
from samcmp.optim.entry import StepKinds

N, EPOCHS = 12, 20
MIXED = [name for name, entry in optim.OPTIMIZERS.items() if entry.kinds is not None]
ALIKE = [name for name in optim.OPTIMIZERS if name not in MIXED]
OTHER_SETTINGS: Mapping[str, list[dict[str, Any]]] = {
    "looksam": [{"k": 1}, {"k": 3}, {"k": 1000}],
    "sam-k": [{"k": 5}],
    "sam-k-skip": [{"k": 4}],
    "graphsam-k": [{"K": 1}, {"K": 3}, {"K": 100}],
    "late-sam": [{"share": 0.0}, {"share": 0.33}, {"share": 1.0}],
    "rst": [{"p": 0.0}, {"p": 0.1}, {"p": 1.0}],
    "ae-sam": [{"late": True}, {"delta": 0.0}, {"delta": 1.0}],
}
VARIANTS = [(name, settings) for name in MIXED for settings in ({}, *OTHER_SETTINGS.get(name, []))]


class Closure:
    """Drawn gradients that are counted; samples can be selected as in a real closure."""

    def __init__(self, parameter: Tensor) -> None:
        self.parameter = parameter
        self.generator = torch.Generator().manual_seed(0)
        self.passes = 0

    def __call__(self) -> Tensor:
        self.passes += 1
        self.parameter.grad = torch.randn(self.parameter.shape, generator=self.generator)
        return torch.rand((), generator=self.generator)

    def losses(self) -> Tensor:
        return torch.rand(8, generator=self.generator)

    def on(self, keep: Tensor) -> Tensor:
        return self()


def passes(name: str, steps: int, settings: Mapping[str, Any], *, n: int = N, epochs: int = EPOCHS) -> list[int]:
    """Return the gradient evaluations of each of the first steps."""
    parameter = torch.nn.Parameter(torch.ones(4))
    base = torch.optim.Adam([parameter], lr=1e-3)
    optimizer = optim.build(name, base, steps_per_epoch=n, epochs=epochs, seed=3, settings=settings).optimizer
    closure = Closure(parameter)
    taken = []
    for _ in range(steps):
        before = closure.passes
        optimizer.step(closure)
        taken.append(closure.passes - before)
    return taken


def of_one_kind(name: str, settings: Mapping[str, Any], replaced: Mapping[str, Any]) -> list[int]:
    lengths = {"steps_per_epoch": N, "epochs": EPOCHS} | {k: v for k, v in replaced.items() if k in LENGTHS}
    own = {k: v for k, v in replaced.items() if k not in LENGTHS}
    found = passes(name, 3 * N, {**settings, **own}, n=lengths["steps_per_epoch"], epochs=lengths["epochs"])
    return found[1:]


LENGTHS = ("steps_per_epoch", "epochs")


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_each_kind_can_be_had_alone(name: str, settings: dict[str, Any]) -> None:
    kinds = optim.entry(name).kinds
    assert kinds is not None
    assert set(of_one_kind(name, settings, kinds.one_pass)) == {1}
    assert set(of_one_kind(name, settings, kinds.two_pass)) == {2}


@pytest.mark.parametrize(("name", "settings"), [v for v in VARIANTS if v[0] != "ae-sam"])
def test_the_declared_share_is_that_of_a_training(name: str, settings: dict[str, Any]) -> None:
    entry = optim.entry(name)
    assert isinstance(entry.kinds, StepKinds)
    assert entry.kinds.share is not None
    declared = entry.kinds.share({**entry.settings, **settings}, N, EPOCHS)
    taken = passes(name, N * EPOCHS, settings)
    tolerance = 0.1 if name == "rst" else 1 / len(taken)
    assert taken.count(2) / len(taken) == pytest.approx(declared, abs=tolerance)


def test_the_share_of_aesam_is_known_to_its_gradients_only() -> None:
    kinds = optim.entry("ae-sam").kinds
    assert kinds is not None
    assert kinds.share is None


@pytest.mark.parametrize("name", ALIKE)
def test_one_that_declares_nothing_takes_equal_steps_after_its_first(name: str) -> None:
    assert len(set(passes(name, N * EPOCHS, {})[1:])) == 1
