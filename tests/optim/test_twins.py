"""Every optimizer of the catalogue walks as its twin does, which is written from the paper's equations alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from samcmp import optim
from tests.optim import twins
from tests.optim.runs import follow

TOLERANCE = 1e-12
SEED = 7
BASES = {
    "adam": (torch.optim.Adam, {"lr": 1e-3}),
    "sgd": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
}
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("sam", {"adaptive": True}),
    ("sam", {"rho": 0.2, "rho_schedule": "step", "gamma": 0.2, "period": 2}),
    ("asam", {"all_tensors": True, "eta": 0.0}),
    ("sam-k", {"k": 3, "adaptive": True, "eta": 0.1}),
    ("looksam", {"rho": 0.05, "alpha": 0.7, "k": 5}),
    ("looksam", {"rho": 0.05, "alpha": 0.7, "k": 5, "norm": "tensor"}),
    ("ae-sam", {"late": True}),
    ("ae-sam", {"delta": 0.5, "lambda1": -0.3, "lambda2": 0.7}),
    ("rst", {"p": 0.2}),
    ("saf", {"gap": 1, "start_epoch": 0}),
    ("mesa", {"decay": 0.95, "start_epoch": 0}),
    ("vasso", {"theta": 0.4}),
    ("graphsam", {"beta": 0.5, "rho_schedule": "constant"}),
    ("graphsam", {"anchor": "unit", "norm": "tensor", "rho_schedule": "compounded"}),
    ("graphsam", {"adaptive": True, "period": 3}),
    ("graphsam-k", {"K": 3, "beta": 0.9}),
    ("graphsam-released", {"tensor_radius": 0.01, "beta": 0.9, "adaptive": False}),
    ("f-sam", {"sigma": 0.5, "lmbda": 0.6}),
    ("gsam", {"alpha": 0.1, "rho": 0.2}),
    ("wsam", {"decoupled": False, "weight": 0.4}),
    ("late-sam", {"share": 0.5}),
]


def of(problem: twins.Problem) -> dict[str, Any]:
    return {"X": problem.x, "Y": problem.y, "batch_idx": problem.rows, "theta0": problem.theta}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("name", "settings"), [*((name, {}) for name in optim.OPTIMIZERS), *OTHERS], ids=lambda v: str(v) or "defaults"
)
def test_optimizer_walks_as_its_twin_does(name: str, settings: dict[str, Any], base: str) -> None:
    def make(around: torch.optim.Optimizer) -> optim.Recipe:
        return optim.build(
            name, around, steps_per_epoch=twins.STEPS_PER_EPOCH, epochs=twins.EPOCHS, seed=SEED, settings=settings
        )

    maker, lr = BASES[base]
    problem = twins.Problem()
    path, passes, _, _ = follow(of(problem), make, base=maker, base_settings=lr)
    twin, taken = twins.run(name, base, seed=SEED, problem=problem, **settings)
    assert passes == taken
    # A tensor of one element has no part across its gradient: per tensor LookSAM adds rounding over 1e-8 there.
    rounding = settings.get("norm") == "tensor" and name == "looksam"
    assert np.abs(path - twin).max() <= (1e-8 if rounding else TOLERANCE)


def test_every_optimizer_has_a_twin() -> None:
    assert set(twins.TWINS) == set(optim.OPTIMIZERS)


def test_twins_gradient_is_the_slope_of_its_loss() -> None:
    problem = twins.Problem()
    direction = np.random.default_rng(0).standard_normal(problem.theta.shape)
    ahead, behind = (problem.losses(problem.theta + s * direction, 3).mean() for s in (1e-6, -1e-6))
    slope = float(problem.gradient(problem.theta, 3) @ direction)
    assert math.isclose((ahead - behind) / 2e-6, slope, rel_tol=1e-6)
