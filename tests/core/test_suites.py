"""Suite files: what is wrong in one is named with file, key, what was found and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from samcmp.errors import SamcmpError
from samcmp.suites import DEFAULT_FILE, read
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
        (('["demo"]', '"demo"'), ["suites.mine.datasets", "list", "'demo'"]),
        (('["gcn"]', "[]"), ["suites.mine.models", "at least 1"]),
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
        ("repeats = -1", "greater than or equal to 1"),
        ("folds = 7", "5"),
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


@pytest.mark.parametrize("text", ["[suites.mine", "\x00", "suites = 3", "[suites.a]\n[suites.a]"])
def test_a_malformed_file_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(SamcmpError, match=r"mine\.toml"):
        read(write(tmp_path, text))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SamcmpError, match="no such file"):
        read(tmp_path / "nowhere.toml")
