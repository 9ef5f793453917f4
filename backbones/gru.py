"""A bidirectional GRU over the atoms of each molecule, for read-outs that pass over molecules as sequences.

Cho et al. (EMNLP 2014) in the form of torch.nn.GRU, whose parameters are used as they are:

    r = sigma(W_ir x + b_ir + W_hr h + b_hr)        h' = (1 - z) n + z h
    z = sigma(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r (W_hn h + b_hn))

Both directions of one molecule start from the same state. On a CPU the recurrence is our own: molecules are sorted by
size so that a step works on the molecules that still have atoms, both directions share each product, and backward
forms every weight gradient in one product over all steps. Elsewhere it is the library's kernel on padded sequences,
which needs no lengths on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_library_gru: Callable[..., tuple[Tensor, Tensor]] = torch._VF.gru
ROWS_AT_A_TIME = 128


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which rows each step of the recurrence works on: N = sum of ``sizes`` rows, step after step.

    A row is a pair of states, one a direction, so the index vectors count halves of rows: 2 * row + direction.
    """

    sizes: list[int]  # molecules at work in each step, never growing
    order: Tensor  # (G,) molecule at each place
    place: Tensor  # (G,) place of each molecule
    atom_of_row: Tensor  # (2N,) atom that each row reads, A in padding
    row_of_atom: Tensor  # (2A,) where each atom is read
    row_of_output: Tensor  # (2N,) where each output is left
    output_of_row: Tensor  # (2N,) the inverse of it


