"""The GRU read-out against torch's own module, one molecule at a time."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from samcmp.backbones import layers
from samcmp.backbones.layers import gru_over_atoms, gru_over_padding
from samcmp.graphs.batch import GraphBatch
from tests.backbones.oracle_batches import batch_from_arrays

SIZES = {"mixed": [3, 1, 7, 5, 7], "equal": [4, 4, 4], "one atom": [1], "growing": [1, 2, 9]}


@dataclass
class Case:
    gru: nn.GRU
    x: Tensor  # (A, 6)
    start: Tensor
    sizes: list[int]

    @property
    def batch(self) -> GraphBatch:
        graph = torch.arange(len(self.sizes)).repeat_interleave(torch.tensor(self.sizes))
        no_bonds = torch.zeros(2, 0, dtype=torch.long)
        return batch_from_arrays(self.x.detach(), no_bonds, bonds=torch.zeros(0, 14), graph_of_atom=graph)


@pytest.fixture(params=list(SIZES))
def case(request: pytest.FixtureRequest) -> Case:
    sizes = SIZES[request.param]
    torch.manual_seed(len(sizes))
    gru = nn.GRU(6, 4, bidirectional=True).double()
    x = torch.randn(sum(sizes), 6, dtype=torch.double, requires_grad=True)
    start = torch.randn(len(sizes), 4, dtype=torch.double, requires_grad=True)
    return Case(gru, x, start, sizes)


def sequences(case: Case, length: int | None) -> list[Tensor]:
    """(length or n, 2H) states of every molecule, by torch's module."""
    out = []
    for x, start in zip(case.x.split(case.sizes), case.start, strict=True):
        padded = x if length is None else nn.functional.pad(x, (0, 0, 0, length - len(x)))
        out.append(case.gru(padded.unsqueeze(1), start.expand(2, 1, -1).contiguous())[0].squeeze(1))
    return out


def assert_same(case: Case, ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    weight = torch.randn_like(theirs)
    of = [case.x, case.start, *case.gru.parameters()]
    mine = torch.autograd.grad((ours * weight).sum(), of)
    for a, b in zip(mine, torch.autograd.grad((theirs * weight).sum(), of), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("over", [gru_over_atoms, layers._gru_twice_padded], ids=["on a CPU", "elsewhere"])
def test_states_over_real_atoms_and_all_gradients_equal_torchs_module(over: object, case: Case) -> None:
    ours = over(case.gru, case.x, case.start, case.batch)  # type: ignore[operator]
    assert_same(case, ours, torch.cat(sequences(case, None)))


@pytest.mark.parametrize("extra", [0, 3])
def test_states_over_padding_and_all_gradients_equal_torchs_module(case: Case, extra: int) -> None:
    length = max(case.sizes) + extra
    ours = gru_over_padding(case.gru, case.x, case.start, case.batch, length=length)
    assert_same(case, ours, torch.stack(sequences(case, length), 1))


def test_under_autocast_the_recurrence_stays_in_single_precision(case: Case) -> None:
    gru, x, start, batch = case.gru.float(), case.x.detach().float(), case.start.detach().float(), case.batch
    for over, more in ((gru_over_atoms, {}), (gru_over_padding, {"length": 9})):
        expected = over(gru, x, start, batch, **more)  # type: ignore[operator]
        gru.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = over(gru, x.bfloat16(), start.bfloat16(), batch, **more)  # type: ignore[operator]
            out.sum().backward()
        assert out.dtype == torch.float32
        torch.testing.assert_close(out, expected, rtol=0, atol=0.02)
        assert gru.weight_hh_l0.grad is not None
