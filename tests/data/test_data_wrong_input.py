"""A user's CSV: what is accepted, what is skipped and said, what is refused in one clear message."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from samcmp.data import cards, labels, molecules, splits, table
from samcmp.data.molecules import Molecules
from samcmp.data.user_table import user_card
from samcmp.errors import DataError, SamcmpError, UsageError

GOOD = [f"{'C' * i}O,{i % 2},{i / 10}" for i in range(1, 31)]


def saved(tmp_path: Path, lines: list[str], *, header: str = "smiles,active,value") -> Path:
    path = tmp_path / "my data.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def loaded(path: Path, target: str = "active", *, task: str | None = None) -> Molecules:
    return molecules.load(user_card(path, "smiles", [target], task))


def refused(path: Path, target: str = "active", *, task: str | None = None) -> str:
    with pytest.raises(SamcmpError) as caught:
        loaded(path, target, task=task)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(("target", "kind"), [("active", "classification"), ("value", "regression")])
def test_the_task_is_guessed_and_said(target: str, kind: str, tmp_path: Path) -> None:
    found = loaded(saved(tmp_path, GOOD), target)
    assert found.kind == kind
    assert any(f"guessed to be {kind}" in note and "--task" in note for note in found.notes)


def test_a_task_that_is_given_is_not_guessed(tmp_path: Path) -> None:
    found = loaded(saved(tmp_path, GOOD), "active", task="regression")
    assert (found.kind, found.metric, found.notes) == ("regression", "rmse", ())


def test_a_file_named_like_a_shipped_dataset_gets_a_name_of_its_own(tmp_path: Path) -> None:
    path = saved(tmp_path, GOOD).rename(tmp_path / "esol.csv")
    assert user_card(path, "smiles", ["value"]).name == "esol-csv"


def test_smiles_that_rdkit_cannot_read_are_skipped_counted_and_kept_for_the_list(tmp_path: Path) -> None:
    lines = [*GOOD, "C(C,1,0.3", ",0,1", "c1cccc1,1,2", "not a molecule,0,3"]
    found = loaded(saved(tmp_path, lines))
    assert len(found) == 30
    assert [row for row, _, _ in found.skipped] == [30, 31, 32, 33]
    assert all(reason for _, _, reason in found.skipped)
    assert any("4 of 34 rows skipped" in note and "row 30" in note for note in found.notes)


def test_a_null_byte_and_a_million_characters_are_skipped_with_a_reason(tmp_path: Path) -> None:
    found = loaded(saved(tmp_path, [*GOOD, "C\0C,1,1", "C" * 1_000_000 + ",0,1"]))
    reasons = {row: reason for row, _, reason in found.skipped}
    assert "null byte" in reasons[30]
    assert "1,000,000 characters" in reasons[31]
    assert max(len(text) for _, text, _ in found.skipped) <= 1000


def test_missing_labels_are_nan_however_they_are_spelt(tmp_path: Path) -> None:
    lines = [*GOOD, "CC,,1", "CCC,NaN,1", "CN,n/a,1", "CO, NA ,1", "CS,null,1"]
    found = loaded(saved(tmp_path, lines))
    assert np.isnan(found.y[30:, 0]).all()
    assert not np.isnan(found.y[:30]).any()


def test_missing_column_brings_the_nearest(tmp_path: Path) -> None:
    assert "Did you mean 'active'" in refused(saved(tmp_path, GOOD), "activ")
    with pytest.raises(DataError, match="no column 'SMILES'"):
        user_card(saved(tmp_path, GOOD), "SMILES", ["active"])


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_the_wrong_encoding_is_named(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("smiles,active\nCCO µ,1\n".encode(encoding))
    assert "line 2 is not UTF-8" in refused(path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_problem(tmp_path: Path) -> None:
    plain = loaded(saved(tmp_path, GOOD))
    path = tmp_path / "my data.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert loaded(path).dataset_hash == plain.dataset_hash


@pytest.mark.parametrize("line", ['"CCO"x,1,2', '"CCO,1,2'])
def test_bad_quoting_names_the_line(line: str, tmp_path: Path) -> None:
    assert "badly quoted" in refused(saved(tmp_path, [*GOOD[:3], line]))


def test_an_unquoted_comma_names_the_row(tmp_path: Path) -> None:
    assert "row 2 has 4 cells where the header has 3" in refused(saved(tmp_path, [*GOOD[:2], "CC,O,1,2", *GOOD[2:]]))


def test_text_in_a_target_names_row_column_and_value(tmp_path: Path) -> None:
    text = refused(saved(tmp_path, [*GOOD, "CC,active,1", "CCC,yes,1"]))
    assert "row 30, column 'active': 'active' is not a number (and 1 more such cells)" in text


@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e999"])
def test_infinite_labels_are_refused(value: str, tmp_path: Path) -> None:
    assert "not a finite number" in refused(saved(tmp_path, [*GOOD, f"CC,{value},1"]))


def test_all_labels_missing_is_refused(tmp_path: Path) -> None:
    lines = [f"{'C' * i},,1" for i in range(1, 20)]
    assert "all labels are missing" in refused(saved(tmp_path, lines))
    assert "all labels are missing" in refused(saved(tmp_path, lines), task="classification")


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    lines = [f"{'C' * i},1,1" for i in range(1, 20)]
    assert "all labels are of one class (1)" in refused(saved(tmp_path, lines))
    assert "all labels are equal (1)" in refused(saved(tmp_path, lines), "value", task="regression")


@pytest.mark.parametrize("size", [1e-29, 1e-13, 1e-9, 1.0, 1e9, 1e25])
def test_labels_of_any_size_that_differ_are_learnt_from(size: float, tmp_path: Path) -> None:
    lines = [f"{'C' * i},0,{size * (1 + i / 10):.6e}" for i in range(1, 20)]
    assert len(loaded(saved(tmp_path, lines), "value")) == 19
    same = [f"{'C' * i},0,{size!r}" for i in range(1, 20)]
    assert "all labels are equal" in refused(saved(tmp_path, same), "value", task="regression")


def test_labels_whose_squares_vanish_are_refused(tmp_path: Path) -> None:
    lines = [f"{'C' * i},0,{i}e-200" for i in range(1, 20)]
    assert "no label is larger than 1.9e-199" in refused(saved(tmp_path, lines), "value")


def test_labels_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    text = refused(saved(tmp_path, [*GOOD, "CC,2,1"]), task="classification")
    assert "row 30, column 'active': 2 is no class" in text


def test_a_task_with_one_class_beside_a_good_one_is_noted(tmp_path: Path) -> None:
    lines = [f"{line},1" for line in GOOD]
    path = saved(tmp_path, lines, header="smiles,active,value,flat")
    found = molecules.load(user_card(path, "smiles", ["active", "flat"]))
    assert "task 'flat' has a single value" in found.notes


def test_two_rows_are_too_few_to_split(tmp_path: Path) -> None:
    found = loaded(saved(tmp_path, GOOD[:2]))
    with pytest.raises(DataError, match="would be empty with 2 molecules"):
        splits.make(found, "random")


def test_no_usable_molecule_gives_the_first_reason(tmp_path: Path) -> None:
    text = refused(saved(tmp_path, ["xx,1,1", "yy,0,1"]))
    assert "no row has a usable molecule" in text
    assert "Row 0" in text


@pytest.mark.parametrize("content", ["", "\n", "smiles,active\n"])
def test_an_empty_file_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    assert str(path) in refused(path)


def test_duplicate_column_names_are_refused_where_they_matter(tmp_path: Path) -> None:
    path = saved(tmp_path, GOOD, header="smiles,active,active")
    assert "'active' occurs 2 times, as columns 2 and 3" in refused(path)
    unrelated = saved(tmp_path, [f"{line},0" for line in GOOD], header="smiles,active,x,x")
    assert len(loaded(unrelated)) == 30


def test_a_gzipped_file_is_read_and_a_damaged_one_named(tmp_path: Path) -> None:
    import gzip

    plain = saved(tmp_path, GOOD)
    packed = tmp_path / "my data.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert loaded(packed).dataset_hash == loaded(plain).dataset_hash
    packed.write_bytes(packed.read_bytes()[:-20])
    assert "gzip file is damaged" in refused(packed)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("smiles", "targets", "said"),
    [("smiles", [], "no target"), ("smiles", ["value", "value"], "twice"), ("smiles", ["smiles"], "both SMILES")],
)
def test_columns_that_contradict_are_refused(smiles: str, targets: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        user_card(saved(tmp_path, GOOD), smiles, targets)


@pytest.mark.parametrize(("task", "metric"), [("clasification", None), ("regression", "roc-auc")])
def test_an_unknown_task_or_metric_is_refused(task: str, metric: str | None, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown"):
        user_card(saved(tmp_path, GOOD), "smiles", ["value"], task, metric=metric)


def test_text_from_a_file_cannot_write_to_the_terminal() -> None:
    assert "\x1b" not in table.shorten("C\x1b[2JC")
    assert len(table.shorten("C" * 10**6)) < 120


def test_the_hash_ignores_spelling_of_numbers_and_order_of_columns(tmp_path: Path) -> None:
    first = loaded(saved(tmp_path, ["CCO,0,0.1", "CC,1,-0.0", "C,0,2"]), "value")
    swapped = saved(tmp_path, ["0.10,CCO ,0", "0,CC,1", "2.000,C,0"], header="value,smiles,active")
    assert loaded(swapped, "value").dataset_hash == first.dataset_hash
    other = saved(tmp_path, ["CCO,0,0.1000001", "CC,1,-0.0", "C,0,2"])
    assert loaded(other, "value").dataset_hash != first.dataset_hash


def test_a_subset_is_drawn_by_hash_and_has_a_hash_of_its_own(tmp_path: Path) -> None:
    found = loaded(saved(tmp_path, GOOD))
    drawn = [molecules.subset(found, 12, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0].rows.tolist() == drawn[1].rows.tolist() != drawn[2].rows.tolist()
    assert len(drawn[0]) == len(drawn[0].smiles) == 12
    assert (np.diff(drawn[0].rows) > 0).all()
    assert len({one.dataset_hash for one in (found, *drawn)}) == 3
    for row, smiles in zip(drawn[0].rows.tolist(), drawn[0].smiles, strict=True):
        assert found.smiles[row] == smiles


@pytest.mark.parametrize(("n", "said"), [(31, "has 30"), (8, "too few"), (0, "too few"), (-3, "too few")])
def test_a_subset_larger_than_the_set_or_too_small_is_refused(n: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        molecules.subset(loaded(saved(tmp_path, GOOD)), n)


def test_the_smallest_subset_allowed_can_be_split(tmp_path: Path) -> None:
    small = molecules.subset(loaded(saved(tmp_path, GOOD)), labels.MIN_ROWS)
    assert len(splits.make(small, "random").test) == 1


def test_a_known_dataset_with_other_content_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    path = tmp_path / "demo.csv"
    text = cards.shipped_folder().joinpath("demo.csv").read_text()
    path.write_text(text.replace("-1.706", "-1.705", 1))
    with pytest.raises(DataError, match="dataset hash"):
        molecules.load(replace(cards.find("demo"), data=path))
    path.write_text(text + "C,0,1\n")
    with pytest.raises(DataError, match="1,129 rows where its card says 1,128"):
        molecules.load(replace(cards.find("demo"), data=path))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("数据.csv", "数据"),
        ("данные (2).csv.gz", "данные-2"),
        ("Données\u0301.tsv", "donnéeś"),
        ("हिन्दी.csv", "हिन्दी"),
        ("\u202edata\x1b[31m.csv", "data-31m"),
        ("!!!.csv", "data"),
        ("demo.csv", "demo-csv"),
        ("x" * 90 + ".csv", "x" * 48),
    ],
)
def test_a_files_name_makes_a_datasets_in_any_script_and_safe_in_a_path_and_on_a_screen(file: str, name: str) -> None:
    from samcmp.data.user_table import _user_name

    assert _user_name(Path(file)) == unicodedata.normalize("NFC", name)
