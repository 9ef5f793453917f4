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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_library_gru: Callable[..., tuple[Tensor, Tensor]] = torch._VF.gru


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which rows each step of the recurrence works on: N = sum of ``sizes`` rows, step after step."""

    sizes: list[int]  # molecules at work in each step, never growing
    order: Tensor  # (G,) molecule at each place
    place: Tensor  # (G,) place of each molecule
    row_of_atom: tuple[Tensor, Tensor]  # (A,) row at which each direction reads an atom
    row_of_output: tuple[Tensor, Tensor]  # (N,) row at which each direction leaves an output
    output_of_row: tuple[Tensor, Tensor]  # (N,) the inverse of it


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


def packed_schedule(graph_of_atom: Tensor, atom_ptr: Tensor) -> Schedule:
    """Return the schedule over real atoms only; outputs come in the order of the atoms."""
    lengths = atom_ptr[1:] - atom_ptr[:-1]
    order = lengths.argsort(descending=True, stable=True)
    place = _inverse(order)
    at_work = (lengths.numel() - lengths.bincount().cumsum(0))[:-1]  # molecules longer than t
    first_row = at_work.cumsum(0) - at_work
    front, back = _places(graph_of_atom, atom_ptr)
    place_of_atom = place.index_select(0, graph_of_atom)
    rows = (first_row.index_select(0, front) + place_of_atom, first_row.index_select(0, back) + place_of_atom)
    return Schedule(at_work.tolist(), order, place, rows, rows, (_inverse(rows[0]), _inverse(rows[1])))


def padded_schedule(graph_of_atom: Tensor, atom_ptr: Tensor, *, steps: int) -> Schedule:
    """Return the schedule in which every molecule has ``steps`` positions, zeros behind its atoms.

    Outputs come position after position, the molecules within each. The backward direction starts in the padding.
    """
    graphs = atom_ptr.numel() - 1
    front, _ = _places(graph_of_atom, atom_ptr)
    order = torch.arange(graphs, device=atom_ptr.device)
    forwards = torch.arange(steps * graphs, device=atom_ptr.device)
    backwards = forwards.view(steps, graphs).flip(0).flatten()
    rows = (front * graphs + graph_of_atom, (steps - 1 - front) * graphs + graph_of_atom)
    outputs = (forwards, backwards)
    return Schedule([graphs] * steps, order, order, rows, outputs, outputs)


class _Recurrence(Function):
    """Both directions over a schedule; saves the gates and forms all weight gradients at the end of backward."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, start: Tensor, schedule: Schedule, *weights: Tensor) -> Tensor:
        hidden = start.shape[1]
        w_ih, w_hh, b_ih, b_hh = (torch.stack(pair) for pair in zip(weights[:4], weights[4:], strict=True))
        rows = sum(schedule.sizes)
        inputs = _project(x, w_ih, b_ih, schedule)  # (2, N, 3H)
        gates = x.new_empty(2, rows, 3 * hidden)  # r, z and W_hn h + b_hn
        states = x.new_empty(2, len(start) + rows, hidden)  # the start, then what every step leaves
        states[:, : len(start)] = start.index_select(0, schedule.order)
        w, b = w_hh.transpose(1, 2), b_hh.unsqueeze(1)
        before, row = 0, 0
        for size in schedule.sizes:
            h, now = states[:, before : before + size], slice(row, row + size)
            gate, given = gates[:, now], inputs[:, now]
            torch.baddbmm(b, h, w, out=gate)
            gate[..., : 2 * hidden].add_(given[..., : 2 * hidden]).sigmoid_()
            r, z, n = gate[..., :hidden], gate[..., hidden : 2 * hidden], given[..., 2 * hidden :]
            n.addcmul_(r, gate[..., 2 * hidden :]).tanh_()
            before = len(start) + row
            torch.lerp(n, h, z, out=states[:, before : before + size])
            row += size
        ctx.schedule = schedule
        ctx.save_for_backward(x, w_ih, w_hh, gates, inputs[..., 2 * hidden :], states)
        left = states[:, len(start) :]
        return torch.cat([left[k].index_select(0, schedule.row_of_output[k]) for k in (0, 1)], 1)  # (N, 2H)

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        schedule: Schedule = ctx.schedule
        x, w_ih, w_hh, gates, n, states = ctx.saved_tensors
        graphs, hidden = schedule.order.numel(), w_hh.shape[2]
        r, z, recurrent = gates.split(hidden, 2)
        h = _states_before(states, schedule)  # (2, N, H)
        # With the state's gradient D, the gates' gradients are D times what is known before the loop starts.
        d_n = (1 - n * n).mul_(1 - z)  # (2, N, H)
        d_gates = x.new_empty(*gates.shape[:2], 3, hidden)
        torch.mul(d_n, r, out=d_gates[:, :, 2])
        torch.mul(d_gates[:, :, 2], recurrent * (1 - r), out=d_gates[:, :, 0])
        torch.mul(h - n, z * (1 - z), out=d_gates[:, :, 1])
        d_states = x.new_zeros(2, graphs + gates.shape[1], hidden)
        for k in (0, 1):
            half = grad[:, k * hidden : (k + 1) * hidden]
            d_states[k, graphs:] = half.index_select(0, schedule.output_of_row[k])
        row = gates.shape[1]
        for step in range(len(schedule.sizes) - 1, -1, -1):
            size = schedule.sizes[step]
            row -= size
            before = graphs + row - schedule.sizes[step - 1] if step else 0
            now = slice(row, row + size)
            d_state, d_gate = d_states[:, graphs + row : graphs + row + size], d_gates[:, now]
            d_gate.mul_(d_state.unsqueeze(2))
            d_before = d_states[:, before : before + size]
            d_before.addcmul_(d_state, z[:, now])
            d_before.baddbmm_(d_gate.flatten(2), w_hh)
        flat = d_gates.flatten(2)  # (2, N, 3H)
        d_whh, d_bhh = flat.transpose(1, 2) @ h, flat.sum(1)
        torch.mul(d_states[:, graphs:], d_n, out=d_gates[:, :, 2])
        d_bih = torch.cat([d_bhh[:, : 2 * hidden], d_gates[:, :, 2].sum(1)], 1)
        d_inputs = [flat[k].index_select(0, schedule.row_of_atom[k]) for k in (0, 1)]  # (A, 3H)
        d_wih = [d_inputs[k].t() @ x for k in (0, 1)]
        d_x = torch.addmm(d_inputs[0] @ w_ih[0], d_inputs[1], w_ih[1]) if ctx.needs_input_grad[0] else None
        d_start = d_states[:, :graphs].sum(0).index_select(0, schedule.place)
        d_weights = [(d_wih[k], d_whh[k], d_bih[k], d_bhh[k]) for k in (0, 1)]
        return d_x, d_start, None, *d_weights[0], *d_weights[1]


def _project(x: Tensor, w_ih: Tensor, b_ih: Tensor, schedule: Schedule) -> Tensor:
    """Return (2, N, 3H) the inputs' share of the gates, row after row; padding has the bias alone."""
    rows = sum(schedule.sizes)
    out = x.new_empty(2, rows, w_ih.shape[1])
    for k in (0, 1):
        projected = torch.addmm(b_ih[k], x, w_ih[k].t())  # (A, 3H)
        if rows > x.shape[0]:
            out[k] = b_ih[k]
        out[k].index_copy_(0, schedule.row_of_atom[k], projected)
    return out


def _states_before(states: Tensor, schedule: Schedule) -> Tensor:
    """Return (2, N, H) the state that each row started from."""
    graphs, sizes = schedule.order.numel(), schedule.sizes
    rows = sum(sizes)
    if sizes[-1] == graphs:  # all molecules are equally long: the rows are one step back
        return states[:, :rows]
    size = torch.tensor(sizes, device=states.device)
    step_back = torch.cat([size.new_tensor([graphs]), size[:-1]])  # rows between a step's state and the one before
    shift = (graphs - step_back).repeat_interleave(size, output_size=rows)
    return states.index_select(1, torch.arange(rows, device=states.device) + shift)


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
