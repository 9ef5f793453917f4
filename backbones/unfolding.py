"""Equal surroundings are computed once: the distinct rows of message passing over directed bonds.

After t steps the state of bond v -> w depends only on the tree of atoms and bonds that lead into v within t steps. In a
batch of 64 drug-like molecules (about 3,200 directed bonds) there are some 100 different trees at t = 0, 800 at t = 1
and 1,600 at t = 2, so the products of the early steps need a small part of their rows. The classes are those of
colour refinement (Weisfeiler and Leman, 1968), found with 64-bit hashes of multisets; the results differ from the
plain order of summation by rounding alone.

Counting classes reads values on the host and is worth it on a CPU, where products cost the most and a sort costs
nothing. On a GPU, under ``torch.compile`` and where dropout makes equal states differ, :func:`plain_bonds` gives the
same interface with a row for each bond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakIdKeyDictionary

from samcmp.backbones.lists import Lists
from samcmp.backbones.segments import sum_into
from samcmp.graphs.batch import GraphBatch

_KNOWN_KINDS = WeakIdKeyDictionary()  # table -> (K,)
_ODD = -7046029254386353131  # 2^64 / golden ratio as a signed integer
_ODD2 = -4417276706812531889


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One round of messages: row ``rows[i]`` of the new level receives row ``cols[i]`` of the level before."""

    rows: Tensor  # (N,) int64
    cols: Tensor  # (N,) int64
    own: Tensor  # (D,) int64 row of level 0 with the same features

    def messages(self, h: Tensor) -> Tensor:
        return sum_into(h.index_select(0, self.cols), self.rows, self.own.shape[0])  # (D, H)

    def initial(self, z: Tensor) -> Tensor:
        return z.index_select(0, self.own)  # (D, H)


@dataclass(frozen=True, slots=True, eq=False)
class PlainStep:
    """One round of messages with a row for each directed bond."""

    edge_index: Tensor  # (2, B)
    atoms: int

    def messages(self, h: Tensor) -> Tensor:
        return messages(h, self.edge_index, self.atoms)  # (B, H)

    def initial(self, z: Tensor) -> Tensor:
        return z


@dataclass(frozen=True, slots=True, eq=False)
class Bonds:
    """What message passing over directed bonds reads: level 0, the steps, and the sums into atoms at the end."""

    atom_kind: Tensor  # (D0,) kind of each source atom at level 0
    bond_kind: Tensor  # (D0,)
    steps: tuple[Step, ...] | tuple[PlainStep, ...]
    rows: Tensor  # (N,) distinct atom that receives bond state cols[i] after the last step
    cols: Tensor | None  # (N,) None: every bond, in order
    last_kind: Tensor  # (Da,) kind of each distinct atom
    class_of_atom: Tensor | None  # (A,) row of each atom among the distinct atoms; None: every atom, in order

    def incoming(self, h: Tensor) -> Tensor:
        """Return (Da, H) sums of the states of the bonds that end in each distinct atom."""
        h = h if self.cols is None else h.index_select(0, self.cols)
        return sum_into(h, self.rows, self.last_kind.shape[0])

    def all_atoms(self, h: Tensor) -> Tensor:
        """Return (A, H) from the (Da, H) of distinct atoms."""
        return h if self.class_of_atom is None else h.index_select(0, self.class_of_atom)


class _Messages(Function):
    """m_vw = sum_u h_uv - h_wv. Its adjoint is the same map with the bonds' ends exchanged."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, edge_index: Tensor, atoms: int) -> Tensor:
        ctx.save_for_backward(edge_index)
        ctx.atoms = atoms
        return _through_atoms(h, edge_index[1], edge_index[0], atoms)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (edge_index,) = ctx.saved_tensors
        return _through_atoms(grad, edge_index[0], edge_index[1], ctx.atoms), None, None


def _through_atoms(h: Tensor, into: Tensor, out_of: Tensor, atoms: int) -> Tensor:
    out = sum_into(h, into, atoms).index_select(0, out_of)  # (B, H)
    out.view(-1, 2, h.shape[1]).sub_(h.reshape(-1, 2, h.shape[1]).flip(1))  # less the reverse bond, e ^ 1
    return out


def messages(h: Tensor, edge_index: Tensor, atoms: int) -> Tensor:
    """Return (B, H) sums over the bonds into each bond's source atom, without its own reverse."""
    out: Tensor = _Messages.apply(h, edge_index, atoms)  # type: ignore[no-untyped-call]
    return out


