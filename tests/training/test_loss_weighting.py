"""Losses weighted by themselves, as in the released SAM and GraphSAM arms: by label in GROVER, as a whole elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from samcmp import backbones, optim
from samcmp.data.molecules import Molecules
from samcmp.graphs.graphset import GraphSet
from samcmp.training.loop import StepClosure
from samcmp.training.tasks import Criterion

SMILES = ("CCO", "c1ccccc1", "CC(=O)N", "CCN", "OCC(O)C", "CC#N")
LABELS = torch.tensor([[1, 0], [torch.nan, 1], [0, torch.nan], [1, 1], [0, 0], [1, torch.nan]], dtype=torch.float64)
RHO, BETA, STEPS, STEPS_PER_EPOCH = 0.05, 0.9, 9, 4


def closure_of(name: str, loss_power: int) -> StepClosure:
    """A small model, float64, without dropout, on six molecules with two tasks, of which three labels are missing."""
    settings = {"grover": {"hidden": 8, "depth": 2, "random_depth": False}, "gcn": {"hidden": 8}}[name]
    config = backbones.build_config(name, settings=settings)
    rows, tasks = np.arange(len(SMILES), dtype=np.int64), ("a", "b")
    sample = Molecules("sample", rows, SMILES, LABELS.numpy(), tasks, "classification", "roc-auc", "")
    graphs = GraphSet.load_or_build(sample, config.columns, cache=False)
    torch.manual_seed(0)
    model = backbones.build(config, 2).double().eval()
    closure = StepClosure(model, Criterion("classification"), loss_power=loss_power)
    closure.batch = graphs.batch(torch.arange(len(SMILES))).to(dtype=torch.float64)
    return closure


def elements_of(closure: StepClosure) -> Tensor:
    """GROVER's loss of every label (G, T), written out: ℓ(p, y) + ℓ(q, y) + c (p − q)², 0 where it is missing."""
    model: Any = closure.model
    p, q = model.heads(closure.batch)
    y = LABELS.nan_to_num()
    bce = functional.binary_cross_entropy_with_logits
    each = bce(p, y, reduction="none") + bce(q, y, reduction="none") + model.config.disagreement * (p - q) ** 2
    return torch.where(LABELS.isnan(), 0.0, each)


def gradients(loss: Tensor, closure: StepClosure) -> list[Tensor]:
    found = torch.autograd.grad(loss, closure.parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(closure.parameters, found, strict=True)]


def assert_close(some: Any, others: Any) -> None:
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other, rtol=1e-9, atol=1e-13)


def test_grovers_weighted_gradient_is_that_of_half_the_sum_of_squares_over_labels() -> None:
    closure = closure_of("grover", 2)
    loss = closure()
    elements = elements_of(closure)
    assert_close([p.grad for p in closure.parameters], gradients(elements.square().sum() / 2, closure))
    torch.testing.assert_close(loss, elements.detach().sum() / (~LABELS.isnan()).sum())


@pytest.mark.parametrize("name", ["grover", "gcn"])
def test_the_plain_gradient_of_a_weighted_closure_is_that_of_the_mean_loss(name: str) -> None:
    plain, weighted = closure_of(name, 1), closure_of(name, 2)
    assert torch.equal(plain(), weighted.plain())
    assert_close([p.grad for p in weighted.parameters], [p.grad for p in plain.parameters if p.grad is not None])


def test_elsewhere_the_gradient_is_multiplied_by_the_loss() -> None:
    plain, weighted = closure_of("gcn", 1), closure_of("gcn", 2)
    loss = plain()
    weighted()
    for one, other in zip(weighted.parameters, plain.parameters, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, loss * other.grad)


def released_steps(closure: StepClosure) -> None:
    """The released GROVER fork's GraphSAM as it is specified: anchors on the mean loss, ω = ∇ ½ Σ ℓ², Adam on ω."""
    params = closure.parameters
    base = torch.optim.Adam(params, lr=1e-3)
    eps = [torch.zeros_like(p) for p in params]
    omega = [torch.zeros_like(p) for p in params]
    for t in range(STEPS):
        if t % STEPS_PER_EPOCH == 0:
            eps = gradients(elements_of(closure).sum() / (~LABELS.isnan()).sum(), closure)
            length = torch.stack([(p.detach().abs() * e).norm() for p, e in zip(params, eps, strict=True)]).norm()
            scale = RHO / (float(length) + 1e-12)
        else:
            eps = [BETA * e + (1 - BETA) * w / (w + 1e-8).norm() for e, w in zip(eps, omega, strict=True)]
            scale = RHO * 1e12
        before = [p.detach().clone() for p in params]
        with torch.no_grad():
            for p, e in zip(params, eps, strict=True):
                step = p**2 * e * scale
                p.add_(step * min(1.0, RHO / max(float(step.norm()), 1e-300)))
        omega = gradients(elements_of(closure).square().sum() / 2, closure)
        with torch.no_grad():
            for p, old, w in zip(params, before, omega, strict=True):
                p.copy_(old)
                p.grad = w
        base.step()


def test_graphsam_released_walks_on_grover_as_the_released_fork_does() -> None:
    ours, released = closure_of("grover", 2), closure_of("grover", 2)
    base = torch.optim.Adam(ours.parameters, lr=1e-3)
    settings = {"beta": BETA, "rho_schedule": "constant"}
    recipe = optim.build(
        "graphsam-released", base, steps_per_epoch=STEPS_PER_EPOCH, epochs=3, seed=0, settings=settings
    )
    for _ in range(STEPS):
        recipe.optimizer.step(ours)
    released_steps(released)
    for one, other in zip(ours.parameters, released.parameters, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
