"""Hydrogen-bond acceptors and donors, acidic and basic atoms by rule, as GROVER's last columns need them.

The four roles are sets of atoms defined by their neighbourhood of at most two bonds (Rong et al., 2020). Here they
are computed for all molecules at once from the codes, which takes a twentieth of the time of substructure searches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samcmp.graphs.columns import ATOM_CODES

Mask = NDArray[np.bool_]
_AT = {name: i for i, name in enumerate(ATOM_CODES)}
_SINGLE, _DOUBLE, _AROMATIC = 1, 2, 12


def roles(atoms: NDArray[np.int16], bonds: NDArray[np.int8], ends: NDArray[np.int32]) -> None:
    """Fill the columns acceptor, donor, acidic and basic of ``atoms`` in place."""
    look = _Look(atoms, bonds, ends)
    atoms[:, _AT["acceptor"]] = _acceptor(look)
    atoms[:, _AT["donor"]] = _donor(look)
    atoms[:, _AT["acidic"]] = _acidic(look)
    atoms[:, _AT["basic"]] = _basic(look)


class _Look:
    """The columns under short names, and counts of neighbours."""

    def __init__(self, atoms: NDArray[np.int16], bonds: NDArray[np.int8], ends: NDArray[np.int32]) -> None:
        element: NDArray[Any] = atoms[:, _AT["element"]]
        self.charge = atoms[:, _AT["charge"]]
        self.h = atoms[:, _AT["all_hydrogens"]]
        self.valence = atoms[:, _AT["valence"]]
        self.aromatic = atoms[:, _AT["aromatic"]] == 1
        aliphatic = ~self.aromatic
        self.c, self.n, self.o, self.p, self.s = ((element == z) & aliphatic for z in (6, 7, 8, 15, 16))
        self.aromatic_c, self.aromatic_n = ((element == z) & self.aromatic for z in (6, 7))
        self.aromatic_os = ((element == 8) | (element == 16)) & self.aromatic
        self.nitrogen = element == 7
        self.source, self.target = ends
        self.type: NDArray[np.int8] = np.repeat(bonds[:, 0], 2)

    def count(self, bond_type: int, members: Mask) -> NDArray[np.intp]:
        """Return for each atom how many of ``members`` it is joined to by such a bond: (A,)."""
        chosen = self.source[(self.type == bond_type) & members[self.target]]
        return np.bincount(chosen, minlength=len(members))


def _acceptor(a: _Look) -> Mask:
    carbonyl_like = a.count(_DOUBLE, a.o | a.n | a.p | a.s) > 0
    beside = a.count(_SINGLE, carbonyl_like) > 0
    oxygen = a.o | a.s
    near_n = a.count(_AROMATIC, a.aromatic_n) > 0
    second_n = a.count(_AROMATIC, a.aromatic_c & near_n) > 0
    aliphatic: Mask = (oxygen & (a.valence == 2) & ((a.h == 0) | ((a.h == 1) & ~beside))) | (oxygen & (a.charge == -1))
    nitrogen: Mask = (a.n & (a.valence == 3) & ~beside) | (a.aromatic_n & (a.h == 0) & (a.charge == 0))
    ring_os: Mask = a.aromatic_os & (a.charge == 0) & ~near_n & ~second_n
    return aliphatic | nitrogen | ring_os


def _donor(a: _Look) -> Mask:
    amine: Mask = a.n & (a.h > 0) & ((a.valence == 3) | ((a.valence == 4) & (a.charge == 1)))
    one_neutral: Mask = (a.h == 1) & (a.charge == 0)
    donor: Mask = amine | ((a.o | a.s | a.aromatic_n) & one_neutral)
    return donor


def _acidic(a: _Look) -> Mask:
    hydroxyl: Mask = a.o & ((a.h == 1) | (a.charge == -1))
    acidic: Mask = (a.c | a.s) & (a.count(_DOUBLE, a.o | a.s | a.p) > 0) & (a.count(_SINGLE, hydroxyl) > 0)
    return acidic


def _basic(a: _Look) -> Mask:
    plain = a.count(_DOUBLE, a.o) == 0
    neighbours = a.count(_SINGLE, (a.c | a.aromatic) & plain)
    carbons = a.count(_SINGLE, a.c & plain)
    amine: Mask = ((a.h == 2) & (neighbours >= 1)) | ((a.h == 1) & (neighbours >= 2)) | ((a.h == 0) & (carbons >= 3))
    basic: Mask = a.nitrogen & ((a.charge == 1) | (a.n & (a.charge == 0) & amine))
    return basic
