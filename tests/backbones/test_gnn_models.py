"""What the graph networks promise beyond the oracles: both ways of counting, all settings, slow twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from samcmp import backbones
from samcmp.backbones import surroundings
from samcmp.backbones.layers import max_into
from samcmp.conformance.backbone import MOLECULES, Subject
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
    monkeypatch.setattr(surroundings, "apply", lambda *_, **__: False)
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


def level_sizes(batch: GraphBatch, steps: int) -> list[int]:
    """How many different directed bonds there are after each step."""
    messages = surroundings.Messages.from_bond_to_bond(batch)
    atom_kind, bond_kind = surroundings.kinds_of(batch)
    row, first = surroundings.distinct(atom_kind[batch.edge_index[0]] * len(batch.bond_table) + bond_kind)
    sizes = [len(first)]
    for _ in range(steps):
        level = surroundings.next_level(row, row, messages)
        row = level.row
        sizes.append(len(level.first))
    return sizes


def test_bonds_of_benzene_are_one() -> None:
    assert level_sizes(batch_of("chemprop-v1", ("c1ccccc1",)), 4) == [1] * 5


def test_bonds_are_told_apart_by_what_differs_three_bonds_away() -> None:
    sizes = level_sizes(batch_of("chemprop-v1", ("OCCCCCCCCCCN",)), 3)
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]


def test_messages_between_bonds_are_those_of_the_definition() -> None:
    batch = batch_of("chemprop-v1")
    source, target = batch.edge_index.tolist()
    bonds = range(len(source))
    expected = {(e, f) for e in bonds for f in bonds if target[f] == source[e] and f != e ^ 1}
    found = surroundings.Messages.from_bond_to_bond(batch)
    assert set(zip(found.receiver.tolist(), found.sender.tolist(), strict=True)) == expected
    assert len(found.receiver) == len(expected)


def test_atoms_that_differ_in_columns_the_model_does_not_read_are_one_kind() -> None:
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert surroundings._kinds_by_features(table).tolist() == [0, 1, 0]


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