def _is_ours(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _inverse(permutation: Tensor) -> Tensor:
    out = torch.empty_like(permutation)
    out[permutation] = torch.arange(permutation.numel(), device=permutation.device)
    return out


def _halves(forwards: Tensor, backwards: Tensor) -> Tensor:
    return torch.stack((2 * forwards, 2 * backwards + 1), 1).flatten()


def _places(graph_of_atom: Tensor, atom_ptr: Tensor) -> tuple[Tensor, Tensor]:
    """Return (A,) position of each atom in its molecule, from the front and from the end."""
    count = torch.arange(graph_of_atom.numel(), device=graph_of_atom.device)
    front = count - atom_ptr.index_select(0, graph_of_atom)
    return front, atom_ptr.index_select(0, graph_of_atom + 1) - 1 - count


def packed_schedule(graph_of_atom: Tensor, atom_ptr: Tensor) -> Schedule:
    """Return the schedule over real atoms only; outputs come in the order of the atoms."""
    lengths = atom_ptr.diff()
    order = lengths.argsort(descending=True, stable=True)
    place = _inverse(order)
    at_work = (lengths.numel() - lengths.bincount().cumsum(0))[:-1]  # molecules longer than t
    first_row = at_work.cumsum(0) - at_work
    front, back = _places(graph_of_atom, atom_ptr)
    place_of_atom = place.index_select(0, graph_of_atom)
    rows = _halves(first_row.index_select(0, front) + place_of_atom, first_row.index_select(0, back) + place_of_atom)
    inverse = _inverse(rows)
    return Schedule(at_work.tolist(), order, place, inverse, rows, rows, inverse)


def padded_schedule(graph_of_atom: Tensor, atom_ptr: Tensor, *, steps: int) -> Schedule:
    """Return the schedule in which every molecule has ``steps`` positions, zeros behind its atoms.

    Outputs come position after position, the molecules within each. The backward direction starts in the padding.
    """
    graphs, atoms = atom_ptr.numel() - 1, graph_of_atom.numel()
    front, _ = _places(graph_of_atom, atom_ptr)
    order = torch.arange(graphs)
    rows = _halves(front * graphs + graph_of_atom, (steps - 1 - front) * graphs + graph_of_atom)
    reads = torch.tensor([2 * atoms, 2 * atoms + 1]).repeat(steps * graphs)
    reads[rows] = torch.arange(2 * atoms)
    forwards = torch.arange(steps * graphs)
    outputs = _halves(forwards, forwards.view(steps, graphs).flip(0).flatten())
    return Schedule([graphs] * steps, order, order, reads, rows, outputs, _inverse(outputs))


class _Recurrence(Function):
    """Both directions over a schedule; H hidden, N rows, and every state is a row of two halves."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, start: Tensor, schedule: Schedule, *weights: Tensor) -> Tensor:
        graphs, hidden = start.shape
        w_ih, w_hh, b_ih, b_hh = (torch.stack(pair) for pair in zip(weights[:4], weights[4:], strict=True))
        given = x.new_empty(x.shape[0] + 1, 6 * hidden)  # what each atom, and last padding, brings to the gates
        torch.addmm(b_ih.flatten(), x, w_ih.flatten(0, 1).t(), out=given[:-1])
        given[-1] = b_ih.flatten()
        rows = sum(schedule.sizes)
        gates = x.new_empty(rows, 2, 3 * hidden)  # r, z and W_hn h + b_hn
        news = x.new_empty(rows, 2, hidden)  # n
        states = x.new_empty(graphs + rows, 2, hidden)  # the start, then what every step leaves
        states[:graphs] = start.index_select(0, schedule.order).unsqueeze(1)
        before, row = 0, 0
        for size in schedule.sizes:
            h, gate, n = states[before : before + size], gates[row : row + size], news[row : row + size]
            read = given.view(-1, 3 * hidden).index_select(0, schedule.atom_of_row[2 * row : 2 * (row + size)])
            read = read.view(size, 2, 3 * hidden)
            for k in (0, 1):
                torch.addmm(b_hh[k], h[:, k], w_hh[k].t(), out=gate[:, k])
            gate[..., : 2 * hidden].add_(read[..., : 2 * hidden]).sigmoid_()
            r, z, recurrent = gate.chunk(3, 2)
            torch.addcmul(read[..., 2 * hidden :], r, recurrent, out=n).tanh_()
            before = graphs + row
            torch.lerp(n, h, z, out=states[before : before + size])
            row += size
        ctx.schedule = schedule
        ctx.save_for_backward(x, w_ih, w_hh, gates, news, states)
        left = states[graphs:].view(-1, hidden)
        return left.index_select(0, schedule.row_of_output).view(rows, 2 * hidden)  # (N, 2H)

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        schedule: Schedule = ctx.schedule
        x, w_ih, w_hh, gates, news, states = ctx.saved_tensors
        graphs, rows, hidden = schedule.order.numel(), news.shape[0], news.shape[2]
        h_before = _states_before(states, schedule)  # (N, 2, H)
        d_states = x.new_empty(graphs + rows, 2, hidden)
        d_states[:graphs] = 0
        left = d_states[graphs:].view(-1, hidden)
        torch.index_select(grad.reshape(-1, hidden), 0, schedule.output_of_row, out=left)
        d_gates = x.new_empty(rows, 2, 3, hidden)
        d_whh, d_bhh, d_bih = torch.zeros_like(w_hh), x.new_zeros(2, 3, hidden), x.new_zeros(2, 3, hidden)
        for steps in _blocks(schedule.sizes):
            block = slice(steps[-1].row, steps[0].row + steps[0].size)
            r, z, recurrent = gates[block].chunk(3, 2)
            n, h, d_gate, d_state = news[block], h_before[block], d_gates[block], d_states[graphs:][block]
            # The gates' gradients are the state's gradient times what is known before the recurrence.
            free = 1 - z
            d_new = torch.addcmul(free, free * n, n, value=-1)
            torch.mul(d_new, r, out=d_gate[:, :, 2])
            torch.mul(d_gate[:, :, 2], torch.addcmul(recurrent, recurrent, r, value=-1), out=d_gate[:, :, 0])
            torch.mul(h - n, free.mul_(z), out=d_gate[:, :, 1])
            for step in steps:
                _step_back(step, d_states, d_gates, z=gates[..., hidden : 2 * hidden], w_hh=w_hh, graphs=graphs)
            for k in (0, 1):
                d_whh[k].addmm_(d_gate[:, k].flatten(1).t(), h[:, k])
            d_bhh += d_gate.sum(0)
            torch.mul(d_state, d_new, out=d_gate[:, :, 2])
            d_bih[:, 2] += d_gate[:, :, 2].sum(0)
        d_bih[:, :2] = d_bhh[:, :2]
        d_given = d_gates.view(-1, 3 * hidden).index_select(0, schedule.row_of_atom).view(len(x), -1)  # (A, 6H)
        d_x = d_given @ w_ih.flatten(0, 1) if ctx.needs_input_grad[0] else None
        d_wih = (d_given.t() @ x).view_as(w_ih)
        d_start = d_states[:graphs].sum(1).index_select(0, schedule.place)
        d_weights = [(d_wih[k], d_whh[k], d_bih[k].flatten(), d_bhh[k].flatten()) for k in (0, 1)]
        return d_x, d_start, None, *d_weights[0], *d_weights[1]


class _Step(NamedTuple):
    row: int
    size: int
    size_before: int


def _blocks(sizes: list[int]) -> Iterator[list[_Step]]:
    """Yield the steps from the last to the first in blocks of rows that fit a processor's cache."""
    block: list[_Step] = []
    row, held = sum(sizes), 0
    for t in range(len(sizes) - 1, -1, -1):
        row -= sizes[t]
        if block and held + sizes[t] > ROWS_AT_A_TIME:
            yield block
            block, held = [], 0
        block.append(_Step(row, sizes[t], sizes[t - 1] if t else sizes[0]))
        held += sizes[t]
    yield block


def _step_back(step: _Step, d_states: Tensor, d_gates: Tensor, *, z: Tensor, w_hh: Tensor, graphs: int) -> None:
    """Complete a step's gate gradients and add to the gradient of the state before it."""
    row, size = step.row, step.size
    d_state, d_gate = d_states[graphs + row : graphs + row + size], d_gates[row : row + size]
    before = graphs + row - step.size_before if row else 0
    d_before = d_states[before : before + size]
    d_gate.mul_(d_state.unsqueeze(2))
    d_before.addcmul_(d_state, z[row : row + size])
    for k in (0, 1):
        d_before[:, k].addmm_(d_gate[:, k].flatten(1), w_hh[k])


def _states_before(states: Tensor, schedule: Schedule) -> Tensor:
    """Return (N, 2, H) the states that each row started from."""
    graphs, sizes = schedule.order.numel(), schedule.sizes
    rows = sum(sizes)
    if sizes[-1] == graphs:  # all molecules are equally long: the rows are one step back
        return states[:rows]
    size = torch.tensor(sizes)
    step_back = torch.cat([size.new_tensor([graphs]), size[:-1]])  # rows between a step's state and the one before
    shift = (graphs - step_back).repeat_interleave(size, output_size=rows)
    return states.index_select(0, torch.arange(rows) + shift)


def _weights(gru: nn.GRU) -> list[Tensor]:
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [getattr(gru, name + end) for end in ("", "_reverse") for name in names]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def over_atoms(gru: nn.GRU, x: Tensor, start: Tensor, *, graph_of_atom: Tensor, atom_ptr: Tensor, steps: int) -> Tensor:
    """Return (A, 2H): forward and backward states at every atom of x (A, F), both started from start (G, H).

    ``gru`` is bidirectional with one layer; ``steps`` is the size of the largest molecule.
    """
    if _is_ours(x):
        schedule = packed_schedule(graph_of_atom, atom_ptr)
        out: Tensor = _Recurrence.apply(x, start, schedule, *_weights(gru))  # type: ignore[no-untyped-call]
        return out
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
    gru: nn.GRU, x: Tensor, start: Tensor, *, graph_of_atom: Tensor, atom_ptr: Tensor, steps: int
) -> Tensor:
    """Return (steps, G, 2H) states where every molecule is followed by zeros up to ``steps`` positions."""
    graphs = len(start)
    if _is_ours(x):
        schedule = padded_schedule(graph_of_atom, atom_ptr, steps=steps)
        out: Tensor = _Recurrence.apply(x, start, schedule, *_weights(gru))  # type: ignore[no-untyped-call]
        return out.view(steps, graphs, -1)
    front, _ = _places(graph_of_atom, atom_ptr)
    padded = x.new_zeros(steps * graphs, x.shape[1]).index_copy(0, front * graphs + graph_of_atom, x)
    both = start.expand(2, *start.shape).contiguous()
    inputs = padded.view(steps, graphs, -1)
    return _library_gru(inputs, both, _weights(gru), True, 1, 0.0, gru.training, True, False)[0]
