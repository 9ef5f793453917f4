"""The shell completes values: names from the catalogues, quickly, and without the heavy libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.test_house import HEAVY

# the whole of the catalogue's values would make the test a copy of it: some that belong, some that do not
LINES = {
    "compare -d ": ({"esol", "tox21", "bbbp@compt"}, {"gcn"}),
    "compare -d es": ({"esol"}, {"tox21"}),
    "compare -m ": ({"gcn", "grover"}, {"esol"}),
    "compare -o gra": ({"graphsam"}, {"sam"}),
    "compare -d esol --optimizer l": ({"looksam"}, {"sam"}),
    "compare --suite pap": ({"paper-table2"}, {"smoke"}),
    "compare --format ": ({"table", "html", "json", "parquet"}, set()),
    "compare --set graphsam.r": ({"graphsam.rho=0.05"}, {"graphsam.gamma=0.5"}),
    "compare --equal ": ({"trials", "passes", "seconds"}, set()),
    "compare --device ": ({"auto", "cpu", "cuda"}, set()),
    "compare --task c": ({"classification"}, {"regression"}),
    "profile -o g": ({"graphsam"}, {"sam"}),
    "report -m g": ({"gcn", "grover"}, {"compt"}),
    "fetch li": ({"lipo"}, {"esol"}),
    "check gr": ({"graphsam", "grover"}, {"sam"}),
    "list d": ({"datasets"}, {"models"}),
    "list --format ": ({"table", "json"}, set()),
    "store pr": ({"prune"}, {"size"}),
    "comp": ({"compare"}, {"report"}),
}


def completed(line: str, *, folder: Path = ROOT, shell: str = "bash") -> tuple[set[str], set[str], str]:
    """Complete ``samcmp LINE`` as a shell asks for it; return the values, the heavy modules loaded, and complaints."""
    program = (
        "import atexit, sys; sys.argv = ['samcmp']\n"
        f"atexit.register(lambda: print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules]))\n"
        "from samcmp.cli import main\nmain()"
    )
    words = line.split()
    typed = {"COMP_WORDS": f"samcmp {line}", "COMP_CWORD": str(len(words) + line.endswith(" "))}
    typed |= {"_TYPER_COMPLETE_ARGS": f"samcmp {line}"}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, timeout=120, check=False,
        env={**os.environ, **typed, "_SAMCMP_COMPLETE": f"complete_{shell}"},
    )  # fmt: skip
    *values, loaded = result.stdout.splitlines()
    return set(values) - {""}, set(loaded.split()[1:]), result.stderr


@pytest.mark.parametrize("line", LINES)
def test_a_value_is_completed_from_its_catalogue_and_nothing_heavy_is_imported(line: str) -> None:
    values, loaded, complaints = completed(line)
    expected, others = LINES[line]
    assert expected <= values
    assert not others & values
    assert all(value.startswith(line.rpartition(" ")[2]) for value in values)
    assert loaded == set()
    assert complaints == ""


def test_a_shell_that_shows_help_gets_it() -> None:
    values, _, _ = completed("compare -d eso", shell="zsh")
    assert "ESOL" in "".join(values)


def test_cards_and_suites_of_the_users_own_are_completed_too(tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    card = (ROOT / "datasets" / "esol.toml").read_text().replace('name = "esol"', 'name = "mine"', 1)
    (tmp_path / "cards" / "mine.toml").write_text(card)
    (tmp_path / "my.toml").write_text(
        '[suites.nightly]\ntitle = "t"\ndatasets = ["demo"]\nmodels = ["gcn"]\noptimizers = ["adam"]\n'
    )
    assert "mine" in completed("compare --cards cards -d ", folder=tmp_path)[0]
    assert completed("compare --config my.toml --suite ", folder=tmp_path)[0] == {"nightly"}


def test_completing_a_line_writes_into_no_file_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("smiles,y\n")
    for line in ("compare --log mine.csv -o gra", "compare --log new.txt --data mine.csv --output mine.csv -o gra"):
        assert "graphsam" in completed(line, folder=tmp_path)[0]
    assert (tmp_path / "mine.csv").read_text() == "smiles,y\n"
    assert not (tmp_path / "new.txt").exists()


def test_a_suite_file_that_cannot_be_read_offers_nothing_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("suites = [")
    assert completed("compare --config broken.toml --suite ", folder=tmp_path) == (set(), set(), "")
