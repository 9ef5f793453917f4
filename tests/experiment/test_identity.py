"""A result is filed under everything that decides it, and a run reads what its key was made of or refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samcmp import backbones, optim
from samcmp.backbones import entry as model_entry
from samcmp.backbones import names as model_names
from samcmp.backbones.user import load_class
from samcmp.conformance.backbone import Subject
from samcmp.data import cards as dataset_cards
from samcmp.data.cards import DatasetCard
from samcmp.data.catalogue import Catalogue, identity
from samcmp.data.user_table import user_card
from samcmp.engines import Work, local
from samcmp.errors import SamcmpError
from samcmp.experiment import suites
from samcmp.experiment.config import Request, read, read_value
from samcmp.experiment.keys import Inputs
from samcmp.experiment.plan import Plan, build
from samcmp.graphs.batch import Columns
from samcmp.records import Case, Protocol, canonical_json, differing
from samcmp.training.setup import Options
from tests.places import ROOT

CARD = DatasetCard("mine", "Mine", "smiles", ("y",), "regression", "rmse", "mine.csv", data=Path("mine.csv"))
ROWS = ("C", "CC", "CCC", "CCO", "CCN", "CCCC", "CCCO", "CCCN", "OCCO", "NCCN", "CCCCC", "CCCCO", "c1ccccc1", "CCl") * 3


def a_plan(inputs: Inputs | None = None, **request: Any) -> Plan:
    chosen = {"models": ("gcn",), "optimizers": ("adam",), "repeats": 1, **request}
    return build(read(Request(inputs=inputs or Inputs(), **chosen), suites.read()))


# ---------------------------------------------------------------------------------------------- datasets

OTHER = {  # a changed value of every field that decides
    "name": "other", "smiles_column": "SMILES", "target_columns": ("z",), "task": "classification", "metric": "mae",
    "leave_out": (1,), "compt_leave_out": (2,), "target_positions": (3,), "group_column": "g", "split_column": "s",
    "population": "compt", "dataset_hash": "f" * 64, "kind": "images", "train_members": ("a.bin",),
    "test_members": ("b.bin",), "label_bytes": 2, "classes": ("a", "b"),
}  # fmt: skip
SAYS = {  # and of every one that is for people, for finding the file or for checking it
    "title": "Other", "url": "https://example.org/x", "split": "scaffold", "molecules": 7, "file_rows": 7,
    "scaffold_partition": "0" * 16, "paper": "P", "licence": "L", "remarks": "R", "notes": ("n",), "shortage": "s",
    "path": Path("x"), "compt_hash": "e" * 64, "file_name": "other.csv", "unit": "u", "images": 7,
}  # fmt: skip


@pytest.mark.parametrize("field", OTHER)
def test_what_a_card_decides_is_part_of_its_datasets_identity(field: str) -> None:
    assert identity(replace(CARD, **{field: OTHER[field]}), "1") != identity(CARD, "1")


@pytest.mark.parametrize("field", SAYS)
def test_what_a_card_says_for_people_is_no_part_of_its_datasets_identity(field: str) -> None:
    assert identity(replace(CARD, **{field: SAYS[field]}), "1") == identity(CARD, "1")


def test_every_field_of_a_card_is_of_one_kind() -> None:
    rest = {"sha256", "md5", "built_in", "data"}  # the file's content, and whether its rows are a frozen list
    assert {field.name for field in dataclasses.fields(DatasetCard)} == OTHER.keys() | SAYS.keys() | rest


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_two_files_have_one_identity_where_their_bytes_are_equal_and_nowhere_else(one: bytes, two: bytes) -> None:
    first, second = (identity(CARD, hashlib.sha256(data).hexdigest()) for data in (one, two))
    assert (first == second) == (one == two)


def test_a_dataset_that_is_downloaded_has_one_identity_before_and_after() -> None:
    card = dataset_cards.find("esol")
    assert identity(card, "") == identity(card, card.sha256[0])


TOML = (
    'name = "mine"\ntitle = "Mine"\nsmiles_column = "smiles"\ntarget_columns = ["y"]\n'
    'task = "regression"\nmetric = "rmse"\nfile_name = "mine.csv"\n'
)


def table_of(factor: float = 1.0) -> str:
    lines = [f"{smiles},{factor * i},{i % 7}\n" for i, smiles in enumerate(ROWS)]
    return "smiles,y,z\n" + "".join(lines)


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("mine.csv", "CCO,3.0", "CCO,4.0", False),
        ("mine.toml", '["y"]', '["z"]', False),
        ("mine.toml", '"rmse"', '"mae"', False),
        ("mine.toml", 'title = "Mine"', 'title = "Yours"', True),
        ("mine.toml", 'name = "mine"', '# a remark\nname = "mine"', True),
    ],
)
@pytest.mark.parametrize("with_sha256", [False, True])
def test_a_changed_card_or_file_is_another_case_in_the_same_process(
    tmp_path: Path, file: str, old: str, new: str, same: bool, with_sha256: bool
) -> None:
    texts = {"mine.toml": TOML, "mine.csv": table_of()}

    def write() -> None:
        digest = hashlib.sha256(texts["mine.csv"].encode()).hexdigest()
        (tmp_path / "mine.csv").write_text(texts["mine.csv"])
        (tmp_path / "mine.toml").write_text(texts["mine.toml"] + f'sha256 = ["{digest}"]\n' * with_sha256)

    write()
    before = a_plan(Inputs(Catalogue([tmp_path])), datasets=("mine",)).keys
    texts[file] = texts[file].replace(old, new)
    write()
    assert (a_plan(Inputs(Catalogue([tmp_path])), datasets=("mine",)).keys == before) == same


# ---------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("name", [name for name in optim.names() if optim.entry(name).settings])
def test_a_setting_of_an_optimizer_that_equals_its_default_is_no_setting(name: str) -> None:
    plain = a_plan(optimizers=("adam", name))
    for key, value in optim.entry(name).settings.items():
        for text in {str(value), *spellings(value)}:
            assert a_plan(optimizers=("adam", name), overrides=(f"{name}.{key}={text}",)).keys == plain.keys, (
                key,
                text,
            )


def spellings(value: object) -> list[str]:
    """Write a number in other ways."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return []
    whole = [str(int(value))] if value == int(value) else []
    return [*whole, *([f"{value:.6e}", f"{value:.9f}"] if isinstance(value, float) else [])]


