"""Ctrl-C at any moment of a step: the weights are home after it and the next step works."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samcmp import optim
from samcmp.optim import kernels, pages
from samcmp.optim.base import SharpnessAware


@pytest.fixture(autouse=True)
def loops_and_one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(kernels, "SMALLEST", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Trial:
    """Two layers in two param groups; learning rate 0, so that only perturbations move them."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 3))
        groups = [{"params": self.model[0].parameters()}, {"params": self.model[2].parameters()}]
        base = torch.optim.Adam(groups, lr=0.0, fused=True)
        recipe = optim.build(name, base, steps_per_epoch=3, epochs=4, seed=0, settings={})
        self.optimizer: Any = recipe.optimizer
        self.x = torch.randn(8, 20)

    def __call__(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.model(self.x).square().mean()
        loss.backward()
        return loss.detach()  # type: ignore[no-any-return]

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


def interrupted(trial: Trial, moment: int) -> bool:
    """Take a step; raise as a signal would at the ``moment``-th call in the optimizer, if there are so many."""
    room, seen = str(sys.modules[SharpnessAware.__module__].__file__).rsplit("base.py", 1)[0], 0

    def watch(frame: FrameType, event: str, _: Any) -> None:
        nonlocal seen
        if frame.f_code.co_filename.startswith(room) and event in ("call", "c_return"):
            seen += 1
            if seen == moment and not frame.f_code.co_name.startswith("<"):
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(watch)
    try:
        trial.optimizer.step(trial)
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    return seen >= moment


@pytest.mark.parametrize("way", ["pages", "copies"])
@pytest.mark.parametrize("name", ["sam", "graphsam"])
def test_weights_are_home_after_an_interrupt_at_any_call(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SMALLEST", 1 if way == "pages" else 1 << 60)
    moment, more = 0, True
    while more:
        moment += 1
        trial = Trial(name)
        trial.optimizer.step(trial)
        trial.optimizer.step(trial)
        before = trial.weights()
        more = interrupted(trial, moment)
        assert all(map(torch.equal, before, trial.weights())), f"not home after an interrupt at call {moment}"
        trial.optimizer.state_dict()
        trial.optimizer.step(trial)
        assert all(map(torch.equal, before, trial.weights())), f"not home a step after an interrupt at call {moment}"
    assert moment > 50
