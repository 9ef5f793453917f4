"""Every model of the catalogue keeps the promises of samcmp.conformance.backbone, in a small configuration."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from samcmp import backbones
from samcmp.backbones import surroundings
from samcmp.conformance.backbone import (
    IMAGE_PROMISES,
    PROMISES,
    Subject,
    check_backbone,
    check_config,
    second_derivative,
)
from samcmp.conformance.report import Report
from samcmp.graphs.batch import Columns, GraphBatch

SMALL: dict[str, dict[str, Any]] = {
    "gcn": {"hidden": 16},
    "mpnn": {"hidden": 12, "edge_hidden": 10},
    "dmpnn": {"hidden": 16},
    "cmpnn": {"hidden": 16},
    "grover": {"hidden": 16},
    "compt": {"hidden": 16, "depth": 2},
    "resnet18": {"width": 4},
}
SAME_FILE = {"grover-base": "grover", "grover-large": "grover"}
NAMES = [name for name in backbones.BACKBONES if name not in SAME_FILE]  # a new model is tried in its own size
PARAMETERS = {  # with one task, from the specification's layer sizes
    "gcn": 66_817,
    "mpnn": 617_664 + 128 * 64 + 64 + 65,
    "dmpnn": 133 * 300 + 14 * 300 + 300 * 300 + 433 * 300 + 300 + 90_601,
    "cmpnn": 2_022_901 - 134_100,  # the authors' without their unused W_h_atom
    "resnet18": 11_173_962 - 9 * 513,  # of 10 classes, without nine of them
}


@cache
def report_of(name: str) -> Report:
    return check_config(backbones.build_config(name, settings=SMALL.get(name, {})))


def test_names_that_are_not_tried_are_other_sizes_of_a_model_that_is() -> None:
    assert set(SMALL) <= set(NAMES)
    assert all(backbones.entry(a).module == backbones.entry(b).module for a, b in SAME_FILE.items())


OF_MOLECULES = [name for name in NAMES if backbones.entry(name).reads == "molecules"]
TRIED = [(name, promise) for name in NAMES for promise in (PROMISES if name in OF_MOLECULES else IMAGE_PROMISES)]


@pytest.mark.parametrize(("name", "promise"), TRIED)
def test_promise_is_kept(name: str, promise: str) -> None:
    result = report_of(name)[promise]
    if result.kept is None:
        pytest.skip(result.found)
    assert result.kept, result.found


@pytest.mark.parametrize("once", [True, False], ids=["equal surroundings once", "plain"])
@pytest.mark.parametrize("name", OF_MOLECULES)
def test_every_model_differentiates_twice(name: str, once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "apply", lambda *_, **__: once)
    config = backbones.build_config(name, settings=SMALL.get(name, {}))
    second_derivative(
        Subject(lambda tasks: backbones.build(config, tasks), config.columns, backbones.prepare_of(config))
    )


@pytest.mark.parametrize(
    "settings", [{"activation": "prelu"}, {"activation": "tanh", "padding_row": True}, {"blocks": 2}]
)
def test_every_activation_and_switch_of_grover_differentiates_twice(settings: dict[str, Any]) -> None:
    config = backbones.build_config("grover", settings={"hidden": 16, "dropout": 0.2, **settings})
    second_derivative(Subject(lambda tasks: backbones.build(config, tasks), config.columns))


@pytest.mark.parametrize("name", list(PARAMETERS))
def test_parameter_count_is_the_specifications(name: str) -> None:
    model = backbones.build(backbones.build_config(name), 1)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


class Square(torch.autograd.Function):
    """x^2 with a backward pass that hides its own slope from torch."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x.detach() * grad


class Faulty(nn.Module):
    """Breaks one promise, chosen by name."""

    def __init__(self, fault: str, tasks: int) -> None:
        super().__init__()
        self.fault = fault
        self.linear = nn.Linear(133, tasks)
        self.idle = nn.Linear(2, 2) if fault == "gradient" else None

    def forward(self, batch: GraphBatch) -> torch.Tensor:
        x = batch.atom_features
        if self.fault == "order":
            x = x * torch.arange(1, len(x) + 1, dtype=x.dtype).unsqueeze(1)
        out = self.linear(x)
        if self.fault == "mates":
            out = out - out.mean(0)
        if self.fault == "slope":
            out = out.detach() + 0.5 * (out - out.detach())
        if self.fault == "curvature":
            out = Square.apply(out)
        if self.fault == "bits":
            out = out + 1e-9 * torch.rand(out.shape, generator=torch.Generator().manual_seed(torch.seed() % 2**31))
        pooled = out.new_zeros(batch.num_graphs, out.shape[1]).index_add(0, batch.graph_of_atom, out)
        return pooled[:, :1] if self.fault == "shape" else pooled


@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        ("shape", "one prediction a sample and task"),
        ("order", "atom order does not matter"),
        ("mates", "batch mates do not matter"),
        ("gradient", "a gradient reaches every parameter"),
        ("slope", "the gradient is the slope of the loss"),
        ("curvature", "the gradient differentiates, or raises"),
        ("bits", "deterministic mode repeats every bit"),
    ],
)
def test_trial_finds_the_fault(fault: str, promise: str) -> None:
    report = check_backbone(lambda tasks: Faulty(fault, tasks), columns=Columns("chemprop-v1"))
    assert report[promise].kept is False
    assert promise in str(report)


def test_sound_model_passes_the_whole_trial() -> None:
    report = check_backbone(lambda tasks: Faulty("none", tasks), columns=Columns("chemprop-v1"))
    assert report.ok, str(report)
