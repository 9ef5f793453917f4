"""Sharpness and curvature against closed forms and full Hessians."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from samcmp import backbones
from samcmp.conformance.backbone import subject_of
from samcmp.inspection.curvature import curvature, product
from samcmp.inspection.sharpness import sharpness
from samcmp.inspection.weights import MeanLoss, dot, norm
from samcmp.training.loop import model_loss, stream
from samcmp.training.tasks import Criterion
from tests.backbones.test_every_backbone import NAMES, SMALL
from tests.inspection.tiny import Net, bits, net, quadratic, rows, symmetric
from tests.places import ROOT

TIGHT = 1e-6


def test_eigenvalues_and_trace_of_a_quadratic_are_the_matrix_own() -> None:
    A = symmetric(8)
    made = curvature(quadratic(A, torch.randn(8, dtype=torch.float64), c=2.0))
    values = torch.linalg.eigvalsh(A)
    assert made.scalars["lambda_max"] == pytest.approx(float(values[-1]), rel=TIGHT)
    assert made.scalars["lambda_min"] == pytest.approx(float(values[0]), rel=TIGHT)
    for k, found in enumerate(made.arrays["probes"]):
        g = torch.Generator().manual_seed(stream(0, f"probe-{k}"))
        z = 2.0 * torch.randint(2, (8,), generator=g).double() - 1.0
        assert found == pytest.approx(float(z @ A @ z), rel=TIGHT)
    error = made.arrays["probes"].std(ddof=1) / math.sqrt(10)
    assert made.scalars["trace_error"] == pytest.approx(error)
    assert abs(made.scalars["trace"] - float(A.trace())) < 5 * error


def test_trace_of_a_diagonal_matrix_needs_one_probe_and_has_no_error() -> None:
    made = curvature(quadratic(torch.diag(torch.arange(1.0, 6.0)).double(), torch.ones(5).double()), probes=2)
    assert made.scalars["trace"] == pytest.approx(15.0, rel=TIGHT)
    assert made.scalars["trace_error"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("A", [3.0 * torch.eye(7).double(), torch.zeros(7, 7).double()])
def test_space_that_is_exhausted_at_once_ends_lanczos(A: Tensor) -> None:
    made = curvature(quadratic(A, torch.ones(7).double(), c=1.0))
    assert made.scalars["lambda_max"] == pytest.approx(float(A[0, 0]), abs=TIGHT)
    assert made.scalars["lambda_min"] == pytest.approx(float(A[0, 0]), abs=TIGHT)


def test_eigenvalue_that_has_not_converged_is_no_number() -> None:
    A = torch.diag(torch.linspace(-1.0, 1.0, 400)).double()
    made = curvature(quadratic(A, torch.zeros(400).double()), steps=3)
    assert "lambda_max" not in made.scalars
    assert "not converged" in made.missing["lambda_max"]
    assert made.scalars["trace"] == pytest.approx(0.0, abs=1e-9)


def full_hessian(loss: MeanLoss) -> Tensor:
    """The Hessian, by differentiating twice: for the tests alone."""
    names = [name for name, _ in loss.model.named_parameters()]
    shapes = [p.shape for p in loss.theta]
    sizes = [p.numel() for p in loss.theta]

    def of(flat: Tensor) -> Tensor:
        parts = [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        given = dict(zip(names, parts, strict=True))
        losses = [
            loss.criterion(functional_call(loss.model, given, (batch,)), batch.y) * share
            for share, batch in zip(loss.shares, loss.batches, strict=True)
        ]
        return torch.stack(losses).sum()

    flat = torch.cat([p.reshape(-1) for p in loss.theta])
    H: Any = torch.autograd.functional.hessian(of, flat)
    return H


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_curvature_of_a_tanh_net_is_that_of_its_full_hessian(dtype: torch.dtype) -> None:
    loss = net(nn.Tanh(), dtype=dtype)
    before = bits(loss)
    made = curvature(loss, probes=10)
    assert all(map(torch.equal, bits(loss), before))
    H = full_hessian(net(nn.Tanh(), dtype=torch.float64))
    values = torch.linalg.eigvalsh(H)
    assert made.scalars["lambda_max"] == pytest.approx(float(values[-1]), rel=0.01)
    assert made.scalars["lambda_min"] == pytest.approx(float(values[0]), rel=0.01)
    assert abs(made.scalars["trace"] - float(H.trace())) < 5 * made.scalars["trace_error"]


@pytest.mark.parametrize("name", NAMES)
def test_hessian_products_of_every_model_are_those_of_differentiating_twice(name: str) -> None:
    """In float64, at an h so small that no kink of a ReLU lies between."""
    config = backbones.build_config(name, settings=SMALL.get(name, {}))
    subject = subject_of(config)
    model, batch = subject.model().eval(), subject.batch(subject.samples)
    loss = MeanLoss(model, [batch], Criterion("classification"))
    torch.manual_seed(3)
    v = [torch.randn_like(p) for p in loss.theta]
    g = torch.autograd.grad(model_loss(model, batch, loss.criterion), loss.parameters, create_graph=True)
    slope = torch.stack([(a * b).sum() for a, b in zip(g, v, strict=True)]).sum()
    exact = [t.detach() for t in torch.autograd.grad(slope, loss.parameters, materialize_grads=True)]
    found = product(loss, v, h=1e-6)
    assert norm([a - b for a, b in zip(found, exact, strict=True)]) < 1e-5 * norm(exact)


def test_one_step_sharpness_of_a_quadratic_is_in_closed_form() -> None:
    A, theta, r = symmetric(6), torch.randn(6, dtype=torch.float64), 0.05
    made = sharpness(quadratic(A, theta, c=1.0), radius=r)
    L = lambda x: float(0.5 * x @ A @ x)  # noqa: E731
    g = A @ theta
    assert made.scalars["m_sharpness"] == pytest.approx(L(theta + r * g / g.norm()) - L(theta), rel=TIGHT)
    assert made.scalars["first_order"] == pytest.approx(r * float(g.norm()), rel=TIGHT)
    u = theta.abs() * g
    delta = 10 * r * theta.abs() * u / u.norm()
    assert made.scalars["adaptive_sharpness"] == pytest.approx(L(theta + delta) - L(theta), rel=TIGHT)
    assert float((delta / theta.abs()).norm()) == pytest.approx(10 * r)
    assert made.scalars["gradient_norm"] == pytest.approx(float(g.norm()))
    assert made.scalars["weight_norm"] == pytest.approx(float(theta.norm()))


def test_five_steps_reach_the_largest_rise_of_the_ball_around_a_minimum() -> None:
    A, r = torch.diag(torch.tensor([20.0, 1.0, 1.0])).double(), 0.3
    made = sharpness(quadratic(A, torch.tensor([0.01, 0.3, 0.3]).double()), radius=r)
    assert made.scalars["m_sharpness"] < made.scalars["m_sharpness_ascent"]
    highest = 0.5 * 20 * r**2
    assert made.scalars["m_sharpness_ascent"] > 0.9 * highest


def test_sharpness_is_the_mean_over_batches_by_labels() -> None:
    loss = net(nn.Tanh())
    made = sharpness(loss)
    assert made.arrays["share"] == pytest.approx([8 / 21, 8 / 21, 5 / 21])
    assert made.scalars["m_sharpness"] == pytest.approx(float(np.dot([8, 8, 5], made.arrays["m_sharpness"]) / 21))
    assert all(map(torch.equal, bits(loss), loss.theta))


def test_zero_gradient_rises_nowhere() -> None:
    made = sharpness(quadratic(torch.eye(3).double(), torch.zeros(3).double(), c=1.0))
    assert {made.scalars[n] for n in ("m_sharpness", "m_sharpness_ascent", "first_order", "adaptive_sharpness")} == {0}


def test_layers_of_a_relu_net_rescaled_change_plain_sharpness_and_not_the_adaptive() -> None:
    torch.manual_seed(0)
    model = Net(nn.ReLU()).double()
    batches = rows((8, 8), dtype=torch.float64)
    plain = sharpness(MeanLoss(model, batches, Criterion("regression")))  # type: ignore[arg-type]
    with torch.no_grad():
        model.first.weight *= 10
        model.first.bias *= 10
        model.second.weight /= 10
    scaled = sharpness(MeanLoss(model, batches, Criterion("regression")))  # type: ignore[arg-type]
    assert scaled.scalars["loss"] == pytest.approx(plain.scalars["loss"])
    assert scaled.scalars["adaptive_sharpness"] == pytest.approx(plain.scalars["adaptive_sharpness"], rel=1e-9)
    assert scaled.scalars["m_sharpness"] > 2 * plain.scalars["m_sharpness"]


def test_measurement_that_leaves_the_finite_numbers_says_so() -> None:
    class Cliff(Net):
        def forward(self, batch: Any) -> Tensor:
            moved = self.second.bias.detach() != self.at
            return super().forward(batch) * torch.where(moved, torch.inf, 1.0)

    model = Cliff(nn.Tanh())
    model.at = model.second.bias.detach().clone()
    loss = MeanLoss(model, rows((4,)), Criterion("regression"))  # type: ignore[arg-type]
    sharp, bent = sharpness(loss), curvature(loss)
    for made, names in (
        (sharp, ("m_sharpness", "m_sharpness_ascent", "adaptive_sharpness")),
        (bent, ("lambda_max", "lambda_min", "trace")),
    ):
        for name in names:
            assert name not in made.scalars
            assert made.missing[name]
    assert "loss" in sharp.scalars


def test_products_of_the_zero_vector_are_zero() -> None:
    loss = net(nn.Tanh())
    assert dot(product(loss, [torch.zeros_like(p) for p in loss.theta]), loss.theta) == 0


def test_nothing_in_the_room_differentiates_twice() -> None:
    for path in Path(ROOT / "samcmp" / "inspect").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.keyword) and node.arg == "create_graph"), path.name
            assert not (isinstance(node, ast.Attribute) and node.attr in {"hessian", "hvp", "vhp", "jacobian"})
