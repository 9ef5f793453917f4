"""Batches cut out of a dataset's arrays by index arithmetic on the host, with no loop over molecules.

Where batches go to a GPU, each array is copied there from page-locked memory: nothing waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samcmp.graphs.batch import GraphBatch

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """One 1-D array a molecule, end to end."""

    values: NDArray[Any]
    ptr: Ints  # (M+1,) where each molecule's part begins

    def cast(self, dtype: torch.dtype | None) -> Ragged:
        """Return the same array with real values as ``dtype``; integers stay as they are."""
        values = torch.from_numpy(self.values)
        if dtype is None or not values.is_floating_point():
            return self
        return Ragged(values.to(dtype).numpy(), self.ptr)


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """Everything batches are cut from: arrays on the host, the two tables where batches go."""

    atom_kind: NDArray[Any]  # (A,)
    bond_kind: NDArray[Any]  # (B/2,)
    pairs: NDArray[Any]  # (B/2, 2) both ends of each bond, numbered within the molecule
    ptr: Ints  # (2, M+1) where the atoms and the bonds of each molecule begin
    atom_table: Tensor  # (K, F)
    bond_table: Tensor  # (U, F)
    y: Tensor  # (M, T)
    rows: Tensor  # (M,)
    atom_scalars: Tensor | None = None  # (A, S)
    molecule_features: Tensor | None = None  # (M, D)
    extras: Mapping[str, Ragged] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.atom_table.device


def cut(store: Store, positions: Ints, *, pin: bool = False) -> GraphBatch:
    """Return the molecules at ``positions`` as one batch; ``pin``: in page-locked memory where it is on the host."""
    device = store.device

    def put(made: Tensor) -> Tensor:
        if device.type == "cuda":  # a copy from page-locked memory is not waited for
            return made.pin_memory().to(device, non_blocking=True)
        if device.type != "cpu":
            return made.to(device)
        return made.pin_memory() if pin else made

    def integers(made: NDArray[Any]) -> Tensor:
        return put(torch.from_numpy(made.astype(np.int64, copy=False)))

    def rows_of(tensor: Tensor | None, chosen: Ints) -> Tensor | None:
        return None if tensor is None else put(tensor.index_select(0, torch.from_numpy(chosen)))

    atoms, atom_counts = _places(store.ptr[0], positions)
    bonds, bond_counts = _places(store.ptr[1], positions)
    atom_ptr = _ptr(atom_counts)
    pairs = store.pairs.take(bonds, axis=0) + atom_ptr[:-1].repeat(bond_counts)[:, None]  # (B/2, 2)
    return GraphBatch(
        atom_kind=integers(store.atom_kind.take(atoms)),
        atom_table=store.atom_table,
        edge_index=integers(np.stack([pairs.ravel(), pairs[:, ::-1].ravel()])),  # both directions of a bond adjacent
        bond_kind=integers(store.bond_kind.take(bonds)),
        bond_table=store.bond_table,
        graph_of_atom=integers(np.arange(len(positions)).repeat(atom_counts)),
        atom_ptr=integers(atom_ptr),
        bond_ptr=integers(_ptr(2 * bond_counts)),
        y=put(store.y.index_select(0, torch.from_numpy(positions))),
        rows=put(store.rows.index_select(0, torch.from_numpy(positions))),
        max_atoms=int(atom_counts.max()),
        atom_scalars=rows_of(store.atom_scalars, atoms),
        molecule_features=rows_of(store.molecule_features, positions),
        extras={
            name: put(torch.from_numpy(ragged.values.take(_places(ragged.ptr, positions)[0])))
            for name, ragged in store.extras.items()
        },
    )


def _places(ptr: Ints, positions: Ints) -> tuple[Ints, Ints]:
    """Return where everything that belongs to the molecules lies, end to end, and how much belongs to each."""
    start = ptr.take(positions)
    count = ptr.take(positions + 1) - start
    places = (start - count.cumsum() + count).repeat(count)
    places += np.arange(len(places))
    return places, count


def _ptr(count: Ints) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), count.cumsum()])
