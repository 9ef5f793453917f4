"""A watched training is bit for bit the training, and what is watched is what happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from samcmp import optim
from samcmp.experiment import run
from samcmp.inspection.watch import EPSILON, OMEGA, G, Steps, Watch
from samcmp.records import Case, Protocol, Record
from samcmp.training.loop import model_loss
from samcmp.training.setup import Options

TINY = Protocol(epochs=2, subset=60, batch_size=16)
FROM_THE_START = {name: {"start_epoch": 0} for name in ("saf", "mesa")}
KEY = "0" * 64


def case(name: str, **more: Any) -> Case:
    base = name if name in ("adamw", "sgd") else "adam"
    settings = FROM_THE_START.get(name, {})
    return Case(
        "train", "demo", "gcn", name, protocol=replace(TINY, base=base), optimizer_settings=settings,
        model_settings={"dropout": 0.2}, **more,
    )  # fmt: skip


class End:
    """All that a training leaves behind."""

    def __init__(self, one: Case, every: int | None) -> None:
        self.watch: Watch | None = None
        self.passes: list[int] = []
        self.record, _ = run.train(one, Options(), key=KEY, prepare=lambda made: self.prepare(made, every))
        self.random = torch.get_rng_state()
        self.run.trainer.closure.batch = None
        self.state = self.run.trainer.optimizer.state_dict()

    def prepare(self, made: run.Run, every: int | None) -> None:
        self.run = made
        if every is not None:
            groups = made.trainer.optimizer.param_groups
            self.watch = Watch(made.trainer.closure, every=every, rho=lambda: groups[0].get("rho"))
            made.trainer.closure = self.watch  # type: ignore[assignment]

    @property
    def steps(self) -> Steps:
        assert self.watch is not None
        return self.watch.steps()


def timeless(record: Record) -> Record:
    return replace(
        record,
        seconds=0.0,
        created="",
        machine={},
        history=tuple(replace(epoch, seconds=0.0) for epoch in record.history),
    )


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_watched_or_not_a_training_is_the_same_bit_for_bit(name: str) -> None:
    plain, watched = End(case(name), None), End(case(name), 1)
    assert plain.record.status == "ok"
    assert timeless(plain.record) == timeless(watched.record)
    assert same(plain.run.model.state_dict(), watched.run.model.state_dict())
    assert same(plain.state, watched.state)
    assert torch.equal(plain.random, watched.random)
    assert watched.steps.true.all()


def test_a_users_own_optimizer_is_watched_the_same(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from samcmp.optim.sam import SAM\n\n\n"
        "class Half(SAM):\n    def perturbs(self):\n        return self.clock % 2 == 0\n"
    )
    plain, watched = End(case(f"{file}:Half"), None), End(case(f"{file}:Half"), 3)
    assert same(plain.run.model.state_dict(), watched.run.model.state_dict())
    perturbed = watched.steps.gram[:, EPSILON, EPSILON] > 0
    assert perturbed.tolist() == [step % 2 == 0 for step in range(len(perturbed))]
    assert watched.steps.true.tolist() == [step % 3 in (0, 1) for step in range(len(perturbed))]


class Spy:
    """The gradient of every pass of a run, and the gradient that a pass by hand at its first weights gives."""

    def __init__(self, closure: Any) -> None:
        self.closure, self.seen = closure, []  # type: ignore[var-annotated]

    def __call__(self) -> Tensor:
        loss: Tensor = self.closure()
        self.seen.append(torch.cat([p.grad.flatten() for p in self.closure.parameters]))
        return loss

    def __getattr__(self, name: str) -> Any:
        return getattr(self.closure, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "batch":
            self.closure.batch = value
        else:
            object.__setattr__(self, name, value)


def by_hand(name: str, steps: int = 1) -> tuple[list[Tensor], Tensor, Watch]:
    """Take steps with dropout; return the gradients of all passes, that at the last step's weights, and the watch."""
    from samcmp.training.setup import assemble

    setup = assemble(case(name), Options())
    trainer = setup.new_trainer()
    batches = list(setup.train_batches(0))[:steps]
    trainer.model.train()
    parameters = trainer.closure.parameters
    spy = Spy(trainer.closure)
    watch = Watch(spy, every=1, rho=lambda: trainer.optimizer.param_groups[0].get("rho"))  # type: ignore[arg-type]
    trainer.closure = watch  # type: ignore[assignment]
    for step, batch in enumerate(batches):
        torch.manual_seed((trainer.dropout_seed + step) & 0x7FFF_FFFF_FFFF_FFFF)
        parts = torch.autograd.grad(model_loss(trainer.model, batch, setup.criterion), parameters)
        trainer.step(batch)
    return spy.seen, torch.cat([part.flatten() for part in parts]), watch


def test_sams_true_gradient_is_its_first_pass_bit_for_bit() -> None:
    seen, g, watch = by_hand("sam")
    assert len(seen) == 2
    assert torch.equal(seen[0], g)
    assert torch.equal(watch._vectors[G], seen[0])
    assert torch.equal(watch._vectors[OMEGA], seen[1])
    assert watch.extra_passes == 0


def test_the_true_gradient_of_a_borrowed_direction_is_a_pass_of_its_own_with_the_masks_of_the_step() -> None:
    seen, g, watch = by_hand("s2-sam", steps=2)
    assert len(seen) == 2
    assert torch.equal(watch._vectors[G + 1], g)
    assert not torch.equal(seen[-1], g)
    torch.testing.assert_close(float(watch._vectors[EPSILON + 1].norm()), 0.05, rtol=1e-3, atol=0)
    steps = watch.steps()
    assert steps.at_theta.tolist() == [True, False]
    assert np.isfinite(steps.sam_loss).tolist() == [False, True]
    assert steps.passes == pytest.approx(4 / 3)
    now_and_before = watch._vectors.double()[[1, 0, 3, 2, 5, 4]]
    np.testing.assert_allclose(steps.gram[1], (now_and_before @ now_and_before.T).numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["adam-loss-weighted", "mesa"])
def test_a_loss_power_or_a_loss_term_is_no_part_of_the_true_gradient(name: str) -> None:
    _, g, watch = by_hand(name)
    assert torch.equal(watch._vectors[G], g)
    assert watch.extra_passes == 1


def test_adam_is_not_displaced() -> None:
    steps = End(case("adam"), 1).steps
    assert not steps.gram[:, EPSILON].any()
    assert steps.at_theta.all()
    assert steps.passes == 0


def test_a_diverged_run_keeps_the_steps_that_it_took() -> None:
    wild = replace(case("sam"), protocol=replace(TINY, peak_lr=1e30, initial_lr=1e30))
    end = End(wild, 1)
    assert end.record.status == "diverged"
    assert len(end.steps.gram) > 0
