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
from samcmp.graphs.columns import ATOM_CODES, BOND_CODES, GROVER_CHARGES
from samcmp.graphs.reading import Codes, codes_of, gasteiger_charges

if TYPE_CHECKING:
    from rdkit.Chem import Mol

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
    codes_of(mol)
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
    read: list[Codes] = []
    charges: list[tuple[float, float]] = []
    with BlockLogs():
        for i, text in enumerate(smiles):
            try:
                mol = _parse(text.strip())
                read.append(codes_of(mol))
            except DataError as error:
                where = f"row {rows[i] if rows is not None else i}"
                raise DataError(error.what, where=where, remedy=error.remedy) from None
            if scalars:
                charges += gasteiger_charges(mol)
    return _arrays(read, charges, len(scalars))


def chunk(*, smiles: Sequence[str], rows: Sequence[int], scalars: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Do :func:`featurize_many` as :mod:`samcmp.graphs.chunks` asks for it."""
    arrays = featurize_many(smiles, rows=rows, scalars=tuple(scalars))
    return {f.name: getattr(arrays, f.name) for f in fields(arrays)}


def _arrays(read: Sequence[Codes], charges: Sequence[tuple[float, float]], scalars: int) -> Arrays:
    """Join the molecules, and add the roles of all atoms at once."""
    counts = np.array([len(one.atoms) for one in read], dtype=np.int64)
    bond_counts = np.array([len(one.bonds) for one in read], dtype=np.int64)
    atoms = np.array([row for one in read for row in one.atoms], dtype=np.int16).reshape(-1, len(ATOM_CODES))
    bonds = np.array([row for one in read for row in one.bonds], dtype=np.int8).reshape(-1, len(BOND_CODES))
    pairs = np.array([ends for one in read for ends in one.pairs], dtype=np.int32).reshape(-1, 2)
    first_atom = np.repeat(np.cumsum(counts) - counts, bond_counts)
    roles(atoms, bonds, directed(np.asarray(pairs + first_atom[:, None], dtype=np.int32)))
    columns = np.array(charges, dtype=np.float32).reshape(len(atoms), 2) if scalars else np.zeros((len(atoms), 0))
    return Arrays(
        atoms, bonds, pairs, counts, bond_counts, np.where(np.isfinite(columns), columns, 0.0).astype(np.float32)
    )
