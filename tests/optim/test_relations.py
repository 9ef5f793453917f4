"""Limits in which one optimizer is another, and layouts that must not matter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samcmp import optim
from samcmp.optim.batchnorm import clean_statistics
from samcmp.optim.radius import Adaptive, Ball, BallPerTensor
from samcmp.optim.schedules import CompoundedRho, ProportionalRho, StepRho

STEPS = 12
Make = Callable[[torch.optim.Optimizer], Any]


class Wide(nn.Module):
    """Has a parameter that is long enough for a kernel of its own, and short ones."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(160, 120), nn.Tanh(), nn.Linear(120, 3), nn.Tanh(), nn.Linear(3, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


def trained(make: Make, *, steps: int = STEPS, base: Any = torch.optim.Adam) -> list[Tensor]:
    torch.manual_seed(0)
    model = Wide().double()
    optimizer = make(base(model.parameters(), lr=1e-2))
    draw = torch.Generator().manual_seed(3)
    for _ in range(steps):
        x = torch.randn(8, 160, generator=draw, dtype=torch.float64)

        def closure(x: Tensor = x) -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = (model(x) - x.sum(1, keepdim=True)).square().mean()
            loss.backward()
            return loss.detach()

        optimizer.step(closure)
    return [p.detach().clone() for p in model.parameters()]


def apart(a: Make, b: Make, **settings: Any) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(trained(a, **settings), trained(b, **settings), strict=True))


def plain(base: Any) -> Any:
    return base


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda b: optim.RST(b, p=0.0), plain),
        (lambda b: optim.RST(b, p=1.0), lambda b: optim.SAM(b)),
        (lambda b: optim.SAMk(b, k=1), lambda b: optim.SAM(b)),
        (lambda b: optim.SAMkSkip(b, k=1), lambda b: optim.SAM(b)),
        (lambda b: optim.SAMk(b, k=10**6), lambda b: optim.SAMOne(b)),
        (lambda b: optim.LookSAM(b, k=1), lambda b: optim.SAM(b)),
        (lambda b: optim.LateSAM(b, start=0), lambda b: optim.SAM(b)),
        (lambda b: optim.LateSAM(b, start=10**6), plain),
        (lambda b: optim.ASAM(b, rho=0.1, weights=lambda p: False), lambda b: optim.SAM(b, rho=0.1)),
        (lambda b: optim.VaSSO(b, theta=1.0, radius=Ball()), lambda b: optim.SAM(b)),
        (lambda b: optim.FSAM(b, sigma=0.0), lambda b: optim.SAM(b, rho=0.05)),
        (lambda b: optim.GSAM(b, alpha=0.0), lambda b: optim.SAM(b)),
        (lambda b: optim.WSAM(b, gamma=0.5, decoupled=False), lambda b: optim.SAM(b)),
        (lambda b: optim.GraphSAM(b, anchor_every=3, K=100), lambda b: optim.GraphSAM(b, anchor_every=300)),
        (lambda b: optim.SAM(b, radius=Adaptive(1.0, lambda p: False)), lambda b: optim.SAM(b, radius=Ball())),
    ],
)  # fmt: skip
def test_optimizer_becomes_its_limit(make: Make, limit: Make) -> None:
    assert apart(make, limit) <= 1e-12


def test_graphsam_with_beta_0_walks_along_the_last_gradient_as_s2_sam_does() -> None:
    class NoAnchor(optim.GraphSAM):  # type: ignore[misc,name-defined]
        def __init__(self, base: Any) -> None:
            super().__init__(base, beta=0.0, anchor_every=10**6)
            self.numbers["anchored"] = 0

    assert apart(NoAnchor, lambda b: optim.S2SAM(b)) <= 1e-12


