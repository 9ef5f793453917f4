"""CMPNN: atoms and bonds that communicate (Song et al., IJCAI 2020, section 3), as the authors coded it.

    a_v = relu(W_a x_v)       b_vw = relu(W_b [x_v; e_vw])
    depth - 1 times:   s_v  = (sum over u of b_uv) * (max over u of b_uv)     a_v = a_v + s_v
                       b_vw = relu(b0_vw + W_k (a_v - b_wv))
    s_v once more;     c_v  = W_c [s_v; a_v; a0_v]
    o   = bidirectional GRU over the atoms of a molecule, input relu(c_v + beta), both first states max over v of c_v
    y   = W_2 relu(W_1 mean(relu(W_o o_v + b)) + b_1) + b_2

The authors' GRU runs its backward direction through zeros up to the largest molecule of the batch, so a prediction
depends on its batch mates; ``padded`` reproduces that. Their unused W_h_atom does not exist here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.backbones import ATOM_WIDTHS, BOND_WIDTHS
from samcmp.backbones.gru import over_atoms, over_padding
from samcmp.backbones.heads import initialise, two_layers
from samcmp.backbones.segments import linear_of_kinds, max_into, mean_over_graphs
from samcmp.backbones.unfolded_pairs import Pairs, distinct_pairs, plain_pairs
from samcmp.backbones.unfolding import unfolding_pays
from samcmp.graphs.batch import Columns, GraphBatch


@dataclass(frozen=True)
class Config:
    """Settings of the model: the authors' own."""

    features: str = "chemprop-v1"
    hidden: int = 300
    depth: int = 3
    bias: bool = False
    dropout: float = 0.0
    padded: bool = False

    def __post_init__(self) -> None:
        if self.features not in ATOM_WIDTHS:
            raise ValueError(f"features is one of {', '.join(ATOM_WIDTHS)}, got {self.features!r}")
        if self.depth < 1 or self.hidden < 1 or not 0 <= self.dropout < 1:
            raise ValueError("depth and hidden are at least 1 and dropout is in [0, 1)")

    @property
    def columns(self) -> Columns:
        return Columns(self.features)


class Model(nn.Module):
    """Communicating messages, a GRU over the atoms and a head of two layers."""

    def __init__(self, config: Config, tasks: int) -> None:
        super().__init__()
        self.config = config
        hidden, atoms, bonds = config.hidden, ATOM_WIDTHS[config.features], BOND_WIDTHS["chemprop"]
        self.W_a = nn.Linear(atoms, hidden, bias=config.bias)
        self.W_b = nn.Linear(atoms + bonds, hidden, bias=config.bias)
        self.W_k = nn.ModuleList(nn.Linear(hidden, hidden, bias=config.bias) for _ in range(config.depth - 1))
        self.W_c = nn.Linear(3 * hidden, hidden, bias=config.bias)
        self.beta = nn.Parameter(torch.zeros(hidden))
        self.gru = nn.GRU(hidden, hidden, bidirectional=True)
        self.W_o = nn.Linear(2 * hidden, hidden)
        self.head = two_layers(hidden, hidden, tasks=tasks, dropout=config.dropout)
        initialise(self)

    def forward(self, batch: GraphBatch) -> Tensor:
        out: Tensor = self.head(self.molecule_vectors(batch))  # (G, T)
        return out

    def molecule_vectors(self, batch: GraphBatch) -> Tensor:
        """Return (G, H) means of the atoms' last states."""
        o = self.sequence_states(*self.atom_states(batch), batch)  # (A, 2H)
        atoms = F.dropout(F.relu(self.W_o(o)), self.config.dropout, self.training)  # (A, H)
        return mean_over_graphs(atoms, batch.graph_of_atom, batch.atom_ptr)

    def atom_states(self, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """Return the atom states c_v after message passing, of distinct atoms (D, H), and which each atom is (A,)."""
        dropout = self.training and self.config.dropout > 0
        plan = distinct_pairs if unfolding_pays(batch, dropout=dropout) else plain_pairs
        return self._communicate(batch, plan(batch, self.config.depth - 1))

    def _communicate(self, batch: GraphBatch, plan: Pairs) -> tuple[Tensor, Tensor]:
        a0 = F.relu(linear_of_kinds(batch.atom_table, plan.kind, self.W_a.weight, self.W_a.bias))  # (Da0, H)
        w_x, w_e = torch.split(self.W_b.weight, [batch.atom_table.shape[1], batch.bond_table.shape[1]], dim=1)
        b0 = linear_of_kinds(batch.atom_table, plan.atom_kind, w_x)  # (Db0, H)
        b0 = F.relu(b0 + linear_of_kinds(batch.bond_table, plan.bond_kind, w_e, self.W_b.bias))
        a, b = a0, b0
        for layer, W_k in zip(plan.rounds, self.W_k, strict=True):
            a = a.index_select(0, layer.atoms.before) + layer.atoms.heard(b)  # (Da, H)
            told = layer.told(cast("nn.Linear", W_k), a, b)  # (Db, H)
            b = F.relu(b0.index_select(0, layer.own) + told)
            b = F.dropout(b, self.config.dropout, self.training)
        w_s, w_a, w_0 = torch.split(self.W_c.weight, self.config.hidden, dim=1)
        c = F.linear(plan.last.heard(b), w_s, self.W_c.bias)  # (Da, H)
        c = c + F.linear(a, w_a).index_select(0, plan.last.before)
        c = c + F.linear(a0, w_0).index_select(0, plan.last_kind)
        return c, plan.class_of_atom

    def sequence_states(self, c: Tensor, class_of_atom: Tensor, batch: GraphBatch) -> Tensor:
        """Return (A, 2H) outputs of the GRU in both directions."""
        start = max_into(c.index_select(0, class_of_atom), batch.graph_of_atom, batch.num_graphs)  # (G, H)
        x = F.relu(c + self.beta)  # (D, H)
        place = {"input_of_atom": class_of_atom, "graph_of_atom": batch.graph_of_atom, "atom_ptr": batch.atom_ptr}
        if not self.config.padded:
            packed: Tensor = over_atoms(self.gru, x, start, **place, steps=batch.max_atoms)
            return packed
        states: Tensor = over_padding(self.gru, x, start, **place, steps=batch.max_atoms)  # (L, G, 2H)
        first = batch.atom_ptr.index_select(0, batch.graph_of_atom)
        position = torch.arange(batch.num_atoms, device=c.device) - first  # (A,)
        return states.flatten(0, 1).index_select(0, position * batch.num_graphs + batch.graph_of_atom)
