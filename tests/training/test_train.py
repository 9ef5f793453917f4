"""Training: streams that are equal for all optimizers, schedules by their formulas, selection by validation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samcmp.graphs.batch import GraphBatch
from samcmp.records import Protocol
from samcmp.training.loop import Selection, StepClosure, Trainer, learning_rate, predict, stream
from samcmp.training.tasks import Criterion


def a_batch(graphs: int = 6, tasks: int = 2, *, seed: int = 0) -> GraphBatch:
    """One atom a molecule and no bonds: enough for a model that reads atom features."""
    generator = torch.Generator().manual_seed(seed)
    one_each = torch.arange(graphs)
    return GraphBatch(
        atom_kind=one_each,
        atom_table=torch.randn(graphs, 4, generator=generator),
        edge_index=torch.zeros(2, 0, dtype=torch.long),
        bond_kind=torch.zeros(0, dtype=torch.long),
        bond_table=torch.zeros(1, 3),
        graph_of_atom=one_each,
        atom_ptr=torch.arange(graphs + 1),
        bond_ptr=torch.zeros(graphs + 1, dtype=torch.long),
        y=torch.randint(0, 2, (graphs, tasks), generator=generator).float(),
        rows=one_each,
        max_atoms=1,
    )


class Noisy(nn.Module):
    """A linear model under dropout that remembers its masks."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.masks: list[Tensor] = []

    def forward(self, batch: GraphBatch) -> Tensor:
        mask = nn.functional.dropout(torch.ones(batch.num_graphs, 4), 0.5, self.training)
        self.masks.append(mask)
        return self.linear(batch.atom_features * mask)  # type: ignore[no-any-return]


class Passes(torch.optim.SGD):
    """Plain descent that calls the closure as often as it is told to."""

    def __init__(self, parameters: Any, passes: int) -> None:
        super().__init__(parameters, lr=0.0)
        self.passes = passes

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        for _ in range(self.passes):
            loss = closure()
        return loss


@dataclass
class Recipe:
    optimizer: Any
    loss_power: int = 1
    loss_term: Any = None
    epoch_schedulers: tuple[Any, ...] = field(default_factory=tuple)
    step_schedulers: tuple[Any, ...] = field(default_factory=tuple)


def a_trainer(passes: int = 1, **more: Any) -> tuple[Noisy, Trainer]:
    torch.manual_seed(0)
    model = Noisy()
    recipe = Recipe(Passes(model.parameters(), passes), **more)
    return model, Trainer(model, recipe, criterion=Criterion("classification"), dropout_seed=7)


def test_an_optimizer_that_takes_more_passes_does_not_shift_the_next_steps_dropout() -> None:
    batches = [a_batch(seed=n) for n in range(3)]
    one, two = a_trainer(1), a_trainer(2)
    one[1].epoch(batches)
    two[1].epoch(batches)
    for step in range(3):
        assert torch.equal(one[0].masks[step], two[0].masks[2 * step])
    assert not torch.equal(one[0].masks[0], one[0].masks[1])


def test_gradient_evaluations_are_counted() -> None:
    sums = a_trainer(3)[1].epoch([a_batch(), a_batch()])
    assert (sums.steps, sums.passes, sums.samples) == (2, 6, 12)


def test_the_loss_of_an_epoch_is_a_mean_over_molecules_a_short_last_batch_included() -> None:
    class Returns(Passes):
        def step(self, closure: Any = None) -> Any:  # type: ignore[override]
            super().step(closure)
            return torch.tensor(next(losses))

    model, trainer = a_trainer(1)
    losses = iter([1.0, 4.0])
    trainer.optimizer = Returns(model.parameters(), 1)
    sums = trainer.epoch([a_batch(6), a_batch(3)])
    assert sums.loss == pytest.approx((6 * 1.0 + 3 * 4.0) / 9)
    assert sums.samples == 9


def test_loss_power_two_multiplies_the_gradient_by_the_loss() -> None:
    batch = a_batch()
    gradients = {}
    for power in (1, 2):
        torch.manual_seed(0)
        model = Noisy().eval()
        closure = StepClosure(model, Criterion("classification"), loss_power=power)
        closure.batch = batch
        loss = closure()
        gradients[power] = model.linear.weight.grad
    assert gradients[1] is not None
    torch.testing.assert_close(gradients[2], loss * gradients[1])


def test_the_gradient_on_a_selection_is_that_of_the_sub_batch() -> None:
    torch.manual_seed(0)
    model, batch = Noisy().eval(), a_batch()
    keep = torch.tensor([True, False, True, True, False, False])
    closure = StepClosure(model, Criterion("classification"))
    closure.batch = batch
    closure.on(keep)
    found = model.linear.weight.grad
    model.zero_grad()
    expected = nn.functional.binary_cross_entropy_with_logits(model.linear(batch.atom_features[keep]), batch.y[keep])
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found, model.linear.weight.grad)


def test_per_graph_losses_average_to_the_loss_without_missing_labels() -> None:
    torch.manual_seed(0)
    closure = StepClosure(Noisy().eval(), Criterion("classification"))
    closure.batch = a_batch()
    torch.testing.assert_close(closure.losses().mean(), closure())


def test_streams_of_different_purposes_and_seeds_differ() -> None:
    seeds = {stream(seed, purpose) for seed in range(50) for purpose in ("weights", "batches-0", "dropout")}
    assert len(seeds) == 150
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_warm_up_and_decay_follow_the_formula() -> None:
    protocol = Protocol(epochs=10, batch_size=8, initial_lr=1e-4, peak_lr=1e-3, final_lr=1e-4, warmup_epochs=2.0)
    rate = learning_rate("noam", protocol=protocol, train_size=80)
    assert rate is not None
    assert rate(1) == pytest.approx(1e-4 + 9e-4 / 20)
    assert rate(20) == pytest.approx(1e-3)
    assert rate(60) == pytest.approx(1e-3 * 0.1**0.5)
    assert rate(100) == pytest.approx(1e-4)
    assert rate(1000) == pytest.approx(1e-4)


def test_a_run_shorter_than_its_warm_up_only_warms_up() -> None:
    rate = learning_rate("noam", protocol=Protocol(epochs=1, batch_size=10), train_size=100)
    assert rate is not None
    assert rate(10) == pytest.approx(1e-3)
    assert all(rate(t) < rate(t + 1) for t in range(1, 10))


def test_the_released_compt_rate_peaks_at_epoch_30_as_documented() -> None:
    rate = learning_rate("compt-adam-released", protocol=Protocol(), train_size=1627, dataset="bbbp")
    assert rate is not None
    peak = 30 * (1627 // 32)
    assert rate(peak) == pytest.approx(3.2e-4, rel=0.01)
    assert rate(peak - 1) < rate(peak) > rate(peak + 1)


@pytest.mark.parametrize(("metric", "best"), [("roc-auc", 2), ("rmse", 0)])
def test_the_best_validation_epoch_counts_and_a_tie_goes_to_the_earlier(metric: str, best: int) -> None:
    selection = Selection(metric)
    for epoch, valid in enumerate([0.1, math.nan, 0.9, 0.9, 0.1]):
        selection.offer(epoch, valid)
    assert selection.epoch == best


def test_predictions_keep_every_molecule_and_leave_the_model_in_training_mode() -> None:
    model = Noisy().train()
    out = predict(model, [a_batch(4), a_batch(3)], link=torch.sigmoid)
    assert out.shape == (7, 2)
    assert out.dtype == torch.float64
    assert model.training
    assert ((out > 0) & (out < 1)).all()