def test_own_vectors_follow_parameters_that_move_to_another_dtype() -> None:
    model = Wide()
    optimizer = optim.GraphSAM(torch.optim.SGD(model.parameters(), lr=0.1), anchor_every=2)
    model.double()
    x = torch.randn(4, 160, dtype=torch.float64)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(x).square().mean()
        loss.backward()
        return loss.detach()

    first = float(optimizer.step(closure))
    for _ in range(5):
        last = float(optimizer.step(closure))
    assert last < first


def test_base_step_hooks_see_the_updating_gradient_at_home_weights() -> None:
    model = Wide()
    base = torch.optim.SGD(model.parameters(), lr=0.0)
    optimizer = optim.SAM(base, rho=10.0)
    before = copy.deepcopy(model.state_dict())
    seen: list[bool] = []
    base.register_step_pre_hook(
        lambda *_: seen.append(all(torch.equal(v, before[k]) for k, v in model.state_dict().items()))
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(torch.ones(2, 160)).square().mean()
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    assert seen == [True]


def test_per_tensor_ball_moves_every_tensor_by_rho() -> None:
    model = Wide().double()
    optimizer = optim.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.3, radius=BallPerTensor())
    start = [p.detach().clone() for p in model.parameters()]
    lengths: list[list[float]] = []

    def closure() -> Tensor:
        lengths.append([float((p.detach() - s).norm()) for p, s in zip(model.parameters(), start, strict=True)])
        optimizer.zero_grad()
        loss: Tensor = (model(torch.ones(2, 160, dtype=torch.float64)) - 3).square().mean()
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    assert lengths[1] == pytest.approx([0.3] * len(start), abs=1e-9)


def _rhos(make: Callable[[Any], Any], epochs: int) -> list[float]:
    optimizer = optim.SAM(torch.optim.SGD(Wide().parameters(), lr=1.0), rho=0.05)
    schedule = make(optimizer)
    found = []
    for _ in range(epochs):
        found += schedule.get_last_rho()
        schedule.step()
    return found


