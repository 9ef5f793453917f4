"""A key follows the code that runs, and a comparison runs the code that its keys were made of."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from samcmp import modules
from samcmp.experiment.keys import Inputs
from samcmp.records import Case
from tests.places import ROOT

PLAIN = 'def f(x):\n    """Add."""\n    return x + 1\n'


def test_the_code_of_a_case_is_what_its_parts_import_and_no_other_model_or_optimizer() -> None:
    code = Inputs().code_of(Case("train", "bbbp", "grover", "graphsam"))
    assert {
        "samcmp.backbones.grover",
        "samcmp.backbones.surroundings",
        "samcmp.optim.graphsam",
        "samcmp.optim.base",
    } <= set(code)
    assert {
        "samcmp.experiment.run",
        "samcmp.training.setup",
        "samcmp.training.loop",
        "samcmp.training.tasks",
        "samcmp.graphs.featurize",
    } <= set(code)
    assert not {
        "samcmp.backbones.compt",
        "samcmp.optim.looksam",
        "samcmp.profiling.session",
        "samcmp.experiment.store",
    } & set(code)
    measured = Inputs().code_of(Case("profile", "bbbp", "grover", "graphsam"))
    assert set(code) - set(measured) == {"samcmp.experiment.run", "samcmp.data.coverage"}  # which scores runs
    assert {"samcmp.profiling.session", "samcmp.profiling.rounds"} <= set(measured)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('def f(x):\n    """Add one."""\n    # why\n    return x + 1\n', True),
        ('def f(x):\n    """Add."""\n    return x + 2\n', False),
        (PLAIN + "\n\n\n", True),
        ("def f(x:\n", False),
    ],
)
def test_a_hash_follows_the_code_but_not_its_comments(tmp_path: Path, text: str, same: bool) -> None:
    file = tmp_path / "part.py"
    file.write_text(PLAIN)
    before = modules.digest_of(file)
    file.write_text(text)
    assert (modules.digest_of(file) == before) == same


def test_code_that_nests_too_deeply_is_known_by_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "deep.py"
    file.write_text("x = " + " + ".join(["1"] * 5000))
    assert modules.digest_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_users_model_file_is_code_too_and_so_is_what_it_imports_from_here(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("from samcmp.backbones.layers import two_layers\n")
    code = Inputs().code_of(Case("train", "demo", f"{file}:Net", "adam"))
    assert {str(file), "samcmp.backbones.layers", "samcmp.backbones.user"} <= set(code)


def test_a_model_of_an_installed_package_is_code_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_package_of_nets").mkdir()
    (tmp_path / "a_package_of_nets" / "__init__.py").touch()
    (tmp_path / "a_package_of_nets" / "net.py").write_text("class Net: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "a_package_of_nets.net" in Inputs().code_of(Case("train", "demo", "a_package_of_nets.net:Net", "adam"))


PROGRAM = '''
import json, sys
from pathlib import Path
from samcmp.engines import Work, local
from samcmp.errors import SamcmpError
from samcmp.experiment.keys import Inputs
from samcmp.records import Case, Protocol
from samcmp.training.setup import Options

WIDER = """
_first = SAM.__init__
SAM.__init__ = lambda self, *given, **more: _first(self, *given, **{**more, "rho": 5.0})
"""
here = Path(sys.argv[1])
edited, moment, how = here / sys.argv[2], sys.argv[3], sys.argv[4]


def edit():
    """Make sam another optimizer, or the user's model another model."""
    text = edited.read_text()
    edited.write_text(text.replace("width=8", "width=9") if "width=8" in text else text + WIDER)


if __name__ == "__main__":
    (here / "net.py").write_text("""
from torch import nn
from torch_geometric.nn import global_mean_pool
class Net(nn.Module):
    def __init__(self, in_channels, tasks, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_channels, width), nn.Linear(width, tasks))
    def forward(self, data):
        return self.layers(global_mean_pool(data.x, data.batch))
""")
    runs = (("adam", 0), ("sam", 0), ("sam", 1))
    model = "net.py:Net" if sys.argv[2] == "net.py" else "gcn"
    cases = [Case("train", "demo", model, o, seed=s, protocol=Protocol(epochs=1, subset=40)) for o, s in runs]
    inputs = Inputs()
    cases = {inputs.key_of(case): case for case in cases}
    options = Options(code=inputs.code_of(*cases.values()))
    if moment == "planned":
        edit()
    more = {"jobs": 1} if how == "run_apart" else {}
    done = []
    try:
        for result in getattr(local, how)(Work(cases), options, listen=lambda now: None, **more):
            done.append([result.record.parameters, result.record.accuracy.test, result.record.history[0].rho])
            if moment == "running" and len(done) == 1:
                edit()
        print(json.dumps([done, None]))
    except SamcmpError as error:
        print(json.dumps([done, f"{error.where} {error.what}"]))
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source that may be edited."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "samcmp", folder / "samcmp", ignore=shutil.ignore_patterns("__pycache__"))  # links, too
    (folder / "program.py").write_text(PROGRAM)
    return folder


def compared(copy: Path, edited: str, moment: str, *, how: str) -> Any:
    text = (copy / edited).read_text() if (copy / edited).exists() else ""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "program.py", str(copy), edited, moment, how]
    result = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
    (copy / edited).write_text(text)
    return json.loads(result.stdout)


def test_an_edit_while_a_comparison_runs_does_not_reach_it(copy: Path) -> None:
    assert compared(copy, "samcmp/optim/sam.py", "running", how="run_apart") == compared(
        copy, "samcmp/optim/sam.py", "never", how="run_here"
    )


def test_an_edit_between_plan_and_run_is_refused_and_named(copy: Path) -> None:
    done, said = compared(copy, "samcmp/optim/sam.py", "planned", how="run_apart")
    assert done == []
    assert said == f"{copy / 'samcmp/optim/sam.py'} has been edited since this comparison began"


@pytest.mark.parametrize("how", ["run_here", "run_apart"])
def test_a_users_model_that_is_edited_while_a_comparison_runs_is_refused_at_its_next_run(copy: Path, how: str) -> None:
    done, said = compared(copy, "net.py", "running", how=how)
    assert len(done) == 1
    assert said == "net.py has been edited since this comparison began"


def test_a_module_for_an_optional_package_that_is_not_here_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "optional_part.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    modules.hold({"optional_part": modules.digest_of(tmp_path / "optional_part.py")})
