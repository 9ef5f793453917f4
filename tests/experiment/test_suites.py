"""Suite files: what is wrong in one is named with file, key, what was found and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from samcmp.errors import SamcmpError
from samcmp.experiment.suites import DEFAULT_FILE, FileTable, ProtocolTable, SuiteTable, read
from samcmp.experiment.tables import said
from tests.places import ROOT

GOOD = """
[suites.mine]
title = "mine"
datasets = ["demo"]
models = ["gcn"]
optimizers = ["adam", { name = "graphsam", rho = 0.01 }]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_the_shipped_file_is_valid_and_the_one_at_the_root() -> None:
    assert {"default", "smoke", "paper-table2"} <= set(read().suites)
    assert (ROOT / "benchmarks.toml").resolve() == DEFAULT_FILE.resolve()


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    assert list(read(write(tmp_path, GOOD)).suites) == ["mine"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("title", "titel"), ["suites.mine", "titel", "Did you mean 'title'"]),
        (('["demo"]', '["demmo"]'), ["suites.mine.datasets", "demmo", "Did you mean 'demo'"]),
        (('["gcn"]', '["gnc"]'), ["suites.mine.models", "gnc", "Did you mean 'gcn'"]),
        (('"adam"', '"adma"'), ["suites.mine.optimizers", "adma", "Did you mean 'adam'"]),
        (('["demo"]', '"demo"'), ["suites.mine.datasets", "expected a list in [ ]", "'demo'"]),
        (('["demo"]', "[1]"), ["suites.mine.datasets.0", "expected text in quotes", "1"]),
        (('["gcn"]', "[]"), ["suites.mine.models", "must name at least 1"]),
        (('"adam"', "3"), ["suites.mine.optimizers, entry 1", "expected a name, or a table", "3"]),
        (('name = "graphsam", ', ""), ["suites.mine.optimizers", "needs a name"]),
        (('title = "mine"\n', ""), ["suites.mine.title", "this key is missing"]),
        (("rho = 0.01", "roh = 0.01"), ["suites.mine.optimizers", "roh", "Did you mean 'rho'"]),
        (("rho = 0.01", 'rho = "big"'), ["graphsam.rho", "expected a number", "'big'"]),
        (("rho = 0.01", "rho = inf"), ["graphsam.rho", "finite"]),
    ],
)
def test_what_is_wrong_is_named_with_its_key_and_the_nearest_match(
    tmp_path: Path, change: tuple[str, str], says: list[str]
) -> None:
    path = write(tmp_path, GOOD.replace(*change, 1))
    with pytest.raises(SamcmpError) as caught:
        read(path)
    for word in ["mine.toml", *says]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("repeats = -1", "must be at least 1, found -1"),
        ("folds = 7", "must be 5, found 7"),
        ("epochs = 3", "protocol = { epochs = ... }, or epochs under [suites.mine.protocol]"),
        ("epoch = 3", "Did you mean protocol = { epochs = ... }"),
        ("repeat = 3", "Did you mean 'repeats'"),
        ('repeats = "3"', "expected a whole number, found '3'"),
        ("repeats = 2.5", "expected a whole number, found 2.5"),
        ("repeats = true", "expected a whole number, found True"),
        ("split = 3", "expected text in quotes, found 3"),
        ("needs_init_from = 1", "expected true or false, found 1"),
        ("protocol = 3", "suites.mine.protocol: expected a table, found 3"),
        ("protocol = { subset = 9 }", "must be at least 10, found 9"),
        ("protocol = { loss_power = 3 }", "must be 1 or 2, found 3"),
        ('protocol = { peak_lr = "1e-3" }', "expected a number, found '1e-3'"),
        ("protocol = { peak_lr = 0 }", "must be more than 0, found 0"),
        ("profile_seconds = inf", "expected a finite number, found inf"),
        ("table = 2.0", "expected a whole number, found 2.0"),
        ('split = "scafold"', "Did you mean 'scaffold'"),
        ('split = "scaffold"\nfolds = 5', "contradict"),
        ("protocol = { epochs = 0 }", "suites.mine.protocol.epochs"),
        ("protocol = { epochs = 2.5 }", "suites.mine.protocol.epochs"),
        ("protocol = { peak_lr = nan }", "suites.mine.protocol.peak_lr"),
        ("protocol = { epoch = 3 }", "Did you mean 'epochs'"),
        ('protocol = { schedule = "noma" }', "Did you mean 'noam'"),
        ("profile_seconds = 0", "suites.mine.profile_seconds"),
    ],
)
def test_numbers_and_names_out_of_range_are_refused(tmp_path: Path, lines: str, says: str) -> None:
    with pytest.raises(SamcmpError) as caught:
        read(write(tmp_path, f"{GOOD}{lines}\n"))
    assert says in str(caught.value)


WRONG: tuple[object, ...] = (3, 1e9, 10**30, -1, 2.5, float("inf"), True, "text", [], [3], {"a": 1}, [[]])


@pytest.mark.parametrize("table", [FileTable, SuiteTable, ProtocolTable])
def test_every_complaint_about_every_key_is_in_our_own_words(table: type[BaseModel]) -> None:
    for key in table.model_fields:
        for value in WRONG:
            content = {**({"title": "t"} if table is SuiteTable else {}), key: value}
            try:
                table.model_validate(content)
            except ValidationError as error:
                for complaint in error.errors():
                    if complaint["type"] not in {"extra_forbidden", "missing"}:
                        assert said(complaint)


@pytest.mark.parametrize("text", ["[suites.mine", "\x00", "suites = 3", "[suites.a]\n[suites.a]"])
def test_a_malformed_file_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(SamcmpError, match=r"mine\.toml"):
        read(write(tmp_path, text))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SamcmpError, match="no such file"):
        read(tmp_path / "nowhere.toml")
