"""A whole dataset as a few contiguous arrays, and batches cut out of it by index arithmetic.

What is stored for M molecules (numbers in brackets: bytes for Tox21's 7,831): the kind of every atom and bond, the
ends of every bond, where each molecule begins, and two tables with the features of each distinct kind. A batch is
a handful of ``index_select`` calls, with no Python loop over molecules and, on a GPU, no wait for the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samcmp.graphs import Columns, GraphBatch
from samcmp.graphstore import (
    Extras,
    GraphArrays,
    Prepare,
    Progress,
    load_or_build_arrays,
    load_or_build_extras,
    load_or_build_features,
)

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from samcmp.molecules import Molecules


@dataclass(frozen=True, slots=True, eq=False)
class _Fields:
    """The tensors a batch is cut from; they live on one device."""

    atom_kind: Tensor  # (A,) int16 or int32
    atom_table: Tensor  # (K, F)
    pairs: Tensor  # (B/2, 2) both ends of each bond, numbered within the molecule
    bond_kind: Tensor  # (B/2,)
    bond_table: Tensor  # (U, F)
    y: Tensor  # (M, T)
    rows: Tensor  # (M,)
    atom_scalars: Tensor | None = None  # (A, S)
    molecule_features: Tensor | None = None  # (M, D)
    extras: Mapping[str, Tensor] = field(default_factory=dict)


class GraphSet:
    """Molecules of one dataset with the columns that one backbone reads.

    Positions 0..M-1 number the molecules here; rows number them in the published file.
    """

    def __init__(
        self,
        fields_: _Fields,
        *,
        atom_ptr: Tensor,
        bond_ptr: Tensor,
        extra_ptr: Mapping[str, Tensor],
        smiles: tuple[str, ...],
        columns: Columns,
    ) -> None:
        self._fields = fields_
        self._atom_ptr, self._bond_ptr, self._extra_ptr = atom_ptr, bond_ptr, extra_ptr  # host
        self.smiles = smiles
        self.columns = columns
        self.atom_counts = atom_ptr.diff()  # (M,) on the host
        self._bond_counts = bond_ptr.diff()

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

        Raises DataError when a SMILES cannot be read, naming its row.
        """
        arrays = load_or_build_arrays(molecules, columns.scalars, cache=cache, progress=progress)
        extras = load_or_build_extras(molecules, arrays, prepare, cache=cache) if prepare is not None else {}
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
        """Join a dataset's arrays with its labels; nothing is copied but the two tables and the labels."""
        atom_table, bond_table = arrays.tables(columns)
        found = extras or {}
        store = _Fields(
            atom_kind=torch.from_numpy(arrays.atom_kind),
            atom_table=torch.from_numpy(atom_table),
            pairs=torch.from_numpy(arrays.pairs),
            bond_kind=torch.from_numpy(arrays.bond_kind),
            bond_table=torch.from_numpy(bond_table),
            y=torch.from_numpy(np.asarray(molecules.y, dtype=np.float32)),
            rows=torch.from_numpy(np.asarray(molecules.rows, dtype=np.int64)),
            atom_scalars=torch.from_numpy(arrays.scalars) if columns.scalars else None,
            molecule_features=None if molecule_features is None else torch.from_numpy(molecule_features),
            extras={name: torch.from_numpy(values) for name, (values, _) in found.items()},
        )
        return cls(
            store,
            atom_ptr=torch.from_numpy(arrays.atom_ptr),
            bond_ptr=torch.from_numpy(arrays.bond_ptr),
            extra_ptr={name: torch.from_numpy(ptr) for name, (_, ptr) in found.items()},
            smiles=tuple(molecules.smiles),
            columns=columns,
        )

    def __len__(self) -> int:
        return len(self.atom_counts)

    @property
    def y(self) -> Tensor:
        """Labels, NaN where missing: (M, T)."""
        return self._fields.y

    @property
    def rows(self) -> Tensor:
        """Rows of the published file: (M,)."""
        return self._fields.rows

    @property
    def device(self) -> torch.device:
        return self._fields.y.device

    def tensors(self) -> list[Tensor]:
        """Return every array that this set holds, host-side pointers included: what its memory is."""
        store = self._fields
        found = [value for f in fields(store) if isinstance(value := getattr(store, f.name), Tensor)]
        return [*found, *store.extras.values(), self._atom_ptr, self._bond_ptr, *self._extra_ptr.values()]

    def positions(self, rows: Tensor | NDArray[np.int64]) -> Tensor:
        """Return the positions of these rows of the published file. Raises ValueError for a row that is not here."""
        wanted = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        have, order = self.rows.cpu().sort()
        at = torch.searchsorted(have, wanted).clamp(max=len(have) - 1)
        if (missing := wanted[have[at] != wanted]).numel():
            raise ValueError(f"row {int(missing[0])} is not in this set of {len(self)} molecules")
        return order[at]

    def with_targets(self, y: Tensor | NDArray[Any]) -> GraphSet:
        """Return the same molecules with other targets, (M, T); everything else is shared."""
        labels = torch.as_tensor(y, dtype=self.y.dtype, device=self.device)
        if labels.shape[0] != len(self):
            raise ValueError(f"{labels.shape[0]} targets for {len(self)} molecules")
        return self._with(replace(self._fields, y=labels))

    def to(self, device: torch.device | str | None = None, *, dtype: torch.dtype | None = None) -> GraphSet:
        """Return the set with its arrays on ``device``; batches are then cut there."""

        def moved(value: Tensor) -> Tensor:
            return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

        new: dict[str, Any] = {}
        for f in fields(self._fields):
            value = getattr(self._fields, f.name)
            if f.name == "extras":
                new[f.name] = {name: moved(tensor) for name, tensor in value.items()}
            else:
                new[f.name] = None if value is None else moved(value)
        return self._with(_Fields(**new))

    def _with(self, fields_: _Fields) -> GraphSet:
        return GraphSet(
            fields_,
            atom_ptr=self._atom_ptr,
            bond_ptr=self._bond_ptr,
            extra_ptr=self._extra_ptr,
            smiles=self.smiles,
            columns=self.columns,
        )

    def batch(self, positions: Tensor, *, pin: bool = False) -> GraphBatch:
        """Return the molecules at ``positions`` (on the host, any order, repeats allowed) as one batch.

        ``pin`` puts a host batch into page-locked memory, from where a copy to a GPU need not be waited for.
        """
        store, device = self._fields, self.device
        atoms, atom_ptr = _members(self._atom_ptr, positions)
        bonds, bond_ptr = _members(self._bond_ptr, positions)
        first = atom_ptr[:-1]
        counts = atom_ptr.diff()
        graph = torch.arange(len(positions))
        shift = torch.repeat_interleave(first, bond_ptr.diff(), output_size=len(bonds))
        atoms_, bonds_, at = atoms.to(device), bonds.to(device), positions.to(device)
        pairs = store.pairs.index_select(0, bonds_).long() + shift.to(device)[:, None]  # (B/2, 2)
        made = GraphBatch(
            atom_kind=store.atom_kind.index_select(0, atoms_).long(),
            atom_table=store.atom_table,
            edge_index=torch.stack((pairs.view(-1), pairs.flip(1).view(-1))),
            bond_kind=store.bond_kind.index_select(0, bonds_).long(),
            bond_table=store.bond_table,
            graph_of_atom=torch.repeat_interleave(graph, counts, output_size=len(atoms)).to(device),
            atom_ptr=atom_ptr.to(device),
            bond_ptr=(2 * bond_ptr).to(device),
            y=store.y.index_select(0, at),
            rows=store.rows.index_select(0, at),
            max_atoms=int(counts.max()) if len(counts) else 0,
            atom_scalars=None if store.atom_scalars is None else store.atom_scalars.index_select(0, atoms_),
            molecule_features=(
                None if store.molecule_features is None else store.molecule_features.index_select(0, at)
            ),
            extras={
                name: values.index_select(0, _members(self._extra_ptr[name], positions)[0].to(device))
                for name, values in store.extras.items()
            },
        )
        return made.pin_memory() if pin else made

    def batches(
        self,
        positions: Tensor,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
        pin: bool = False,
    ) -> Iterator[GraphBatch]:
        """Yield batches over ``positions``, shuffled when a generator is given (its draws are on the host)."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if generator is not None:
            positions = positions[torch.randperm(len(positions), generator=generator)]
        end = len(positions) - len(positions) % batch_size if drop_last else len(positions)
        for start in range(0, end, batch_size):
            yield self.batch(positions[start : min(start + batch_size, end)], pin=pin)

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
            row=int(one.rows[0]),
        )


def _members(ptr: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of everything that the molecules at ``positions`` own, and where each one's begin."""
    start = ptr[positions]
    count = ptr[positions + 1] - start
    new_ptr = torch.zeros(len(positions) + 1, dtype=torch.int64)
    torch.cumsum(count, 0, out=new_ptr[1:])
    total = int(new_ptr[-1])
    inside = torch.arange(total) + torch.repeat_interleave(start - new_ptr[:-1], count, output_size=total)
    return inside, new_ptr
