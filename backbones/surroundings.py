"""Equal surroundings are computed once: a faster form of message passing for D-MPNN, MPNN and GROVER on a CPU.

After t steps of message passing the state of an atom or of a directed bond depends only on the tree of atoms and bonds
that leads to it within t steps. A batch of 64 drug-like molecules has about 3,200 directed bonds, and among them some
100 different trees at t = 0, 800 at t = 1 and 1,600 at t = 2: products over one row for each tree are the smaller. The
classes are those of colour refinement (Weisfeiler and Leman, 1968), found with 64-bit hashes of multisets; the results
differ from the plain form's by rounding alone, as sums run in another order.

`python -m tests.bench grover` prints whole training steps of GROVER on BBBP over the plain form's: about twice as fast
with ReLU and with PReLU; D-MPNN and MPNN are printed against named peers. CMPNN, whose time is in its GRU, has no form
here. Counting classes reads values on the host, a compiler cannot trace it, and dropout makes equal states
differ: :func:`apply` says where it may be used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from samcmp.backbones.layers import linear_of_kinds, linear_of_rows, linear_of_tables, sum_into
from samcmp.graphs.batch import GraphBatch

_KNOWN_KINDS = WeakIdKeyDictionary()  # table -> (K,)
_ODD = -7046029254386353131  # 2^64 / golden ratio as a signed integer
_ODD2 = -4417276706812531889


def apply(batch: GraphBatch, *, dropout: float) -> bool:
    """Tell whether the functions here may stand for the plain form: on a CPU, not compiling, without dropout."""
    return batch.edge_index.device.type == "cpu" and dropout == 0 and not torch.compiler.is_compiling()


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The D different states after one more step, a row for each; row ``receiver[i]`` is sent row ``sender[i]``."""

    row: Tensor  # (R,) the row of each atom or bond
    first: Tensor  # (D,) one atom or bond of each row
    before: Tensor  # (D,) the same atom's or bond's row in the level before
    receiver: Tensor  # (N,)
    sender: Tensor  # (N,) rows of the level before
    kind: Tensor | None  # (N,) kinds of the messages

    def sums(self, states: Tensor) -> Tensor:
        """Return (D, H) sums of what each row is sent of ``states`` (D of the level before, H)."""
        return self.added(states.new_zeros(len(self.first), states.shape[1]), states)

    def added(self, start: Tensor, states: Tensor) -> Tensor:
        """Return ``start`` (D, H) and those sums."""
        return start.index_add(0, self.receiver, states.index_select(0, self.sender))


