"""What the graph networks promise beyond the oracles: both ways of counting, all settings, slow twins."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from samcmp import backbones
from samcmp.backbones import unfolding
from samcmp.backbones.segments import max_into, sum_times_max
from samcmp.conformance.backbone_promises import MOLECULES, Subject
from samcmp.graphs.batch import Columns, GraphBatch
from tests.backbones import gnn_twins

SETTINGS = {
    "dmpnn": [
        {},
        {"depth": 1},
        {"depth": 5, "bias": True},
        {"depth": 1, "messages": "atoms"},
        {"features": "chemprop-v2", "aggregation": "norm"},
    ],
    "cmpnn": [{}, {"depth": 1}, {"depth": 4, "bias": True}, {"padded": True}],
    "mpnn": [{"edge_hidden": 8}, {"depth": 5, "aggregation": "mean", "root_weight": False, "message_bias": False}],
}
CASES = [
    pytest.param(name, chosen, id=f"{name}-{i}") for name, all_ in SETTINGS.items() for i, chosen in enumerate(all_)
]


def batch_of(features: str, molecules: tuple[str, ...] = MOLECULES) -> GraphBatch:
    return Subject(lambda tasks: torch.nn.Identity(), Columns(features)).batch(molecules)


def outputs_and_gradients(model: torch.nn.Module, batch: Any) -> list[Tensor]:
    out = model(batch)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), list(model.parameters()), allow_unused=False)]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_counting_equal_surroundings_once_changes_no_output_and_no_gradient(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = backbones.build_config(name, settings={"hidden": 12, **settings})
    torch.manual_seed(0)
    model = backbones.build(config, 2).double()
    batch = batch_of(config.features)
    once = outputs_and_gradients(model, batch)
    module = importlib.import_module(f"samcmp.backbones.{name}")
    monkeypatch.setattr(module, "unfolding_pays", lambda *_, **__: False)
    for ours, plain in zip(once, outputs_and_gradients(model, batch), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-12 * float(plain.abs().max() + 1))


@pytest.mark.parametrize(("depth", "bias", "undirected"), [(3, False, False), (5, True, False), (3, False, True)])
def test_dmpnn_equals_its_dense_twin(depth: int, bias: bool, undirected: bool) -> None:
    settings = {"hidden": 10, "depth": depth, "bias": bias, "undirected": undirected}
    model = backbones.build(backbones.build_config("dmpnn", settings=settings), 2).double()
    twin = gnn_twins.PlainDMPNN(133, hidden=10, depth=depth, tasks=2, bias=bias).double()
    twin.load_state_dict(model.state_dict())
    batch = batch_of("chemprop-v1")
    torch.testing.assert_close(model(batch), twin(batch, undirected=undirected), rtol=1e-12, atol=1e-12)


def test_cmpnn_padded_equals_its_padded_twin() -> None:
    model = backbones.build(backbones.build_config("cmpnn", settings={"hidden": 10, "padded": True}), 2).double()
    twin = gnn_twins.PaddedCMPNN(hidden=10, tasks=2).double()
    twin.load_state_dict(model.state_dict())
    batch = batch_of("chemprop-v1")
    torch.testing.assert_close(model(batch), twin(gnn_twins.padded(batch)), rtol=1e-12, atol=1e-12)


def test_dmpnn_with_dropout_gives_equal_bonds_their_own_draws() -> None:
    config = backbones.build_config("dmpnn", settings={"hidden": 64, "dropout": 0.5, "depth": 2})
    model: Any = backbones.build(config, 1)
    twice = batch_of("chemprop-v1", ("CCO", "CCO")).to(dtype=torch.float32)
    one, other = model.train().atom_states(twice).split(3)
    assert not torch.equal(one, other)
    one, other = model.eval().atom_states(twice).split(3)
    assert torch.equal(one, other)


def test_distinct_bonds_of_benzene_are_one() -> None:
    batch = batch_of("chemprop-v1", ("c1ccccc1",))
    plan = unfolding.distinct_bonds(batch, 4)
    assert [len(plan.atom_kind), *[len(step.own) for step in plan.steps], len(plan.last_kind)] == [1] * 6


def test_distinct_bonds_tell_apart_what_differs_three_bonds_away() -> None:
    batch = batch_of("chemprop-v1", ("OCCCCCCCCCCN",))
    plan = unfolding.distinct_bonds(batch, 3)
    sizes = [len(plan.atom_kind), *[len(step.own) for step in plan.steps]]
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]


def test_atoms_that_differ_in_columns_the_model_does_not_read_are_one_kind() -> None:
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert unfolding.kinds_by_features(table).tolist() == [0, 1, 0]


def test_sum_times_max_has_the_gradient_of_its_formula() -> None:
    values = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    cols, rows = torch.tensor([0, 1, 5, 2, 4]), torch.tensor([0, 0, 0, 2, 2])
    out = sum_times_max(values, cols=cols, rows=rows, size=4)
    assert not out[1].any()
    assert not out[3].any()
    torch.testing.assert_close(out[2], (values[2] + values[4]) * torch.maximum(values[2], values[4]))
    assert torch.autograd.gradcheck(lambda v: sum_times_max(v, cols=cols, rows=rows, size=4), (values,))


def test_equal_maxima_share_their_gradient() -> None:
    values = torch.tensor([[2.0], [2.0], [1.0]], requires_grad=True)
    max_into(values, torch.tensor([0, 0, 0]), 2).sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad.flatten().tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("name", ["gcn", "mpnn", "dmpnn", "cmpnn"])
def test_batch_without_any_bond_trains(name: str) -> None:
    model = backbones.build(backbones.build_config(name, settings={"hidden": 8}), 1).double()
    for gradient in outputs_and_gradients(model, batch_of("chemprop-v1", ("C", "[Na+].[Cl-]"))):
        assert gradient.isfinite().all()
