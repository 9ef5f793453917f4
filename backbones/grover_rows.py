"""The rows that GROVER works on on a CPU: atoms or directed bonds that must have equal states are one row.

Before any dropout a state is decided by its kind and, level by level, by the states that are summed into it (colour
refinement, as in :mod:`samcmp.backbones.unfolding`). In a batch of 32 drug-like molecules 61 % of the bonds have a twin
after one iteration and 42 % after two. Where dropout makes equal states differ, every atom or bond is a row.

A bond into an atom that has no other bond, one in ten, is in no other bond's sum. Such rows stand last, and only the
last iteration computes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from samcmp.backbones.lists import Lists
from samcmp.backbones.unfolding import distinct, mix
from samcmp.graphs.batch import GraphBatch


@dataclass(frozen=True, eq=False)
class Sums:
    """For each row, the rows in its sum, and for the way back the rows whose sums it is in."""

    lists: Lists
    below: int  # rows that may be in a sum: the first of the level below

    @cached_property
    def back(self) -> Lists:
        return self.lists.transposed(self.below)


@dataclass(frozen=True, eq=False)
class Level:
    """How the states after one more iteration come from those before it."""

    last: Sums  # into every row, where a network ends
    onward: Sums  # into the rows that a further iteration reads, which stand first
    start: Tensor | None  # the block's start row of each row; None where rows do not change
    of_row: Tensor  # (R,) row of this level for each atom or directed bond


@dataclass(frozen=True, eq=False)
class AtomSums:
    """How rows are summed into atoms: of equal atoms only one."""

    sums: Sums
    kind: Tensor  # kind of each such atom
    of_atom: Tensor | None  # (A,) which of them an atom is; None where each stands for itself


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one view of a batch, now; those that neighbours' sums read stand first."""

    neighbours: Lists  # for each atom or directed bond, those that its z sums
    incoming: Lists  # for each atom, those that point at it
    batch: GraphBatch
    shared: bool  # equal atoms or bonds are one row
    of_row: Tensor  # (R,) row of each atom or directed bond
    first: Tensor  # (C,) one atom or bond of each row
    read: int  # rows that neighbours' sums read

    @classmethod
    def of_atoms(cls, batch: GraphBatch, *, shared: bool) -> Rows:
        source, target = batch.edge_index.unbind(0)
        lists = Lists.by_key(target, batch.num_atoms).renamed(source)
        return cls._begun(lists, lists, batch, codes=batch.atom_kind if shared else None)

    @classmethod
    def of_bonds(cls, batch: GraphBatch, *, shared: bool) -> Rows:
        source, target = batch.edge_index.unbind(0)
        incoming = Lists.by_key(target, batch.num_atoms)
        into_origin = incoming.select(source)
        kept = into_origin.members != (into_origin.owner ^ 1)  # all but the reverse, which is always among them
        kinds = batch.atom_kind.index_select(0, source) * batch.bond_table.shape[0]
        codes = kinds + batch.bond_kind.repeat_interleave(2)
        return cls._begun(into_origin.filtered(kept), incoming, batch, codes=codes if shared else None)

    @classmethod
    def _begun(cls, neighbours: Lists, incoming: Lists, batch: GraphBatch, *, codes: Tensor | None) -> Rows:
        every = torch.arange(neighbours.offsets.shape[0] - 1)
        rows = cls(neighbours, incoming, batch, codes is not None, every, every, 0)
        return rows._ordered(every, every) if codes is None else rows._ordered(*distinct(codes))

    def _ordered(self, of_row: Tensor, first: Tensor) -> Rows:
        """Return these rows, those that neighbours' sums read first."""
        is_read = torch.zeros_like(first, dtype=torch.bool)
        is_read[of_row.index_select(0, self.neighbours.members)] = True
        order = is_read.argsort(descending=True, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        return replace(self, of_row=place[of_row], first=first[order], read=int(is_read.sum()))

    def pick(self, values: Tensor) -> Tensor:
        """Return of ``values``, one for each atom or directed bond, those of the rows."""
        return values.index_select(0, self.first)

    def padded(self, x: Tensor) -> Tensor:
        """Return x: there is no padding row here."""
        return x

    def levels(self, steps: int) -> tuple[list[Level], Rows]:
        """Return ``steps`` iterations that start here, and the rows after them."""
        if not self.shared:
            return [self._level(self, start=None)] * steps, self
        own, rows = self.of_row, self
        levels: list[Level] = []
        for _ in range(steps):
            below = rows
            rows = self._ordered(*distinct(_codes(self.neighbours, below.of_row) + own))
            levels.append(rows._level(below, start=own.index_select(0, rows.first)))
        return levels, rows

    def _level(self, below: Rows, *, start: Tensor | None) -> Level:
        """Return the iteration from the rows ``below`` to these."""
        lists = self.neighbours.select(self.first).renamed(below.of_row)
        last, onward = Sums(lists, below.read), Sums(lists.head(self.read), below.read)
        return Level(last, onward, start, self.of_row)

    def atom_sums(self) -> AtomSums:
        """Return how the rows are summed into atoms."""
        kind, rows = self.batch.atom_kind, len(self.first)
        if not self.shared:
            return AtomSums(Sums(self.incoming.renamed(self.of_row), rows), kind, None)
        of_atom, first = distinct(_codes(self.incoming, self.of_row) + kind)
        lists = self.incoming.select(first).renamed(self.of_row)
        return AtomSums(Sums(lists, rows), kind.index_select(0, first), of_atom)


def _codes(lists: Lists, code: Tensor) -> Tensor:
    """Return one integer for the multiset of codes in each list, (rows,)."""
    scattered = mix(code).index_select(0, lists.members)
    return mix(code.new_zeros(lists.offsets.shape[0] - 1).index_add_(0, lists.owner, scattered))
