"""The loss along directions, over two of them, and between two models: exact where it can be, restored always."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from samcmp.inspection.landscape import direction, landscape
from samcmp.inspection.path import alphas, path
from samcmp.inspection.surface import surface
from samcmp.inspection.weights import MeanLoss, dot, norm
from samcmp.training.tasks import Criterion
from tests.inspection.tiny import Net, bits, net, quadratic, rows, symmetric


def test_landscape_at_zero_is_the_loss_and_the_weights_are_as_before() -> None:
    loss = net(nn.ReLU())
    before = bits(loss)
    made = landscape(loss, points=5, directions=3)
    assert made.arrays["losses"].shape == (3, 5)
    assert (made.arrays["losses"][:, 2] == loss.loss()).all()
    assert made.scalars["loss"] == loss.loss()
    assert all(map(torch.equal, bits(loss), before))


def test_landscape_of_a_quadratic_is_its_parabola() -> None:
    A, theta = symmetric(6), torch.randn(6, dtype=torch.float64)
    loss = quadratic(A, theta, c=3.0)
    made = landscape(loss, points=7, directions=2, kind="gaussian", seed=5)
    for k in range(2):
        (D,) = direction(loss.theta, k, kind="gaussian", seed=5)
        for x, found in zip(made.arrays["x"], made.arrays["losses"][k], strict=True):
            at = theta + float(x) * D
            assert found == pytest.approx(float(0.5 * at @ A @ at) + 3.0, rel=1e-12)


def test_surface_crosses_the_landscapes_lines() -> None:
    loss = net(nn.Tanh())
    lines = landscape(loss, points=5, directions=2).arrays["losses"]
    plane = surface(loss, points=5).arrays["losses"]
    assert plane[2] == pytest.approx(lines[0], rel=1e-6)  # y = 0
    assert plane[:, 2] == pytest.approx(lines[1], rel=1e-6)
    assert plane[2, 2] == loss.loss()


def test_filtered_direction_has_the_weights_rows_lengths_and_no_part_in_vectors() -> None:
    theta = [torch.randn(4, 3), torch.randn(4), torch.randn(2, 3, 2), torch.zeros(2, 2), torch.tensor(1.0)]
    D = direction(theta, 0)
    assert torch.allclose(D[0].norm(dim=1), theta[0].norm(dim=1))
    assert torch.allclose(D[2].flatten(1).norm(dim=1), theta[2].flatten(1).norm(dim=1))
    assert norm([D[1], D[3], D[4]]) == 0
    assert norm(direction(theta, 0, kind="gaussian")[1:2]) > 0


def test_all_weights_of_one_shape_share_their_draws() -> None:
    a, b = [torch.randn(4, 3)], [torch.randn(4, 3)]
    Da, Db = direction(a, 0), direction(b, 0)
    assert torch.allclose(Da[0] / Da[0].norm(dim=1, keepdim=True), Db[0] / Db[0].norm(dim=1, keepdim=True))
    assert abs(dot(direction(a, 0, kind="gaussian"), direction(a, 1, kind="gaussian"))) < 12  # others are drawn anew


@pytest.mark.parametrize("points", [0, 1, 20])
def test_grid_without_a_point_at_zero_is_refused(points: int) -> None:
    with pytest.raises(ValueError, match="odd"):
        landscape(net(nn.Tanh()), points=points)


def test_loss_that_is_no_finite_number_leaves_a_gap_with_its_reason() -> None:
    class Overflowing(Net):
        def forward(self, batch):  # type: ignore[no-untyped-def]
            out = super().forward(batch)
            return out if float(self.second.bias.detach().abs().max()) < 50 else out * math.inf

    torch.manual_seed(0)
    loss = MeanLoss(Overflowing(nn.Tanh()), rows((4,)), Criterion("regression"))  # type: ignore[arg-type]
    loss.theta[-1].fill_(49.9999)
    loss.restore()
    made = landscape(loss, points=5, directions=4, kind="gaussian")
    gaps = int((~np.isfinite(made.arrays["losses"])).sum())
    assert 0 < gaps < 20
    assert made.missing["losses"].startswith(f"{gaps} of 20")
    assert "rise" not in made.scalars
    assert made.missing["rise"]


def test_path_is_one_model_at_0_and_the_other_at_1() -> None:
    a, b = net(nn.Tanh()), MeanLoss(Net(nn.Tanh()), rows((8, 8, 5)), Criterion("regression"))  # type: ignore[arg-type]
    seen = []

    def score() -> float:
        seen.append([p.detach().clone() for p in a.model.parameters()])
        return len(seen) / 100

    made = path(a, b.model.state_dict(), points=9, score=score)
    at = made.arrays["alpha"].tolist()
    assert at == [-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert made.arrays["losses"][at.index(0.0)] == a.loss()
    assert made.arrays["losses"][at.index(1.0)] == b.loss()
    assert all(map(torch.equal, seen[at.index(1.0)], b.theta))
    assert made.arrays["scores"][4] == 0.05
    assert made.scalars["distance"] == pytest.approx(norm([p - q for p, q in zip(a.theta, b.theta, strict=True)]))
    assert all(map(torch.equal, bits(a), a.theta))


def test_barrier_of_a_quadratic_is_its_height_above_the_chord() -> None:
    A, theta, other = -torch.eye(2, dtype=torch.float64), torch.ones(2).double(), -torch.ones(2).double()
    made = path(quadratic(A, theta), {"theta": other}, points=21)  # L = -½‖θ‖² is 0 at the middle, -1 at the ends
    assert made.scalars["barrier"] == pytest.approx(1.0, abs=1e-12)
    assert path(quadratic(-A, theta), {"theta": other}).scalars["barrier"] == 0.0


def test_path_has_both_ends_whatever_the_number_of_points() -> None:
    assert {0.0, 1.0} <= set(alphas(20))


def test_path_moves_running_statistics_and_leaves_what_was_interrupted_as_it_was() -> None:
    def model() -> nn.Module:
        m = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
        m.forward = lambda batch: m[1](m[0](batch.x))  # type: ignore[method-assign, assignment]
        return m

    a, b = model(), model()
    b[0].running_mean.fill_(4.0)  # type: ignore[index, union-attr, operator]
    loss = MeanLoss(a, rows((6,)), Criterion("regression"))  # type: ignore[arg-type]
    there = MeanLoss(b, rows((6,)), Criterion("regression")).loss()  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in a.state_dict().items()}
    made = path(loss, b.state_dict(), points=5)
    assert made.arrays["losses"][made.arrays["alpha"].tolist().index(1.0)] == there

    def interrupted() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        path(loss, b.state_dict(), score=interrupted)
    assert all(torch.equal(value, before[name]) for name, value in a.state_dict().items())


def test_path_to_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="one model"):
        path(net(nn.Tanh()), Net(nn.Tanh(), hidden=5).state_dict())
