"""The integer codes against RDKit asked for everything, atom by atom; and what cannot be read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from rdkit import Chem

from samcmp.errors import DataError, UsageError
from samcmp.graphs.columns import ATOM_CODES, expand_atoms, expand_bonds
from samcmp.graphs.featurize import MAX_SMILES, featurize, featurize_many, parse
from tests.places import MIRROR, ORACLES, needs_mirror, needs_oracles

ROLES = ("acceptor", "donor", "acidic", "basic")
PLAIN = [name for name in ATOM_CODES if name not in ROLES]

_ODD = """
* *C* C [CH3] [CH2] C[CH2] [C] [C-]#[O+] C[C-](C)C C[C+](C)C [13CH4] [2H]O[2H] [H][H] [H+] [999C] [235U] [CH3:7]O
[Fe] [Na+].[Cl-] [U] [Lr] [Og] [He] [K] [Zn+2] C[Zn]C C[Hg]C C[Mg]Br [Al](C)(C)C O[AlH3](O)O C[Sn](C)(C)C [BH4-]
F[P-](F)(F)(F)(F)F FS(F)(F)(F)(F)F O=Cl(=O)(=O)O I(=O)(=O)O CP(C)(C)=O [PH4+] C[P+](C)(C)C P(c1ccccc1)C
C[N+](=O)[O-] CN(=O)=O N#N [N-]=[N+]=N CN=[N+]=[N-] C[N+]#[C-] O=[N] [O][O] N [NH4+] O [OH3+] [OH-] N->[Pt]
N[Pt](N)(Cl)Cl [NH3][Pt]([NH3])(Cl)Cl CC#N[Pd] O=[Os](=O)(=O)=O [Cu]~N [Re]$[Re] C~C N(C)(C)(C)->B C1=CC=CC=C1[Fe]
C1=CNC=C1 C1=CPC=C1 C1=C[SiH2]C=C1 C1=C[AsH]C=C1 B1C=CC=C1 O=C1C=CC=CC1=O N1C=CC=C1 O=C1NC=CC=C1 c1ccccc1 [nH]1cccc1
c1ccc2[nH]ccc2c1 [se]1cccc1 [te]1cccc1 [o+]1ccccc1 [nH+]1ccccc1 [O-][n+]1ccccc1 [cH-]1cccc1 o1cccc1 c1ncoc1 c1nocc1
s1cncc1 c1ccc2ccccc2c1 Oc1ncccc1 [CH]1[CH][CH][CH][CH]1 C1=CC=CC=C[CH+]1 C/C=C/C C/C=C\\C C[C@H](O)F C[C@@H](O)F
N[C@@]1(C)CC1 [C@](F)(Cl)(Br)I F[As@TB1](Cl)(Br)(N)O [Co@OH12](N)(N)(N)(N)(N)O C1CC1C1CCC1 C1CCCC2(CC1)CCCC2
C12C3C4C1C5C2C3C45 C1CCCCCCC1 C=C=C C#C O=C=O S=C=S C[S+](C)[O-] CS(C)(=O)=O S(=O)(=O)(O)O OS(=O)(=O)c1ccccc1
OC(=O)C [O-]C(=O)C CC(=S)O CC(=O)S NS(=O)(=O)C CC(N)=N NC(N)=N CN CNC CN(C)C CNN CNO Nc1ccccc1 CNC(C)=O [H]C([H])O
[H]N([H])[H] C([H])([H])([H])[H]
"""
ODD = _ODD.split()


def asked_one_by_one(mol: Chem.Mol) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the codes (roles left out), bond codes and bond ends that RDKit gives through its getters."""
    rings = mol.GetRingInfo()
    atoms = [
        [
            atom.GetAtomicNum(),
            atom.GetTotalDegree(),
            atom.GetFormalCharge(),
            int(atom.GetChiralTag()),
            atom.GetTotalNumHs(),
            int(atom.GetHybridization()),
            atom.GetIsAromatic(),
            atom.GetNumImplicitHs(),
            sum(rings.IsAtomInRingOfSize(atom.GetIdx(), size) << (size - 3) for size in range(3, 9)),
            atom.GetDegree(),
            atom.GetTotalNumHs(includeNeighbors=True),
            atom.GetTotalValence(),
            atom.IsInRing(),
            atom.GetIsotope(),
        ]
        for atom in mol.GetAtoms()
    ]
    bonds = [
        [int(b.GetBondType()), int(b.GetStereo()), b.GetIsConjugated(), b.IsInRing(), b.GetIsAromatic()]
        for b in mol.GetBonds()
    ]
    ends = [[b.GetBeginAtomIdx(), b.GetEndAtomIdx()] for b in mol.GetBonds()]
    return np.array(atoms), np.array(bonds).reshape(-1, 5), np.array(ends).reshape(-1, 2)


def compare(smiles: list[str]) -> None:
    found = featurize_many(smiles)
    plain = found.atoms[:, [ATOM_CODES.index(name) for name in PLAIN]]
    atom_at = np.cumsum([0, *found.atom_counts])
    bond_at = np.cumsum([0, *found.bond_counts])
    for i, text in enumerate(smiles):
        atoms, bonds, ends = asked_one_by_one(parse(text))
        assert np.array_equal(plain[atom_at[i] : atom_at[i + 1]], atoms), text
        assert np.array_equal(found.bonds[bond_at[i] : bond_at[i + 1]], bonds), text
        assert np.array_equal(found.pairs[bond_at[i] : bond_at[i + 1]], ends), text


def test_odd_molecules_have_the_codes_that_rdkit_gives() -> None:
    compare(ODD)


def test_extended_smiles_have_the_codes_that_rdkit_gives() -> None:
    compare(["CC |(0,0,;1,0,)|", "C[C@H](F)Cl |o1:1|", "F/C=C/F |$a;b;c;d$|"])


