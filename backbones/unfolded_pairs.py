"""Equal surroundings for models that keep a state per atom and one per directed bond (CMPNN).

The same idea as :mod:`samcmp.backbones.unfolding`: a level holds each distinct tree of surroundings once. An atom's new
class is its old one with the classes of the bonds that end in it; a bond's new class is its own features, its
source's new class and its reverse's old one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.backbones.lists import Lists
from samcmp.backbones.segments import sum_into, sum_times_max
from samcmp.backbones.unfolding import distinct, kinds_of, mix
from samcmp.graphs.batch import GraphBatch


@dataclass(frozen=True, slots=True, eq=False)
class AtomLevel:
    """The atoms after one more round: row ``rows[i]`` hears bond state ``cols[i]``; ``before`` is its old row."""

    rows: Tensor  # (N,)
    cols: Tensor  # (N,)
    before: Tensor  # (Da,)

    def heard(self, b: Tensor) -> Tensor:
        """Return (Da, H) sum times maximum over the incoming bond states; 0 for an atom without bonds."""
        return sum_times_max(b, cols=self.cols, rows=self.rows, size=self.before.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """The atoms of one round, then its bonds: source atom, reverse bond of the level before, row of level 0."""

    atoms: AtomLevel
    source: Tensor  # (Db,)
    reverse: Tensor  # (Db,)
    own: Tensor  # (Db,)

    def told(self, linear: nn.Linear, a: Tensor, b: Tensor) -> Tensor:
        """Return (Db, H) W (a_v - b_wv) for each bond v -> w, as W a_v - W b_wv where those rows are the fewer."""
        if len(a) + len(b) < len(self.own):
            return self._differences(linear(a), F.linear(b, linear.weight))
        out: Tensor = linear(self._differences(a, b))
        return out

    def _differences(self, a: Tensor, b: Tensor) -> Tensor:
        return a.index_select(0, self.source) - b.index_select(0, self.reverse)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """What message passing over atoms and bonds reads."""

    kind: Tensor  # (Da0,) kind of each atom of level 0
    atom_kind: Tensor  # (Db0,) kind of the source atom of each bond of level 0
    bond_kind: Tensor  # (Db0,)
    rounds: tuple[Round, ...]
    last: AtomLevel
    last_kind: Tensor  # (Da,) row of level 0 of each atom of the last level
    class_of_atom: Tensor  # (A,) row of the last level


def plain_pairs(batch: GraphBatch, rounds: int) -> Pairs:
    """Return the plan with a row for each atom and each directed bond; no device value is read."""
    source, target = batch.edge_index[0], batch.edge_index[1]
    bonds = torch.arange(batch.num_bonds, device=source.device)
    atoms = torch.arange(batch.num_atoms, device=source.device)
    level = AtomLevel(target, bonds, atoms)
    return Pairs(
        kind=batch.atom_kind,
        atom_kind=batch.atom_kind.index_select(0, source),
        bond_kind=batch.bond_kind.repeat_interleave(2, output_size=batch.num_bonds),
        rounds=(Round(level, source, bonds ^ 1, bonds),) * rounds,
        last=level,
        last_kind=atoms,
        class_of_atom=atoms,
    )


def distinct_pairs(batch: GraphBatch, rounds: int) -> Pairs:
    """Return the plan with a row for each distinct tree of surroundings, level by level."""
    source, target = batch.edge_index[0], batch.edge_index[1]
    neighbours = Lists.by_key(target, batch.num_atoms)
    kind_of_atom, bond_kind = kinds_of(batch)
    own, first = distinct(kind_of_atom.index_select(0, source) * batch.bond_table.shape[0] + bond_kind)
    of_atom, first_atom = distinct(kind_of_atom)
    of_kind = of_atom

    def next_atoms(of_atom: Tensor, of_bond: Tensor) -> tuple[AtomLevel, Tensor, Tensor]:
        arriving = sum_into(mix(of_bond), target, batch.num_atoms)
        finer, chosen = distinct(mix(arriving) + of_atom)
        arrive = neighbours.select(chosen)
        heard = of_bond.index_select(0, arrive.members)
        level = AtomLevel(arrive.owner, heard, of_atom.index_select(0, chosen))
        return level, finer, chosen

    of_bond = own
    plan = []
    for _ in range(rounds):
        atoms, of_atom, _ = next_atoms(of_atom, of_bond)
        of_source = of_atom.index_select(0, source)
        of_reverse = of_bond.view(-1, 2).flip(1).reshape(-1)
        of_bond, chosen = distinct(mix(mix(of_source) + of_reverse) + own)
        plan.append(Round(atoms, of_source[chosen], of_reverse[chosen], own[chosen]))
    last, of_atom, chosen = next_atoms(of_atom, of_bond)
    return Pairs(
        kind=kind_of_atom.index_select(0, first_atom),
        atom_kind=kind_of_atom.index_select(0, source.index_select(0, first)),
        bond_kind=bond_kind.index_select(0, first),
        rounds=tuple(plan),
        last=last,
        last_kind=of_kind.index_select(0, chosen),
        class_of_atom=of_atom,
    )
