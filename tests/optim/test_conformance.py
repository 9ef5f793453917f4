"""Every optimizer of the catalogue keeps every promise of the family; one that is broken on purpose does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samcmp import optim
from samcmp.conformance.ddp import ranks_agree
from samcmp.conformance.optimizer import check_optimizer
from samcmp.conformance.report import NotApplicable, Report
from samcmp.conformance.trial import STEPS_PER_EPOCH, Build

DDP = "replicas of two ranks stay identical"
EIGHT = [2, 1, 1, 1, 1, 1, 1, 1]
PASSES = {  # of steps that show the rhythm more than once; three steps an epoch, four epochs
    **dict.fromkeys(("adam", "adamw", "sgd"), [1] * 8),
    "sam": [2] * 8,
    "asam": [2] * 8,
    "sam-one": [2] + [1] * 16,
    "sam-k": EIGHT * 2 + [2],
    "sam-k-skip": EIGHT * 2 + [2],
    "looksam": EIGHT * 2 + [2],
    "ae-sam": [2] * 12,  # its averages begin at zero and learn slowly: every gradient of a short training is long
    "rst": [1 + (u < 0.5) for u in np.random.default_rng(0).random(17)],
    "esam": [2] * 8,
    "saf": [1] * 8,
    "mesa": [1] * 8,
    "vasso": [2] * 8,
    "graphsam": [2, 1, 1] * 4,
    "graphsam-k": [2, 1, 1, 1, 1, 1] * 3,
    "graphsam-released": [2, 1, 1] * 4,
    "s2-sam": [1] * 8,
    "msam": [1] * 8,
    "f-sam": [2] * 8,
    "gsam": [2] * 8,
    "wsam": [2] * 8,
    "late-sam": [1] * 9 + [2] * 3,
    "adam-loss-weighted": [1] * 8,
    "adam-released-schedule": [1] * 8,
}


def build_of(name: str, **settings: Any) -> Build:
    return lambda base: optim.build(name, base, steps_per_epoch=STEPS_PER_EPOCH, epochs=4, seed=0, settings=settings)


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_optimizer_keeps_every_promise(name: str) -> None:
    report = check_optimizer(build_of(name), passes=PASSES[name], reads_host=name == "ae-sam", leave_out=(DDP,))
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("name", "settings", "passes"),
    [
        ("sam", {"adaptive": True}, [2] * 8),
        ("graphsam", {"adaptive": True, "anchor": "unit", "norm": "tensor"}, [2, 1, 1] * 4),
        ("wsam", {"decoupled": False}, [2] * 8),
        ("ae-sam", {"delta": 0.5}, [2, 1, 1, 1, 1, 1, 2, 2, 1, 1, 2, 2]),
        ("ae-sam", {"delta": 0.5, "late": True}, [2, 2, 2, 2, 1, 1, 1, 2, 2, 1, 1, 2]),
        ("sam", {"rho_schedule": "lr"}, [2] * 8),
    ],
)
def test_promises_hold_with_other_settings(name: str, settings: dict[str, Any], passes: list[int]) -> None:
    reads_host = name == "ae-sam"
    report = check_optimizer(build_of(name, **settings), passes=passes, reads_host=reads_host, leave_out=(DDP,))
    assert report.ok, str(report)


def test_promises_hold_for_looksam_per_tensor() -> None:
    # A tensor of one element has no part across its gradient: g_v is rounding there, and so differs between sums.
    summed = "gradient accumulation equals the whole batch"
    report = check_optimizer(build_of("looksam", norm="tensor", k=2), leave_out=(DDP, summed))
    assert report.ok, str(report)


def test_replicas_of_two_ranks_stay_identical_for_every_optimizer() -> None:
    try:
        found = ranks_agree({name: build_of(name) for name in optim.OPTIMIZERS})
    except NotApplicable as reason:
        pytest.skip(str(reason))
    assert found == dict.fromkeys(optim.OPTIMIZERS, "")


class Careless(torch.optim.Optimizer):
    """A SAM as it is often written: it breaks promises that the report has to name."""

    def __init__(self, base: torch.optim.Optimizer, rho: float = 0.05) -> None:
        self.base = base
        super().__init__(base.param_groups, {"rho": rho})

    @torch.no_grad()
    def step(self, closure: Any) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            loss = closure()
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        length = torch.stack([p.grad.norm() for p in params]).norm().item()
        steps = [p.grad * (self.param_groups[0]["rho"] / length) for p in params]
        for p, step in zip(params, steps, strict=True):
            p.add_(step)
        with torch.enable_grad():
            closure()
        for p, step in zip(params, steps, strict=True):
            p.sub_(step)
        self.base.step()
        return loss


@pytest.fixture(scope="module")
def careless() -> Report:
    return check_optimizer(Careless, leave_out=(DDP,))


@pytest.mark.parametrize(
    "promise",
    [
        "weights are restored bit for bit",
        "weights are restored when the closure raises",
        "zero gradients move nothing",
        "sparse gradients are refused",
        "no host reads in a step",
        "two param groups, each with its rho",
        "a checkpoint resumes at every step, read without pickle",
        "a deep copy is independent",
    ],
)
def test_report_names_what_a_careless_optimizer_breaks(careless: Report, promise: str) -> None:
    assert careless[promise].kept is False
    assert careless[promise].found


@pytest.mark.parametrize("promise", ["parameters keep their storage", "bf16 weights", "step works inside no_grad"])
def test_report_leaves_what_a_careless_optimizer_keeps_or_cannot_be_tried(careless: Report, promise: str) -> None:
    assert careless[promise].kept is not None


def test_check_command_ends_with_1_for_a_broken_optimizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    from samcmp.cli.check import check

    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "class Mine(torch.optim.Optimizer):\n"
        "    def __init__(self, base):\n"
        "        self.base = base\n"
        "        super().__init__(base.param_groups, {})\n"
        "    def step(self, closure=None):\n"
        "        return None\n"
    )
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(typer.Exit) as caught:
        check(f"{file}:Mine")
    assert caught.value.exit_code == 1
    assert "step returns the loss of its first pass" in capsys.readouterr().out
