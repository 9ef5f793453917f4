"""The house holds: layers, light imports, and no file that outgrew its room."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

LAYERS: dict[str, int] = {
    **dict.fromkeys(["errors", "files", "graphs", "records", "plugins", "settings"], 0),
    **dict.fromkeys(["data", "features"], 1),
    **dict.fromkeys(["features.graphset", "tasks", "optim", "backbones", "measure", "machine", "weights"], 2),
    "train": 3,
    **dict.fromkeys(
        ["setup", "runner", "profiling", "workers", "store", "keys", "stats", "published", "conformance"], 4
    ),
    **dict.fromkeys(["suites", "asked", "plan", "report", "estimate", "budgets", "gate"], 5),
    "cli": 6,
}
STRANGERS = {"optim", "backbones", "measure"}  # an optimizer never sees a model, neither sees a clock
HEAVY = ("torch", "numba", "pandas", "scipy", "sklearn", "matplotlib", "rdkit", "torch_geometric")


def rooms() -> list[Path]:
    return sorted([*(ROOT / "samcmp").rglob("*.py"), *(ROOT / "backbones").rglob("*.py")])


def room_of(path: Path) -> str:
    return room(".".join(path.relative_to(ROOT).with_suffix("").parts))


def room(module: str) -> str:
    """Name the room of a module: the package or file under samcmp, or a file with a layer of its own."""
    parts = module.split(".")
    if parts[0] == "backbones":
        return "backbones"
    return ".".join(parts[1:3]) if ".".join(parts[1:3]) in LAYERS else parts[1]


def imports_of(path: Path) -> set[str]:
    """Name the rooms that a file imports, inside functions, too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            packages = {"samcmp", "samcmp.features"}
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module in packages else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        ours = (name for name in names if name.startswith(("samcmp.", "backbones")) and name != "samcmp.__version__")
        found |= {room(name) for name in ours}
    return found


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
    assert len(path.read_text().splitlines()) <= 330


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
        ("list",),
        ("compare", "--dry-run", "--store", "no-such-store"),
        ("compare", "--dataset", "tox12"),
        ("compare", "--optimizer", "grahpsam"),
        ("compare", "--set", "graphsam.roh=1"),
        ("train", "--model", "grovr"),
        ("compare", "--config", "no-such-file.toml"),
    ],
    ids=" ".join,
)
def test_help_lists_plans_and_errors_import_nothing_heavy(words: tuple[str, ...]) -> None:
    assert modules_after(*words) == set()


def test_the_package_itself_imports_nothing() -> None:
    program = "import sys; before = set(sys.modules); import samcmp; print(len(set(sys.modules) - before))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(result.stdout) == 1
