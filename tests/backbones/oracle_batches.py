"""GraphBatches made straight from the oracles' arrays, without our own featuriser."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from samcmp.graphs.batch import GraphBatch


def batch_from_arrays(
    atoms: Tensor, edge_index: Tensor, *, bonds: Tensor, graph_of_atom: Tensor, tasks: int = 3, kinds: bool = False
) -> GraphBatch:
    """Return the batch; with ``kinds`` the tables hold the distinct rows only, as a dataset's do."""
    graphs = int(graph_of_atom.max()) + 1
    counts = torch.bincount(graph_of_atom, minlength=graphs)
    bond_counts = torch.bincount(graph_of_atom[edge_index[0]], minlength=graphs)
    atom_table, atom_kind = atoms, torch.arange(len(atoms))
    bond_table, bond_kind = bonds, torch.arange(len(bonds))
    if kinds:
        atom_table, atom_kind = torch.unique(atoms, dim=0, return_inverse=True)
        bond_table, bond_kind = torch.unique(bonds, dim=0, return_inverse=True)
    return GraphBatch(
        atom_kind=atom_kind,
        atom_table=atom_table,
        edge_index=edge_index,
        bond_kind=bond_kind,
        bond_table=bond_table,
        graph_of_atom=graph_of_atom,
        atom_ptr=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        bond_ptr=torch.cat([counts.new_zeros(1), bond_counts.cumsum(0)]),
        y=torch.zeros(graphs, tasks, dtype=atoms.dtype),
        rows=torch.arange(graphs),
        max_atoms=int(counts.max()),
    )


def tensor(archive: np.lib.npyio.NpzFile, key: str, dtype: torch.dtype = torch.float64) -> Tensor:
    value = torch.from_numpy(archive[key])
    return value.to(dtype) if value.is_floating_point() else value


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference relative to the largest entry of the oracle."""
    return float((ours.detach() - theirs).abs().max() / theirs.abs().max().clamp(min=1e-300))
