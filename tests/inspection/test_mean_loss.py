"""The mean loss as a function of the weights: what it is, and that it leaves everything as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from samcmp.inspection.weights import MeanLoss, dot, norm
from samcmp.training.tasks import Criterion
from tests.inspection.tiny import Net, Rows, bits, net, rows


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_every_label_counts_equally_however_the_molecules_are_batched() -> None:
    torch.manual_seed(0)
    model = Net(nn.Tanh()).double()
    parts = rows((4, 4, 3), dtype=torch.float64)
    parts[0].y[:3] = torch.nan  # one label is left of this batch
    parts.append(Rows(torch.randn(2, 3).double(), torch.full((2, 1), torch.nan).double()))  # and none of this one
    whole = Rows(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]))
    split, one = (MeanLoss(model, batches, Criterion("regression")) for batches in (parts, [whole]))  # type: ignore[arg-type]
    prediction = model(whole).detach()
    assert split.loss() == pytest.approx(float(Criterion("regression")(prediction, whole.y)), rel=1e-12)
    assert split.loss() == pytest.approx(one.loss(), rel=1e-12)
    assert norm([a - b for a, b in zip(split.gradient(), one.gradient(), strict=True)]) < 1e-12


def test_no_dropout_no_gradient_buffer_no_mode_and_no_random_stream_is_touched() -> None:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("net", Net(nn.ReLU(), dropout=0.5))
    model.forward = model.net.forward  # type: ignore[method-assign]
    model.train()
    model.net.first.eval()
    kept = [p.grad for p in model.parameters()]
    loss = MeanLoss(model, rows((5,)), Criterion("regression"))  # type: ignore[arg-type]
    before = torch.get_rng_state()
    measured = loss.loss()
    loss.gradient()
    assert torch.equal(torch.get_rng_state(), before)
    assert [p.grad for p in model.parameters()] == kept
    assert model.training
    assert model.net.dropout.training
    assert not model.net.first.training
    (batch,) = rows((5,))
    without = Criterion("regression")(model.eval()(batch).detach(), batch.y)
    assert measured == pytest.approx(float(without))


@pytest.mark.parametrize("end", [None, ValueError, KeyboardInterrupt, SystemExit])
def test_weights_come_back_bit_for_bit_whatever_ends_the_block(end: type[BaseException] | None) -> None:
    loss = net(nn.ReLU())
    before = bits(loss)
    with pytest.raises(end) if end else torch.no_grad(), loss.at([torch.full_like(p, 0.1) for p in loss.theta]):  # type: ignore[attr-defined]
        assert not same(bits(loss), before)
        if end:
            raise end
    assert same(bits(loss), before)


def test_weights_come_back_where_the_interrupt_falls_into_the_coming_back(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = net(nn.ReLU())
    before = bits(loss)
    write, calls = loss._write, []

    def interrupted(weights: list[torch.Tensor]) -> None:
        calls.append(len(calls))
        if len(calls) == 2:  # the first is the displacement, the second the way back
            raise KeyboardInterrupt
        write(weights)

    monkeypatch.setattr(loss, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt), loss.at([torch.ones_like(p) for p in loss.theta]):
        pass
    assert same(bits(loss), before)


def test_tied_weights_count_once_frozen_ones_not_and_an_unused_one_has_gradient_zero() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.b = nn.Linear(3, 3)
            self.b.weight = self.a.weight
            self.unused = nn.Linear(2, 2, bias=False)
            self.b.bias.requires_grad_(False)

        def forward(self, batch: Rows) -> torch.Tensor:
            return self.b(torch.tanh(self.a(batch.x))).sum(1, keepdim=True)

    loss = MeanLoss(Tied(), rows((4,)), Criterion("regression"))  # type: ignore[arg-type]
    assert [tuple(p.shape) for p in loss.parameters] == [(3, 3), (3,), (2, 2)]
    g = loss.gradient()
    assert norm(g[:1]) > 0
    assert norm(g[2:]) == 0


def test_loss_that_depends_on_no_weight_has_gradient_zero() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(2))

        def forward(self, batch: Rows) -> torch.Tensor:
            return torch.zeros_like(batch.y)

    loss = MeanLoss(Constant(), rows((4,)), Criterion("regression"))  # type: ignore[arg-type]
    assert norm(loss.gradient()) == 0


def test_model_that_draws_while_it_evaluates_is_one_function_all_the_same() -> None:
    class Noisy(Net):
        def forward(self, batch: Rows) -> torch.Tensor:
            return super().forward(batch) + torch.randn(len(batch.x), 1)

    loss = MeanLoss(Noisy(nn.Tanh()), rows((4,)), Criterion("regression"))  # type: ignore[arg-type]
    first = loss.loss()
    torch.randn(1)  # the caller's own
    assert loss.loss() == first


@pytest.mark.parametrize("batches", [[], [Rows(torch.ones(2, 3), torch.full((2, 1), torch.nan))]])
def test_mean_over_no_label_is_refused(batches: list[Rows]) -> None:
    with pytest.raises(ValueError, match="label"):
        MeanLoss(Net(nn.Tanh()), batches, Criterion("regression"))  # type: ignore[arg-type]


def test_norms_and_products_are_summed_in_float64() -> None:
    x = [torch.full((1000, 1000), 1e-3), torch.ones(1)]
    assert norm(x) == pytest.approx(2.0**0.5, rel=1e-7)
    assert dot(x, x) == pytest.approx(2.0, rel=1e-7)
