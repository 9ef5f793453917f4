"""A bidirectional GRU over the atoms of each molecule, for read-outs that pass over molecules as sequences.

Cho et al. (EMNLP 2014) in the form of torch.nn.GRU, whose parameters are used as they are:

    r = sigma(W_ir x + b_ir + W_hr h + b_hr)        h' = (1 - z) n + z h
    z = sigma(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r (W_hn h + b_hn))

Both directions of one molecule start from the same state. On a CPU the recurrence is our own: molecules are sorted by
size so that a step works on the molecules that still have atoms, W_i x is formed once for atoms that read the same, and
every weight gradient is one product over all steps. Elsewhere it is the library's kernel on padded sequences, which
needs no lengths on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from samcmp.backbones.lists import Lists

_library_gru: Callable[..., tuple[Tensor, Tensor]] = torch._VF.gru


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which rows each step of one direction works on: N = sum of ``sizes`` rows, step after step."""

    sizes: list[int]  # molecules at work in each step, never growing
    order: Tensor  # (G,) molecule at each place
    place: Tensor  # (G,) place of each molecule
    input_of_row: Tensor  # (N,) input that each row reads
    row_of_output: Tensor  # (N,) row that each output comes from
    output_of_row: Tensor  # (N,) the inverse of it


def _is_ours(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _inverse(permutation: Tensor) -> Tensor:
    out = torch.empty_like(permutation)
    out[permutation] = torch.arange(permutation.numel(), device=permutation.device)
    return out


def _places(graph_of_atom: Tensor, atom_ptr: Tensor) -> tuple[Tensor, Tensor]:
    """Return (A,) position of each atom in its molecule, from the front and from the end."""
    count = torch.arange(graph_of_atom.numel(), device=graph_of_atom.device)
    front = count - atom_ptr.index_select(0, graph_of_atom)
    return front, atom_ptr.index_select(0, graph_of_atom + 1) - 1 - count


def packed_schedules(input_of_atom: Tensor, graph_of_atom: Tensor, atom_ptr: Tensor) -> list[Schedule]:
    """Return the schedules of both directions over real atoms only; outputs come in the order of the atoms."""
    lengths = atom_ptr.diff()
    order = lengths.argsort(descending=True, stable=True)
    place = _inverse(order)
    at_work = (lengths.numel() - lengths.bincount().cumsum(0))[:-1]  # molecules longer than t
    first_row = at_work.cumsum(0) - at_work
    sizes, place_of_atom = at_work.tolist(), place.index_select(0, graph_of_atom)
    schedules = []
    for position in _places(graph_of_atom, atom_ptr):
        row_of_atom = first_row.index_select(0, position) + place_of_atom
        atom_of_row = _inverse(row_of_atom)
        reads = input_of_atom.index_select(0, atom_of_row)
        schedules.append(Schedule(sizes, order, place, reads, row_of_atom, atom_of_row))
    return schedules


def padded_schedules(
    input_of_atom: Tensor, padding: int, *, graph_of_atom: Tensor, atom_ptr: Tensor, steps: int
) -> list[Schedule]:
    """Return the schedules in which every molecule has ``steps`` positions and reads ``padding`` behind its atoms.

    Outputs come position after position, the molecules within each. The backward direction starts in the padding.
    """
    graphs = atom_ptr.numel() - 1
    front, _ = _places(graph_of_atom, atom_ptr)
    order = torch.arange(graphs)
    reads = torch.full((steps, graphs), padding)
    reads[front, graph_of_atom] = input_of_atom
    rows = torch.arange(steps * graphs).view(steps, graphs)
    return [
        Schedule([graphs] * steps, order, order, there.flatten(), outputs.flatten(), outputs.flatten())
        for there, outputs in ((reads, rows), (reads.flip(0), rows.flip(0)))
    ]


class _Recurrence(Function):
    """One direction over a schedule; H hidden, N rows."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, schedule: Schedule, x: Tensor, start: Tensor, *weights: Tensor) -> Tensor:
        w_ih, w_hh, b_ih, b_hh = weights
        hidden, sizes = start.shape[1], schedule.sizes
        given = torch.addmm(b_ih, x, w_ih.t())  # (D, 3H)
        given[:, : 2 * hidden] += b_hh[: 2 * hidden]
        kept = x.new_empty(sum(sizes), 5 * hidden)  # r, z, n, W_hn h + b_hn and the h before
        torch.index_select(given, 0, schedule.input_of_row, out=kept[:, : 3 * hidden])
        left = x.new_empty(len(kept), hidden)  # the h after
        w_rz, w_n = w_hh[: 2 * hidden].t(), w_hh[2 * hidden :].t()
        h = start.index_select(0, schedule.order)  # (G, H)
        for row, after in zip(torch.split(kept, sizes), torch.split(left, sizes), strict=True):
            r, z, n, recurrent, before = row.chunk(5, 1)
            before.copy_(h[: len(row)])
            row[:, : 2 * hidden].addmm_(before, w_rz).sigmoid_()
            torch.addmm(b_hh[2 * hidden :], before, w_n, out=recurrent)
            h = torch.lerp(n.addcmul_(r, recurrent).tanh_(), before, z, out=after)
        ctx.schedule = schedule
        ctx.save_for_backward(x, w_ih, w_hh, kept)
        return left.index_select(0, schedule.row_of_output)  # (N, H)

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        schedule: Schedule = ctx.schedule
        x, w_ih, w_hh, kept = ctx.saved_tensors
        hidden, sizes = w_hh.shape[1], schedule.sizes
        d_start = x.new_zeros(len(schedule.order), hidden)
        d_left = torch.split(grad.index_select(0, schedule.output_of_row), sizes)
        d_gates = x.new_empty(len(kept), 3 * hidden)  # of r, z and n before their activations
        d_recurrent = x.new_empty(len(kept), hidden)  # of W_hn h + b_hn
        of_step = (
            *(torch.split(of_row, sizes) for of_row in (kept, d_gates, d_recurrent)),
            d_left,
            (d_start, *d_left[:-1]),
        )
        for row, d_gate, d_recur, d_h, d_before in reversed(list(zip(*of_step, strict=True))):
            d_before = d_before[: len(row)].add_(_into_gates(row, d_h, d_gate=d_gate, d_recurrent=d_recur))
            d_before.addmm_(d_gate[:, : 2 * hidden], w_hh[: 2 * hidden]).addmm_(d_recur, w_hh[2 * hidden :])
        d_rz, h = d_gates[:, : 2 * hidden], kept[:, 4 * hidden :]
        d_whh = torch.cat((d_rz.t() @ h, d_recurrent.t() @ h))
        d_bih = d_gates.sum(0)
        d_bhh = torch.cat((d_bih[: 2 * hidden], d_recurrent.sum(0)))
        d_given = Lists.by_key(schedule.input_of_row, len(x)).sums(d_gates)  # (D, 3H)
        d_x = d_given @ w_ih if ctx.needs_input_grad[1] else None
        return None, d_x, d_start.index_select(0, schedule.place), d_given.t() @ x, d_whh, d_bih, d_bhh


def _into_gates(row: Tensor, d_h: Tensor, *, d_gate: Tensor, d_recurrent: Tensor) -> Tensor:
    """Write the gradients of a step's gates from that of the state after it; return d_h z, what passes them by."""
    r, z, n, recurrent, h = row.chunk(5, 1)
    d_r, d_z, d_n = d_gate.chunk(3, 1)
    passed = d_h * z
    free = d_h - passed  # d_h (1 - z)
    torch.mul(h - n, free * z, out=d_z)
    torch.addcmul(free, free * n, n, value=-1, out=d_n)
    torch.mul(d_n, r, out=d_recurrent)
    torch.mul(d_recurrent, torch.addcmul(recurrent, recurrent, r, value=-1), out=d_r)
    return passed


def _run(gru: nn.GRU, x: Tensor, start: Tensor, *, schedules: list[Schedule]) -> Tensor:
    """Return (N, 2H) outputs of the forward and the backward direction."""
    weights = _weights(gru)
    halves = [
        _Recurrence.apply(schedule, x, start, *own)  # type: ignore[no-untyped-call]
        for schedule, own in zip(schedules, (weights[:4], weights[4:]), strict=True)
    ]
    return torch.cat(halves, 1)


def _weights(gru: nn.GRU) -> list[Tensor]:
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [getattr(gru, name + end) for end in ("", "_reverse") for name in names]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def over_atoms(
    gru: nn.GRU,
    x: Tensor,
    start: Tensor,
    *,
    graph_of_atom: Tensor,
    atom_ptr: Tensor,
    steps: int,
    input_of_atom: Tensor | None = None,
) -> Tensor:
    """Return (A, 2H): forward and backward states at every atom, both started from start (G, H).

    ``gru`` is bidirectional with one layer; ``steps`` is the size of the largest molecule. Atoms that read the same
    may share a row of x, named by ``input_of_atom`` (A,); without it, x (A, F) has a row for each atom.
    """
    if input_of_atom is None:
        input_of_atom = torch.arange(len(x), device=x.device)
    if _is_ours(x):
        return _run(gru, x, start, schedules=packed_schedules(input_of_atom, graph_of_atom, atom_ptr))
    x = x.index_select(0, input_of_atom)  # (A, F)
    front, back = _places(graph_of_atom, atom_ptr)
    weights = _weights(gru)
    halves = []
    for position, own in ((front, weights[:4]), (back, weights[4:])):
        slot = graph_of_atom * steps + position
        padded = x.new_zeros(len(start) * steps, x.shape[1]).index_copy(0, slot, x).view(len(start), steps, -1)
        states, _ = _library_gru(padded, start.unsqueeze(0), own, True, 1, 0.0, gru.training, False, True)
        halves.append(states.flatten(0, 1).index_select(0, slot))
    return torch.cat(halves, 1)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def over_padding(
    gru: nn.GRU,
    x: Tensor,
    start: Tensor,
    *,
    graph_of_atom: Tensor,
    atom_ptr: Tensor,
    steps: int,
    input_of_atom: Tensor | None = None,
) -> Tensor:
    """Return (steps, G, 2H) states where every molecule is followed by zeros up to ``steps`` positions."""
    graphs = len(start)
    if input_of_atom is None:
        input_of_atom = torch.arange(len(x), device=x.device)
    if _is_ours(x):
        place = {"graph_of_atom": graph_of_atom, "atom_ptr": atom_ptr}
        schedules = padded_schedules(input_of_atom, len(x), **place, steps=steps)
        return _run(gru, F.pad(x, (0, 0, 0, 1)), start, schedules=schedules).view(steps, graphs, -1)
    x = x.index_select(0, input_of_atom)  # (A, F)
    front, _ = _places(graph_of_atom, atom_ptr)
    padded = x.new_zeros(steps * graphs, x.shape[1]).index_copy(0, front * graphs + graph_of_atom, x)
    both = start.expand(2, *start.shape).contiguous()
    inputs = padded.view(steps, graphs, -1)
    return _library_gru(inputs, both, _weights(gru), True, 1, 0.0, gru.training, True, False)[0]
