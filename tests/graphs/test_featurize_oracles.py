"""The float columns against numbers from the public models' own featurisers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from samcmp.graphs.columns import expand_atoms, expand_bonds
from samcmp.graphs.featurize import featurize_many
from tests.places import MIRROR, ORACLES, needs_mirror, needs_oracles


def oracle(name: str) -> Any:
    return np.load(ORACLES / name, allow_pickle=False)


@needs_oracles
@pytest.mark.parametrize(
    ("file", "key", "columns"),
    [
        ("gcn_h32_l3", "in/x", "chemprop-v1"),
        ("mpnn_nnconv_add_h32_t3", "in/x", "chemprop-v1"),
        ("dmpnn_v2_h32_d3", "in/V", "chemprop-v2"),
    ],
)
def test_chemprop_atoms_equal_the_oracle(file: str, key: str, columns: str) -> None:
    stored = oracle(f"gnn/{file}.npz")
    found = featurize_many([str(s) for s in stored["smiles"]])
    assert np.array_equal(expand_atoms(found.atoms, columns), stored[key].astype(np.float32))


@needs_oracles
def test_chemprop_bonds_and_their_order_equal_the_oracle() -> None:
    stored = oracle("gnn/dmpnn_v2_h32_d3.npz")
    found = featurize_many([str(s) for s in stored["smiles"]])
    assert np.array_equal(expand_bonds(found.bonds, "chemprop").repeat(2, axis=0), stored["in/E"])
    first = np.repeat(np.cumsum(found.atom_counts) - found.atom_counts, found.bond_counts)
    assert np.array_equal((found.pairs + first[:, None]).T, stored["in/edge_index"][:, ::2])


@needs_oracles
def test_cmpnn_atoms_equal_the_oracle() -> None:
    stored = oracle("gnn/cmpnn_h32_d3.npz")
    found = featurize_many([str(s) for s in stored["smiles"]])
    # The public code adds the mass column in float32: 2e-8.
    np.testing.assert_allclose(expand_atoms(found.atoms, "chemprop-v1"), stored["in/f_atoms"][1:], rtol=0, atol=1e-7)


@needs_oracles
def test_grover_atoms_equal_the_oracle() -> None:
    smiles = json.loads((ORACLES / "grover" / "small.json").read_text())["smiles"]
    found = featurize_many(smiles)
    assert np.array_equal(expand_atoms(found.atoms, "grover"), oracle("grover/small.npz")["batch_f_atoms"][1:])


@needs_oracles
def test_grover_bonds_equal_the_oracle() -> None:
    smiles = json.loads((ORACLES / "grover" / "small.json").read_text())["smiles"]
    stored, found = oracle("grover/small.npz"), featurize_many(smiles)
    offset = np.cumsum([0, *found.bond_counts])
    for i in range(len(smiles)):
        pairs = np.sort(found.pairs[offset[i] : offset[i + 1]], axis=1)  # GROVER lists bonds by atom pair
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        bonds = expand_bonds(found.bonds[offset[i] : offset[i + 1]], "chemprop")[order]
        assert np.array_equal(bonds, stored[f"mol{i:02d}_f_bonds"][::2, 151:])


@needs_oracles
def test_compt_atoms_bonds_and_gasteiger_charges_equal_the_oracle() -> None:
    molecules = json.loads((ORACLES / "compt" / "features.json").read_text())["molecules"]
    stored = oracle("compt/features.npz")
    found = featurize_many([smiles for _, _, smiles in molecules], scalars=("gasteiger",))
    atoms = expand_atoms(found.atoms, "compt")
    assert not atoms[:, 111:113].any()
    atoms[:, 111:113] = found.scalars
    assert np.array_equal(atoms, stored["node_features"][:, :115].astype(np.float32))
    assert np.array_equal(expand_bonds(found.bonds, "compt"), stored["bond_features"])
    assert np.array_equal(found.pairs, stored["bond_index"])


@needs_mirror
@pytest.mark.parametrize("name", ["BBBP.csv", "tox21.csv.gz", "sider.csv.gz", "clintox.csv.gz", "Lipophilicity.csv"])
def test_chemprops_own_featurizers_agree_on_real_molecules(name: str) -> None:
    pytest.importorskip("chemprop", reason="chemprop is not installed")
    from chemprop.featurizers import MultiHotAtomFeaturizer, SimpleMoleculeMolGraphFeaturizer
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    from samcmp.data import table

    content = table.read(MIRROR / name)
    texts = content.text(content.column("smiles"))[::41]
    peers = {
        "chemprop-v1": SimpleMoleculeMolGraphFeaturizer(atom_featurizer=MultiHotAtomFeaturizer.v1()),
        "chemprop-v2": SimpleMoleculeMolGraphFeaturizer(atom_featurizer=MultiHotAtomFeaturizer.v2()),
    }
    compared = 0
    with BlockLogs():
        for text in texts:
            mol = Chem.MolFromSmiles(text)
            if mol is None:
                continue
            found = featurize_many([text])
            for columns, peer in peers.items():
                graph = peer(mol)
                assert np.array_equal(expand_atoms(found.atoms, columns), graph.V.astype(np.float32)), text
                if len(found.bonds):
                    bonds = expand_bonds(found.bonds, "chemprop").repeat(2, axis=0)
                    assert np.array_equal(bonds, graph.E.astype(np.float32)), text
                    assert np.array_equal(found.pairs.T, graph.edge_index[:, ::2]), text
            compared += 1
    assert compared > 30
