"""A signal handler that raises at any moment of a step: the weights are restored and the next step works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samcmp import optim

ROOM = str(Path(optim.__file__).parent)
STEPS_BEFORE = 2


class Trial:
    """Two layers in two param groups; learning rate 0, so that only perturbations move them."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
        groups = [{"params": self.model[0].parameters()}, {"params": self.model[2].parameters()}]
        settings = {"start_epoch": 0} if name == "mesa" else {}
        base = torch.optim.Adam(groups, lr=0.0)
        recipe = optim.build(name, base, steps_per_epoch=3, epochs=4, seed=0, settings=settings)
        self.optimizer: Any = recipe.optimizer
        self.term = recipe.loss_term
        if self.term is not None:
            self.term.start_epoch(1)
        self.x = torch.randn(8, 5)
        for _ in range(STEPS_BEFORE):
            self.optimizer.step(self)

    def __call__(self, keep: Tensor | None = None) -> Tensor:
        known = {}
        if self.term is not None:
            with self.term.teacher():
                known["reference"] = self.model(self.x)
        out = self.model(self.x)
        loss = out.square().mean() if keep is None else out[keep].square().mean()
        if self.term is not None:
            loss = loss + self.term.term(torch.arange(8), out, torch.ones(8, 1), **known)
        loss.backward()
        return loss.detach()  # type: ignore[no-any-return]

    on = __call__

    @torch.no_grad()
    def losses(self) -> Tensor:
        return self.model(self.x).square()[:, 0]  # type: ignore[no-any-return]

    def two_phase(self) -> None:
        if self.optimizer.needs_clean:
            self()
        if self.optimizer.needs_perturbed:
            with self.optimizer.perturbed():
                self()
        self.optimizer.finish()

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


def interrupted(step: Callable[[], Any], moment: int, error: type[BaseException]) -> bool:
    """Take a step; raise, as a signal handler would, before the ``moment``-th line that runs in the optimizers' room.

    Returns whether there were so many lines.
    """
    lines = 0

    def watch(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(ROOM):
            return None
        if event == "line":
            lines += 1
            if lines == moment:
                sys.settrace(None)
                raise error
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        step()
    except error:
        pass
    finally:
        sys.settrace(before)
    return lines >= moment


@pytest.mark.parametrize("form", ["closure", "two phases"])
@pytest.mark.parametrize("name", ["sam", "graphsam", "graphsam-released", "looksam", "esam", "mesa", "wsam", "ae-sam"])
def test_weights_are_restored_after_an_exception_at_any_line(name: str, form: str) -> None:
    if name == "esam" and form == "two phases":
        pytest.skip("a loop of one's own selects the samples itself")
    errors = (KeyboardInterrupt, SystemExit)
    moment, more = 0, True
    while more:
        moment += 1
        trial = Trial(name)
        before = trial.weights()
        step = trial.two_phase if form == "two phases" else lambda trial=trial: trial.optimizer.step(trial)
        more = interrupted(step, moment, errors[moment % 2])
        assert all(map(torch.equal, before, trial.weights())), f"not restored after an exception at line {moment}"
        trial.optimizer.state_dict()
        trial.optimizer.step(trial)
        assert all(map(torch.equal, before, trial.weights())), f"perturbed a step after an exception at line {moment}"
    assert moment > 40


@pytest.mark.parametrize("next_step", ["closure", "two phases", "load_state_dict"])
def test_weights_that_an_exception_left_perturbed_are_restored_by_what_comes_next(next_step: str) -> None:
    # Between two instructions of `with optimizer.perturbed():` no code of ours can catch a signal's exception.
    trial = Trial("sam")
    before, state = trial.weights(), trial.optimizer.state_dict()
    assert trial.optimizer.needs_clean
    trial()
    left = trial.optimizer.perturbed()
    left.__enter__()
    assert not all(map(torch.equal, before, trial.weights()))
    with pytest.raises(RuntimeError, match="the weights are perturbed"):
        trial.optimizer.state_dict()
    if next_step == "closure":
        trial.optimizer.step(trial)
    elif next_step == "two phases":
        trial.two_phase()
    else:
        trial.optimizer.load_state_dict(state)
    assert all(map(torch.equal, before, trial.weights()))
