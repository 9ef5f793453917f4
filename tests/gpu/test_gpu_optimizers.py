"""Every optimizer steps on a GPU as on a CPU, and does not wait for the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from samcmp import backbones, optim
from samcmp.conformance.parameters import state_across_devices
from samcmp.conformance.report import NotApplicable
from samcmp.conformance.trial import STEPS, STEPS_PER_EPOCH, Net, Subject, adam, batch
from samcmp.graphs.batch import GraphBatch
from samcmp.graphs.graphset import GraphSet
from samcmp.training.loop import Trainer
from samcmp.training.tasks import Task
from tests.gpu.cuda import GPU, MARKS, some_molecules

pytestmark = MARKS
READS_HOST = {"ae-sam"}  # decides by the length of a gradient, and says so
AFTER_START = 10  # epochs; the loss terms of SAF and MESA act by then


def subject_of(name: str) -> Subject:
    return Subject(lambda base: optim.build(name, base, steps_per_epoch=STEPS_PER_EPOCH, epochs=4, seed=0))


def trained(name: str, device: torch.device) -> list[torch.Tensor]:
    torch.manual_seed(0)
    run = subject_of(name).run(adam, model=Net().to(device))
    for t in range(STEPS):
        run.closure.x, run.closure.y = (part.to(device) for part in batch(t))
        run.optimizer.step(run.closure)
        for scheduler in run.recipe.step_schedulers:
            scheduler.step()
        if (t + 1) % STEPS_PER_EPOCH == 0:
            for scheduler in run.recipe.epoch_schedulers:
                scheduler.step()
    return [weight.cpu() for weight in run.weights()]


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_steps_on_the_gpu_end_where_those_on_the_cpu_end(name: str) -> None:
    for here, there in zip(trained(name, torch.device("cpu")), trained(name, GPU), strict=True):
        torch.testing.assert_close(there, here, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_state_of_the_cpu_goes_on_on_the_gpu(name: str) -> None:
    try:
        state_across_devices(subject_of(name))
    except NotApplicable as reason:
        pytest.fail(str(reason))


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def trainer_of(model_name: str, optimizer: str) -> tuple[Trainer, list[GraphBatch]]:
    """Return a whole training step as the tool takes it, and batches that are resident on the GPU."""
    found = some_molecules()
    config = backbones.build_config(model_name)
    graphs = GraphSet.load_or_build(found, config.columns, prepare=backbones.prepare_of(config), device=GPU)
    batches = list(graphs.batches(torch.arange(len(graphs)), 16))[:STEPS_PER_EPOCH]
    torch.manual_seed(0)
    model = backbones.build(config, len(found.tasks)).to(GPU).train()
    base = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    recipe: Any = optim.build(optimizer, base, steps_per_epoch=STEPS_PER_EPOCH, epochs=4, seed=0)
    if recipe.loss_term is not None and hasattr(recipe.loss_term, "start_epoch"):
        recipe.loss_term.start_epoch(AFTER_START)
    criterion = Task(found.kind, found.metric, found.tasks).criterion
    return Trainer(model, recipe, criterion=criterion), batches


def steps_without_waiting(model_name: str, optimizer: str) -> None:
    trainer, batches = trainer_of(model_name, optimizer)
    for k in range(STEPS_PER_EPOCH + 1):  # first steps make states and load kernels
        trainer.step(batches[k % len(batches)])
    with waiting_is_an_error():
        for k in range(4 * STEPS_PER_EPOCH):
            trainer.step(batches[k % len(batches)])


@pytest.mark.parametrize("name", sorted(set(optim.OPTIMIZERS) - READS_HOST))
def test_training_step_does_not_wait_for_the_device(name: str) -> None:
    steps_without_waiting("gcn", name)


@pytest.mark.parametrize("name", sorted(set(backbones.BACKBONES) - {"grover-large", "resnet18"}))
def test_model_does_not_wait_for_the_device(name: str) -> None:
    steps_without_waiting(name, "adam")


def test_waiting_is_noticed() -> None:
    value = torch.ones((), device=GPU)
    with waiting_is_an_error(), pytest.raises(RuntimeError):
        value.item()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is no second CUDA device")
def test_a_late_decision_waits_for_the_device_that_its_number_comes_from() -> None:
    """The other device is the current one, as it is for a caller who never chose."""
    other = torch.device("cuda", 1)
    weight = torch.nn.Parameter(torch.ones(3, device=other))
    optimizer: Any = optim.build(
        "ae-sam", torch.optim.Adam([weight]), steps_per_epoch=4, epochs=1, seed=0, settings={"late": True}
    ).optimizer
    a = torch.randn(8192, 8192, device=other)
    for _ in range(20):  # a long queue before the number is known
        torch.mm(a, a)
    optimizer._send((a[0, 0] * 0 + 3.0).double())
    assert optimizer._arrived() == 3.0
