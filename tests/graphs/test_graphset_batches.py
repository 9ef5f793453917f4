"""Batches cut by index arithmetic hold exactly what the molecules hold one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from samcmp.data.molecules import Molecules
from samcmp.graphs.batch import Columns, MolGraph
from samcmp.graphs.columns import ATOM_COLUMNS, BOND_COLUMNS, expand_atoms, expand_bonds
from samcmp.graphs.featurize import featurize
from samcmp.graphs.graphset import GraphSet

SMILES = (
    "CCO",
    "C",
    "[Na+].[Cl-]",
    "c1ccccc1C(=O)O",
    "C[C@H](N)C(=O)O",
    "*",
    "C/C=C/C",
    "[Na+]",
    "CC(C)(C)c1cc2ccccc2[nH]1",
    "F[P-](F)(F)(F)(F)F.C[n+]1ccn(C)c1",
    "N",
)
COLUMNS = ("chemprop-v1", "chemprop-v2", "grover", "compt")


def made(smiles: tuple[str, ...] = SMILES) -> Molecules:
    y = np.arange(2.0 * len(smiles)).reshape(-1, 2)
    y[1, 0] = np.nan
    return Molecules(
        name="made",
        rows=np.arange(len(smiles), dtype=np.int64) * 3 + 5,
        smiles=smiles,
        y=y,
        tasks=("a", "b"),
        kind="regression",
        metric="rmse",
        dataset_hash="",
    )


def numbered(graph: MolGraph) -> dict[str, Any]:
    """A ``prepare`` with arrays of two lengths, both different from one molecule to the next."""
    n = len(graph.atoms)
    return {"index": np.arange(n), "squares": np.arange(n * n, dtype=np.float32) + graph.row}


def graphs_of(columns: Columns, **options: Any) -> GraphSet:
    return GraphSet.load_or_build(made(), columns, cache=False, **options)


@pytest.mark.parametrize("atoms", COLUMNS)
@pytest.mark.parametrize("size", [1, 3, 4, 11, 50])
def test_a_batch_equals_its_molecules_featurised_one_by_one(atoms: str, size: int) -> None:
    columns = Columns(atoms, "compt" if atoms == "compt" else "chemprop")
    graphs = graphs_of(columns, prepare=numbered)
    order = [3, 0, 2, 2, 9, 1, 10, 8, 7, 6, 5, 4]  # any order, one twice
    seen = 0
    for batch in graphs.batches(torch.tensor(order), size):
        ones = [featurize(SMILES[i], 3 * i + 5) for i in order[seen : seen + size]]
        assert batch.num_graphs == len(ones)
        first = np.cumsum([0, *(len(one.atoms) for one in ones)])
        assert batch.atom_ptr.tolist() == first.tolist()
        assert batch.bond_ptr.tolist() == np.cumsum([0, *(2 * len(one.bonds) for one in ones)]).tolist()
        expected = np.concatenate([one.edge_index + shift for one, shift in zip(ones, first, strict=False)], axis=1)
        assert np.array_equal(batch.edge_index.numpy(), expected)
        assert batch.edge_index.is_contiguous()
        codes = np.concatenate([one.atoms for one in ones])
        assert np.array_equal(batch.atom_features.numpy(), expand_atoms(codes, columns.atoms))
        bonds = expand_bonds(np.concatenate([one.bonds for one in ones]), columns.bonds)
        assert np.array_equal(batch.bond_features.numpy(), bonds)
        assert np.array_equal(batch.directed_bond_features.numpy(), bonds.repeat(2, axis=0))
        assert batch.graph_of_atom.tolist() == [g for g, one in enumerate(ones) for _ in one.atoms]
        assert batch.rows.tolist() == [one.row for one in ones]
        assert batch.max_atoms == max(len(one.atoms) for one in ones)
        for name in ("index", "squares"):
            extra = np.concatenate([numbered(one)[name] for one in ones])
            assert np.array_equal(batch.extras[name].numpy(), extra)
        seen += len(ones)
    assert seen == len(order)


def test_reverse_bonds_are_adjacent_in_every_batch() -> None:
    batch = graphs_of(Columns("chemprop-v1")).batch(torch.arange(len(SMILES)))
    turned = batch.edge_index[:, torch.arange(batch.num_bonds) ^ 1]
    assert torch.equal(turned, batch.edge_index.flip(0))


def test_missing_labels_arrive_as_nan() -> None:
    batch = graphs_of(Columns("chemprop-v1")).batch(torch.tensor([0, 1]))
    assert torch.isnan(batch.y).tolist() == [[False, False], [True, False]]


def test_a_generator_shuffles_and_the_same_seed_gives_the_same_order() -> None:
    graphs = graphs_of(Columns("chemprop-v1"))
    everything = torch.arange(len(graphs))

    def order(seed: int | None) -> list[int]:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return torch.cat([b.rows for b in graphs.batches(everything, 4, generator=generator)]).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == order(None) == graphs.rows.tolist()


def test_drop_last_leaves_out_only_the_short_batch() -> None:
    graphs = graphs_of(Columns("chemprop-v1"))
    everything = torch.arange(len(graphs))
    assert [b.num_graphs for b in graphs.batches(everything, 4, drop_last=True)] == [4, 4]
    assert [b.num_graphs for b in graphs.batches(everything, 4)] == [4, 4, 3]


def test_positions_of_rows_come_back_and_a_foreign_row_is_refused() -> None:
    graphs = graphs_of(Columns("chemprop-v1"))
    assert graphs.positions(np.array([8, 5, 35])).tolist() == [1, 0, 10]
    with pytest.raises(ValueError, match="row 6 "):
        graphs.positions(torch.tensor([5, 6]))


@pytest.mark.parametrize("wrong", [[-1], [0, 11]])
def test_a_position_outside_the_set_is_refused(wrong: list[int]) -> None:
    with pytest.raises(ValueError, match=r"positions must be 0\.\.10"):
        graphs_of(Columns("chemprop-v1")).batch(torch.tensor(wrong))


def test_other_targets_replace_the_labels_and_nothing_else() -> None:
    graphs = graphs_of(Columns("chemprop-v1"))
    other = graphs.with_targets(np.ones((len(graphs), 5)))
    assert other.batch(torch.tensor([2])).y.tolist() == [[1.0] * 5]
    assert torch.equal(graphs.batch(torch.tensor([2])).y, torch.tensor([[4.0, 5.0]]))
    with pytest.raises(ValueError, match="11 molecules"):
        graphs.with_targets(np.ones((3, 1)))


def test_a_float64_set_makes_float64_batches() -> None:
    graphs = graphs_of(Columns("compt", "compt", scalars=("gasteiger",)), prepare=numbered).to(dtype=torch.float64)
    batch = graphs.batch(torch.tensor([0, 3]))
    real = [batch.atom_features, batch.bond_features, batch.y, batch.atom_scalars, batch.extras["squares"]]
    assert {tensor.dtype for tensor in real if tensor is not None} == {torch.float64}
    assert batch.extras["index"].dtype == torch.int64


def test_moving_a_batch_to_where_it_is_returns_it_itself() -> None:
    batch = graphs_of(Columns("chemprop-v1")).batch(torch.tensor([0, 3]))
    assert batch.to("cpu") is batch
    assert batch.to(torch.device("cpu"), dtype=torch.float32) is batch
    doubled = batch.to(dtype=torch.float64)
    assert (doubled.y.dtype, doubled.atom_table.dtype) == (torch.float64, torch.float64)


@pytest.mark.parametrize("name", ATOM_COLUMNS)
def test_a_set_of_atom_columns_is_as_wide_as_the_backbones_are_told(name: str) -> None:
    from samcmp.backbones import ATOM_WIDTHS

    width = ATOM_COLUMNS[name][0]
    assert expand_atoms(featurize("CC", 0).atoms, name).shape == (2, width)
    assert ATOM_WIDTHS[name] == width


@pytest.mark.parametrize("name", BOND_COLUMNS)
def test_a_set_of_bond_columns_is_as_wide_as_the_backbones_are_told(name: str) -> None:
    from samcmp.backbones import BOND_WIDTHS

    width = BOND_COLUMNS[name][0]
    assert expand_bonds(featurize("CC", 0).bonds, name).shape == (1, width)
    assert BOND_WIDTHS[name] == width


def test_descriptors_of_any_width_ride_along_with_their_molecule() -> None:
    from samcmp.graphs import graphstore

    molecules, columns = made(), Columns("chemprop-v1")
    descriptors = np.random.default_rng(0).normal(size=(len(SMILES), 7)).astype(np.float32)
    arrays = graphstore.build(molecules, ())
    graphs = GraphSet.of(molecules, columns, arrays, molecule_features=descriptors)
    batch = graphs.batch(torch.tensor([4, 0]))
    assert batch.molecule_features is not None
    assert np.array_equal(batch.molecule_features.numpy(), descriptors[[4, 0]])
    with pytest.raises(ValueError, match="rows of descriptors"):
        GraphSet.of(molecules, columns, arrays, molecule_features=descriptors[:2])


def test_a_set_indexes_as_torch_geometric_data_and_a_batch_converts() -> None:
    graphs = graphs_of(Columns("chemprop-v1"))
    one = graphs[3]
    assert (one.smiles, one.row) == ("c1ccccc1C(=O)O", 14)
    assert one.x.shape == (9, 133)
    assert one.edge_attr.shape == (18, 14)
    batch = graphs.batch(torch.tensor([3, 1, 2])).to_pyg()
    assert batch.num_graphs == 3
    assert torch.equal(batch.x[:9], one.x)
    assert graphs[-1].smiles == "N"
    with pytest.raises(IndexError):
        graphs[11]


def test_a_pyg_model_runs_on_a_converted_batch() -> None:
    from torch_geometric.nn import GCNConv, global_mean_pool

    batch = graphs_of(Columns("chemprop-v1")).batch(torch.arange(len(SMILES))).to_pyg()
    pooled = global_mean_pool(GCNConv(133, 8)(batch.x, batch.edge_index), batch.batch)
    assert pooled.shape == (len(SMILES), 8)
    assert torch.isfinite(pooled).all()


def test_every_tensor_of_a_batch_appears_on_the_device_that_the_set_was_moved_to() -> None:
    columns = Columns("compt", "compt", scalars=("gasteiger",))
    graphs = graphs_of(columns, prepare=numbered).to("meta")
    assert graphs.device.type == "meta"
    for batch in graphs.batches(torch.arange(len(graphs)), 4):
        tensors = [batch.atom_features, batch.edge_index, batch.bond_kind, batch.graph_of_atom, batch.atom_ptr]
        tensors += [batch.bond_ptr, batch.y, batch.rows, *batch.extras.values(), batch.directed_bond_features]
        assert batch.atom_scalars is not None
        assert {tensor.device.type for tensor in [*tensors, batch.atom_scalars]} == {"meta"}
        assert isinstance(batch.max_atoms, int)  # known to the host without asking the device


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_appear_on_the_gpu_equal_to_the_hosts() -> None:
    columns = Columns("compt", "compt", scalars=("gasteiger",))
    host = graphs_of(columns, prepare=numbered)
    order = torch.tensor([3, 0, 2, 9, 1])
    for here, there in zip(host.batches(order, 2), host.to("cuda").batches(order, 2), strict=True):
        assert there.atom_features.device.type == "cuda"
        back = there.to("cpu")
        for name in ("atom_features", "edge_index", "bond_features", "graph_of_atom", "atom_ptr", "y", "atom_scalars"):
            assert torch.equal(getattr(here, name), getattr(back, name)), name
        assert torch.equal(here.extras["squares"], back.extras["squares"])


@pytest.mark.parametrize("reach", [2, 200, 30000])
def test_kinds_number_the_distinct_rows_of_codes(reach: int) -> None:
    from samcmp.graphs.graphstore import _kinds

    draw = np.random.default_rng(reach)
    few = draw.integers(-reach, reach, size=(40, 18)).astype(np.int16)
    codes = few[draw.integers(0, len(few), size=500)]
    kind, distinct = _kinds(codes)
    assert np.array_equal(distinct[kind], codes)
    assert len(distinct) == len(np.unique(codes, axis=0))
