"""Three computed datasets that need no download: ``demo``, ``demo-tox`` and ``demo-large``.

A molecule is a scaffold with two substituents (``demo``, ``demo-tox``) or two scaffolds on a linker with a substituent
each (``demo-large``). Which combinations are kept, the noise of the labels, what is flipped and what is hidden is
decided by SHA-256 of plain text, so the sets are the same everywhere and no random number generator is involved.

The labels are functions of the graph by construction: a score on them says nothing about chemistry.

* ``logS`` = 0.16 - 0.63 cLogP - 0.0062 MW + 0.066 RB - 0.74 AP (Delaney, 2004), plus Gaussian noise of
  :data:`NOISE` = 0.6: a perfect model has RMSE 0.6. It is the label of ``demo`` and ``demo-large``.
* ``demo-tox`` has four binary rules with 5 % of the labels flipped, and one rare rule without flips; 15 % of all
  labels are missing.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdkit.Chem import Mol
    from rdkit.Chem.FilterCatalog import FilterCatalog

NOISE = 0.6  # the size usually quoted for the experimental error of solubility
FLIPPED = 0.05
MISSING = 0.15
SIZES = {"demo": 1128, "demo-tox": 1128, "demo-large": 2039}  # as many as ESOL and BBBP have

# The first atom is one site, {1} the other; {0} is left out where the scaffold hangs on a linker by its first atom.
SCAFFOLDS = (
    "c1{0}ccc{1}cc1",
    "c1{0}cccc{1}c1",
    "c1{0}ccccc1{1}",
    "c1{0}ccc{1}nc1",
    "c1{0}nccc{1}n1",
    "c1{0}cnc{1}cn1",
    "c1{0}sc{1}cc1",
    "c1{0}oc{1}cc1",
    "c1{0}sc{1}cn1",
    "c1{0}nc{1}c[nH]1",
    "c1{0}cccc2c{1}cccc12",
    "c1{0}ccc2nc{1}ccc2c1",
    "c1{0}[nH]c2ccc{1}cc2c1",
    "c1{0}nc2cc{1}ccc2s1",
    "C1{0}CCCC{1}C1",
    "C1{0}CCC{1}C1",
    "N1{0}CCC{1}CC1",
    "N1{0}CCN{1}CC1",
    "C1{0}CCC{1}CO1",
    "C{0}CC{1}",
    "C{0}(C)CC{1}",
    "N{0}C(=O){1}",
    "c1{0}ccc(C(=O)N{1})cc1",
    "c1{0}ccc(S(=O)(=O)N{1})cc1",
)
SUBSTITUENTS = (
    *("C", "CC", "C(C)C", "C(C)(C)C", "C8CC8", "C8CCCCC8", "C=C", "C#C"),
    *("F", "Cl", "Br", "C(F)(F)F", "C#N", "[N+](=O)[O-]"),
    *("O", "OC", "OCC", "Oc8ccccc8", "CO", "SC", "S(C)(=O)=O", "S(N)(=O)=O"),
    *("N", "NC", "N(C)C", "CN", "CN(C)C", "N8CCOCC8", "N8CCCC8", "NC(C)=O"),
    *("C(=O)O", "C(=O)OC", "C(N)=O", "C(C)=O", "c8ccccc8", "c8ccncc8"),
)
LINKERS = ("C", "CC", "CO", "C(=O)N", "NC(=O)", "COC", "CNC", "S(=O)(=O)N", "OCC", "C=C")
_SECOND = str.maketrans("12", "34")  # ring-closure digits of a second scaffold

TASKS = ("qed", "brenk", "basic_amine", "donor_low_tpsa", "nitro_halogen")
RARE = "nitro_halogen"
_REACTIVE = (  # single bonds between two heteroatoms, and acyl halides, which only joining makes
    "[#7,#8,#16X2,F,Cl,Br;!-]-[#7,#8,#16X2,F,Cl,Br;!-]",
    "[CX3](=O)[F,Cl,Br]",
)
_BASIC_AMINE = "[NX3;+0;!$(N-[!#6]);!$(N-[#6;!$([CX4])])]"  # every heavy neighbour is a saturated carbon
_AROMATIC_NITRO = "c[N+](=O)[O-]"
_HALOGEN = "[F,Cl,Br,I]"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One combination of pieces as SMILES, its group for scaffold splits, and the text that its hashes start from."""

    smiles: str
    group: int
    key: str


def generate(name: str) -> list[dict[str, str]]:
    """Return the rows of a demo set as text, in the order of its file. Raises ValueError for an unknown name."""
    if name not in SIZES:
        raise ValueError(f"unknown demo set {name!r}; there are {', '.join(SIZES)}")
    label = _rules if name == "demo-tox" else _solubility
    candidates = _linked() if name == "demo-large" else _two_site()
    return [
        {"smiles": one.smiles, "group": str(one.group), **label(mol, one.key)}
        for one, mol in islice(_usable(candidates), SIZES[name])
    ]


