"""SMILES to graphs of integer codes with RDKit, and the codes to every backbone's columns of features.

An atom is a row of integers (:data:`ATOM_CODES`), a bond a row of five (:data:`BOND_CODES`). Every backbone's
float columns are exact functions of these codes (and of the Gasteiger charges, for CoMPT), so one
featurisation serves all; :func:`samcmp.graphs.columns.expand_atoms` holds the functions.

Columns by name:

============== ===== ========================================================================================
chemprop-v1      133 Yang 2019 and CMPNN: element 1..100 (101), total degree 0..5 (7), charge (6), chiral tag
                     (5), hydrogens 0..4 (6), hybridisation (6), aromatic, mass x 0.01; last slot of a block:
                     anything else
chemprop-v2       72 chemprop 2: as above with elements 1..36 and 53 (38) and hybridisation of seven (8)
grover           151 Rong 2020: as chemprop-v1, charge slots counted from both ends, then implicit valence (8),
                     acceptor, donor, acidic, basic, in a ring of size 3..8 (6)
compt            115 Chen 2021: element (101), hybridisation (6), hydrogens / 8, degree / 4, charge / 8,
                     valence / 8, two Gasteiger charges (left zero: they are atom scalars), aromatic, in ring
bonds: chemprop   14 no bond, single, double, triple, aromatic, conjugated, in ring, stereo 0..5 and other (7)
bonds: compt      13 single, double, triple, aromatic or other (4), stereo (6), conjugated, aromatic, in ring
============== ===== ========================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samcmp.errors import DataError
from samcmp.graphs.atomroles import roles
from samcmp.graphs.batch import MolGraph
from samcmp.graphs.columns import ATOM_CODES, BOND_CODES, GROVER_CHARGES, expand_atoms, expand_bonds
from samcmp.graphs.reading import Lists, read

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = [
    "ATOM_CODES",
    "BOND_CODES",
    "MAX_SMILES",
    "SCALARS",
    "VERSION",
    "Arrays",
    "expand_atoms",
    "expand_bonds",
    "featurize",
    "featurize_many",
    "parse",
    "parse_strictly",
]

VERSION = "1"  # part of every cache key: count up when a code's meaning changes
MAX_SMILES = 10_000  # characters; the longest in MoleculeNet has 1,200
MAX_ATOMS = 1_000  # the largest in MoleculeNet has 492; distances take their square, RDKit's scaffolds their cube
_LEAVE_OUT = "Correct it or leave the row out."
SCALARS = {"gasteiger": 2}  # names of real-valued atom columns and how many columns each has


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """Many molecules as flat arrays of codes, in the order given."""

    atoms: NDArray[np.int16]  # (A, C)
    bonds: NDArray[np.int8]  # (B/2, 5)
    pairs: NDArray[np.int32]  # (B/2, 2) both ends of each bond, numbered within the molecule
    atom_counts: NDArray[np.int64]  # (M,)
    bond_counts: NDArray[np.int64]  # (M,) bonds, not directed
    scalars: NDArray[np.float32]  # (A, S)


def parse(smiles: str) -> Mol:
    """Parse as the dataset specification says: strip blanks, default sanitising, else without the valence check.

    The second attempt is what keeps the eight six-valent aluminium compounds of Tox21. Raises DataError.
    """
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        return _parse(smiles.strip())


def parse_strictly(smiles: str) -> Mol:
    """Parse a SMILES that nobody has vouched for: RDKit's whole sanitising, and nothing that features cannot hold.

    Every model takes what passes here. Raises DataError.
    """
    from rdkit.rdBase import BlockLogs

    text = smiles.strip()
    with BlockLogs():
        mol = _parse(text, strict=True)
    if mol.GetNumAtoms() > MAX_ATOMS:
        raise DataError(f"a molecule of {mol.GetNumAtoms():,} atoms; at most {MAX_ATOMS:,} are read", remedy=_LEAVE_OUT)
    read(mol, text, into=Lists(), gasteiger=False)
    if "+" in text or "-" in text:
        beyond = {atom.GetFormalCharge() for atom in mol.GetAtoms()} - {*GROVER_CHARGES}
        if beyond:
            raise DataError(f"a formal charge of {min(beyond):+d}; features reach from -6 to +5", remedy=_LEAVE_OUT)
    return mol


def _parse(text: str, *, strict: bool = False) -> Mol:
    from rdkit import Chem

    _check(text)
    mol: Mol | None = Chem.MolFromSmiles(text)
    if mol is None:
        mol = Chem.MolFromSmiles(text, sanitize=False)
        if mol is None:
            raise DataError(f"RDKit cannot read the SMILES {_short(text)}", remedy=_LEAVE_OUT)
        if strict:
            raise _rejected(text, mol)
        mol.UpdatePropertyCache(strict=False)
        try:
            Chem.SanitizeMol(mol, Chem.SANITIZE_ALL ^ Chem.SANITIZE_PROPERTIES)
        except (ValueError, RuntimeError):
            raise _rejected(text, mol) from None
    if mol.GetNumAtoms() == 0:
        raise DataError(f"the SMILES {_short(text)} has no atoms", remedy="Leave the row out.")
    return mol


def _rejected(text: str, mol: Mol) -> DataError:
    """Say in RDKit's words what is wrong with a molecule that could be read but not be sanitised."""
    from rdkit import Chem

    try:
        problems = Chem.DetectChemistryProblems(mol)
    except RuntimeError:  # of hydrogens or charges beyond all tables
        problems = ()
    message = str(problems[0].Message()) if problems else "its atoms cannot be sanitised"
    why = " ".join(message.replace(" # ", " ").split())
    return DataError(f"RDKit rejects the SMILES {_short(text)}: {why}", remedy=_LEAVE_OUT)


