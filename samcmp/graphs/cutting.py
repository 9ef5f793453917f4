"""Batches cut out of a dataset's arrays by index arithmetic, several at a time.

The arithmetic is done on the host for a window of batches at once, so its cost is shared; each batch is then a set of
views. Where batches go to a GPU, the window goes there in one copy per array from page-locked memory: nothing waits,
and no kernel runs for a batch at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, split_with_sizes

from samcmp.graphs.batch import GraphBatch
from samcmp.graphs.graphstore import GraphArrays

Ints = NDArray[np.int64]
WINDOW = 1024  # molecules whose batches are made together; larger windows fall out of the processor's cache


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


def store_of(arrays: GraphArrays, **others: Any) -> Store:
    """Join a dataset's arrays with its labels and tables."""
    return Store(
        atom_kind=arrays.atom_kind,
        bond_kind=arrays.bond_kind,
        pairs=arrays.pairs,
        ptr=arrays.ptr,
        **others,
    )


def cut(store: Store, positions: Ints, size: int, *, pin: bool = False) -> Iterator[GraphBatch]:
    """Yield the molecules at ``positions`` in batches of ``size``, the last one as large as what is left."""
    step = size * max(1, WINDOW // size)
    for begin in range(0, len(positions), step):
        yield from _window(store, positions[begin : begin + step], size, pin=pin)


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where everything of a window lies: places in the dataset, and numbers within each batch."""

    atoms: Ints  # (A,) place of each atom in the dataset
    bonds: Ints  # (B/2,)
    pairs: Ints  # (B/2, 2) ends of each bond, numbered within the batch
    graph_of_atom: Ints  # (A,) numbered within the batch
    ptr: Ints  # (2, molecules + batches) atoms and directed bonds; each batch has one pointer more than molecules
    graphs: list[int]  # molecules of each batch
    atom_sizes: list[int]  # atoms of each batch
    bond_sizes: list[int]
    max_atoms: list[int]


def _parts(ptr: Ints, positions: Ints) -> tuple[Ints, Ints]:
    """Return where the parts of the molecules at ``positions`` begin, and how long they are."""
    start = ptr.take(positions, axis=-1)
    return start, ptr.take(positions + 1, axis=-1) - start


def _layout(store: Store, positions: Ints, size: int) -> _Layout:
    n = len(positions)
    firsts = np.arange(0, n, size)  # of each batch
    start, count = _parts(store.ptr, positions)  # (2, n) atoms, bonds
    end = count.cumsum(axis=1)
    atoms_in_all = int(end[0, -1])
    shift = start - end + count  # from a place in the window to one in the dataset
    shift[1] -= atoms_in_all  # bonds come after the atoms in what follows
    owner = np.arange(2 * n).repeat(count.ravel())  # molecule of each atom, then n + molecule of each bond
    inside = shift.ravel().take(owner)
    inside += np.arange(len(owner))
    bonds = inside[atoms_in_all:]

    before = end - count  # (2, n) atoms and bonds of the window before each molecule
    batch_before = before[:, ::size].repeat(size, axis=1)[:, :n]  # ... before its batch
    shift_of_bond = (before[0] - batch_before[0]).take(owner[atoms_in_all:] - n)
    ptr = np.zeros((2, n + len(firsts)), dtype=np.int64)
    ptr[:, np.arange(n) + np.arange(n) // size + 1] = end - batch_before
    ptr[1] *= 2  # directed bonds
    atom_sizes, bond_sizes = np.add.reduceat(count, firsts, axis=1).tolist()
    return _Layout(
        atoms=inside[:atoms_in_all],
        bonds=bonds,
        pairs=store.pairs.take(bonds, axis=0) + shift_of_bond[:, None],
        graph_of_atom=owner[:atoms_in_all] % size,
        ptr=ptr,
        graphs=[min(size, n - first) for first in firsts.tolist()],
        atom_sizes=atom_sizes,
        bond_sizes=bond_sizes,
        max_atoms=np.maximum.reduceat(count[0], firsts).tolist(),
    )


def _window(store: Store, positions: Ints, size: int, *, pin: bool) -> Iterator[GraphBatch]:
    lay = _layout(store, positions, size)
    put = _Mover(store.device, pin)
    at, atoms = torch.from_numpy(positions), torch.from_numpy(lay.atoms)
    parts: dict[str, Sequence[Tensor]] = {
        "atom_kind": put.split(store.atom_kind.take(lay.atoms), lay.atom_sizes),
        "bond_kind": put.split(store.bond_kind.take(lay.bonds), lay.bond_sizes),
        "edge_index": [
            flat.view(2, -1) for flat in put.split(_edges(lay.pairs, lay.bond_sizes), [4 * b for b in lay.bond_sizes])
        ],
        "graph_of_atom": put.split(lay.graph_of_atom, lay.atom_sizes),
        "atom_ptr": put.split(lay.ptr[0], [g + 1 for g in lay.graphs]),
        "bond_ptr": put.split(lay.ptr[1], [g + 1 for g in lay.graphs]),
        "y": split_with_sizes(put(store.y.index_select(0, at)), lay.graphs),
        "rows": split_with_sizes(put(store.rows.index_select(0, at)), lay.graphs),
    }
    if store.atom_scalars is not None:
        parts["atom_scalars"] = split_with_sizes(put(store.atom_scalars.index_select(0, atoms)), lay.atom_sizes)
    if store.molecule_features is not None:
        parts["molecule_features"] = split_with_sizes(put(store.molecule_features.index_select(0, at)), lay.graphs)
    extras = {name: _extra(ragged, positions, size, put=put) for name, ragged in store.extras.items()}
    for i, max_atoms in enumerate(lay.max_atoms):
        yield GraphBatch(
            atom_table=store.atom_table,
            bond_table=store.bond_table,
            max_atoms=max_atoms,
            extras={name: tensors[i] for name, tensors in extras.items()},
            **{name: tensors[i] for name, tensors in parts.items()},
        )


def _edges(pairs: Ints, sizes: Sequence[int]) -> Ints:
    """Return the (2, B) source and target atoms of each batch, both directions of a bond adjacent, end to end."""
    flat = np.empty(4 * len(pairs), dtype=np.int64)
    turned = pairs[:, ::-1]
    for low, high in pairwise(np.cumsum([0, *sizes]).tolist()):
        middle = 2 * (low + high)
        flat[4 * low : middle] = pairs[low:high].ravel()
        flat[middle : 4 * high] = turned[low:high].ravel()
    return flat


def _extra(ragged: Ragged, positions: Ints, size: int, *, put: _Mover) -> Sequence[Tensor]:
    start, count = _parts(ragged.ptr, positions)
    inside = (start - count.cumsum() + count).repeat(count)
    inside += np.arange(len(inside))
    sizes = np.add.reduceat(count, np.arange(0, len(positions), size)).tolist()
    return split_with_sizes(put(torch.from_numpy(ragged.values.take(inside))), sizes)


class _Mover:
    """Puts what was made on the host where batches go: there, in page-locked memory, or nowhere else."""

    def __init__(self, device: torch.device, pin: bool) -> None:
        self.device = device
        self.pin = pin

    def __call__(self, made: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return made.pin_memory().to(self.device, non_blocking=True)
        if self.device.type != "cpu":
            return made.to(self.device)
        return made.pin_memory() if self.pin else made

    def split(self, integers: NDArray[Any], sizes: list[int]) -> Sequence[Tensor]:
        """Return the integers as int64, a part for each batch."""
        return split_with_sizes(self(torch.from_numpy(integers.astype(np.int64, copy=False))), sizes)
