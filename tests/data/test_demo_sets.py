"""The computed datasets: the shipped files are what the generator makes."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from samcmp.data.cards import shipped_folder
from tests.data import demo

LABELS = {"demo": ("logS",), "demo-tox": demo.TASKS, "demo-large": ("logS",)}


def shipped(name: str) -> list[dict[str, str]]:
    with Path(shipped_folder() / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", list(demo.SIZES))
def test_regenerating_a_demo_set_gives_the_shipped_file(name: str) -> None:
    made, stored = demo.generate(name), shipped(name)
    assert [(row["smiles"], row["group"]) for row in made] == [(row["smiles"], row["group"]) for row in stored]
    for new, old in zip(made, stored, strict=True):
        for label in LABELS[name]:
            if old[label]:
                assert float(new[label]) == pytest.approx(float(old[label]), abs=1e-3)
            else:
                assert new[label] == ""


@pytest.mark.parametrize("name", list(demo.SIZES))
def test_a_demo_set_has_its_size_and_no_molecule_twice(name: str) -> None:
    from rdkit import Chem

    rows = shipped(name)
    assert len(rows) == demo.SIZES[name]
    canonical = Counter(Chem.CanonSmiles(row["smiles"]) for row in rows)
    assert canonical.most_common(1)[0][1] == 1


def test_the_noise_of_the_solubility_label_has_standard_deviation_0_6() -> None:
    from rdkit import Chem
    from rdkit.Chem import Crippen, Descriptors, Lipinski

    residuals = []
    for row in shipped("demo"):
        mol = Chem.MolFromSmiles(row["smiles"])
        aromatic = len(mol.GetAromaticAtoms()) / mol.GetNumHeavyAtoms()
        clean = 0.16 - 0.63 * Crippen.MolLogP(mol) - 0.0062 * Descriptors.MolWt(mol)
        clean += 0.066 * Lipinski.NumRotatableBonds(mol) - 0.74 * aromatic
        residuals.append(float(row["logS"]) - clean)
    mean = sum(residuals) / len(residuals)
    deviation = (sum((r - mean) ** 2 for r in residuals) / len(residuals)) ** 0.5
    assert abs(mean) < 4 * 0.6 / len(residuals) ** 0.5
    assert deviation == pytest.approx(0.6, rel=0.07)  # three standard errors of a deviation of 1,128 numbers


def test_the_tox_demo_hides_about_15_percent_and_keeps_a_rare_task() -> None:
    rows = shipped("demo-tox")
    for task in demo.TASKS:
        labels = Counter(row[task] for row in rows)
        assert 0.12 < labels[""] / len(rows) < 0.18
        assert set(labels) == {"", "0", "1"}
    rare = Counter(row[demo.RARE] for row in rows)
    assert 1 <= rare["1"] <= 6
    assert all(any(row[task] for task in demo.TASKS) for row in rows)


def test_an_unknown_demo_set_is_refused() -> None:
    with pytest.raises(ValueError, match="demo-tiny"):
        demo.generate("demo-tiny")
