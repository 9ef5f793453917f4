"""``samcmp check``: one command tries optimizers and models, and names the promises that are broken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from samcmp.cli import main

Run = Callable[..., tuple[int, str, str]]

MODELS = """
import torch
from torch_geometric.nn import global_add_pool

class Sound(torch.nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.out = torch.nn.Linear(in_channels, out_channels)

    def forward(self, data):
        return global_add_pool(self.out(data.x), data.batch, data.num_graphs)

class Broken(Sound):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels)
        self.idle = torch.nn.Linear(3, 3)

    def forward(self, data):
        out = super().forward(data)
        return out - out.mean(0)

class Sequence(Sound):
    def forward(self, data):
        place = torch.arange(len(data.x)) - data.ptr[data.batch]
        return global_add_pool(self.out(data.x) * place.cos().unsqueeze(1).to(data.x), data.batch, data.num_graphs)

class Needy(Sound):
    def __init__(self, in_channels, out_channels, temperature):
        super().__init__(in_channels, out_channels)

class Neither:
    pass
"""
OPTIMIZER = """
import torch

class Mine(torch.optim.Optimizer):
    def __init__(self, base):
        self.base = base
        super().__init__(base.param_groups, {})

    def step(self, closure=None):
        return None
"""


@pytest.fixture
def run(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``samcmp check WORDS`` beside two files; return its exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "300")
    Path("models.py").write_text(MODELS)
    Path("mine.py").write_text(OPTIMIZER)
    Path("mistake.py").write_text("import nothing_of_this_name")

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["samcmp", "check", *words])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        printed = capsys.readouterr()
        return int(str(code)), printed.out, printed.err

    return call


def lines_with(word: str, out: str) -> list[str]:
    return [line for line in out.splitlines() if line.split()[:1] == [word]]


def test_sound_model_of_ones_own_keeps_every_promise(run: Run) -> None:
    code, out, err = run("models.py:Sound")
    assert code == 0, out + err
    assert "tried as a model" in out
    assert len(lines_with("kept", out)) > 10
    assert not lines_with("broken", out)


def test_broken_model_is_reported_by_promise_and_ends_with_1(run: Run) -> None:
    code, out, _ = run("models.py:Broken")
    broken = "\n".join(lines_with("broken", out))
    assert code == 1
    assert "batch mates do not matter" in broken
    assert "a gradient reaches every parameter" in broken
    assert "model.idle.weight" in broken
    assert "one prediction a sample and task" not in broken


def test_model_that_says_it_reads_a_sequence_is_not_held_to_atom_order(run: Run) -> None:
    code, out, _ = run("models.py:Sequence")
    assert code == 1
    assert "atom order does not matter" in "".join(lines_with("broken", out))
    code, out, _ = run("models.py:Sequence", "--reads-order")
    assert code == 0
    assert "atom order does not matter" in "".join(lines_with("n/a", out))


def test_only_class_of_a_file_needs_no_name_and_a_broken_optimizer_ends_with_1(run: Run) -> None:
    code, out, _ = run("mine.py")
    assert code == 1
    assert "tried as an optimizer" in out
    assert "step returns the loss of its first pass" in "".join(lines_with("broken", out))


@pytest.mark.parametrize(("name", "kind"), [("gcn", "a model"), ("sam", "an optimizer")])
def test_names_of_both_catalogues_are_tried(run: Run, name: str, kind: str) -> None:
    code, out, err = run(name)
    assert code == 0, out + err
    assert f"{name}: tried as {kind}" in out
    assert not lines_with("broken", out)


WRONG = {
    "absent file": (("absent.py:Model",), "there is no file"),
    "no such class": (("models.py:Soond",), "Did you mean 'Sound'"),
    "neither optimizer nor model": (("models.py:Neither",), "is not a torch.optim.Optimizer or torch.nn.Module"),
    "several classes, none named": (("models.py",), "Broken, Needy, Sequence, Sound"),
    "file that does not run": (("mistake.py",), "ModuleNotFoundError"),
    "constructor that needs more": (("models.py:Needy",), "temperature"),
    "no such name": (("graphsan",), "Did you mean 'graphsam'"),
    "no such package": (("nothing_of_this_name:Model",), "No module named 'nothing_of_this_name'"),
    "a flag for optimizers": (("models.py:Sound", "--reads-host"), "--reads-host"),
    "a flag for models": (("mine.py", "--reads-order"), "--reads-order"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_message_and_exit_code_2(run: Run, case: str) -> None:
    words, says = WRONG[case]
    code, out, err = run(*words)
    assert code == 2, out + err
    assert says in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize("deed", ["sys.exit(0)", "os._exit(0)", "os.kill(os.getpid(), 11)"])
def test_code_that_ends_its_process_keeps_no_promise(run: Run, deed: str) -> None:
    text = "import os, sys, torch\nclass Net(torch.nn.Module):\n    def __init__(self, tasks):\n"
    Path("ends.py").write_text(f"{text}        super().__init__()\n        {deed}\n")
    code, out, err = run("ends.py")
    assert code == 1, out + err
    assert "ends.py: " in out
    assert "kept" not in out