@pytest.mark.parametrize("period", [1, 3])
def test_step_schedule_is_equation_4(period: int) -> None:
    assert _rhos(lambda o: StepRho(o, period=period), 10) == [0.05 * 0.5 ** (e // period) for e in range(10)]


def test_compounded_schedule_shrinks_as_the_released_code_does() -> None:
    got = _rhos(lambda o: CompoundedRho(o, period=3), 10)
    assert got == pytest.approx([5e-2] * 3 + [2.5e-2] * 3 + [6.25e-3] * 3 + [7.8125e-4], rel=1e-12)


def test_proportional_schedule_follows_the_learning_rate() -> None:
    optimizer = optim.SAM(torch.optim.SGD(Wide().parameters(), lr=0.4), rho=0.1)
    schedule = ProportionalRho(optimizer, rho_min=0.02)
    optimizer.param_groups[0]["lr"] = 0.1
    schedule.step()
    assert optimizer.param_groups[0]["rho"] == pytest.approx(0.02 + 0.08 * 0.25)


def test_running_statistics_come_from_the_clean_pass_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    once = copy.deepcopy(model)
    optimizer = optim.SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=5.0)
    clean_statistics(model, optimizer)
    x = torch.randn(16, 4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(x).square().mean()
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    once(x)
    for (name, got), want in zip(model.named_buffers(), once.buffers(), strict=True):
        assert torch.equal(got, want), name


@pytest.mark.parametrize(
    "name", ["graphsam", "graphsam-released", "s2-sam", "sam-k", "vasso", "f-sam", "looksam", "mesa"]
)
def test_own_vectors_stay_with_their_parameters_when_a_group_is_added(name: str) -> None:
    # The group that is added takes no part in the loss: nothing but the layout changes.
    paths = []
    for added_after in (5, STEPS):
        torch.manual_seed(0)
        model, idle = Wide().double(), nn.Parameter(torch.ones(40_000, dtype=torch.float64))
        base = torch.optim.Adam(model.parameters(), lr=1e-2)
        optimizer = optim.build(name, base, steps_per_epoch=STEPS, epochs=2, seed=0).optimizer
        draw = torch.Generator().manual_seed(3)
        for t in range(STEPS):
            if t == added_after:
                optimizer.add_param_group({"params": [idle]})
            x = torch.randn(8, 160, generator=draw, dtype=torch.float64)

            def closure(model: nn.Module = model, optimizer: Any = optimizer, x: Tensor = x) -> Tensor:
                optimizer.zero_grad()
                loss: Tensor = (model(x) ** 2).mean()
                loss.backward()  # type: ignore[no-untyped-call]
                return loss

            optimizer.step(closure)
        paths.append([p.detach().clone() for p in model.parameters()])
    for moved, stayed in zip(*paths, strict=True):
        torch.testing.assert_close(moved, stayed, rtol=0, atol=1e-13)


def test_a_base_that_takes_gradients_of_its_own_is_refused() -> None:
    base = torch.optim.LBFGS([nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match="LBFGS"):
        optim.SAM(base)


def test_graphsam_released_perturbs_the_first_of_several_groups_alone_where_that_is_asked() -> None:
    model = Wide().double()
    first, second = [*model.net[0].parameters()], [*model.net[2].parameters()]
    base = torch.optim.Adam([{"params": first}, {"params": second}], lr=0.0)
    optimizer = optim.GraphSAMReleased(base, anchor_every=2, first_group_only=True)
    start = [p.detach().clone() for p in (first[0], second[0])]
    moved: list[list[bool]] = []

    def closure() -> Tensor:
        moved.append([not torch.equal(p, s) for p, s in zip((first[0], second[0]), start, strict=True)])
        loss: Tensor = (model(torch.ones(2, 160, dtype=torch.float64)) - 3).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    for _ in range(2):
        optimizer.step(closure)
    assert moved == [[False, False], [True, False], [True, False]]


def test_first_group_only_is_refused_where_there_is_one_group_as_on_the_command_line() -> None:
    base = torch.optim.Adam(Wide().parameters())
    settings = {"first_group_only": True}
    with pytest.raises(ValueError, match="all parameters are in one group"):
        optim.build("graphsam-released", base, steps_per_epoch=2, epochs=2, seed=0, settings=settings)


SHRINKING: dict[str, Make] = {
    "SAM": lambda b: optim.SAM(b),
    "ASAM": lambda b: optim.ASAM(b),
    "SAM, tensor by tensor": lambda b: optim.SAM(b, radius=BallPerTensor()),
    "SAM-One": lambda b: optim.SAMOne(b),
    "LookSAM": lambda b: optim.LookSAM(b),
    "S2-SAM": lambda b: optim.S2SAM(b),
    "MSAM": lambda b: optim.MSAM(b),
    "GraphSAM": lambda b: optim.GraphSAM(b, anchor_every=3),
    "GraphSAM, released": lambda b: optim.GraphSAMReleased(b, anchor_every=3),
}


@pytest.mark.parametrize("name", SHRINKING)
def test_a_radius_that_shrinks_out_of_float32_leaves_finite_weights(name: str) -> None:
    """A compounded rho passes every size; a tensor of one number is not squared, so that its length underflows last."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, 1), nn.PReLU(1), nn.Linear(1, 1)]
    model = nn.Sequential(*layers)
    for p in model.parameters():
        p.data.mul_(1e-4)
    optimizer = SHRINKING[name](torch.optim.Adam(model.parameters(), lr=1e-9))
    for exponent in range(20, 60):
        for group in optimizer.param_groups:
            group.update({key: 10.0**-exponent for key in ("rho", "radius") if key in group})
        for _ in range(3):
            x = torch.randn(8, 4)

            def closure(x: Tensor = x) -> Tensor:
                optimizer.zero_grad()
                loss: Tensor = (model(x) - 1.0).square().mean()
                loss.backward()
                return loss.detach()

            optimizer.step(closure)
        assert all(bool(p.isfinite().all()) for p in model.parameters()), f"rho 1e-{exponent}"
