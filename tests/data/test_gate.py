"""The one gate of a table: rows are judged first, those that are skipped decide nothing, and what passes is good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samcmp.data import cards, molecules, screen, splits
from samcmp.data.audit import audit
from samcmp.data.molecules import Molecules
from samcmp.data.user_table import user_card
from samcmp.errors import SamcmpError
from samcmp.graphs.columns import ATOM_COLUMNS, BOND_COLUMNS, expand_atoms, expand_bonds
from samcmp.graphs.featurize import featurize_many, parse
from tests.places import MIRROR, needs_mirror

T = TypeVar("T")
GOOD = [
    "CCO",
    "c1ccccc1",
    "CC(=O)O",
    "C1CC1N",
    "[Na+].[Cl-]",
    "F/C=C/F",
    "N[C@@H](C)C(=O)O",
    "*CC",
    "[2H]O[2H]",
    "[He]",
]
BAD = {
    "": "empty",
    "  ": "empty",
    "?": "cannot read",
    "c1cccc1": "kekulize",
    "C(C)(C)(C)(C)C": "valence",
    "FN(F)(F)F": "valence",
    "c1ccccc1[N](C)(C)C": "valence",
    "[1000C]": "isotope",
    "[Fe+8]": "formal charge of \\+8",
    "[Cl-7]": "formal charge of -7",
    "C C": "blank",
    "CCµ": "no SMILES has",
    "C" * 10_001: "10,001 characters",
    "C1CC1" + "C" * 998: "1,001 atoms",
    "[Xx]": "cannot read",
}


def outcome(call: Callable[[], T]) -> T | SamcmpError:
    try:
        return call()
    except SamcmpError as error:
        return error


def put(tmp_path: Path, rows: list[tuple[str, str]]) -> Path:
    path = tmp_path / "my.csv"
    path.write_text("smiles,y\n" + "".join(f'"{smiles}","{label}"\n' for smiles, label in rows), encoding="utf-8")
    return path


def loaded(path: Path, task: str | None = None) -> Molecules:
    return molecules.load(user_card(path, "smiles", ["y"], task))


@pytest.mark.parametrize("smiles", BAD)
def test_a_row_that_features_cannot_hold_is_skipped_with_its_reason(smiles: str, tmp_path: Path) -> None:
    import re

    good = [(text, str(i % 2)) for i, text in enumerate(GOOD)]
    found = loaded(put(tmp_path, [*good[:3], (smiles, "7"), *good[3:]]))
    assert found.rows.tolist() == [0, 1, 2, *range(4, 11)]
    ((row, _, why),) = found.skipped
    assert row == 3
    assert re.search(BAD[smiles], why)
    assert any("1 of 11 rows skipped; the first is row 3" in note for note in found.notes)


_BRACKETS = st.tuples(
    st.sampled_from(["", "2", "999", "1000", "65536"]),
    st.sampled_from([*("C", "N", "O", "S", "P", "c", "n", "*", "H", "Fe", "Pt", "U", "Og", "Xe", "Si", "se", "#6")]),
    st.sampled_from(["", "@", "@@", "@TH1", "@SP2", "@OH5"]),
    st.sampled_from(["", "H", "H4", "H9", "H200"]),
    st.sampled_from(["", "+", "-", "+5", "-6", "+6", "-7", "+99"]),
    st.sampled_from(["", ":1"]),
).map(lambda parts: f"[{''.join(parts)}]")
_ATOMS = st.one_of(st.sampled_from([*("C", "N", "O", "Cl", "c1", "C1", "n1", "(F)", "*")]), _BRACKETS)
_BONDS = st.sampled_from(["", "", "-", "=", "#", "$", "~", "->", "/", "\\", ":", "."])
SMILES = st.tuples(
    st.lists(st.tuples(_BONDS, _ATOMS).map("".join), min_size=1, max_size=6).map("".join),
    st.sampled_from(["", "", "", " |$a;b$|", " |^1:0|", " |C:0.1|", " |(0,0,0;1,1,1)|"]),
).map("".join)


@settings(max_examples=800, deadline=None)
@given(SMILES)
def test_every_models_features_hold_what_passes_and_nothing_else_ends_but_with_a_reason(smiles: str) -> None:
    problems = screen.screen.__wrapped__((smiles,), strict=True).problems
    if problems:
        assert problems[0]
        return
    splits.murcko(parse(smiles))
    graph = featurize_many([smiles], scalars=("gasteiger",))
    for name in ATOM_COLUMNS:
        assert np.isfinite(expand_atoms(graph.atoms, name)).all()
    for name in BOND_COLUMNS:
        assert np.isfinite(expand_bonds(graph.bonds, name)).all()
    assert np.isfinite(graph.scalars).all()


TABLES = st.lists(
    st.tuples(st.sampled_from(GOOD), st.sampled_from(["0", "1", "", "1.5", "-2", "NA"])), min_size=3, max_size=24
)
JUNK = st.lists(
    st.tuples(
        st.sampled_from([text for text in BAD if len(text) < 99]),
        st.sampled_from(["0", "1", "999", "-1", "text", "1_0", "inf", "", "1e999", "true"]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=TABLES, junk=JUNK, at=st.randoms(use_true_random=False), task=st.sampled_from([None, "classification"]))
def test_rows_that_are_skipped_decide_nothing(
    tmp_path: Path, rows: list[tuple[str, str]], junk: list[tuple[str, str]], at: object, task: str | None
) -> None:
    """A table with and without its unusable rows has one outcome: task, labels, notes, splits, shortage, refusal."""
    mixed: list[tuple[tuple[str, str], bool]] = [(row, True) for row in rows]
    for row in junk:
        mixed.insert(at.randint(0, len(mixed)), (row, False))  # type: ignore[attr-defined]

    def seen(table: list[tuple[str, str]]) -> object:
        path = put(tmp_path, table)
        card = outcome(lambda: user_card(path, "smiles", ["y"], task))
        if isinstance(card, SamcmpError):
            return card.what.partition("row")[0]  # rows are counted in the file, so their numbers move
        found = molecules.load(card)
        notes = [note for note in found.notes if "skipped" not in note]
        return found.kind, found.smiles, found.y.tobytes(), notes, bool(card.shortage)

    assert seen([row for row, _ in mixed]) == seen(rows)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=TABLES, junk=JUNK, name=st.sampled_from(["random", "scaffold", "scaffold-balanced", "stratified"]))
def test_splits_and_audits_of_what_passes_end_in_a_result_or_one_clear_error(
    tmp_path: Path, rows: list[tuple[str, str]], junk: list[tuple[str, str]], name: str
) -> None:
    path = put(tmp_path, [*rows, *junk])
    card = outcome(lambda: user_card(path, "smiles", ["y"]))
    if isinstance(card, SamcmpError):
        return
    found = molecules.load(card)
    assert audit(card).molecules == len(found) == len(rows)
    split = outcome(lambda: splits.make(found, name))
    if isinstance(split, SamcmpError):
        return
    assert sum(map(len, (split.train, split.valid, split.test))) == len(found)
    refusal = outcome(lambda: splits.check_parts(found, split))
    assert refusal is None or f"--split {name}" not in str(refusal.remedy)


@pytest.mark.parametrize("name", ["bbbp", "esol", "sider", "freesolv", "bace", "lipo"])
@needs_mirror
def test_a_shipped_file_as_a_users_own_is_the_same_molecules(name: str) -> None:
    shipped = cards.find(name)
    own = user_card(MIRROR / shipped.file_name, shipped.smiles_column, shipped.target_columns)
    found, expected = molecules.load(own), molecules.load(shipped, source=MIRROR)
    assert found.rows.tolist() == expected.rows.tolist()
    assert np.array_equal(found.y, expected.y, equal_nan=True)
    assert found.kind == expected.kind


def test_a_frozen_row_that_no_scaffold_can_be_made_of_is_named() -> None:
    rows = np.arange(3, dtype=np.int64)
    y = np.zeros((3, 1))
    odd = Molecules("odd", rows, ("C", "C1=[NH]CCC1", "C1CC1"), y, ("y",), "regression", "rmse", "0" * 64)
    with pytest.raises(SamcmpError, match="row 1: RDKit finds no scaffold"):
        splits.make(odd, "scaffold")


def test_the_same_molecule_is_known_however_it_is_written() -> None:
    found = screen.screen(("CCO", "OCC", "C1=CC=CC=C1", "c1ccccc1", "C[C@H](N)O", "C[C@@H](N)O", "x"), strict=True)
    assert found.repeats == {1: 0, 3: 2}
    assert list(found.problems) == [6]


def test_a_kept_answer_is_read_back_and_a_damaged_one_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMCMP_CACHE", str(tmp_path))
    monkeypatch.setattr(screen, "WORTH_KEEPING", -1.0)
    texts = ("CCO", "OCC", "xx")
    first = screen.screen.__wrapped__(texts, strict=True)
    (path,) = (tmp_path / "screened").iterdir()
    monkeypatch.setattr(screen, "_screen", lambda *_: pytest.fail("made again"))
    assert screen.screen.__wrapped__(texts, strict=True) == first
    monkeypatch.undo()
    monkeypatch.setenv("SAMCMP_CACHE", str(tmp_path))
    whole = path.read_bytes()
    for i in range(0, len(whole), 7):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        assert screen.screen.__wrapped__(texts, strict=True) == first
        path.write_bytes(whole[:i])
        assert screen.screen.__wrapped__(texts, strict=True) == first
