"""An error names the innermost line of the project or of the user, wherever the two and the packages lie."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import samcmp
from samcmp.errors import cause_of
from tests.places import ROOT

TORCH = Path(torch.__file__).parent
PACKAGE = Path(samcmp.__file__).parent


def raised(*files: Path) -> str:
    """The reason of an error that passed through line 3 of each of these files, the last innermost."""
    text = "\n\nexec(left[0], {'left': left[1:]}) if left else 1 / 0"
    left = [compile(text, str(file), "exec") for file in files]
    try:
        exec(left[0], {"left": left[1:]})
    except ZeroDivisionError as error:
        return cause_of(error)[1]
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ((PACKAGE / "training/loop.py", Path("/data/samcmp/net.py")), " (at net.py:3)"),
        ((PACKAGE / "training/loop.py", Path("/data/site-packages/net.py")), " (at net.py:3)"),
        ((Path("/data/samcmp/net.py"), TORCH / "nn/functional.py"), " (at net.py:3)"),
        ((Path("/data/net.py"), PACKAGE / "graphs/batch.py"), " (at batch.py:3)"),
        ((PACKAGE / "backbones/gcn.py", TORCH / "nn/functional.py"), " (at gcn.py:3)"),
        ((ROOT / "backbones/gcn.py", TORCH / "nn/functional.py"), " (at gcn.py:3)"),
        ((Path("/data/net.py"), Path(pytest.__file__), Path(torch.random.__file__)), " (at net.py:3)"),
    ],
)
def test_the_line_of_the_project_or_the_user_is_named_not_one_of_an_installed_package(
    files: tuple[Path, ...], place: str
) -> None:
    assert raised(*files) == f"ZeroDivisionError: division by zero{place}"


@pytest.mark.parametrize("folder", ["samcmp", "my-samcmp-fork", "site-packages", "backbones", "x"])
def test_the_name_of_the_folder_that_holds_everything_changes_nothing(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / folder / ".venv/lib/python3/site-packages"
    monkeypatch.setattr(torch, "__file__", str(installed / "torch/__init__.py"))
    assert raised(tmp_path / folder / "net.py", installed / "torch/nn/functional.py").endswith(" (at net.py:3)")
