"""Every model computes on a GPU what it computes on a CPU, and batches arrive there as they are here."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from samcmp import backbones
from samcmp.conformance.backbone import MOLECULES, Subject
from samcmp.graphs.batch import Columns, GraphBatch
from samcmp.graphs.graphset import GraphSet
from tests.gpu.cuda import GPU, MARKS, some_molecules

pytestmark = MARKS
OTHER_SIZES = {"grover-base", "grover-large"}
NAMES = [n for n, entry in backbones.BACKBONES.items() if n not in OTHER_SIZES and entry.reads == "molecules"]
WITHIN = {torch.float64: 1e-9, torch.float32: 2e-4}  # of the largest value; sums run in another order


def subject_of(name: str, **settings: Any) -> Subject:
    """A model in its size, without dropout: the two devices draw from different streams."""
    config = backbones.build_config(name, settings=settings)
    if hasattr(config, "dropout"):
        config = replace(config, dropout=0.0)
    return Subject(lambda tasks: backbones.build(config, tasks), config.columns, prepare=backbones.prepare_of(config))


def computed(subject: Subject, batch: GraphBatch, device: torch.device) -> dict[str, Tensor]:
    """Return predictions, loss and gradients of the model on ``device``, on the host in float64."""
    model, batch = subject.model().to(device=device, dtype=batch.y.dtype), batch.to(device)
    found = {"predictions": subject.predict(model, batch)}
    loss = subject.loss(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    found["loss"] = loss.detach()
    found |= {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return {key: value.double().cpu() for key, value in found.items()}


def same_on_both(subject: Subject, dtype: torch.dtype) -> None:
    batch = subject.batch(MOLECULES).to(dtype=dtype)
    here, there = computed(subject, batch, torch.device("cpu")), computed(subject, batch, GPU)
    assert here.keys() == there.keys()
    largest = max(float(value.abs().max()) for key, value in here.items() if key not in {"predictions", "loss"})
    for key, value in here.items():
        scale = max(float(value.abs().max()), 1.0 if key in {"predictions", "loss"} else largest)
        assert float((value - there[key]).abs().max()) <= WITHIN[dtype] * scale, key


@pytest.mark.parametrize("dtype", WITHIN, ids=["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_predictions_loss_and_gradients_are_those_of_the_cpu(name: str, dtype: torch.dtype) -> None:
    same_on_both(subject_of(name), dtype)


@pytest.mark.parametrize("settings", [{"activation": "prelu", "depth": 6}, {"padding_row": True, "bias": True}])
def test_grover_with_all_networks_together_is_grover_with_equal_surroundings_once(settings: dict[str, Any]) -> None:
    """A CPU takes network after network, a GPU one batched product for all: two programs, one model."""
    same_on_both(subject_of("grover", **settings), torch.float64)


def tensors(batch: GraphBatch) -> dict[str, Tensor]:
    found = {f.name: getattr(batch, f.name) for f in fields(batch) if f.name != "extras"} | dict(batch.extras)
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}


def test_batches_of_a_set_on_the_gpu_are_those_of_the_host() -> None:
    columns, prepare = Columns("compt", "compt", scalars=("gasteiger",)), backbones.prepare_of
    found = some_molecules()
    make = prepare(backbones.build_config("compt"))
    host = GraphSet.load_or_build(found, columns, prepare=make, cache=False)
    device = GraphSet.load_or_build(found, columns, prepare=make, cache=False, device=GPU)
    order = torch.randperm(len(host), generator=torch.Generator().manual_seed(0))
    for one, other in zip(host.batches(order, 32), device.batches(order, 32), strict=True):
        mine, theirs = tensors(one), tensors(other)
        assert mine.keys() == theirs.keys()
        assert {value.device.type for value in theirs.values()} == {"cuda"}
        for key, value in mine.items():
            torch.testing.assert_close(theirs[key].cpu(), value, rtol=0, atol=0, equal_nan=True, msg=key)
