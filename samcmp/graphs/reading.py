"""What RDKit says of each atom and bond of a molecule, as integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from samcmp.errors import DataError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

RING_SIZES = range(3, 9)


class Codes(NamedTuple):
    """One molecule: the columns of :data:`samcmp.graphs.columns.ATOM_CODES` and ``BOND_CODES``, and ends of bonds."""

    atoms: Sequence[tuple[int, ...]]  # (A, C), roles not yet filled in
    bonds: Sequence[tuple[int, ...]]  # (B/2, 5)
    pairs: list[tuple[int, int]]  # (B/2, 2)


def codes_of(mol: Mol) -> Codes:
    """Return the codes of a molecule. Raises DataError for an isotope that features cannot hold."""
    rings = [0] * mol.GetNumAtoms()
    for ring in mol.GetRingInfo().AtomRings():
        if len(ring) in RING_SIZES:
            for i in ring:
                rings[i] |= 1 << (len(ring) - RING_SIZES.start)
    atoms = [
        (
            atom.GetAtomicNum(),
            atom.GetTotalDegree(),
            atom.GetFormalCharge(),
            int(atom.GetChiralTag()),
            atom.GetTotalNumHs(),
            int(atom.GetHybridization()),
            int(atom.GetIsAromatic()),
            atom.GetNumImplicitHs(),
            0, 0, 0, 0,  # roles
            rings[atom.GetIdx()],
            atom.GetDegree(),
            atom.GetTotalNumHs(includeNeighbors=True),
            atom.GetTotalValence(),
            int(atom.IsInRing()),
            atom.GetIsotope(),
        )
        for atom in mol.GetAtoms()
    ]  # fmt: skip
    if any(row[-1] > 999 for row in atoms):
        raise DataError(
            "an isotope of more than three digits, which features cannot hold",
            remedy="Correct the SMILES or leave the row out.",
        )
    every = list(mol.GetBonds())
    bonds = [
        (
            int(bond.GetBondType()),
            int(bond.GetStereo()),
            int(bond.GetIsConjugated()),
            int(bond.IsInRing()),
            int(bond.GetIsAromatic()),
        )
        for bond in every
    ]
    return Codes(atoms, bonds, [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in every])


def gasteiger_charges(mol: Mol) -> list[tuple[float, float]]:
    """Return the charge of each atom and of its hydrogens, NaN for metals and dummy atoms, which have none.

    RDKit's defaults: 12 iterations, no exception where parameters are missing.
    """
    from rdkit.Chem.rdPartialCharges import ComputeGasteigerCharges

    ComputeGasteigerCharges(mol)
    charge, of_hydrogens = "_GasteigerCharge", "_GasteigerHCharge"
    return [(atom.GetDoubleProp(charge), atom.GetDoubleProp(of_hydrogens)) for atom in mol.GetAtoms()]
