"""One run: what its Record says, and what goes wrong in it as a Record with its cause."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samcmp import optim
from samcmp.errors import DataError, DeviceError, SamcmpError
from samcmp.experiment import run
from samcmp.records import Case, Protocol
from samcmp.training import checkpoints
from samcmp.training.setup import Options, assemble, resolve_device
from samcmp.training.tasks import score

TINY = Protocol(epochs=2, subset=60)
CASE = Case("train", "demo", "gcn", "graphsam", protocol=TINY)


def train(case: Case = CASE, options: Options | None = None, **more: Any) -> Any:
    return run.train(case, options or Options(), key="0" * 64, **more)


def test_the_same_case_gives_the_same_bits_twice_whatever_ran_before() -> None:
    first, predicted = train()
    torch.manual_seed(12345)
    train(replace(CASE, optimizer="sam"))
    again, predicted_again = train()
    assert first.accuracy == again.accuracy
    assert [e.train_loss for e in first.history] == [e.train_loss for e in again.history]
    np.testing.assert_array_equal(predicted.prediction, predicted_again.prediction)


def test_all_optimizers_start_from_the_same_weights_and_batches() -> None:
    states, orders = [], []
    for optimizer in ("adam", "sam"):
        setup = assemble(replace(CASE, optimizer=optimizer), Options())
        states.append(torch.cat([p.flatten() for p in setup.new_model().parameters()]))
        orders.append(torch.cat([batch.rows for batch in setup.train_batches(3)]))
    assert torch.equal(*states)
    assert torch.equal(*orders)


def test_batch_order_changes_from_epoch_to_epoch_and_covers_every_training_row() -> None:
    setup = assemble(CASE, Options())
    epochs = [torch.cat([batch.rows for batch in setup.train_batches(n)]) for n in range(2)]
    assert not torch.equal(*epochs)
    assert sorted(epochs[0].tolist()) == sorted(setup.split.train.tolist())


def test_the_score_is_that_of_the_kept_predictions() -> None:
    record, predictions = train()
    found = score("rmse", predictions.truth, predictions.prediction)
    assert found.mean == pytest.approx(record.accuracy.test, abs=1e-9)
    assert record.accuracy.best_epoch in (0, 1)
    assert record.history[record.accuracy.best_epoch].valid_score == record.accuracy.valid


def test_progress_is_heard_after_every_epoch() -> None:
    heard: list[Any] = []
    train(listen=heard.append)
    assert [p.epoch for p in heard] == [1, 2]
    assert all(p.graphs_per_second > 0 for p in heard)


def test_a_run_that_diverges_is_a_record_with_its_cause_and_its_history() -> None:
    record, predictions = train(replace(CASE, protocol=replace(TINY, schedule="constant", peak_lr=1e30, epochs=3)))
    assert record.status == "diverged"
    assert "epoch" in record.reason or "finite" in record.reason
    assert predictions is None
    assert record.accuracy is None
    assert record.split_hash


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out-of-memory"),
        (MemoryError(), "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out-of-memory"),
        (RuntimeError("shape mismatch"), "error"),
        (run.Diverged("the training loss is nan"), "diverged"),
    ],
)
def test_causes_are_told_apart(error: Exception, status: str) -> None:
    assert run.cause_of(error)[0] == status


def test_a_bug_in_a_model_is_a_record_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, in_channels, bond_features, tasks):\n"
        "        super().__init__()\n        self.l = nn.Linear(in_channels, tasks)\n\n"
        "    def forward(self, data):\n        return self.l(data.edge_attr)\n"
    )
    record, _ = train(replace(CASE, model=f"{path}:Net"))
    assert record.status == "error"
    assert "net.py:10" in (record.reason or "")


def test_cuda_without_cuda_is_refused_never_replaced_by_the_cpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(DeviceError, match="CUDA was asked for"):
        resolve_device("cuda")


def test_a_subset_larger_than_the_set_is_refused_before_the_run() -> None:
    with pytest.raises((DataError, SamcmpError), match=r"1,?128"):
        train(replace(CASE, protocol=replace(TINY, subset=99999)))


def test_initial_weights_that_were_replaced_after_planning_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoints.save(assemble(CASE, Options()).new_model(), path)
    planned = replace(CASE, protocol=replace(TINY, init_from=hashlib.sha256(path.read_bytes()).hexdigest()))
    assert train(planned, Options(init_from=path))[0].status == "ok"
    checkpoints.save(assemble(replace(CASE, seed=1), Options()).new_model(), path)
    with pytest.raises(DataError, match="was changed since this comparison began"):
        train(planned, Options(init_from=path))


@pytest.mark.parametrize("name", optim.names())
def test_every_optimizer_trains_past_the_epoch_where_its_last_part_switches_on(name: str) -> None:
    case = replace(CASE, dataset="demo-tox", optimizer=name, protocol=Protocol(epochs=8, subset=64))
    record, _ = train(case)
    assert record.status == "ok", record.reason
    assert all(epoch.passes >= 2 for epoch in record.history)