def real(name: str, every: int) -> list[str]:
    from samcmp.data import table

    content = table.read(MIRROR / name)
    return [text for text in content.text(content.column("smiles"))[::every] if readable(text)]


def readable(text: str) -> bool:
    try:
        parse(text)
    except DataError:
        return False
    return True


@needs_mirror
@pytest.mark.parametrize("name", ["BBBP.csv", "tox21.csv.gz", "sider.csv.gz", "clintox.csv.gz", "qm8.csv"])
def test_real_molecules_have_the_codes_that_rdkit_gives(name: str) -> None:
    compare(real(name, every=37))


def role_atoms(smiles: list[str]) -> np.ndarray:
    """Membership in the substructure matches of GROVER's four literal patterns: (A, 4)."""
    patterns = json.loads((ORACLES / "grover" / "smarts.json").read_text())
    names = ("hydrogen_acceptor", "hydrogen_donor", "acidic", "basic")
    queries = [Chem.MolFromSmarts(patterns[name]) for name in names]
    rows: list[Any] = []
    for text in smiles:
        mol = parse(text)
        hits = [{at for (at,) in mol.GetSubstructMatches(query)} for query in queries]
        rows += [[atom.GetIdx() in hit for hit in hits] for atom in mol.GetAtoms()]
    return np.array(rows)


@needs_oracles
def test_roles_of_odd_molecules_equal_the_substructure_matches() -> None:
    found = featurize_many(ODD).atoms[:, [ATOM_CODES.index(name) for name in ROLES]]
    assert np.array_equal(found, role_atoms(ODD))


@needs_oracles
@needs_mirror
@pytest.mark.parametrize("name", ["BBBP.csv", "tox21.csv.gz", "Lipophilicity.csv"])
def test_roles_of_real_molecules_equal_the_substructure_matches(name: str) -> None:
    smiles = real(name, every=19)
    found = featurize_many(smiles).atoms[:, [ATOM_CODES.index(role) for role in ROLES]]
    assert np.array_equal(found, role_atoms(smiles))


def test_the_six_valent_aluminium_of_tox21_is_read() -> None:
    graph = featurize("CC(=O)O[AlH3](O)O", 2297)
    assert graph.atoms[4, 0] == 13
    assert graph.row == 2297


def test_one_atom_and_no_bonds_keep_their_shapes() -> None:
    for text, atoms in (("C", 1), ("[Na+].[Cl-]", 2)):
        graph = featurize(text, 0)
        assert graph.atoms.shape == (atoms, len(ATOM_CODES))
        assert (graph.bonds.shape, graph.edge_index.shape, graph.scalars.shape) == ((0, 5), (2, 0), (atoms, 0))
        assert expand_bonds(graph.bonds, "chemprop").shape == (0, 14)


def test_492_atoms_are_read() -> None:
    assert featurize("C" * 492, 0).atoms.shape[0] == 492


def test_metals_and_dummy_atoms_have_gasteiger_charge_zero() -> None:
    scalars = featurize("*C", 0, scalars=("gasteiger",)).scalars
    assert np.isfinite(scalars).all()
    assert scalars[0].tolist() == [0.0, 0.0]


def test_grover_counts_negative_charges_from_the_end_and_refuses_plus_six() -> None:
    codes = featurize("C", 0).atoms.repeat(4, axis=0)
    codes[:, ATOM_CODES.index("charge")] = [0, 1, -1, -2]
    assert expand_atoms(codes, "grover")[:, 108:114].argmax(axis=1).tolist() == [0, 1, 5, 4]
    codes[0, ATOM_CODES.index("charge")] = 6
    with pytest.raises(DataError, match=r"formal charge \+6"):
        expand_atoms(codes, "grover")


def test_an_isotope_weighs_its_own_mass_in_float64_before_rounding() -> None:
    mass = expand_atoms(featurize("[13CH4]", 0).atoms, "chemprop-v1")[0, -1]
    assert mass == np.float32(Chem.GetPeriodicTable().GetMassForIsotope(6, 13) * 0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("C\0C", "null byte"),
        ("C" * 1_000_000, "1,000,000 characters"),
        ("C\u00e9", "no SMILES has"),
        ("C\ud800", "no SMILES has"),
        ("C\nC", "no SMILES has"),
        ("CC O", "blank inside"),
        ("CC |(0,0,|", "cannot read"),
        ("(" * 9000, "cannot read"),
        ("[99999C]", "more than three digits"),
        ("C1CC", "cannot read"),
        ("not-a-molecule", "cannot read"),
        ("c1cccc1", "rejects"),
    ],
)
def test_what_is_no_molecule_is_refused_with_its_reason_and_row(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        featurize(text, 41)
    assert caught.value.where == "row 41"
    assert len(str(caught.value)) < 300


def test_the_longest_smiles_that_is_allowed_is_read() -> None:
    assert featurize("C" * 2000, 0).atoms.shape[0] == 2000
    with pytest.raises(DataError):
        featurize("C" * (MAX_SMILES + 1), 0)


def test_unknown_columns_are_refused_with_the_nearest_name() -> None:
    codes = featurize("C", 0)
    with pytest.raises(UsageError, match="'chemprop-v1'"):
        expand_atoms(codes.atoms, "chemprop-1")
    with pytest.raises(UsageError, match="compt"):
        expand_bonds(codes.bonds, "comp")
    with pytest.raises(ValueError, match="mulliken"):
        featurize("C", 0, scalars=("mulliken",))


def test_rdkit_says_nothing_on_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError):
        featurize("C1CC", 0)
    featurize("[H+].CC(=O)O[AlH3](O)O", 0)
    assert capfd.readouterr() == ("", "")
