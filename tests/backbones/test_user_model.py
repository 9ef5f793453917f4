"""A user's own torch.nn.Module under ``--model my_file.py:MyModel``, and the catalogue's answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from samcmp import backbones
from samcmp.conformance.backbone import check_config
from samcmp.errors import UsageError

GOOD = """
import torch
from torch_geometric.nn import GCNConv, global_mean_pool

class Mine(torch.nn.Module):
    def __init__(self, in_channels, out_channels, width=8):
        super().__init__()
        self.conv, self.out = GCNConv(in_channels, width), torch.nn.Linear(width, out_channels)

    def forward(self, data):
        return self.out(global_mean_pool(self.conv(data.x, data.edge_index).tanh(), data.batch, data.num_graphs))

class PerAtom(torch.nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.out = torch.nn.Linear(in_channels, 1)

    def forward(self, data):
        return self.out(data.x)

class Needy(torch.nn.Module):
    def __init__(self, flavour):
        super().__init__()

number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my file.py"
    path.write_text(GOOD)
    return path


def test_users_module_keeps_all_promises(file: Path) -> None:
    config = backbones.build_config(f"{file}:Mine", settings={"width": 5})
    report = check_config(config)
    assert report.ok, str(report)
    assert report["a gradient reaches every parameter"].found.startswith("4 tensors, 688 ")


def test_users_module_can_ask_for_other_columns(file: Path) -> None:
    config = backbones.build_config(f"{file}:Mine", settings={"features": "grover"})
    assert config.columns.atoms == "grover"
    assert backbones.build(config, 2).model.conv.in_channels == 151  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("Mine", {"widht": 5}, "Did you mean 'width'"),
        ("mine", {}, "Did you mean 'Mine'"),
        ("number", {}, "not a torch.nn.Module"),
        ("Needy", {}, "its constructor needs flavour"),
        ("Mine", {"features": "grovr"}, "Did you mean 'grover'"),
    ],
)
def test_mistakes_are_named(file: Path, name: str, settings: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError) as error:
        backbones.build(backbones.build_config(f"{file}:{name}", settings=settings), 2)
    assert says in str(error.value)


def test_prediction_per_atom_is_named_as_a_mistake(file: Path) -> None:
    report = check_config(backbones.build_config(f"{file}:PerAtom"))
    assert "pool over atoms" in report["one prediction a sample and task"].found


def test_broken_and_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        backbones.build_config(f"{tmp_path / 'absent.py'}:Mine")
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    with pytest.raises(UsageError, match="ModuleNotFoundError"):
        backbones.build_config(f"{tmp_path / 'broken.py'}:Mine")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An importable package with the same classes, as an installed one has."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "nets_of_a_package").mkdir()
    (tmp_path / "nets_of_a_package" / "__init__.py").touch()
    (tmp_path / "nets_of_a_package" / "net.py").write_text(GOOD)
    yield "nets_of_a_package.net"
    for name in [name for name in sys.modules if name.startswith("nets_of_a_package")]:
        del sys.modules[name]


def test_class_of_an_installed_package_is_built_like_one_of_a_file(package: str) -> None:
    config = backbones.build_config(f"{package}:Mine", settings={"width": 5})
    assert backbones.build(config, 2).model.conv.out_channels == 5  # type: ignore[union-attr]


def test_command_line_trains_a_class_of_an_installed_package(package: str, tmp_path: Path) -> None:
    def train(model: str) -> subprocess.CompletedProcess[str]:
        arguments = f"--dataset demo --optimizer adam --epochs 1 --subset 60 --store {tmp_path / 'store'}".split()
        run = [sys.executable, "-m", "samcmp", "train", "--model", model, *arguments]
        return subprocess.run(run, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})

    done = train(f"{package}:Mine")
    assert done.returncode == 0, done.stderr
    [record] = (tmp_path / "store").rglob("*.json")
    assert f'"{package}:Mine"' in record.read_text()
    refused = train(f"{package}:Min")
    assert refused.returncode == 2
    assert "Did you mean 'Mine'" in refused.stderr


