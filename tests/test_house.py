"""The house holds: layers, light imports, and no file that outgrew its room."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

LAYERS: dict[str, int] = {  # docs/architecture.md draws them
    **dict.fromkeys(["child", "errors", "files", "locks", "machine", "modules", "printable", "records"], 1),
    **dict.fromkeys(["times", "userfile"], 1),
    **dict.fromkeys(["graphs", "images"], 2),
    **dict.fromkeys(["optim", "backbones", "data"], 3),
    **dict.fromkeys(["training", "profiling", "analysis", "conformance"], 4),
    "experiment": 5,
    **dict.fromkeys(["engines", "report", "inspection"], 6),
    "cli": 7,
    "api": 7,
}
STRANGERS = {"optim", "backbones"}  # an optimizer never sees a model, a model never an optimizer
HEAVY = ("torch", "pandas", "scipy", "sklearn", "matplotlib", "rdkit", "torch_geometric", "ray")


def rooms() -> list[Path]:
    walk = os.walk(ROOT / "samcmp", followlinks=True)  # the models and cards are links in a checkout
    return sorted(Path(folder) / name for folder, _, names in walk for name in names if name.endswith(".py"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "samcmp").with_suffix("").parts[0]


def imports_of(path: Path) -> set[str]:
    """Name the rooms that a file imports, inside functions, too."""
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "samcmp" else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {n.split(".")[1] for n in names if n.startswith("samcmp.") and n != "samcmp.__version__"}
    return rooms


@pytest.mark.parametrize("path", rooms(), ids=lambda p: str(p.relative_to(ROOT)))
def test_an_import_only_goes_down(path: Path) -> None:
    here = room_of(path)
    if here in {"__init__", "__main__"}:
        return
    assert here in LAYERS, f"{here} has no layer: add it to the design's list"
    for other in imports_of(path) - {here}:
        assert other in LAYERS, f"{other} has no layer"
        assert LAYERS[other] <= LAYERS[here], f"{here} (layer {LAYERS[here]}) imports {other} (layer {LAYERS[other]})"
        assert not {here, other} <= STRANGERS, f"{here} and {other} are strangers"


@pytest.mark.parametrize("path", rooms(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_outgrows_its_room(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 450


def modules_after(*words: str) -> set[str]:
    """Run the command line in a fresh interpreter and return the heavy modules that it loaded."""
    program = (
        f"import sys; sys.argv = ['samcmp', *{words!r}]\n"
        "from samcmp.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120, check=True
    )
    line = next(line for line in result.stdout.splitlines() if line.startswith("LOADED"))
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        *((name, "--help") for name in ("compare", "train", "profile", "report", "fetch", "list", "doctor", "check")),
        ("inspect", "--help"),
        ("inspect", "--dry-run", "--store", "no-such-store"),
        ("inspect", "--what", "attention"),
        ("inspect", "--figure", "path=path.svg"),
        ("list",),
        ("list", "--format", "json"),
        ("store", "--help"),
        ("store", "prune", "--store", "no-such-store"),
        ("compare", "--dry-run", "--store", "no-such-store"),
        ("compare", "--dataset", "tox12"),
        ("compare", "--optimizer", "grahpsam"),
        ("compare", "--set", "graphsam.roh=1"),
        ("train", "--model", "grovr"),
        ("compare", "--config", "no-such-file.toml"),
        ("compare", "--baseline", "no-such-file.json"),
        ("report", "--store", "no-such-store"),
        ("report", "--baseline", "no-such-file.json"),
        ("report", "--figure", "pie=pie.png"),
    ],
    ids=" ".join,
)
def test_help_lists_plans_and_errors_import_nothing_heavy(words: tuple[str, ...]) -> None:
    assert modules_after(*words) == set()


def test_the_package_itself_imports_nothing() -> None:
    program = "import sys; before = set(sys.modules); import samcmp; print(len(set(sys.modules) - before))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(result.stdout) == 1
