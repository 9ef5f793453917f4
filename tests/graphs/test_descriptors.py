"""The 200 RDKit descriptors: names, scale, and independence of the company a molecule keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samcmp.errors import DataError, UsageError
from samcmp.graphs import descriptors

SMILES = ["CC(=O)Oc1ccccc1C(=O)O", "C", "[Na+].[Cl-]", "CCCCCCCCCCCCCCCC", "OC1CCCCC1N", "c1ccc2ccccc2c1"]


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return descriptors.compute("rdkit2d", SMILES)


def test_there_are_200_values_a_molecule_between_0_and_1(values: np.ndarray) -> None:
    assert values.shape == (len(SMILES), 200)
    assert values.dtype == np.float32
    assert values.min() >= 0
    assert values.max() <= 1
    assert len(set(descriptors.NAMES)) == 200 == descriptors.WIDTHS["rdkit2d"]
    assert list(descriptors.NAMES) == sorted(descriptors.NAMES)


def test_raw_values_are_rdkits() -> None:
    from rdkit.Chem import QED, Crippen, MolFromSmiles

    raw = descriptors.raw(SMILES[:1])[0]
    mol = MolFromSmiles(SMILES[0])
    assert raw[descriptors.NAMES.index("MolLogP")] == pytest.approx(Crippen.MolLogP(mol))
    assert raw[descriptors.NAMES.index("qed")] == pytest.approx(QED.qed(mol))
    assert raw[descriptors.NAMES.index("fr_benzene")] == 1


def test_a_molecules_values_do_not_depend_on_the_others(values: np.ndarray) -> None:
    for i, smiles in enumerate(SMILES):
        assert np.array_equal(descriptors.compute("rdkit2d", [smiles])[0], values[i])


def test_the_scale_keeps_the_order_of_every_descriptor() -> None:
    raw = descriptors.raw(SMILES)
    scaled = descriptors.normalised(raw)
    for column in range(200):
        order = np.argsort(raw[:, column], kind="stable")
        assert (np.diff(scaled[order, column]) >= 0).all(), descriptors.NAMES[column]


def test_the_scale_is_the_references_distribution_function() -> None:
    weight = descriptors.NAMES.index("MolWt")
    row = np.full((5, 200), np.nan)
    points, levels = descriptors._reference()[weight]
    row[:, weight] = [points[0] - 1, points[0], points[len(points) // 2], points[-1], points[-1] + 1]
    found = descriptors.normalised(row)[:, weight]
    assert found == pytest.approx([0, levels[0], levels[len(points) // 2], levels[-1], 1])
    sample = np.concatenate([np.zeros(90), np.ones(10)])
    assert (descriptors.distribution(sample) == 0).sum() == 59  # levels i/64 with 99 i/64 < 90


def test_a_reference_that_is_written_is_the_one_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rdkit2d_reference.csv"
    descriptors.write_reference(file, SMILES, about="six molecules")
    assert file.read_text().startswith("# six molecules; 65 quantiles")
    monkeypatch.setattr(descriptors.resources, "files", lambda package: tmp_path)
    descriptors._reference.cache_clear()
    weight = descriptors.NAMES.index("MolWt")
    try:
        found = descriptors.compute("rdkit2d", SMILES)[:, weight]
    finally:
        descriptors._reference.cache_clear()
    order = np.argsort(descriptors.raw(SMILES)[:, weight])
    assert found[order[[0, -1]]] == pytest.approx([6 / 64, 1])  # of 65 quantiles the least weight is the first 13
    assert (np.diff(found[order]) > 0).all()


def test_what_rdkit_cannot_compute_is_zero() -> None:
    assert (descriptors.normalised(np.full((2, 200), np.nan)) == 0).all()


def test_progress_is_told_and_wrong_input_named() -> None:
    told: list[tuple[str, int, int | None]] = []
    descriptors.raw(SMILES[:2], progress=lambda *what: told.append(what))
    assert told == [("descriptors", 1, 2), ("descriptors", 2, 2)]
    with pytest.raises(UsageError, match="rdkit3d"):
        descriptors.compute("rdkit3d", SMILES)
    with pytest.raises(DataError):
        descriptors.compute("rdkit2d", ["not a molecule"])