def test_package_that_is_not_there_or_fails_is_named(package: str, tmp_path: Path) -> None:
    (tmp_path / "nets_of_a_package" / "faulty.py").write_text("1 / 0")
    for module, says in (("faulty", "ZeroDivisionError"), ("absent", "ModuleNotFoundError")):
        with pytest.raises(UsageError, match=says):
            backbones.build_config(f"nets_of_a_package.{module}:Mine")


def test_changed_file_is_read_anew(file: Path) -> None:
    backbones.build_config(f"{file}:Mine")
    file.write_text(GOOD.replace("width=8", "width=9"))
    after = backbones.build_config(f"{file}:Mine")
    assert backbones.build(after, 1).model.conv.out_channels == 9  # type: ignore[union-attr]


def test_catalogue_names_the_nearest_model_and_setting() -> None:
    with pytest.raises(UsageError, match="Did you mean 'dmpnn'"):
        backbones.entry("dmpn")
    with pytest.raises(UsageError, match="Did you mean 'hidden'"):
        backbones.build_config("gcn", settings={"hiden": 3})
    with pytest.raises(UsageError, match="readout is mean, sum or max"):
        backbones.build_config("gcn", settings={"readout": "median"})


def test_the_catalogue_costs_nothing_to_read() -> None:
    heavy = "('torch', 'pandas', 'scipy', 'rdkit')"
    code = (
        f"import sys; from samcmp import backbones; backbones.names(); print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_equal_seeds_build_equal_weights() -> None:
    config = backbones.build_config("dmpnn", settings={"hidden": 4})
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(backbones.build(config, 1))
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))


HELPED = """
import torch
from torch_geometric.nn import global_mean_pool
from helper import WIDTH, layer
from parts.more import bias

class Mine(torch.nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        from late import late
        self.out = layer(in_channels, out_channels)
        self.width, self.late = WIDTH, late

    def forward(self, data):
        return global_mean_pool(self.out(data.x), data.batch, data.num_graphs) + bias
"""


def helped(folder: Path, width: int) -> str:
    (folder / "parts").mkdir(parents=True)
    (folder / "model.py").write_text(HELPED)
    (folder / "helper.py").write_text(f"import torch\nWIDTH = {width}\nlayer = torch.nn.Linear\n")
    (folder / "late.py").write_text("from helper import WIDTH\nlate = WIDTH + 1\n")
    (folder / "parts/__init__.py").write_text("")
    (folder / "parts/more.py").write_text("import helper\nbias = 0.5\n")
    return f"{folder}/model.py:Mine"


def built(config: backbones.Config) -> Any:
    return backbones.build(config, 1).model


def test_a_file_imports_what_lies_beside_it_and_nobody_else_notices(tmp_path: Path) -> None:
    path, names = [*sys.path], {"helper", "late", "parts", "parts.more"}
    made = {}
    for width in (3, 4):
        config = backbones.build_config(helped(tmp_path / str(width), width), settings={})
        made[width] = built(config)
        assert sys.path == path
        assert names.isdisjoint(sys.modules)
    assert {width: (model.width, model.late) for width, model in made.items()} == {3: (3, 4), 4: (4, 5)}


def test_a_helper_goes_before_an_installed_module_of_its_name_which_others_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = ModuleType("helper")
    monkeypatch.setitem(sys.modules, "helper", installed)
    config = backbones.build_config(helped(tmp_path, 3), settings={})
    assert built(config).width == 3
    assert sys.modules["helper"] is installed


def test_an_edited_helper_is_read_again(tmp_path: Path) -> None:
    source = helped(tmp_path, 3)
    assert built(backbones.build_config(source, settings={})).width == 3
    (tmp_path / "helper.py").write_text("import torch\nWIDTH = 5\nlayer = torch.nn.Linear\n")
    assert built(backbones.build_config(source, settings={})).width == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "train --epochs 1 --subset 40 -m",
        "compare --epochs 1 --subset 40 --repeats 2 --jobs 2 -o adam --profile-seconds 1 -m",
        "profile -o adam --budget 2s --subset 40 -m",
        "check",
    ],
)
def test_a_model_with_a_helper_works_in_every_command(tmp_path: Path, command: str) -> None:
    source = helped(tmp_path / "models", 3)
    device = [] if command == "check" else ["--device", "cpu"]
    words = [sys.executable, "-m", "samcmp", *command.split(), source, *device]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
