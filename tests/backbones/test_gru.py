"""The GRU read-out against torch's own module, one molecule at a time."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from samcmp.backbones.gru import over_atoms, over_padding

SIZES = {"mixed": [3, 1, 7, 5, 7], "equal": [4, 4, 4], "one atom": [1], "growing": [1, 2, 9]}


@dataclass
class Case:
    gru: nn.GRU
    x: Tensor  # (D, 6), D < A where there are two atoms or more
    input_of_atom: Tensor
    start: Tensor
    sizes: list[int]

    @property
    def place(self) -> dict[str, Tensor]:
        sizes = torch.tensor(self.sizes)
        ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        graph_of_atom = torch.arange(len(sizes)).repeat_interleave(sizes)
        return {"input_of_atom": self.input_of_atom, "atom_ptr": ptr, "graph_of_atom": graph_of_atom}


@pytest.fixture(params=list(SIZES))
def case(request: pytest.FixtureRequest) -> Case:
    sizes = SIZES[request.param]
    torch.manual_seed(len(sizes))
    gru = nn.GRU(6, 4, bidirectional=True).double()
    distinct = (2 * sum(sizes) + 2) // 3
    x = torch.randn(distinct, 6, dtype=torch.double, requires_grad=True)
    start = torch.randn(len(sizes), 4, dtype=torch.double, requires_grad=True)
    return Case(gru, x, torch.randperm(sum(sizes)) % distinct, start, sizes)


def sequences(case: Case, length: int | None) -> list[Tensor]:
    """(length or n, 2H) states of every molecule, by torch's module."""
    out = []
    for x, start in zip(case.x[case.input_of_atom].split(case.sizes), case.start, strict=True):
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


def test_states_over_real_atoms_and_all_gradients_equal_torchs_module(case: Case) -> None:
    ours = over_atoms(case.gru, case.x, case.start, steps=max(case.sizes), **case.place)
    assert_same(case, ours, torch.cat(sequences(case, None)))


@pytest.mark.parametrize("extra", [0, 3])
def test_states_over_padding_and_all_gradients_equal_torchs_module(case: Case, extra: int) -> None:
    length = max(case.sizes) + extra
    ours = over_padding(case.gru, case.x, case.start, steps=length, **case.place)
    assert_same(case, ours, torch.stack(sequences(case, length), 1))


@pytest.mark.parametrize("read", [over_atoms, over_padding])
def test_the_librarys_padded_kernel_gives_the_same_states(
    read: object, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = max(case.sizes) + (read is over_padding)
    ours = read(case.gru, case.x, case.start, steps=length, **case.place)  # type: ignore[operator]
    monkeypatch.setattr("samcmp.backbones.gru._is_ours", lambda x: False)
    theirs = read(case.gru, case.x, case.start, steps=length, **case.place)  # type: ignore[operator]
    assert_same(case, ours, theirs)


def test_backward_may_run_twice_over_one_graph(case: Case) -> None:
    out = over_atoms(case.gru, case.x, case.start, steps=max(case.sizes), **case.place).sum()
    first = torch.autograd.grad(out, list(case.gru.parameters()), retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(out, list(case.gru.parameters())), strict=True):
        assert torch.equal(a, b)


def test_under_autocast_the_recurrence_stays_in_single_precision(case: Case) -> None:
    gru, x = case.gru.float(), case.x.detach().float()
    start = case.start.detach().float()
    place = {**case.place, "steps": max(case.sizes)}
    expected = over_atoms(gru, x, start, **place)
    with torch.autocast("cpu", torch.bfloat16):
        out = over_atoms(gru, x.bfloat16(), start, **place)
        out.sum().backward()
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, rtol=0, atol=0.02)
    assert gru.weight_hh_l0.grad is not None