def to_csv(rows: list[dict[str, str]]) -> str:
    """Return the rows as the text of a CSV file with LF line ends."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _two_site() -> Iterator[Candidate]:
    """Yield all combinations of a scaffold and two substituents in the order of their hashes."""
    found = [
        Candidate(scaffold.format(f"({SUBSTITUENTS[a]})", f"({SUBSTITUENTS[b]})"), i, f"two-site:{i}:{a}:{b}")
        for i, scaffold in enumerate(SCAFFOLDS)
        for a in range(len(SUBSTITUENTS))
        for b in range(len(SUBSTITUENTS))
    ]
    yield from sorted(found, key=lambda one: _digest(one.key))


def _linked() -> Iterator[Candidate]:
    """Yield linked molecules without end: the digest of 0, 1, 2, ... gives the five pieces of each."""
    pieces = (SCAFFOLDS, SUBSTITUENTS, LINKERS, SCAFFOLDS, SUBSTITUENTS)
    for number in count():
        digest = _digest(f"linked-draw:{number}")
        i, a, link, j, b = (
            int.from_bytes(digest[6 * n : 6 * n + 6], "big") % len(choices) for n, choices in enumerate(pieces)
        )
        second = SCAFFOLDS[j].translate(_SECOND)
        # translate() turns {1} into {3}: four empty places before it
        tail = second.format("", "", "", f"({SUBSTITUENTS[b]})")
        smiles = SCAFFOLDS[i].format(f"({SUBSTITUENTS[a]})", f"({LINKERS[link]}{tail})")
        yield Candidate(smiles, len(SCAFFOLDS) * i + j, f"linked:{i}:{a}:{link}:{j}:{b}")


def _usable(candidates: Iterator[Candidate]) -> Iterator[tuple[Candidate, Mol]]:
    """Leave out what does not parse, is reactive, is under four heavy atoms or has been seen."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    seen = set()
    with BlockLogs():
        for one in candidates:
            mol = Chem.MolFromSmiles(one.smiles)
            if mol is None or mol.GetNumAtoms() < 4 or any(mol.HasSubstructMatch(_pattern(p)) for p in _REACTIVE):
                continue
            canonical = Chem.MolToSmiles(mol)
            if canonical not in seen:
                seen.add(canonical)
                yield one, mol


def _solubility(mol: Mol, key: str) -> dict[str, str]:
    """Delaney (2004), equation on logP, weight, rotatable bonds and aromatic proportion, with noise."""
    from rdkit.Chem.Descriptors import MolWt  # type: ignore[attr-defined]
    from rdkit.Chem.rdMolDescriptors import CalcCrippenDescriptors, CalcNumRotatableBonds

    aromatic = sum(atom.GetIsAromatic() for atom in mol.GetAtoms()) / mol.GetNumHeavyAtoms()
    value = 0.16 - 0.63 * CalcCrippenDescriptors(mol)[0] - 0.0062 * MolWt(mol)
    value += 0.066 * CalcNumRotatableBonds(mol) - 0.74 * aromatic
    return {"logS": f"{value + NOISE * _normal(key):.3f}"}


def _rules(mol: Mol, key: str) -> dict[str, str]:
    """Five binary labels; the rare one is never flipped, so that it stays rare."""
    from rdkit.Chem.QED import qed
    from rdkit.Chem.rdMolDescriptors import CalcNumHBD, CalcTPSA

    true = {
        "qed": qed(mol) > 0.6,  # type: ignore[no-untyped-call]
        "brenk": _brenk().HasMatch(mol),
        "basic_amine": mol.HasSubstructMatch(_pattern(_BASIC_AMINE)),
        "donor_low_tpsa": CalcNumHBD(mol) >= 1 and CalcTPSA(mol) < 60,
        RARE: all(mol.HasSubstructMatch(_pattern(p)) for p in (_AROMATIC_NITRO, _HALOGEN)),
    }
    labels = {}
    for task in TASKS:
        flip = task != RARE and _uniform(f"flip:{task}:{key}") < FLIPPED
        hide = _uniform(f"hide:{task}:{key}") < MISSING
        labels[task] = "" if hide else str(int(true[task] != flip))
    return labels


def _digest(text: str) -> bytes:
    return hashlib.sha256(f"samcmp-demo:{text}".encode()).digest()


def _uniform(text: str) -> float:
    """Return a number in (0, 1) that depends on the text alone."""
    return (int.from_bytes(_digest(text)[:6], "big") + 0.5) / 2**48


def _normal(key: str) -> float:
    """Return a standard normal number that depends on the key alone (Box and Muller, 1958)."""
    radius = math.sqrt(-2 * math.log(_uniform(f"radius:{key}")))
    return radius * math.cos(2 * math.pi * _uniform(f"angle:{key}"))


@cache
def _pattern(smarts: str) -> Mol:
    from rdkit import Chem

    return Chem.MolFromSmarts(smarts)


@cache
def _brenk() -> FilterCatalog:
    from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

    return FilterCatalog(FilterCatalogParams(FilterCatalogParams.FilterCatalogs.BRENK))