def next_level(own: Tensor, sent: Tensor, messages: Messages) -> Level:
    """Return the level after the ``messages``.

    ``own`` (R,) and ``sent`` (S,) are the rows of the receivers and of the senders in the level before.
    """
    code = sent.index_select(0, messages.sender)
    if messages.kind is not None:
        code = code + messages.kind * (len(sent) + 1)
    row, first = distinct(mix(sum_into(mix(code), messages.receiver, len(own))) + own)
    is_first = torch.zeros_like(own, dtype=torch.bool).index_fill(0, first, True)
    kept = is_first.index_select(0, messages.receiver).nonzero().squeeze(1)  # of equal receivers, one is computed
    return Level(
        row=row,
        first=first,
        before=own.index_select(0, first),
        receiver=row.index_select(0, messages.receiver.index_select(0, kept)),
        sender=sent.index_select(0, messages.sender.index_select(0, kept)),
        kind=None if messages.kind is None else messages.kind.index_select(0, kept),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """Who is sent whose state: N messages between atoms or directed bonds."""

    receiver: Tensor  # (N,)
    sender: Tensor  # (N,)
    kind: Tensor | None = None  # (N,) what the message depends on beside the state

    @classmethod
    def from_atom_to_atom(cls, batch: GraphBatch, kind: Tensor | None = None) -> Messages:
        source, target = batch.edge_index
        return cls(target, source, kind)

    @classmethod
    def from_bond_to_atom(cls, batch: GraphBatch) -> Messages:
        return cls(batch.edge_index[1], torch.arange(batch.num_bonds))

    @classmethod
    def from_bond_to_bond(cls, batch: GraphBatch) -> Messages:
        """From every bond that ends where another begins, but not from its reverse."""
        source, target = batch.edge_index
        by_target = target.argsort(stable=True)  # bonds
        count = target.bincount(minlength=batch.num_atoms)  # (A,)
        first = count.cumsum(0) - count
        each = count.index_select(0, source)  # (B,)
        receiver = torch.arange(batch.num_bonds).repeat_interleave(each)
        place = torch.arange(len(receiver)) - (each.cumsum(0) - each).index_select(0, receiver)
        sender = by_target.index_select(0, first.index_select(0, source.index_select(0, receiver)) + place)
        kept = sender != receiver ^ 1
        return cls(receiver[kept], sender[kept])


def dmpnn_atom_states(batch: GraphBatch, W_i: nn.Linear, W_h: nn.Linear, W_o: nn.Linear, *, steps: int) -> Tensor:
    """Return the (A, H) atom states of D-MPNN, see :mod:`samcmp.backbones.dmpnn`."""
    atom_kind, bond_kind = kinds_of(batch)
    source_kind = atom_kind.index_select(0, batch.edge_index[0])
    row, first = distinct(source_kind * len(batch.bond_table) + bond_kind)
    tables = (
        (batch.atom_table, source_kind.index_select(0, first)),
        (batch.bond_table, bond_kind.index_select(0, first)),
    )
    z = linear_of_tables(W_i, *tables)  # (D, H)
    h = F.relu(z)
    between_bonds = Messages.from_bond_to_bond(batch)
    for _ in range(steps):
        level = next_level(row, row, between_bonds)
        row, z = level.row, z.index_select(0, level.before)
        # z + W_h (sum of h) = z + sum of (W_h h): the level before has the fewer rows
        h = F.relu(level.added(z if W_h.bias is None else z + W_h.bias, F.linear(h, W_h.weight)))  # (D, H)
    atoms = next_level(atom_kind, row, Messages.from_bond_to_atom(batch))
    a = linear_of_rows(W_o, (batch.atom_table, atoms.before), atoms.sums(h))
    return F.relu(a).index_select(0, atoms.row)


def mpnn_atom_states(
    batch: GraphBatch,
    embed: nn.Linear,
    matrices: Tensor,
    update: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    steps: int,
) -> Tensor:
    """Return the (A, H) atom states of MPNN, see :mod:`samcmp.backbones.mpnn`; matrices (U, H, H) of kinds of bond.

    Equal pairs of a kind of bond and a state are multiplied once, and all pairs of one kind in one product.
    """
    atom_kind, bond_kind = kinds_of(batch)
    row, first = distinct(atom_kind)
    h = F.relu(linear_of_kinds(batch.atom_table, atom_kind.index_select(0, first), embed.weight, embed.bias))  # (D, H)
    messages = Messages.from_atom_to_atom(batch, bond_kind)
    for _ in range(steps):
        level = next_level(row, row, messages)
        assert level.kind is not None
        pairs, of_message = torch.unique(level.kind * len(h) + level.sender, return_inverse=True)  # sorted by kind
        counts = (pairs // len(h)).bincount(minlength=len(matrices)).tolist()
        parts = torch.split(h.index_select(0, pairs % len(h)), counts)
        products = torch.cat(
            [
                matrices[:0].flatten(0, 1),
                *(part @ matrix for part, matrix in zip(parts, matrices.unbind(), strict=True)),
            ]
        )
        m = sum_into(products.index_select(0, of_message), level.receiver, len(level.first))  # (D, H)
        h = update(m, h.index_select(0, level.before), level.receiver.bincount(minlength=len(m)))
        row = level.row
    return h.index_select(0, row)


def grover_atom_vectors(encoder: Any, batch: GraphBatch, *, of_bonds: bool, depths: Sequence[Sequence[int]]) -> Tensor:
    """Return the (A, H) atoms' vectors of one view of GROVER, see :mod:`samcmp.backbones.grover`."""
    atom_kind, bond_kind = kinds_of(batch)
    if of_bonds:
        source_kind = atom_kind.index_select(0, batch.edge_index[0])
        code = source_kind * len(batch.bond_table) + bond_kind
        tables = [(batch.atom_table, source_kind), (batch.bond_table, bond_kind)]
        between, into_atoms = Messages.from_bond_to_bond(batch), Messages.from_bond_to_atom(batch)
    else:
        code = atom_kind
        tables = [(batch.atom_table, atom_kind)]
        between = into_atoms = Messages.from_atom_to_atom(batch)
    row, first = distinct(code)
    blocks = encoder.blocks(of_bonds=of_bonds)
    x = blocks[0].start([(table, kind.index_select(0, first)) for table, kind in tables])  # (D, H)
    for block, drawn in zip(blocks, depths, strict=True):
        x, row = _grover_block(block, x, row, between, depths=drawn)
    atoms = next_level(atom_kind, row, into_atoms)
    vectors: Tensor = encoder.vectors(batch.atom_table, atoms.before, atoms.sums(x), of_bonds=of_bonds)
    return vectors.index_select(0, atoms.row)


def _grover_block(
    block: Any, x: Tensor, row: Tensor, between: Messages, *, depths: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the states after a block and their rows, from the states x (D, H) of ``row`` (R,).

    The networks run one after the other, which keeps their states in the processor's cache; each ends at the level of
    its own depth, and its query, key or value is spread over the rows of the last level.
    """
    levels, rows, starts = [], [row], [x]
    for _ in range(max(depths) - 1):
        level = next_level(rows[-1], rows[-1], between)
        levels.append(level)
        rows.append(level.row)
        starts.append(starts[-1].index_select(0, level.before))
    weights, biases, slopes = block.stacked(range(len(depths)))
    weights = weights.unbind()  # its backward pass is one stack, that of weights[i] a stack for each
    projected: list[list[Tensor]] = [[], [], []]
    for i, depth in enumerate(depths):
        bias, slope = (None if part is None else part[i] for part in (biases, slopes))
        m, steps = x, max(0, depth - 1)
        for level, start in zip(levels[:steps], starts[1:], strict=False):
            # x + W_h (sum of m) = x + sum of (W_h m): the level before has the fewer rows
            s = level.added(start if bias is None else start + bias, m @ weights[i])
            m = block.activated(s, slope)
        value = block.attn["linear_layers"][i % 3](m)
        if steps < len(levels):
            value = value.index_select(0, rows[steps].index_select(0, levels[-1].first))
        projected[i % 3].append(value)
    q, k, v = (torch.stack(parts) for parts in projected)  # (h, D, H)
    return block.joined(block.attend(q, k, v)), rows[-1]


def kinds_of(batch: GraphBatch) -> tuple[Tensor, Tensor]:
    """Return (A,) the kind of each atom and (B,) of each directed bond, equal where the features are equal."""
    atoms = _kinds_by_features(batch.atom_table).index_select(0, batch.atom_kind)
    bonds = _kinds_by_features(batch.bond_table).index_select(0, batch.bond_kind)
    return atoms, bonds.repeat_interleave(2)


def _kinds_by_features(table: Tensor) -> Tensor:
    """Return (K,) for each row of a table the first row equal to it.

    A dataset's kinds are finer than one model's columns: atoms that differ in their ring sizes are equal to a model
    that does not read ring sizes. The table of a dataset is one tensor for all batches, so this is computed once.
    """
    known: Tensor | None = _KNOWN_KINDS.get(table)  # type: ignore[no-untyped-call]
    if known is None:
        _, index = torch.unique(table, dim=0, return_inverse=True)
        _, first = distinct(index)
        known = _KNOWN_KINDS[table] = first.index_select(0, index)
    return known


def mix(code: Tensor) -> Tensor:
    """Scatter integers over 64 bits, so that sums of them stand for multisets (splitmix64's rounds, Steele 2014)."""
    code = (code + 1) * _ODD
    code = (code ^ (code >> 29)) * _ODD2
    return code ^ (code >> 32)


def distinct(code: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N,) the class of each code, and for each class its first position."""
    classes, index = torch.unique(code, return_inverse=True)
    positions = torch.arange(len(code))
    first = torch.full_like(classes, len(code)).scatter_reduce(0, index, positions, "amin")
    return index, first
