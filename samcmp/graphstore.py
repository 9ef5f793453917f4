"""The arrays of a dataset's graphs and their cache files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samcmp.columns import expand_atoms, expand_bonds
from samcmp.featurize import directed, featurize_many
from samcmp.graphs import Columns, MolGraph

if TYPE_CHECKING:
    from samcmp.molecules import Molecules

Progress = Callable[[int, int], None]
Ragged = tuple[NDArray[Any], NDArray[np.int64]]  # values end to end, (M+1,) where each molecule's begin


@dataclass(frozen=True, slots=True, eq=False)
class GraphArrays:
    """M molecules: kinds of atoms and bonds, the ends of bonds, and the distinct codes."""

    atom_kind: NDArray[Any]  # (A,) int16 or int32
    atom_codes: NDArray[np.int16]  # (K, C)
    pairs: NDArray[Any]  # (B/2, 2)
    bond_kind: NDArray[Any]  # (B/2,)
    bond_codes: NDArray[np.int8]  # (U, 5)
    atom_ptr: NDArray[np.int64]  # (M+1,)
    bond_ptr: NDArray[np.int64]  # (M+1,) bonds, not directed
    scalars: NDArray[np.float32]  # (A, S)

    def tables(self, columns: Columns) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the features of every kind of atom, (K, F), and of bond, (U, F)."""
        return expand_atoms(self.atom_codes, columns.atoms), expand_bonds(self.bond_codes, columns.bonds)

    def graph(self, position: int, molecules: Molecules) -> MolGraph:
        """Return one molecule as :func:`samcmp.featurize.featurize` makes it."""
        atoms = slice(*self.atom_ptr[position : position + 2])
        bonds = slice(*self.bond_ptr[position : position + 2])
        return MolGraph(
            atoms=self.atom_codes[self.atom_kind[atoms]],
            bonds=self.bond_codes[self.bond_kind[bonds]],
            edge_index=directed(self.pairs[bonds]),
            scalars=self.scalars[atoms],
            smiles=molecules.smiles[position],
            row=int(molecules.rows[position]),
        )


def build(molecules: Molecules, scalars: tuple[str, ...]) -> GraphArrays:
    """Featurise every molecule. Raises DataError that names the row."""
    found = featurize_many(molecules.smiles, rows=[int(row) for row in molecules.rows], scalars=scalars)
    atom_kind, atom_codes = _kinds(found.atoms)
    bond_kind, bond_codes = _kinds(found.bonds)
    return GraphArrays(
        atom_kind=atom_kind,
        atom_codes=atom_codes,
        pairs=found.pairs,
        bond_kind=bond_kind,
        bond_codes=bond_codes,
        atom_ptr=_ptr(found.atom_counts),
        bond_ptr=_ptr(found.bond_counts),
        scalars=found.scalars,
    )


def _ptr(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])


def _kinds(codes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the number of each row's kind and the distinct rows in ascending order."""
    if not len(codes):
        return np.zeros(0, dtype=np.int16), codes
    key = np.zeros(len(codes), dtype=np.int64)
    size = 1  # number of different keys so far
    for column in codes.T:
        values = column.astype(np.int64) - int(column.min())
        reach = int(values.max()) + 1
        if size * reach >= 2**62:
            distinct, key = np.unique(key, return_inverse=True)
            size = len(distinct)
        key, size = key * reach + values, size * reach
    _, first, kind = np.unique(key, return_index=True, return_inverse=True)
    return kind.astype(np.int16 if len(first) < 2**15 else np.int32), codes[first]


def load_or_build_arrays(
    molecules: Molecules, scalars: tuple[str, ...], *, cache: bool, progress: Progress | None
) -> GraphArrays:
    return build(molecules, scalars)


def load_or_build_extras(
    molecules: Molecules,
    arrays: GraphArrays,
    prepare: Callable[[MolGraph], Mapping[str, NDArray[Any]]],
    *,
    cache: bool,
) -> dict[str, Ragged]:
    """Return what ``prepare`` makes of every molecule, end to end."""
    made = [prepare(arrays.graph(i, molecules)) for i in range(len(molecules.rows))]
    names = sorted(made[0]) if made else []
    return {
        name: (
            np.concatenate([one[name] for one in made]),
            _ptr(np.array([len(one[name]) for one in made], dtype=np.int64)),
        )
        for name in names
    }


def load_or_build_features(
    molecules: Molecules, name: str, *, cache: bool, progress: Progress | None
) -> NDArray[np.float32]:
    from samcmp import descriptors

    found: NDArray[np.float32] = descriptors.compute(name, molecules.smiles, progress=progress)
    return found
