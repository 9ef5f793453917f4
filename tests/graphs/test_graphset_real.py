"""Every dataset whose file is at hand becomes a set of graphs: 492 atoms, metals, ions, fragments and all."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from samcmp.data import cards, molecules
from samcmp.graphs import graphstore
from samcmp.graphs.batch import Columns
from samcmp.graphs.graphset import GraphSet
from tests.places import MIRROR, needs_mirror

LARGEST = {  # atoms of the largest molecule, molecules without any bond: from the files' published statistics
    "bbbp": (132, 0),
    "tox21": (132, 19),
    "sider": (492, 31),
    "clintox": (136, 1),
    "esol": (55, 1),
    "freesolv": (24, 3),
}


@cache
def loaded(name: str) -> tuple[molecules.Molecules, graphstore.GraphArrays]:
    data = molecules.load(cards.find(name), source=MIRROR)
    return data, graphstore.build(data, ())


@needs_mirror
@pytest.mark.parametrize("name", LARGEST)
def test_every_molecule_of_the_population_is_there_with_its_atoms_and_bonds(name: str) -> None:
    data, arrays = loaded(name)
    graphs = GraphSet.of(data, Columns("grover"), arrays)
    assert len(graphs) == len(data.rows) == cards.find(name).molecules
    assert (int(graphs.atom_counts.max()), int((np.diff(arrays.ptr[1]) == 0).sum())) == LARGEST[name]
    assert len(arrays.atom_codes) < 1000  # few kinds: what makes tables worth their while
    assert len(arrays.bond_codes) < 40


@needs_mirror
@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("atoms", ["chemprop-v1", "chemprop-v2", "grover", "compt"])
def test_every_column_set_covers_every_real_atom(name: str, atoms: str) -> None:
    _, arrays = loaded(name)
    table, bonds = arrays.tables(Columns(atoms, "compt" if atoms == "compt" else "chemprop"))
    assert np.isfinite(table).all()
    assert np.isfinite(bonds).all()
    assert (table[:, :38].sum(axis=1) <= 1).all()  # an element has one slot


@needs_mirror
def test_a_batch_of_the_492_atom_molecule_and_bare_ions_is_whole() -> None:
    data, arrays = loaded("sider")
    graphs = GraphSet.of(data, Columns("chemprop-v1"), arrays)
    order = graphs.atom_counts.argsort(stable=True)
    chosen = torch.cat([order[:5], order[-1:]])
    batch = graphs.batch(chosen)
    assert batch.max_atoms == 492
    assert batch.num_atoms == int(graphs.atom_counts[chosen].sum())
    ends = batch.graph_of_atom[batch.edge_index]
    assert torch.equal(ends[0], ends[1])  # no bond joins two molecules
    assert int(batch.edge_index.max()) < batch.num_atoms