def unfolding_pays(batch: GraphBatch, *, dropout: bool) -> bool:
    """Tell whether equal surroundings should be sought: on a CPU, not while compiling, not with dropout in between."""
    return batch.edge_index.device.type == "cpu" and not dropout and not torch.compiler.is_compiling()


def plain_bonds(batch: GraphBatch, steps: int) -> Bonds:
    """Return the plan with a row for each directed bond and each atom; no device value is read."""
    source, target = batch.edge_index[0], batch.edge_index[1]
    return Bonds(
        atom_kind=batch.atom_kind.index_select(0, source),
        bond_kind=batch.bond_kind.repeat_interleave(2, output_size=batch.num_bonds),
        steps=(PlainStep(batch.edge_index, batch.num_atoms),) * steps,
        rows=target,
        cols=None,
        last_kind=batch.atom_kind,
        class_of_atom=None,
    )


def distinct_bonds(batch: GraphBatch, steps: int) -> Bonds:
    """Return the plan with a row for each distinct tree of surroundings, level by level."""
    source, target = batch.edge_index[0], batch.edge_index[1]
    kind_of_atom, bond_kind = kinds_of(batch)
    atom_kind = kind_of_atom.index_select(0, source)  # (B,)
    own, first = distinct(atom_kind * batch.bond_table.shape[0] + bond_kind)
    neighbours = Lists.by_key(target, batch.num_atoms)
    level = own
    plan = []
    for _ in range(steps):
        code = mix(level)
        arriving = sum_into(code, target, batch.num_atoms).index_select(0, source)
        without_reverse = arriving - code.view(-1, 2).flip(1).reshape(-1)
        finer, chosen = distinct(mix(without_reverse) + own)
        arrive = neighbours.select(source.index_select(0, chosen))
        arrive = arrive.filtered(arrive.members != (chosen ^ 1).index_select(0, arrive.owner))
        plan.append(Step(arrive.owner, level.index_select(0, arrive.members), own.index_select(0, chosen)))
        level = finer
    arriving = sum_into(mix(level), target, batch.num_atoms)
    class_of_atom, last = distinct(mix(arriving) + kind_of_atom)
    into_last = neighbours.select(last)
    return Bonds(
        atom_kind=atom_kind.index_select(0, first),
        bond_kind=bond_kind.index_select(0, first),
        steps=tuple(plan),
        rows=into_last.owner,
        cols=level.index_select(0, into_last.members),
        last_kind=kind_of_atom.index_select(0, last),
        class_of_atom=class_of_atom,
    )


def kinds_by_features(table: Tensor) -> Tensor:
    """Return (K,) for each row of a table the first row equal to it.

    A dataset's kinds are finer than one model's columns: atoms that differ in their ring sizes are equal to a model
    that does not read ring sizes. The table of a dataset is one tensor for all batches, so this is computed once.
    """
    known: Tensor | None = _KNOWN_KINDS.get(table)  # type: ignore[no-untyped-call]
    if known is None:
        index, chosen = distinct_rows(table)
        known = chosen.index_select(0, index)
        _KNOWN_KINDS[table] = known
    return known


def distinct_rows(table: Tensor) -> tuple[Tensor, Tensor]:
    """Return (K,) the class of each row, and for each class its first row."""
    classes, index = torch.unique(table, dim=0, return_inverse=True)
    rows = torch.arange(table.shape[0])
    first = torch.full((classes.shape[0],), table.shape[0]).scatter_reduce_(0, index, rows, "amin")
    return index, first


def kinds_of(batch: GraphBatch) -> tuple[Tensor, Tensor]:
    """Return (A,) the kind of each atom and (B,) of each directed bond, equal where the features are equal."""
    atoms = kinds_by_features(batch.atom_table).index_select(0, batch.atom_kind)
    bonds = kinds_by_features(batch.bond_table).index_select(0, batch.bond_kind)
    return atoms, bonds.repeat_interleave(2)


def mix(code: Tensor) -> Tensor:
    """Scatter integers over 64 bits, so that sums of them stand for multisets (splitmix64's rounds, Steele 2014)."""
    code = (code + 1) * _ODD
    code = (code ^ (code >> 29)) * _ODD2
    return code ^ (code >> 32)


def distinct(code: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N,) the class of each code, and for each class one position that has it."""
    classes, index = torch.unique(code, return_inverse=True)
    chosen = torch.empty_like(classes).scatter_(0, index, torch.arange(code.shape[0]))
    return index, chosen
