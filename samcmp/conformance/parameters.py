"""Promises about an optimizer's parameters and state: groups, frozen, zero, sparse and bf16 ones; saved and copied."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from torch import Tensor, nn

from samcmp.conformance.report import Broken, NotApplicable
from samcmp.conformance.trial import STEPS, Net, Run, Subject, batch, finite, same, sgd, train


def two_groups(subject: Subject) -> None:
    def split(model: Any) -> Any:
        return [{"params": [*model.inner.parameters()]}, {"params": [*model.outer.parameters()], "lr": 0.0}]

    run = subject.run(groups=split)
    if len(run.optimizer.param_groups) != 2:
        raise Broken("the optimizer does not show the base's two groups")
    groups = run.optimizer.param_groups
    if subject.rho_zero is not None and "rho" not in groups[1]:
        raise Broken("rho is no entry of its param groups, so that no group has its own and no schedule can change it")
    for key in {"rho", "radius", "initial_rho", "initial_radius"} & set(groups[1]):
        groups[0][key], groups[1][key] = 0.5, 0.0
    moved: list[bool] = []
    outer = [p.detach().clone() for p in run.net.outer.parameters()]
    run.closure.watch = lambda: moved.append(not same([*run.net.outer.parameters()], outer))
    inner = [p.detach().clone() for p in run.net.inner.parameters()]
    train(run, 4)
    if any(moved):
        raise Broken("a group with rho = 0 and learning rate 0 was moved")
    if same([*run.net.inner.parameters()], inner):
        raise Broken("the other group was not trained")


def _inner(model: Any) -> Any:
    return model.inner.parameters()


def group_added(subject: Subject) -> None:
    run = subject.run(groups=_inner)
    train(run, 4)
    before = [p.detach().clone() for p in run.net.outer.parameters()]
    run.optimizer.add_param_group({"params": [*run.net.outer.parameters()]})
    try:
        ends = train(run, 4, first=4)
    except KeyError as missing:
        raise Broken(
            f"a group that was added has no {missing}, which the step reads: let add_param_group be the base's"
        ) from None
    if not finite(ends):
        raise Broken("weights are not finite after a group was added")
    if same([*run.net.outer.parameters()], before):
        raise Broken("a group that was added in mid-training is not trained")


def absent_gradients(subject: Subject) -> None:
    run = subject.run()
    out_of_play = [run.net.inner.bias.requires_grad_(False), run.net.unused]
    held = [p.detach().clone() for p in out_of_play]
    moved: list[bool] = []
    run.closure.watch = lambda: moved.append(not same(out_of_play, held))
    if not finite(train(run)):
        raise Broken("a frozen and an unused parameter make the weights non-finite")
    if any(moved) or not same(out_of_play, held):
        raise Broken("a frozen or an unused parameter moved")


def frozen_later(subject: Subject) -> None:
    run = subject.run(sgd)
    train(run, 4)
    frozen = run.net.inner.bias.requires_grad_(False)
    frozen.grad = None
    held = [frozen.detach().clone()]
    moved: list[bool] = []
    run.closure.watch = lambda: moved.append(not same([frozen], held))
    train(run, 4, first=4)
    if any(moved):
        raise Broken("a parameter frozen in mid-training is still perturbed")


class _Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T) * 0


def zero_gradients(subject: Subject) -> None:
    run = subject.run(model=_Flat())
    if not finite(train(run)):
        raise Broken("a zero gradient makes the weights non-finite")
    if not same(run.weights(), [torch.ones(1, 4, dtype=torch.float64)]):
        raise Broken("zero gradients move the weights")


class _Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 1, sparse=True, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.table(x[:, 0].abs().long().clamp(max=4))
        return out


def sparse_refused(subject: Subject) -> None:
    run = subject.run(lambda params: torch.optim.SGD(params, lr=0.1), model=_Sparse())
    try:
        train(run, 4)
    except (ValueError, RuntimeError, TypeError) as error:
        if "sparse" in str(error).lower():
            return
        raise Broken(f"a sparse gradient is refused with: {error}") from None
    raise Broken("a sparse gradient was taken without a word")


def bf16_weights(subject: Subject) -> None:
    run = subject.run(sgd, model=Net(torch.bfloat16))
    if not finite(train(run)) or any(p.dtype != torch.bfloat16 for p in run.model.parameters()):
        raise Broken("bf16 weights do not stay finite bf16 weights")


def state_round_trip(subject: Subject) -> None:
    whole = subject.run()
    ends = train(whole)
    for stop in range(STEPS):
        run = subject.run()
        train(run, stop)
        file = io.BytesIO()
        schedulers = [*getattr(run.recipe, "epoch_schedulers", ()), *getattr(run.recipe, "step_schedulers", ())]
        states = [run.model.state_dict(), run.optimizer.state_dict(), [s.state_dict() for s in schedulers]]
        torch.save(states, file)
        file.seek(0)
        model, state, scheduled = torch.load(file, weights_only=True)
        again = subject.run()
        again.model.load_state_dict(model)
        again.optimizer.load_state_dict(state)
        fresh = [*getattr(again.recipe, "epoch_schedulers", ()), *getattr(again.recipe, "step_schedulers", ())]
        for scheduler, own in zip(fresh, scheduled, strict=True):
            scheduler.load_state_dict(own)
        if not same(train(again, STEPS - stop, first=stop), ends):
            inner = [v for v in vars(run.optimizer).values() if isinstance(v, torch.optim.Optimizer)]
            lacks = not run.optimizer.state_dict().get("state") and any(base.state for base in inner)
            why = ": its state_dict lacks the state of the base optimizer" if lacks else ""
            raise Broken(f"a run that was saved after step {stop} and resumed ends elsewhere{why}")


def state_across_devices(subject: Subject) -> None:
    if not torch.cuda.is_available():
        raise NotApplicable("there is one kind of device here")
    run = subject.run()
    train(run, 4)
    model = copy.deepcopy(run.model).cuda()
    other = subject.run(model=model)
    other.optimizer.load_state_dict(run.optimizer.state_dict())
    other.closure.x, other.closure.y = (part.cuda() for part in batch(4))
    other.optimizer.step(other.closure)
    run.step(4)
    if not same(run.weights(), [w.cpu() for w in other.weights()], within=1e-9):
        raise Broken("a state loaded on another device continues differently")


def deep_copy(subject: Subject) -> None:
    run = subject.run()
    train(run, 4)
    model, recipe = copy.deepcopy((run.model, run.recipe))
    twin = Run(model, recipe, type(run.closure)(model, getattr(recipe, "optimizer", recipe)))
    held = run.weights()
    try:
        moved = train(twin, 4, first=4)
    except AttributeError as missing:
        raise Broken(
            f"a deep copy lacks an attribute ({missing}): torch copies state, defaults and groups alone, "
            "so define __getstate__"
        ) from None
    if not same(run.weights(), held):
        raise Broken("training a deep copy moves the original")
    if not same(train(run, 4, first=4), moved):
        raise Broken("a deep copy trains differently")
