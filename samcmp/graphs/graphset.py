"""A whole dataset as a few contiguous arrays, and batches cut out of it.

What is stored for M molecules: the kind of every atom and bond, the ends of every bond, where each molecule begins,
and two tables with the features of each distinct kind (Tox21: 440 kinds of atom and 15 of bond). A batch is a few
array operations, with no Python loop over molecules and, on a GPU, no wait for the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samcmp.graphs.batch import Columns, GraphBatch, Molecules
from samcmp.graphs.cutting import Ragged, Store, cut
from samcmp.graphs.graphstore import (
    Extras,
    GraphArrays,
    Prepare,
    Progress,
    load_or_build_arrays,
    load_or_build_extras,
    load_or_build_features,
)
from samcmp.graphs.order import in_order

if TYPE_CHECKING:
    from torch_geometric.data import Data


class GraphSet:
    """Molecules of one dataset with the columns that one backbone reads.

    Positions 0..M-1 number the molecules here; rows number them in the published file.
    """

    def __init__(self, store: Store, *, smiles: tuple[str, ...], columns: Columns) -> None:
        self._store = store
        self.smiles = smiles
        self.columns = columns

    @classmethod
    def load_or_build(
        cls,
        molecules: Molecules,
        columns: Columns,
        *,
        prepare: Prepare | None = None,
        cache: bool = True,
        progress: Progress | None = None,
        device: torch.device | str = "cpu",
    ) -> GraphSet:
        """Return the dataset from its cache file, or featurise it and leave the file behind.

        Batches appear on ``device``. Raises DataError when a SMILES cannot be read, naming its row.
        """
        arrays = load_or_build_arrays(molecules, columns.scalars, cache=cache, progress=progress)
        extras: Extras = {}
        if prepare is not None:
            extras = load_or_build_extras(molecules, arrays, prepare, cache=cache, progress=progress)
        descriptors = None
        if columns.molecule is not None:
            descriptors = load_or_build_features(molecules, columns.molecule, cache=cache, progress=progress)
        return cls.of(molecules, columns, arrays, extras=extras, molecule_features=descriptors).to(device)

    @classmethod
    def of(
        cls,
        molecules: Molecules,
        columns: Columns,
        arrays: GraphArrays,
        *,
        extras: Extras | None = None,
        molecule_features: NDArray[np.float32] | None = None,
    ) -> GraphSet:
        """Join a dataset's arrays with its labels; nothing is copied but the tables and the labels.

        ``molecule_features`` is any float array of descriptors: (M, D).
        """
        atom_table, bond_table = arrays.tables(columns)
        if molecule_features is not None and len(molecule_features) != len(molecules.smiles):
            raise ValueError(f"{len(molecule_features)} rows of descriptors for {len(molecules.smiles)} molecules")
        store = Store(
            atom_kind=arrays.atom_kind,
            bond_kind=arrays.bond_kind,
            pairs=arrays.pairs,
            ptr=arrays.ptr,
            atom_table=torch.from_numpy(atom_table),
            bond_table=torch.from_numpy(bond_table),
            y=torch.from_numpy(np.asarray(molecules.y, dtype=np.float32)),
            rows=torch.from_numpy(np.asarray(molecules.rows, dtype=np.int64)),
            atom_scalars=torch.from_numpy(arrays.scalars) if columns.scalars else None,
            molecule_features=None if molecule_features is None else torch.from_numpy(molecule_features),
            extras={name: Ragged(values, ptr) for name, (values, ptr) in (extras or {}).items()},
        )
        return cls(store, smiles=tuple(molecules.smiles), columns=columns)

    def __len__(self) -> int:
        return len(self.smiles)

    @property
    def y(self) -> Tensor:
        """Labels, NaN where missing, on the host: (M, T)."""
        return self._store.y

    @property
    def rows(self) -> Tensor:
        """Rows of the published file, on the host: (M,)."""
        return self._store.rows

    @property
    def atom_counts(self) -> Tensor:
        """Atoms of each molecule, on the host: (M,)."""
        return torch.from_numpy(np.diff(self._store.ptr[0]))

    def heaviest(self, positions: Tensor, count: int) -> Tensor:
        """Return ``count`` of ``positions`` that take the most memory: the molecules with the most atoms."""
        return positions[self.atom_counts[positions].argsort(descending=True)[:count]]

    @property
    def device(self) -> torch.device:
        """Where batches appear."""
        return self._store.device

    def arrays(self) -> list[NDArray[Any]]:
        """Return every array that this set holds: what its memory is."""
        found = [getattr(self._store, f.name) for f in fields(self._store) if f.name != "extras"]
        found += [part for one in self._store.extras.values() for part in (one.values, one.ptr)]
        return [np.asarray(one.cpu() if isinstance(one, Tensor) else one) for one in found if one is not None]

    def positions(self, rows: Tensor | NDArray[np.int64]) -> Tensor:
        """Return the positions of these rows of the published file. Raises ValueError for a row that is not here."""
        wanted = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        have, order = self.rows.sort()
        at = torch.searchsorted(have, wanted).clamp(max=len(have) - 1)
        if (missing := wanted[have[at] != wanted]).numel():
            raise ValueError(f"row {int(missing[0])} is not in this set of {len(self)} molecules")
        return order[at]

    def with_targets(self, y: Tensor | NDArray[Any]) -> GraphSet:
        """Return the same molecules with other targets, (M, T); everything else is shared."""
        labels = torch.as_tensor(y, dtype=self.y.dtype)
        if labels.dim() != 2 or labels.shape[0] != len(self):
            raise ValueError(f"targets of shape {tuple(labels.shape)} for {len(self)} molecules; (M, T) is wanted")
        return GraphSet(replace(self._store, y=labels), smiles=self.smiles, columns=self.columns)

    def to(self, device: torch.device | str | None = None, *, dtype: torch.dtype | None = None) -> GraphSet:
        """Return the set whose batches appear on ``device``, their real-valued tensors as ``dtype``.

        The two tables live on the device; the rest of a batch arrives from page-locked memory without waiting.
        """
        old = self._store
        store = replace(
            old,
            atom_table=old.atom_table.to(device=device, dtype=dtype),
            bond_table=old.bond_table.to(device=device, dtype=dtype),
            y=old.y.to(dtype=dtype),
            atom_scalars=None if old.atom_scalars is None else old.atom_scalars.to(dtype=dtype),
            molecule_features=None if old.molecule_features is None else old.molecule_features.to(dtype=dtype),
            extras={name: one.cast(dtype) for name, one in old.extras.items()},
        )
        return GraphSet(store, smiles=self.smiles, columns=self.columns)

    def batch(self, positions: Tensor, *, pin: bool = False) -> GraphBatch:
        """Return the molecules at ``positions`` (on the host, any order, repeats allowed) as one batch.

        ``pin`` puts a host batch into page-locked memory, from where a copy to a GPU need not be waited for.
        """
        if not len(positions):
            raise ValueError("a batch needs at least one molecule")
        return cut(self._store, self._checked(positions), pin=pin)

    def batches(
        self,
        positions: Tensor,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
        pin: bool = False,
    ) -> Iterator[GraphBatch]:
        """Return batches over ``positions``, shuffled when a generator is given (its draws are on the host)."""
        positions = in_order(positions, batch_size, generator=generator, drop_last=drop_last)
        chosen = self._checked(positions)
        return (cut(self._store, chosen[i : i + batch_size], pin=pin) for i in range(0, len(chosen), batch_size))

    def _checked(self, positions: Tensor) -> NDArray[np.int64]:
        numbers = positions.numpy()
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(self)):
            raise ValueError(f"positions must be 0..{len(self) - 1}, got {numbers.min()}..{numbers.max()}")
        return numbers

    def __getitem__(self, position: int) -> Data:
        """Return one molecule as a torch-geometric ``Data``."""
        from torch_geometric.data import Data

        at = range(len(self))[position]
        one = self.batch(torch.tensor([at]))
        return Data(
            x=one.atom_features,
            edge_index=one.edge_index,
            edge_attr=one.directed_bond_features,
            y=one.y,
            smiles=self.smiles[at],
            row=int(self.rows[at]),
        )