def _check(text: str) -> None:
    if not text:
        raise DataError("the SMILES is empty", remedy="Leave the row out.")
    if "\0" in text:
        raise DataError(
            f"the SMILES {_short(text)} holds a null byte", remedy="The file is damaged or not a text file."
        )
    if not (text.isascii() and text.isprintable()):
        raise DataError(f"the SMILES {_short(text)} holds a character that no SMILES has", remedy=_LEAVE_OUT)
    if text.partition(" ")[2].strip()[:1] not in ("", "|"):  # RDKit would read what is before the blank and stop
        raise DataError(f"the SMILES {_short(text)} has a blank inside", remedy=_LEAVE_OUT)
    if len(text) > MAX_SMILES:
        raise DataError(
            f"a SMILES of {len(text):,} characters; at most {MAX_SMILES:,} are read",
            remedy="Check the quoting of the file, or leave the row out.",
        )


def _short(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def featurize(smiles: str, row: int, *, scalars: tuple[str, ...] = ()) -> MolGraph:
    """Return one molecule as integers; ``row`` is the row of the published file. Raises DataError."""
    many = featurize_many([smiles], rows=[row], scalars=scalars)
    return MolGraph(
        atoms=many.atoms,
        bonds=many.bonds,
        edge_index=directed(many.pairs),
        scalars=many.scalars,
        smiles=smiles.strip(),
        row=row,
    )


def directed(pairs: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return each bond in both directions, the reverse of directed bond e at ``e ^ 1``: (2, B)."""
    both = np.empty((2, 2 * len(pairs)), dtype=np.int32)
    both[0, 0::2] = both[1, 1::2] = pairs[:, 0]
    both[1, 0::2] = both[0, 1::2] = pairs[:, 1]
    return both


def featurize_many(
    smiles: Sequence[str], *, rows: Sequence[int] | None = None, scalars: tuple[str, ...] = ()
) -> Arrays:
    """Return many molecules as flat arrays. Raises DataError that names the row of the first unreadable SMILES."""
    from rdkit.rdBase import BlockLogs

    unknown = [name for name in scalars if name not in SCALARS]
    if unknown:
        raise ValueError(f"unknown atom scalars {unknown}; known: {list(SCALARS)}")
    flat = Lists()
    with BlockLogs():
        for i, text in enumerate(smiles):
            try:
                read(_parse(text.strip()), text, into=flat, gasteiger=bool(scalars))
            except DataError as error:
                where = f"row {rows[i] if rows is not None else i}"
                raise DataError(error.what, where=where, remedy=error.remedy) from None
    return _arrays(flat, len(scalars))


def chunk(*, smiles: Sequence[str], rows: Sequence[int], scalars: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Do :func:`featurize_many` as :mod:`samcmp.graphs.chunks` asks for it."""
    found = featurize_many(smiles, rows=rows, scalars=tuple(scalars))
    return {f.name: getattr(found, f.name) for f in fields(found)}


def _arrays(flat: Lists, scalars: int) -> Arrays:
    """Turn the lists into codes, all derived columns for all molecules at once."""
    counts = np.array(flat.atom_counts, dtype=np.int64)
    bond_counts = np.array(flat.bond_counts, dtype=np.int64)
    pairs = np.array([flat.begin, flat.end], dtype=np.int32).T.reshape(-1, 2)
    bonds = np.zeros((len(pairs), len(BOND_CODES)), dtype=np.int8)
    order = np.array(flat.order)
    bonds[:, 0] = np.where(order == 1.5, 12, order)
    _scatter(bonds, 0, flat.other_type)
    _scatter(bonds, 1, flat.stereo)
    bonds[:, 2] = flat.conjugated
    sizes = np.array(flat.ring_sizes, dtype=np.int64)
    ring_bond = np.array(flat.ring_bonds, dtype=np.int64) + np.repeat(np.array(flat.ring_starts, dtype=np.int64), sizes)
    bonds[ring_bond, 3] = 1
    bonds[:, 4] = order == 1.5

    first_atom = np.repeat(np.cumsum(counts) - counts, bond_counts)
    ends = directed(np.asarray(pairs + first_atom[:, None], dtype=np.int32))  # (2, B), numbered over all molecules
    atoms = np.zeros((len(flat.element), len(ATOM_CODES)), dtype=np.int16)
    _own_columns(atoms, flat)
    _neighbour_columns(atoms, bonds, ends, flat)
    _ring_masks(atoms, ends, ring_bond, np.repeat(sizes, sizes))
    roles(atoms, bonds, ends)
    return Arrays(atoms, bonds, pairs, counts, bond_counts, _charges(flat, len(atoms) if scalars else 0))


def _scatter(codes: NDArray[Any], column: int, found: list[tuple[int, Any]]) -> None:
    if found:
        at, value = zip(*found, strict=True)
        codes[np.array(at), column] = np.array(value)


def _charges(flat: Lists, atoms: int) -> NDArray[np.float32]:
    """Return the charge of each atom and of its hydrogens; 0 for metals and dummy atoms, which have none: (A, 2)."""
    if not atoms:
        return np.zeros((len(flat.element), 0), dtype=np.float32)
    charges = np.zeros((atoms, 2))
    charges[:, 0] = flat.gasteiger
    _scatter(charges, 1, flat.gasteiger_h)
    charges[~np.isfinite(charges)] = 0.0
    return charges.astype(np.float32)


_AT = {name: i for i, name in enumerate(ATOM_CODES)}


def _own_columns(atoms: NDArray[np.int16], flat: Lists) -> None:
    atoms[:, _AT["element"]] = flat.element
    atoms[:, _AT["charge"]] = flat.charge
    atoms[:, _AT["hydrogens"]] = atoms[:, _AT["implicit_valence"]] = flat.hydrogens
    atoms[:, _AT["valence"]] = flat.valence
    _scatter(atoms, _AT["chiral"], flat.chiral)
    _scatter(atoms, _AT["isotope"], flat.isotope)
    if flat.explicit:
        at, hydrogens = np.array(flat.explicit).T
        atoms[at, _AT["implicit_valence"]] -= hydrogens.astype(np.int16)


def _neighbour_columns(atoms: NDArray[np.int16], bonds: NDArray[np.int8], ends: NDArray[np.int32], flat: Lists) -> None:
    n, (source, target) = len(atoms), ends
    twice = np.repeat(bonds, 2, axis=0)
    degree = np.bincount(source, minlength=n)
    hydrogens = atoms[:, _AT["hydrogens"]]
    atoms[:, _AT["degree"]] = degree
    atoms[:, _AT["total_degree"]] = degree + hydrogens
    atoms[:, _AT["hybridization"]] = degree + hydrogens  # RDKit numbers sp, sp2 and sp3 2, 3 and 4
    _scatter(atoms, _AT["hybridization"], flat.hybridization)
    near = np.bincount(source[atoms[target, _AT["element"]] == 1], minlength=n)
    atoms[:, _AT["all_hydrogens"]] = hydrogens + near
    atoms[source[twice[:, 4] == 1], _AT["aromatic"]] = 1
    atoms[source[twice[:, 3] == 1], _AT["in_ring"]] = 1


def _ring_masks(
    atoms: NDArray[np.int16], ends: NDArray[np.int32], ring_bond: NDArray[np.int64], size: NDArray[np.int64]
) -> None:
    """Set bit s-3 for an atom in a ring of size s = 3..8."""
    for s in range(3, 9):
        at = ring_bond[size == s]
        members = ends[:, 2 * at].ravel()
        atoms[members, _AT["rings"]] |= 1 << (s - 3)
