"""Cards: complete, checked key by key, found where they are, and never a way to another file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from samcmp.data import cards, images, molecules
from samcmp.errors import ConfigError, DataError, UsageError
from tests.places import MIRROR, ROOT, needs_mirror

SHIPPED = sorted(path.stem for path in (ROOT / "datasets").glob("*.toml"))
PUBLISHED = ["bace", "bbbp", "clintox", "esol", "freesolv", "lipo", "qm7", "qm8", "qm9", "sider", "tox21"]
CARD = """
name = "mine"
title = "Mine"
file_name = "mine.csv"
smiles_column = "smiles"
target_columns = ["activity"]
task = "regression"
metric = "rmse"
"""


def written(folder: Path, text: str = CARD, *, name: str = "mine") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_every_card_of_the_folder_is_in_the_catalogue_and_those_of_the_papers_are_among_them() -> None:
    populations = [f"{name}@compt" for name in SHIPPED if cards.find(name).compt_leave_out]
    assert cards.names() == sorted([*SHIPPED, *populations])
    assert set(PUBLISHED) <= set(SHIPPED)
    assert set(populations) >= {f"{name}@compt" for name in ("bbbp", "clintox", "lipo", "sider", "tox21")}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_card_says_where_it_comes_from_and_what_may_be_done(name: str) -> None:
    card = cards.find(name)
    assert card.title
    assert card.paper
    assert card.licence
    assert card.remarks
    assert card.built_in or (card.url.endswith(card.file_name) and (card.sha256 or card.md5))
    assert card.size == (card.file_rows or 0) - len(card.leave_out)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_card_says_what_its_file_holds(name: str) -> None:
    """Its number of molecules or images and their hash are computed again, from the card's own file or the mirror's."""
    card = cards.find(name)
    if card.data is None and not (MIRROR / card.file_name).is_file():
        pytest.skip(f"{card.file_name} is not at {MIRROR}")
    found = (images if card.kind == "images" else molecules).load(card, source=MIRROR)
    assert len(found) == card.size
    assert card.dataset_hash == found.dataset_hash or (card.md5 and card.dataset_hash is None)


COMPUTED = [name for name in SHIPPED if cards.find(name).built_in and cards.find(name).kind == "molecules"]


@pytest.mark.parametrize("name", COMPUTED)
def test_a_computed_dataset_has_its_groups(name: str) -> None:
    assert molecules.load(cards.find(name)).groups is not None


@needs_mirror
@pytest.mark.parametrize(
    ("name", "n"), [("bbbp", 2035), ("tox21", 7821), ("sider", 1379), ("clintox", 1468), ("esol", 1128), ("lipo", 4198)]
)
def test_the_population_compt_has_the_sizes_that_compt_trains_on(name: str, n: int) -> None:
    whole, small = cards.find(name), cards.find(f"{name}@compt")
    found = molecules.load(small, source=MIRROR)
    assert len(found) == small.molecules == n
    assert found.name == f"{name}@compt"
    assert (found.dataset_hash == whole.dataset_hash) == (name == "esol")


@needs_mirror
@pytest.mark.parametrize("name", ["bbbp", "sider", "lipo", "clintox"])
def test_the_population_compt_leaves_out_exactly_the_molecules_of_100_atoms_and_more(name: str) -> None:
    from samcmp.graphs.featurize import parse

    found = molecules.load(cards.find(name), source=MIRROR)
    pairs = zip(found.rows.tolist(), found.smiles, strict=True)
    large = {row for row, text in pairs if len(text) >= 60 and parse(text).GetNumHeavyAtoms() >= 100}
    assert large == set(cards.find(name).compt_leave_out)


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'tox21'"):
        cards.find("tox2")
    with pytest.raises(UsageError, match="Did you mean 'lipo'"):
        cards.find("lipophilicity")
    with pytest.raises(UsageError, match="unknown population 'small'"):
        cards.find("esol@small")


@pytest.mark.parametrize("name", ["../esol", "/etc/passwd", "esol/../esol", "", "ESOL\0", "a" * 300])
def test_a_name_is_never_a_path(name: str) -> None:
    with pytest.raises(UsageError, match="unknown dataset"):
        cards.find(name)


def test_a_card_in_a_folder_of_the_users_is_found_with_the_file_beside_it(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "mine.csv").write_text("smiles,activity\n" + "".join(f"{'C' * i},{i}\n" for i in range(1, 20)))
    assert "mine" in cards.names([tmp_path])
    assert len(molecules.load(cards.find("mine", [tmp_path]))) == 19


def test_a_card_whose_file_is_missing_names_it(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(DataError, match=r"mine\.csv"):
        molecules.load(cards.find("mine", [tmp_path]))


def test_a_users_card_cannot_replace_a_shipped_one(tmp_path: Path) -> None:
    written(tmp_path, CARD.replace('"mine"', '"esol"'), name="esol")
    with pytest.raises(ConfigError, match="already a dataset called 'esol'"):
        cards.find("esol", [tmp_path])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        cards.names([tmp_path / "nowhere"])


def test_cards_of_an_installed_plug_in_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "their_cards")
    (tmp_path / "their_cards" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("theirs", "their_cards", cards.ENTRY_POINTS)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == cards.ENTRY_POINTS else [])
    assert cards.find("mine").title == "Mine"


def test_a_broken_plug_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "no_such_module_anywhere", cards.ENTRY_POINTS)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point])
    with pytest.raises(ConfigError, match="no_such_module_anywhere"):
        cards.names()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('smiles = "x"', "unknown key 'smiles'"),
        ("metrik = 1", "Did you mean 'metric'"),
        ("sha256 = [1]", "list of texts"),
        ("leave_out = [-1]", "counted from 0"),
        ('leave_out = "3"', "list of whole numbers"),
        ("molecules = true", "a whole number"),
        ('sha256 = ["abc"]', "not a SHA-256"),
        ('url = "ftp://x/mine.csv"', "not a URL"),
        ('url = "https://x/mine.csv"', "needs its SHA-256"),
        ('split = "scafold"', "Did you mean 'scaffold'"),
        ("target_positions = [1, 2]", "one for every target column"),
        ("title = ", "is not TOML"),
    ],
)
def test_a_key_that_does_not_fit_is_named_with_what_is_allowed(change: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"{CARD}{change}\n")
    with pytest.raises(ConfigError, match=said) as caught:
        cards.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('task = "regression"', 'task = "clasification"', "Did you mean 'classification'"),
        ('metric = "rmse"', 'metric = "roc-auc"', "Allowed: mae, rmse"),
        ('file_name = "mine.csv"', 'file_name = "../mine.csv"', "not a plain file name"),
        ('file_name = "mine.csv"', 'file_name = ".hidden"', "not a plain file name"),
        ('name = "mine"', 'name = "../mine"', "not a dataset name"),
        ('name = "mine"', 'name = "other"', "the name is 'other' but the file is"),
        ('title = "Mine"', "", "the key 'title' is missing"),
        ('["activity"]', "[]", "at least one"),
        ('["activity"]', '["a", "a"]', "each once"),
    ],
)
def test_a_value_that_does_not_fit_is_named(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, CARD.replace(old, new))
    with pytest.raises(ConfigError, match=said):
        cards.read(path)


def test_cards_are_found_as_package_data_of_an_installed_wheel(tmp_path: Path) -> None:
    installed = tmp_path / "site"
    shutil.copytree(ROOT / "samcmp", installed / "samcmp", ignore=shutil.ignore_patterns("__pycache__"))  # links, too
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import samcmp; from samcmp.data import cards, molecules;"
        "assert samcmp.__file__.startswith(sys.argv[1]);"
        "assert cards.shipped_folder().parent.name == 'samcmp';"
        "assert len(molecules.load(cards.find('demo'))) == 1128"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(installed)], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_listing_cards_costs_no_heavy_import() -> None:
    code = (
        "import sys; from samcmp.data import cards, fetch; [fetch.is_cached(cards.find(n)) for n in cards.names()];"
        "heavy = {'numpy', 'torch', 'rdkit', 'pandas', 'scipy', 'pydantic'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr.strip()) == (0, "")
