"""Promises about training loops of one's own: the two-phase form under a loss scale and with micro-batches."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from samcmp.conformance.report import Broken
from samcmp.conformance.trial import STEPS, Net, Run, Subject, adam, batch, same

SCALE = 2.0**10


def two_phase_step(run: Run, t: int, *, scaler: Any = None, parts: int = 1, spoil: str = "") -> list[str]:
    """Take step ``t`` in the two-phase form: ``parts`` micro-batches a pass, an inf in the gradient of a pass.

    Returns the passes that were taken: "clean", "updating".
    """
    taken: list[str] = []
    optimizer = run.optimizer
    x, y = batch(t, next(run.model.parameters()).dtype)

    def backward(name: str) -> None:
        taken.append(name)
        optimizer.zero_grad()
        for some_x, some_y in zip(x.chunk(parts), y.chunk(parts), strict=True):
            loss = functional.binary_cross_entropy_with_logits(run.model(some_x), some_y) / parts
            (loss if scaler is None else scaler.scale(loss)).backward()
        if spoil == name:
            next(p for p in run.model.parameters() if p.grad is not None).grad.view(-1)[0] = torch.inf  # type: ignore[union-attr]

    if optimizer.needs_clean:
        backward("clean")
    if getattr(optimizer, "needs_perturbed", True):
        with optimizer.perturbed():
            backward("updating")
    if scaler is None:
        optimizer.finish()
    else:
        scaler.step(optimizer)
        scaler.update()
    return taken


def accumulation(subject: Subject) -> None:
    whole, pieces = subject.run(adam), subject.run(adam)
    subject.two_phase(whole)
    for t in range(STEPS):
        two_phase_step(whole, t)
        two_phase_step(pieces, t, parts=4)
        if not same(whole.weights(), pieces.weights(), within=1e-9):
            raise Broken(f"four micro-batches end elsewhere than the whole batch, at step {t}")


def _scaled(subject: Subject) -> tuple[Run, Any]:
    run = subject.run(model=Net(torch.float32))
    optimizer = subject.two_phase(run)
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, growth_interval=10**6)
    if hasattr(optimizer, "grad_scaler"):
        optimizer.grad_scaler = scaler
    return run, scaler


def scaler_scale(subject: Subject) -> None:
    run, scaler = _scaled(subject)
    plain = subject.run(model=Net(torch.float32))
    run.model.load_state_dict(plain.model.state_dict())
    for t in range(STEPS):
        two_phase_step(run, t, scaler=scaler)
        two_phase_step(plain, t)
    if not same(run.weights(), plain.weights(), within=1e-4):
        raise Broken("training under a loss scale differs from training without")


def optimizer_state(run: Run) -> Any:
    return run.optimizer.state_dict()


def _tensors_finite(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(_tensors_finite(inner) for inner in value.values())
    if isinstance(value, (list, tuple)):
        return all(_tensors_finite(inner) for inner in value)
    return True


def scaler_overflow(subject: Subject) -> None:
    for spoil in ("clean", "updating"):
        for at in (0, 1, 3):
            run, scaler = _scaled(subject)
            for t in range(STEPS):
                before = run.weights()
                taken = two_phase_step(run, t, scaler=scaler, spoil=spoil if t == at else "")
                if t == at and spoil == taken[-1] and not same(run.weights(), before):
                    raise Broken("a step whose last pass overflowed changed the weights")
                if not all(bool(torch.isfinite(w).all()) for w in run.weights()):
                    raise Broken(f"weights are not finite after an overflow in the {spoil} pass of step {at}")
            if not _tensors_finite(optimizer_state(run)):
                raise Broken(f"an overflow in the {spoil} pass of step {at} stays in the optimizer's state")
            if same(run.weights(), before):
                raise Broken(f"no step is taken any more after an overflow in the {spoil} pass of step {at}")
