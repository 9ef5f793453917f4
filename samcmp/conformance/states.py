"""Promises about an optimizer's state: saved at every step, moved to another device, copied."""

from __future__ import annotations

import copy
import io

import torch

from samcmp.conformance.report import Broken, NotApplicable
from samcmp.conformance.trial import STEPS, Run, Subject, batch, same, train


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
