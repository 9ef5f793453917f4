"""What RDKit is asked about each molecule, and as little of it as will do.

Making the Python object of an atom or bond takes most of the time, then every getter call: about 0.25 us an atom, and
three times that for one that returns an enum. So only what cannot be worked out for all molecules at once later is
asked here, and what the SMILES text rules out (isotopes, chirality, stereo) is not asked at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from samcmp.errors import DataError

if TYPE_CHECKING:
    from rdkit.Chem import Atom, Mol

_ISOTOPE = re.compile(r"\[\d")
_ODD_BOND = re.compile(r"[~$]|->|<-")
# Elements whose bonds RDKit's clean-up may turn into dative ones: everything but H and the non-metals.
_METALS = frozenset(range(119)) - {0, 1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 33, 34, 35, 36, 52, 53, 54, 85, 86}


@dataclass(slots=True)
class Lists:
    """Python numbers of molecule after molecule, made arrays once at the end. Pairs: where, value."""

    element: list[int] = field(default_factory=list)
    charge: list[int] = field(default_factory=list)
    hydrogens: list[int] = field(default_factory=list)
    valence: list[int] = field(default_factory=list)
    hybridization: list[tuple[int, Any]] = field(default_factory=list)  # of all but ordinary carbons
    chiral: list[tuple[int, Any]] = field(default_factory=list)
    isotope: list[tuple[int, int]] = field(default_factory=list)
    explicit: list[tuple[int, int]] = field(default_factory=list)  # hydrogens that are not implied
    begin: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    order: list[float] = field(default_factory=list)
    conjugated: list[bool] = field(default_factory=list)
    other_type: list[tuple[int, Any]] = field(default_factory=list)
    stereo: list[tuple[int, Any]] = field(default_factory=list)
    ring_bonds: list[int] = field(default_factory=list)
    ring_sizes: list[int] = field(default_factory=list)
    ring_starts: list[int] = field(default_factory=list)  # first bond of the molecule that the ring is in
    atom_counts: list[int] = field(default_factory=list)
    bond_counts: list[int] = field(default_factory=list)
    gasteiger: list[float] = field(default_factory=list)  # empty where it is not asked for
    gasteiger_h: list[tuple[int, float]] = field(default_factory=list)  # of the hydrogens of an atom that has some


def read(mol: Mol, text: str, *, into: Lists, gasteiger: bool) -> None:
    """Append one molecule and what its SMILES ``text`` does not rule out."""
    from rdkit.Chem import Atom

    atoms = list(map(mol.GetAtomWithIdx, range(mol.GetNumAtoms())))
    first = len(into.element)
    elements = list(map(Atom.GetAtomicNum, atoms))
    charges = list(map(Atom.GetFormalCharge, atoms))
    hydrogens = list(map(Atom.GetTotalNumHs, atoms))
    valences = list(map(Atom.GetTotalValence, atoms))
    into.element += elements
    into.charge += charges
    into.hydrogens += hydrogens
    into.valence += valences
    into.atom_counts.append(len(atoms))
    extended = "|" in text  # extended SMILES can say anything
    odd_bonds = extended or not _METALS.isdisjoint(elements) or _ODD_BOND.search(text) is not None
    for i, (z, charge, valence) in enumerate(zip(elements, charges, valences, strict=True)):
        # A neutral carbon of valence 4 is sp, sp2 or sp3 by its number of neighbours and hydrogens.
        if z != 6 or charge or valence != 4 or odd_bonds:
            into.hybridization.append((first + i, atoms[i].GetHybridization()))
    bracket = extended or "[" in text
    for i, h in enumerate(hydrogens):
        # Sanitising also writes down the hydrogen of an aromatic N that was drawn with alternating bonds.
        if h and (bracket or elements[i] != 6):
            into.explicit.append((first + i, atoms[i].GetNumExplicitHs()))
    if bracket:
        _read_brackets(atoms, text, into=into, first=first)
    _read_bonds(mol, text, into=into, odd_bonds=odd_bonds)
    if gasteiger:
        _read_charges(mol, atoms, into=into, hydrogens=hydrogens)


def _read_brackets(atoms: Sequence[Atom], text: str, *, into: Lists, first: int) -> None:
    extended = "|" in text
    if extended or _ISOTOPE.search(text):
        isotopes = [(first + i, n) for i, atom in enumerate(atoms) if (n := atom.GetIsotope())]
        if any(n > 999 for _, n in isotopes):
            raise DataError(
                "an isotope of more than three digits, which features cannot hold",
                remedy="Correct the SMILES or leave the row out.",
            )
        into.isotope += isotopes
    if extended or "@" in text:
        into.chiral += [(first + i, n) for i, atom in enumerate(atoms) if (n := atom.GetChiralTag())]


def _read_bonds(mol: Mol, text: str, *, into: Lists, odd_bonds: bool) -> None:
    from rdkit.Chem import Bond

    bonds = list(map(mol.GetBondWithIdx, range(mol.GetNumBonds())))
    first = len(into.begin)
    into.begin += map(Bond.GetBeginAtomIdx, bonds)
    into.end += map(Bond.GetEndAtomIdx, bonds)
    into.order += map(Bond.GetBondTypeAsDouble, bonds)
    into.conjugated += map(Bond.GetIsConjugated, bonds)
    into.bond_counts.append(len(bonds))
    if odd_bonds:
        into.other_type += [(first + i, bond.GetBondType()) for i, bond in enumerate(bonds)]
    if "/" in text or "\\" in text or "|" in text:
        into.stereo += [(first + i, n) for i, bond in enumerate(bonds) if (n := bond.GetStereo())]
    for ring in mol.GetRingInfo().BondRings():
        into.ring_bonds += ring
        into.ring_sizes.append(len(ring))
        into.ring_starts.append(first)


def _read_charges(mol: Mol, atoms: Sequence[Atom], *, into: Lists, hydrogens: Sequence[int]) -> None:
    """Gasteiger charges with RDKit's defaults: 12 iterations, no exception where parameters are missing."""
    from rdkit.Chem.rdPartialCharges import ComputeGasteigerCharges

    ComputeGasteigerCharges(mol)
    into.gasteiger += [atom.GetDoubleProp("_GasteigerCharge") for atom in atoms]
    first = len(into.gasteiger) - len(atoms)
    into.gasteiger_h += [
        (first + i, atom.GetDoubleProp("_GasteigerHCharge")) for i, atom in enumerate(atoms) if hydrogens[i]
    ]
