"""The integer codes of atoms and bonds, and each backbone's float columns as functions of them.

:mod:`samcmp.graphs.featurize` has the table of all column sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samcmp.errors import DataError, unknown

ATOM_CODES = (
    "element",  # atomic number, 0 for a dummy atom
    "total_degree",  # neighbours and hydrogens that are not atoms of the graph
    "charge",
    "chiral",  # RDKit's chiral tag
    "hydrogens",  # hydrogens that are not atoms of the graph
    "hybridization",  # RDKit's number: S 1, SP 2, SP2 3, SP3 4, SP2D 5, SP3D 6, SP3D2 7
    "aromatic",
    "implicit_valence",  # hydrogens that the SMILES does not write
    "acceptor",
    "donor",
    "acidic",
    "basic",
    "rings",  # bit s-3: in a ring of size s = 3..8
    "degree",  # neighbours in the graph
    "all_hydrogens",  # hydrogens and neighbouring hydrogen atoms
    "valence",  # explicit and implicit
    "in_ring",
    "isotope",  # mass number, 0 for natural abundance
)
BOND_CODES = ("type", "stereo", "conjugated", "ring", "aromatic")  # type and stereo: RDKit's numbers

_AT = {name: i for i, name in enumerate(ATOM_CODES)}
_CHARGES = (-1, -2, 1, 2, 0)
GROVER_CHARGES = range(-6, 6)  # that its columns have a place for
_SP_TO_SP3D2 = (2, 3, 4, 6, 7)


def expand_atoms(codes: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Return the float columns ``name`` of atom codes: (K, C) -> (K, F). Raises UsageError for an unknown name."""
    if name not in ATOM_COLUMNS:
        raise unknown("set of atom columns", name, ATOM_COLUMNS)
    _, blocks = ATOM_COLUMNS[name]
    return np.concatenate(blocks(np.asarray(codes)), axis=1, dtype=np.float32)