READS = {"demo": "molecules", "esol": "molecules", "tox21": "molecules", "demo-images": "images"}


@pytest.mark.parametrize(
    ("name", "dataset"), [(n, d) for n in model_names() for d in READS if model_entry(n).reads == READS[d]]
)
def test_a_setting_of_a_model_that_equals_its_default_is_no_setting(name: str, dataset: str) -> None:
    from samcmp import backbones

    plain = a_plan(models=(name,), datasets=(dataset,))
    config = backbones.build_config(name, dataset=dataset)
    written = backbones.defaults(name, dataset=dataset)
    assert written == {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    for key, value in written.items():
        assert a_plan(models=(name,), datasets=(dataset,), overrides=(f"{name}.{key}={value}",)).keys == plain.keys, key


def test_a_sweep_over_the_default_keeps_the_reference() -> None:
    arms = {case.arm for case in a_plan(optimizers=("adam", "sam"), overrides=("sam.rho=0.005,0.05",)).train.values()}
    assert arms == {"adam", "sam", "sam[rho=0.005]"}


@given(st.floats(0.001, 10.0), st.integers(-3, 3))
def test_one_value_has_one_spelling(number: float, whole: int) -> None:
    for default in (0.05, 1.0):
        for texts in ((repr(number), f"{number:.17e}", f"+{number!r}"), (str(whole), f"{whole}.0", f"{whole}e0")):
            made = [differing({"rho": read_value(text)}, {"rho": default}) for text in texts]
            assert len({canonical_json(each) for each in made}) == 1
            assert (made[0] == {}) == (read_value(texts[0]) == default)


def test_an_entrys_defaults_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = a_plan(optimizers=("sam",)).keys
    entry = optim.OPTIMIZERS["sam"]
    monkeypatch.setitem(optim.OPTIMIZERS, "sam", replace(entry, settings={**entry.settings, "rho": 0.07}))
    assert not set(a_plan(optimizers=("sam",)).keys) & set(before)


# ---------------------------------------------------------------------------------------------- code

NET = """
from torch import nn
from torch_geometric.nn import global_mean_pool
{imports}
class Net(nn.Module):
    def __init__(self, in_channels, tasks, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_channels, width), nn.Linear(width, tasks))
    def forward(self, data):
        return SCALE * self.layers(global_mean_pool(data.x, data.batch))
"""
WAYS = {  # what the model imports, and the other files
    "beside": ("from helper import SCALE", {}),
    "as": ("import helper as h\nSCALE = h.SCALE", {}),
    "in a function": ("def scale():\n    from helper import SCALE\n    return SCALE\nSCALE = scale()", {}),
    "by import_module": ('import importlib\nSCALE = importlib.import_module("helper").SCALE', {}),
    "through another": ("from other import SCALE", {"other.py": "from helper import *"}),
    "package": ("from kit import SCALE", {"kit/__init__.py": "from .inner import SCALE", "kit/inner.py": "{helper}"}),
    "part": ("from kit.inner import SCALE", {"kit/__init__.py": "", "kit/inner.py": "{helper}"}),
    "namespace": ("import kit.deep.inner as i\nSCALE = i.SCALE", {"kit/deep/inner.py": "{helper}"}),
    "two dots": (
        "from kit.deep.a import SCALE",
        {"kit/__init__.py": "", "kit/deep/__init__.py": "", "kit/deep/a.py": "from ..inner import SCALE",
         "kit/inner.py": "{helper}"},
    ),
}  # fmt: skip


def write_model(folder: Path, way: str, helper: str) -> str:
    imports, files = WAYS[way]
    for name, text in {"net.py": NET.format(imports=imports), "helper.py": "{helper}", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{helper}", helper))
    return f"{folder / 'net.py'}:Net"


@pytest.mark.parametrize("way", WAYS)
def test_what_a_users_model_imports_is_part_of_its_key(tmp_path: Path, way: str) -> None:
    def keys(helper: str) -> list[str]:
        return a_plan(models=(write_model(tmp_path, way, helper),)).keys

    plain = keys("SCALE = 1.0")
    assert not set(keys("SCALE = 2.0")) & set(plain)
    assert keys("# why\nSCALE = 1.0") == plain
    (tmp_path / "unrelated.py").write_text("SCALE = 3.0")
    assert keys("SCALE = 1.0") == plain


@pytest.mark.parametrize("way", WAYS)
def test_a_helper_that_changes_within_a_second_is_run_as_it_is_now(tmp_path: Path, way: str) -> None:
    for scale in (1.0, 2.0, 3.0):
        assert scale_of(write_model(tmp_path, way, f"SCALE = {scale}")) == scale


def scale_of(source: str) -> object:
    return sys.modules[load_class(source).__module__].SCALE


LATE = {  # ways to import where a function is called, not where the file is read
    "forward": ("def scale():\n    from helper import SCALE\n    return SCALE", {}),
    "by import_module": ("import importlib\ndef scale():\n    return importlib.import_module('helper').SCALE", {}),
    "in a lambda": ("scale = lambda: __import__('helper').SCALE", {}),
    "in a helper": ("from kit import scale", {"kit.py": "def scale():\n    import helper\n    return helper.SCALE"}),
    "two dots": (
        "from kit.deep.a import scale",
        {"kit/__init__.py": "", "kit/deep/__init__.py": "", "kit/inner.py": "{helper}",
         "kit/deep/a.py": "def scale():\n    from ..inner import SCALE\n    return SCALE"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", LATE)
def test_what_is_imported_only_in_a_call_is_part_of_the_key_and_found_beside_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "helper.py").write_text("SCALE = 1e9")
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    imports, files = LATE[way]
    texts = {"net.py": NET.format(imports=imports).replace("SCALE *", "scale() *"), "helper.py": "{helper}", **files}
    source, keys, outputs = f"{tmp_path / 'net.py'}:Net", [], []
    for scale in (1.0, 2.0):
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text.replace("{helper}", f"SCALE = {scale}"))
        keys.append(a_plan(models=(source,)).keys)
        torch.manual_seed(0)
        model = backbones.build(backbones.build_config(source), 1)
        trial = Subject(lambda _, model=model: model, Columns("chemprop-v1"))
        outputs.append(model(trial.batch(ROWS[:5]).to(dtype=torch.float32)))
    assert not set(keys[0]) & set(keys[1])
    torch.testing.assert_close(outputs[1], 2 * outputs[0])
    assert "helper" not in sys.modules


def test_two_folders_with_helpers_of_one_name_each_get_their_own(tmp_path: Path) -> None:
    sources = [write_model(tmp_path / name, "beside", f"SCALE = {n}") for n, name in enumerate("abab")]
    assert [scale_of(source) for source in sources] == [2, 3, 2, 3]


@pytest.mark.parametrize("folder", ["work", "site-packages", "samcmp"])
def test_an_environment_below_a_models_folder_is_known_by_versions(tmp_path: Path, folder: str) -> None:
    site = tmp_path / folder / ".venv/lib/site-packages"
    (site / "kit").mkdir(parents=True)
    (site / "kit/__init__.py").write_text("from kit import more\nSCALE = 1.0\n")
    (site / "kit/more.py").write_text("")
    (site / "the_kit-1.5.dist-info").mkdir()
    for name, text in {
        "METADATA": "Metadata-Version: 2.1\nName: the-kit\nVersion: 1.5\n",
        "WHEEL": "Wheel-Version: 1.0\n",
        "top_level.txt": "kit\n",
    }.items():
        (site / "the_kit-1.5.dist-info" / name).write_text(text)
    source = write_model(tmp_path / folder, "beside", "from kit import SCALE")
    program = f"from samcmp import modules; print(*modules.closure([{source.rpartition(':')[0]!r}]).items(), sep='\\n')"
    words, paths = [sys.executable, "-c", program], f"{site}:{ROOT}"
    done = subprocess.run(words, env={"PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    assert "('version of the-kit', '1.5')" in done.stdout
    assert "kit/" not in done.stdout.replace("site-packages/", "")
    assert str(tmp_path / folder / "helper.py") in done.stdout


def test_keying_a_users_model_neither_runs_it_nor_imports_torch(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import helper, samcmp.backbones.gcn\nraise SystemExit('run')\nclass Net: ...\n")
    (tmp_path / "helper.py").write_text("raise SystemExit('run')\n")
    program = (
        "import sys; from samcmp.experiment import suites; from samcmp.experiment.plan import build\n"
        "from samcmp.experiment.config import Request, read\n"
        "plan = build(read(Request(models=('net.py:Net',), overrides=('net.py:Net.width=9',)), suites.read()))\n"
        "assert {'net.py', 'helper.py', 'samcmp.backbones.gcn'} <= plan.code.keys(), sorted(plan.code)\n"
        "assert not {'torch', 'helper'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=100)


ENTRY = """from samcmp.optim.entry import OptimizerEntry
entry = OptimizerEntry('{module}', 'Own', 's', 'p', '1', {{'rho': 0.05}})
"""
OWN = "from {helper} import SCALE\nfrom samcmp.optim.sam import SAM\nclass Own(SAM): ...\n"


@pytest.mark.parametrize("kind", ["loose", "installed", "editable", "package"])
def test_what_an_installed_optimizer_imports_of_its_own_is_part_of_its_key(tmp_path: Path, kind: str) -> None:
    site, source = tmp_path / "site", tmp_path / ("checkout" if kind == "editable" else "site")
    module, helper = ("own_kit.opt", "own_kit.helper") if kind == "package" else ("own_opt", "own_helper")
    files = {
        f"{module.replace('.', '/')}.py": OWN.format(helper=helper),
        f"{helper.replace('.', '/')}.py": "SCALE = 1\n",
        "own_entry.py": ENTRY.format(module=module),
        **({"own_kit/__init__.py": ""} if kind == "package" else {}),
    }
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    info = site / "own-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[samcmp.optimizers]\nown = own_entry:entry\n")
    if kind != "loose":
        (info / "WHEEL").write_text("Wheel-Version: 1.0\n")
        (info / "top_level.txt").write_text("own_kit\nown_opt\nown_helper\nown_entry\n")
    program = (
        "from samcmp.experiment import suites; from samcmp.experiment.plan import build\n"
        "from samcmp.experiment.config import Request, read\n"
        "plan = build(read(Request(models=('gcn',), optimizers=('own',), repeats=1), suites.read()), profile=False)\n"
        "import sys; assert 'torch' not in sys.modules; print(*plan.train, *plan.code)"
    )
    environment = {"PYTHONPATH": f"{site}:{source}:{ROOT}", "PATH": "", "HOME": str(tmp_path)}

    def keyed() -> list[str]:
        words = [sys.executable, "-c", program]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.split()

    key, *code = keyed()
    assert {module, helper} <= set(code)
    (source / f"{helper.replace('.', '/')}.py").write_text("SCALE = 2\n")
    assert keyed()[0] != key


# ---------------------------------------------------------------------------------------------- in mid-run

PROTOCOL = Protocol(epochs=1, batch_size=16)
Edit = Callable[[], None]


def a_table(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], Edit]:
    path = folder / "data.csv"
    path.write_text(table_of())
    card = user_card(path, "smiles", ["y"], content=path.read_bytes())
    datasets = Catalogue(own=[(card, hashlib.sha256(path.read_bytes()).hexdigest())])
    edit = lambda: path.write_text(table_of(100.0))  # noqa: E731
    return {"dataset": card.name, "data": datasets.identity(card.name)}, {"datasets": datasets}, edit


def a_split(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], Edit]:
    case, options, _ = a_table(folder)
    path = folder / "split.json"

    def write(first: int) -> None:
        rows = list(range(len(ROWS)))
        rows = rows[first:] + rows[:first]
        path.write_text(json.dumps({"train": rows[:30], "valid": rows[30:36], "test": rows[36:]}))

    write(0)
    more = {"split": "file", "split_file": hashlib.sha256(path.read_bytes()).hexdigest()}
    return {**case, **more}, {**options, "split_file": path}, lambda: write(7)


def a_card(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], Edit]:
    (folder / "mine.toml").write_text(TOML)
    (folder / "mine.csv").write_text(table_of())
    datasets = Catalogue([folder])
    case = {"dataset": "mine", "data": datasets.identity("mine")}
    return case, {"datasets": datasets}, lambda: (folder / "mine.csv").write_text(table_of(9.0))


def weights(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], Edit]:
    from samcmp.training import checkpoints
    from samcmp.training.setup import assemble

    case, options, _ = a_table(folder)
    setup = assemble(Case("train", model="gcn", optimizer="adam", protocol=PROTOCOL, **case), Options(**options))
    path = folder / "weights.safetensors"
    checkpoints.save(setup.new_model(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    other = replace(setup, case=replace(setup.case, seed=1))
    more = {"protocol": replace(PROTOCOL, init_from=digest)}
    return {**case, **more}, {**options, "init_from": path}, lambda: checkpoints.save(other.new_model(), path)


def a_model(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], Edit]:
    case, options, _ = a_table(folder)
    source = write_model(folder, "beside", "SCALE = 1.0")
    return {**case, "model": source}, options, lambda: write_model(folder, "beside", "SCALE = 2.0") and None


FILES = {
    "data.csv": a_table, "split.json": a_split, "mine.csv": a_card, "weights.safetensors": weights,
    "helper.py": a_model,
}  # fmt: skip


def cases_of(folder: Path, file: str, kind: str = "train") -> tuple[dict[str, Case], Options, Edit]:
    fields, options, edit = FILES[file](folder)
    fields = {"model": "gcn", "protocol": PROTOCOL, **fields}
    inputs = Inputs()
    made = [Case(kind, optimizer=o, seed=s, **fields) for o, s in (("adam", 0), ("sam", 0), ("sam", 1))]  # type: ignore[arg-type]
    cases = {inputs.key_of(case): case for case in made}
    return cases, Options(code=inputs.code_of(*made), **options), edit


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", ["run_here", "run_apart"])
def test_a_file_that_changes_in_mid_run_ends_it_with_its_name_and_nothing_of_it_is_filed(
    tmp_path: Path, how: str, file: str
) -> None:
    cases, options, edit = cases_of(tmp_path, file)
    more = {"jobs": 1} if how == "run_apart" else {}
    finished = []

    def run() -> None:
        for result in getattr(local, how)(Work(cases), options, listen=lambda now: None, **more):
            finished.append(result.record)
            if len(finished) == 1:
                edit()

    with pytest.raises(SamcmpError) as refused:
        run()
    assert [record.status for record in finished] == ["ok"]
    assert "since this comparison began" in refused.value.what
    assert str(refused.value.where).endswith(file)
    assert refused.value.remedy


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_changed_before_a_profile_session_ends_it_with_its_name(tmp_path: Path, file: str) -> None:
    from samcmp.profiling import session

    cases, options, edit = cases_of(tmp_path, file, "profile")
    cases = dict(list(cases.items())[:2])
    edit()
    with pytest.raises(SamcmpError) as refused:
        session.profile(cases, options)
    assert str(refused.value.where).endswith(file)


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_put_back_is_the_one_the_comparison_began_with(tmp_path: Path, file: str) -> None:
    cases, options, edit = cases_of(tmp_path, file)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    edit()
    for path, data in kept.items():
        path.write_bytes(data)
    records = [f.record for f in local.run_here(Work(cases), options, listen=lambda event: None)]
    assert [record.status for record in records] == ["ok"] * 3
