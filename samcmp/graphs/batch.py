"""The one representation that data, backbones and the runner share.

Shapes, declared once: A atoms, B directed bonds (B/2 bonds), G graphs, T tasks, H hidden units, F features,
K distinct kinds of atom, U distinct kinds of bond.

Two facts make everything downstream cheap:

* directed bonds come in adjacent pairs, 2k = (i, j) and 2k+1 = (j, i), so the reverse of bond e is ``e ^ 1``
  and the features of e are those of bond ``e // 2``;
* an atom is one of a few hundred kinds and a bond one of about twenty in a whole dataset, so a batch carries
  kinds (integers) and two small tables, and a model may work on the tables' rows instead of on every atom or bond.

This module holds nouns only. It does not import torch, so that reading it costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor
    from torch_geometric.data import Batch


class Molecules(Protocol):
    """M molecules with T labels each, wherever they come from."""

    @property
    def name(self) -> str: ...
    @property
    def rows(self) -> NDArray[np.int64]:
        """(M,) row of the published file."""

    @property
    def smiles(self) -> tuple[str, ...]:
        """(M,)"""

    @property
    def y(self) -> NDArray[np.float64]:
        """(M, T) NaN where a label is missing."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which features a backbone reads; the names are those of :mod:`samcmp.graphs.featurize`.

    ``atoms`` and ``bonds`` name the columns of the two tables. ``scalars`` names real-valued columns that differ
    from atom to atom (``gasteiger``: two columns). ``molecule`` names per-molecule descriptors (``rdkit2d``: 200).
    """

    atoms: str
    bonds: str = "chemprop"
    scalars: tuple[str, ...] = ()
    molecule: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MolGraph:
    """One molecule as integers, as :func:`samcmp.graphs.featurize.featurize` makes it."""

    atoms: NDArray[np.int16]  # (A, C) one integer code a column, see columns.ATOM_CODES
    bonds: NDArray[np.int8]  # (B/2, 5) see columns.BOND_CODES
    edge_index: NDArray[np.int32]  # (2, B) source and target atom, reverse pairs adjacent
    scalars: NDArray[np.float32]  # (A, S) real-valued atom columns, S = 0 where none are asked for
    smiles: str
    row: int  # row of the published file, 0-based, header not counted


@dataclass(frozen=True, slots=True, eq=False)
class GraphBatch:
    """G molecules as one disconnected graph."""

    atom_kind: Tensor  # (A,) int64, row of atom_table
    atom_table: Tensor  # (K, F) float, features of every kind of atom in the dataset
    edge_index: Tensor  # (2, B) int64, source and target atom
    bond_kind: Tensor  # (B/2,) int64, row of bond_table
    bond_table: Tensor  # (U, F) float, features of every kind of bond in the dataset
    graph_of_atom: Tensor  # (A,) int64
    atom_ptr: Tensor  # (G+1,) int64, graph g owns atoms atom_ptr[g] .. atom_ptr[g+1]-1
    bond_ptr: Tensor  # (G+1,) int64, the same for directed bonds
    y: Tensor  # (G, T) float, NaN where a label is missing
    rows: Tensor  # (G,) int64, rows of the published file: stable sample ids
    max_atoms: int  # atoms of the largest molecule, known to the host
    atom_scalars: Tensor | None = None  # (A, S) float
    molecule_features: Tensor | None = None  # (G, M) float
    extras: Mapping[str, Tensor] = field(default_factory=dict)  # what a backbone's prepare() made, concatenated

    @property
    def num_graphs(self) -> int:
        return int(self.y.shape[0])

    @property
    def size(self) -> int:
        """Graphs, as a batch of anything has a size."""
        return self.num_graphs

    @property
    def work(self) -> int:
        """What the cost of a pass grows with: atoms and directed bonds."""
        return self.num_atoms + self.num_bonds

    @property
    def num_atoms(self) -> int:
        return int(self.atom_kind.shape[0])

    @property
    def num_bonds(self) -> int:
        """Directed bonds, B."""
        return int(self.edge_index.shape[1])

    @property
    def atom_features(self) -> Tensor:
        return self.atom_table.index_select(0, self.atom_kind)  # (A, F)

    @property
    def bond_features(self) -> Tensor:
        """Features of each bond once; directed bond e reads row ``e // 2``."""
        return self.bond_table.index_select(0, self.bond_kind)  # (B/2, F)

    @property
    def directed_bond_features(self) -> Tensor:
        return self.bond_table.index_select(0, self.bond_kind.repeat_interleave(2))  # (B, F)

    def to(
        self,
        device: torch.device | str | None = None,
        *,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> GraphBatch:
        """Return this batch on ``device``, its real-valued tensors as ``dtype``; itself where nothing changes."""
        if self.y.to(device=device, dtype=dtype) is self.y and self.atom_table.dtype is self.y.dtype:
            return self

        def moved(tensor: Tensor) -> Tensor:
            kind = dtype if tensor.is_floating_point() else None
            return tensor.to(device=device, dtype=kind, non_blocking=non_blocking)

        return self._map(moved)

    def pin_memory(self) -> GraphBatch:
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Any) -> GraphBatch:
        new: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "extras":
                new[f.name] = {key: change(tensor) for key, tensor in value.items()}
            elif value is not None and f.name != "max_atoms":
                new[f.name] = change(value)
        return replace(self, **new)

    def to_pyg(self) -> Batch:
        """Return the same molecules as a torch-geometric ``Batch`` (x, edge_index, edge_attr, y, batch, ptr)."""
        from torch_geometric.data import Batch

        batch = Batch(
            x=self.atom_features,
            edge_index=self.edge_index,
            edge_attr=self.directed_bond_features,
            y=self.y,
            batch=self.graph_of_atom,
            ptr=self.atom_ptr,
            rows=self.rows,
        )
        batch._num_graphs = self.num_graphs
        return batch
