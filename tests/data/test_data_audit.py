"""The audit against the published statistics of the files, and as its table and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samcmp import records
from samcmp.data import cards
from samcmp.data.audit import Audit, audit
from samcmp.data.user_table import user_card
from tests.places import MIRROR, needs_mirror


@pytest.fixture(scope="module")
def bbbp() -> Audit:
    return audit(cards.find("bbbp"), source=MIRROR)


@needs_mirror
def test_bbbp_has_the_rows_and_rejects_of_its_description(bbbp: Audit) -> None:
    assert (bbbp.file_rows, bbbp.molecules) == (2050, 2039)
    assert tuple(one.row for one in bbbp.rejected) == cards.find("bbbp").leave_out
    assert all("valence" in one.reason and not one.used for one in bbbp.rejected)


@needs_mirror
def test_bbbp_has_the_duplicates_of_its_description(bbbp: Audit) -> None:
    twins = bbbp.duplicates
    assert (twins.repeated_strings, twins.repeated_molecules, twins.groups, twins.conflicting_groups) == (0, 64, 60, 10)
    assert len(twins.rows) == 10


@needs_mirror
def test_bbbp_has_the_classes_and_sizes_of_its_description(bbbp: Audit) -> None:
    (task,) = bbbp.tasks
    assert (task.positive, task.negative, task.missing) == (1560, 479, 0)
    assert round(bbbp.sizes.mean, 2) == 24.05
    assert (bbbp.sizes.percentiles["50"], bbbp.sizes.percentiles["100"], bbbp.sizes.large) == (23, 132, 4)
    assert (bbbp.sizes.fragments, bbbp.sizes.elements) == (105, 13)
    assert (bbbp.scaffolds, bbbp.single_scaffolds, bbbp.acyclic) == (1025, 763, 99)
    assert bbbp.largest_scaffolds == (137, 99, 76)


@needs_mirror
def test_regression_conflicts_have_a_size_and_targets_their_statistics() -> None:
    found = audit(cards.find("esol"), source=MIRROR)
    twins = found.duplicates
    assert (twins.repeated_molecules, twins.groups, twins.conflicting_groups) == (11, 11, 6)
    assert twins.largest_difference == pytest.approx(1.03)
    (task,) = found.tasks
    figures = [task.mean, task.std, task.minimum, task.maximum]
    assert figures == [pytest.approx(v, abs=5e-5) for v in (-3.0501, 2.0955, -11.6, 1.58)]
    assert (found.sizes.single_atom, found.sizes.no_bond, found.sizes.elements) == (1, 1, 9)


@needs_mirror
def test_a_row_left_out_that_parses_today_says_so() -> None:
    reasons = {one.row: one.reason for one in audit(cards.find("clintox"), source=MIRROR).rejected}
    assert "this RDKit reads it" in reasons[983]
    assert "kekulize" in reasons[302]


@needs_mirror
def test_the_aluminium_compounds_of_tox21_are_used_and_named() -> None:
    found = audit(cards.find("tox21"), source=MIRROR)
    assert [one.row for one in found.rejected] == [1322, 2290, 2297, 3558, 4565, 4649, 5538, 6723]
    assert all(one.used and "without the valence check" in one.reason for one in found.rejected)
    missing = sum(task.missing for task in found.tasks)
    assert round(100 * missing / (12 * 7831), 2) == 17.05
    assert found.without_labels == 0
    assert found.tasks[0].positive == 309


def test_an_audit_of_a_users_file_lists_what_was_skipped(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text("smiles,active\nC,0\nCC,1\nxyz,1\nCCO,0\nOCC,1\nCl.CC,\n")
    found = audit(user_card(path, "smiles", ["active"]))
    assert [(one.row, one.smiles) for one in found.rejected] == [(2, "xyz")]
    assert found.duplicates.rows == ((3, 4),)
    assert (found.without_labels, found.sizes.fragments) == (1, 1)


def test_an_audit_goes_through_json_unharmed() -> None:
    found = audit(cards.find("demo-tox"))
    text = json.dumps(records.to_json(found), allow_nan=False)
    assert json.loads(text)["tasks"][4]["task"] == "nitro_halogen"
    assert records.from_json(Audit, json.loads(text)) == found