def expand_bonds(codes: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Return the float columns ``name`` of bond codes: (U, 5) -> (U, F). Raises UsageError for an unknown name."""
    if name not in BOND_COLUMNS:
        raise unknown("set of bond columns", name, BOND_COLUMNS)
    _, blocks = BOND_COLUMNS[name]
    return np.concatenate(blocks(np.asarray(codes)), axis=1, dtype=np.float32)


def _one_hot(values: NDArray[Any], vocabulary: Sequence[int]) -> NDArray[np.bool_]:
    """Return (K, V+1), the last slot for values outside the vocabulary."""
    hit = values[:, None] == np.array(vocabulary)
    return np.concatenate([hit, ~hit.any(axis=1, keepdims=True)], axis=1)


def _column(codes: NDArray[Any], name: str) -> NDArray[Any]:
    return codes[:, _AT[name], None]


def _masses(codes: NDArray[Any]) -> NDArray[np.float64]:
    """Return mass x 0.01 in float64, as the published featurisers compute it before they round: (K, 1)."""
    pairs = codes[:, [_AT["element"], _AT["isotope"]]].tolist()
    return np.array([_mass(element, isotope) * 0.01 for element, isotope in pairs], dtype=np.float64)[:, None]


@lru_cache(maxsize=4096)
def _mass(element: int, isotope: int) -> float:
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    if not isotope:
        return float(table.GetAtomicWeight(element))
    mass = float(table.GetMassForIsotope(element, isotope))
    return mass if mass or not element else float(isotope)  # an isotope that no table lists weighs its number


def _chemprop_head(codes: NDArray[Any], elements: Sequence[int]) -> list[NDArray[Any]]:
    return [
        _one_hot(codes[:, _AT["element"]], elements),
        _one_hot(codes[:, _AT["total_degree"]], range(6)),
    ]


def _chemprop_tail(codes: NDArray[Any], hybridizations: Sequence[int]) -> list[NDArray[Any]]:
    return [
        _one_hot(codes[:, _AT["chiral"]], range(4)),
        _one_hot(codes[:, _AT["hydrogens"]], range(5)),
        _one_hot(codes[:, _AT["hybridization"]], hybridizations),
        _column(codes, "aromatic"),
        _masses(codes),
    ]


def _chemprop_v1(codes: NDArray[Any]) -> list[NDArray[Any]]:
    charge = _one_hot(codes[:, _AT["charge"]], _CHARGES)
    return [*_chemprop_head(codes, range(1, 101)), charge, *_chemprop_tail(codes, _SP_TO_SP3D2)]


def _chemprop_v2(codes: NDArray[Any]) -> list[NDArray[Any]]:
    charge = _one_hot(codes[:, _AT["charge"]], _CHARGES)
    # RDKit numbers SP2D 5; chemprop 2 lists it between SP2 and SP3.
    return [*_chemprop_head(codes, (*range(1, 37), 53)), charge, *_chemprop_tail(codes, (1, 2, 3, 5, 4, 6, 7))]


def _grover(codes: NDArray[Any]) -> list[NDArray[Any]]:
    charge = codes[:, _AT["charge"]].astype(np.int64)
    if (bad := charge[(charge >= GROVER_CHARGES.stop) | (charge < GROVER_CHARGES.start)]).size:
        raise DataError(
            f"GROVER's features have no place for the formal charge {bad[0]:+d}; they reach from -6 to +5",
            remedy="Leave the molecule out, or choose another model.",
        )
    # The released code uses the charge as an index into six slots, so a negative one counts from the end.
    slots = (charge[:, None] % 6) == np.arange(6)
    return [
        *_chemprop_head(codes, range(1, 101)),
        slots,
        *_chemprop_tail(codes, _SP_TO_SP3D2),
        _one_hot(codes[:, _AT["implicit_valence"]], range(7)),
        *(_column(codes, role) for role in ("acceptor", "donor", "acidic", "basic")),
        (_column(codes, "rings") >> np.arange(6)) & 1,
    ]


def _compt(codes: NDArray[Any]) -> list[NDArray[Any]]:
    return [
        _one_hot(codes[:, _AT["element"]], range(1, 101)),
        _one_hot(codes[:, _AT["hybridization"]], _SP_TO_SP3D2),
        _column(codes, "all_hydrogens") / 8,
        _column(codes, "degree") / 4,
        _column(codes, "charge") / 8,
        _column(codes, "valence") / 8,
        np.zeros((len(codes), 2)),
        _column(codes, "aromatic"),
        _column(codes, "in_ring"),
    ]


def _chemprop_bonds(codes: NDArray[Any]) -> list[NDArray[Any]]:
    return [
        np.zeros((len(codes), 1)),
        codes[:, :1] == np.array([1, 2, 3, 12]),
        codes[:, 2:4],
        _one_hot(codes[:, 1], range(6)),
    ]


def _compt_bonds(codes: NDArray[Any]) -> list[NDArray[Any]]:
    # An unlisted type falls into the last slot, AROMATIC, and an unlisted stereo into Z, as in the released code.
    kind = _one_hot(codes[:, 0], (1, 2, 3))
    stereo = _one_hot(codes[:, 1], (1, 4, 3, 0, 5))  # any, cis, E, none, trans; then Z
    return [kind, stereo, codes[:, [2, 4, 3]]]


Blocks = Callable[[NDArray[Any]], list[NDArray[Any]]]
ATOM_COLUMNS: dict[str, tuple[int, Blocks]] = {
    "chemprop-v1": (133, _chemprop_v1),
    "chemprop-v2": (72, _chemprop_v2),
    "grover": (151, _grover),
    "compt": (115, _compt),
}
BOND_COLUMNS: dict[str, tuple[int, Blocks]] = {"chemprop": (14, _chemprop_bonds), "compt": (13, _compt_bonds)}
