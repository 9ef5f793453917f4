"""Equal surroundings of atoms are computed once; the idea of :mod:`samcmp.backbones.unfolding`, with a state per atom.

After t steps the state of an atom depends only on the tree of bonds and atoms within t steps around it: a batch of 64
drug-like molecules (about 1,500 atoms) holds some 75 different atoms at t = 0, 550 at t = 1 and 1,050 at t = 2. A
message is a matrix of its bond's kind times the state it starts from, so equal (kind, state) pairs are multiplied
once, and all pairs of one kind in one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from samcmp.backbones.lists import Lists
from samcmp.backbones.segments import sum_into
from samcmp.backbones.unfolding import distinct, kinds_of, mix
from samcmp.graphs.batch import GraphBatch


@dataclass(frozen=True, slots=True, eq=False)
class AtomStep:
    """One round of messages into D distinct atoms from the level before."""

    own: Tensor  # (D,) row of the level before: the atom itself
    rows: Tensor  # (N,) the distinct atom that receives a message
    pair: Tensor  # (N,) which (kind of bond, state) pair it receives
    cols: Tensor  # (P,) state of each pair, a row of the level before; sorted by kind of bond
    counts: tuple[int, ...]  # pairs of each kind of bond
    degree: Tensor  # (D,) messages that each atom receives

    def itself(self, h: Tensor) -> Tensor:
        return h.index_select(0, self.own)  # (D, H)

    def messages(self, h: Tensor, matrices: Tensor) -> Tensor:
        """Return (D, H) sums over the neighbours of h_w A, A the (U, H, H) matrix of the bond's kind."""
        products = product_by_kind(h.index_select(0, self.cols), matrices, self.counts)  # (P, H)
        return sum_into(products.index_select(0, self.pair), self.rows, self.own.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class PlainAtomStep:
    """One round of messages with a row for each atom. Every state meets every matrix: no host read, few launches."""

    source: Tensor  # (B,)
    target: Tensor  # (B,)
    bond_kind: Tensor  # (B,)
    degree: Tensor  # (A,)

    def itself(self, h: Tensor) -> Tensor:
        return h

    def messages(self, h: Tensor, matrices: Tensor) -> Tensor:
        """Return (A, H) sums over the neighbours of h_w A, A the (U, H, H) matrix of the bond's kind."""
        kinds, width = matrices.shape[0], matrices.shape[2]
        products = h @ matrices.permute(1, 0, 2).reshape(h.shape[1], kinds * width)  # (A, U H)
        arriving = products.view(-1, width).index_select(0, self.source * kinds + self.bond_kind)  # (B, H)
        return sum_into(arriving, self.target, self.degree.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Atoms:
    """What message passing over atoms reads: level 0, the steps, and where each atom is in the last level."""

    kind: Tensor  # (D0,) kind of each distinct atom at level 0
    steps: tuple[AtomStep, ...] | tuple[PlainAtomStep, ...]
    last: Tensor | None  # (A,) row of the last level; None: every atom, in order

    def all_atoms(self, h: Tensor) -> Tensor:
        """Return (A, H) from the rows of the last level."""
        return h if self.last is None else h.index_select(0, self.last)


def plain_atoms(batch: GraphBatch, steps: int) -> Atoms:
    """Return the plan with a row for each atom; no device value is read."""
    target = batch.edge_index[1]
    degree = torch.zeros_like(batch.atom_kind).index_add_(0, target, torch.ones_like(target))
    kind = batch.bond_kind.repeat_interleave(2, output_size=batch.num_bonds)
    step = PlainAtomStep(batch.edge_index[0], target, kind, degree)
    return Atoms(batch.atom_kind, (step,) * steps, None)


def distinct_atoms(batch: GraphBatch, steps: int) -> Atoms:
    """Return the plan with a row for each distinct tree of surroundings, level by level."""
    source, target = batch.edge_index[0], batch.edge_index[1]
    kind_of_atom, bond_kind = kinds_of(batch)
    kinds = batch.bond_table.shape[0]
    neighbours = Lists.by_key(target, batch.num_atoms)
    level, first = distinct(kind_of_atom)
    size = first.shape[0]
    kind = kind_of_atom.index_select(0, first)
    plan = []
    for _ in range(steps):
        code = bond_kind * size + level.index_select(0, source)  # (B,)
        arriving = sum_into(mix(code), target, batch.num_atoms)
        finer, chosen = distinct(mix(arriving) + level)
        arrive = neighbours.select(chosen)
        pairs, pair = torch.unique(code.index_select(0, arrive.members), return_inverse=True)  # sorted by kind of bond
        plan.append(
            AtomStep(
                own=level.index_select(0, chosen),
                rows=arrive.owner,
                pair=pair,
                cols=pairs % size,
                counts=tuple(torch.bincount(pairs // size, minlength=kinds).tolist()),
                degree=arrive.offsets.diff(),
            )
        )
        level, size = finer, chosen.shape[0]
    return Atoms(kind, tuple(plan), level)


class _ProductByKind(Function):
    """y_p = x_p A_k for rows p that are sorted by kind k."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrices: Tensor, counts: Sequence[int]) -> Tensor:
        ctx.save_for_backward(x, matrices)
        ctx.counts = counts
        out = x.new_empty(x.shape[0], matrices.shape[2])
        for kind, rows in _slices(counts):
            torch.mm(x[rows], matrices[kind], out=out[rows])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, matrices = ctx.saved_tensors
        into_x, into_matrices = torch.empty_like(x), torch.zeros_like(matrices)
        for kind, rows in _slices(ctx.counts):
            torch.mm(grad[rows], matrices[kind].t(), out=into_x[rows])
            torch.mm(x[rows].t(), grad[rows], out=into_matrices[kind])
        return into_x, into_matrices, None


def _slices(counts: Sequence[int]) -> list[tuple[int, slice]]:
    found, start = [], 0
    for kind, count in enumerate(counts):
        if count:
            found.append((kind, slice(start, start + count)))
        start += count
    return found


def product_by_kind(x: Tensor, matrices: Tensor, counts: Sequence[int]) -> Tensor:
    """Return (P, H) rows of ``x`` times the matrix of their kind; ``counts`` rows of each kind, in order."""
    out: Tensor = _ProductByKind.apply(x, matrices, counts)  # type: ignore[no-untyped-call]
    return out
