"""The worked examples of CONTRIBUTING.md run as they stand there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from samcmp import backbones, optim
from samcmp.backbones import BACKBONES, Entry
from samcmp.conformance.backbone import check_config
from samcmp.optim import OPTIMIZERS
from samcmp.optim.entry import OptimizerEntry
from tests.commands import TINY, Run
from tests.places import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```\w+ title=\"([^\"]+)\"\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the examples' files as modules of their own into a folder that Python looks into."""
    for title, text in BLOCKS.items():
        if not title.endswith("__init__.py"):
            (tmp_path / Path(title).name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(optim, "OPTIMIZERS", dict(OPTIMIZERS))
    monkeypatch.setattr(backbones, "BACKBONES", dict(BACKBONES))
    for name in ("sign_sam", "sum_of_atoms"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def add(title: str, **names: object) -> None:
    """Run the example's line of a catalogue, with its module found beside it."""
    exec(BLOCKS[title].replace("samcmp.optim.", "").replace("samcmp.backbones.", ""), names)


def test_the_optimizer_keeps_every_promise_and_is_compared_under_its_name(example: Path, run: Run) -> None:
    code, out, _ = run("check", str(example / "sign_sam.py"))
    assert code == 0, out
    add("samcmp/optim/__init__.py", OPTIMIZERS=optim.OPTIMIZERS, OptimizerEntry=OptimizerEntry)
    code, out, err = run(
        "compare", "-o", "adam", "-o", "sign-sam", "--set", "sign-sam.rho=0.002", "--format", "csv", *TINY
    )
    assert code == 0, err
    assert "sign-sam[rho=0.002]" in out


def test_the_model_keeps_every_promise(example: Path) -> None:
    add("backbones/__init__.py", BACKBONES=backbones.BACKBONES, Entry=Entry)
    report = check_config(backbones.build_config("sum-of-atoms"))
    assert report.ok, report.broken


def test_the_dataset_is_a_card_and_a_table(example: Path, run: Run) -> None:
    rows = [f"{'C' * n}O,{64 + 20 * n}" for n in range(1, 25)]
    (example / "alcohols.csv").write_text("smiles,boiling_point\n" + "\n".join(rows) + "\n")
    words = ("--dataset", "alcohols", "--optimizer", "adam", "--epochs", "1", "--batch-size", "8", "--device", "cpu")
    code, out, err = run("train", "--cards", str(example), *words)
    assert code == 0, err
    assert "test mae" in out
