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

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.backbones import ATOM_WIDTHS, BOND_WIDTHS
from samcmp.backbones.layers import (
    features_of_bonds,
    gru_over_atoms,
    gru_over_padding,
    index_in_molecule,
    initialise,
    linear_of_kinds,
    linear_of_tables,
    max_into,
    max_over_graphs,
    mean_over_graphs,
    reverse,
    sum_into,
    two_layers,
)
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
        o = self.sequence_states(self.atom_states(batch), batch)  # (A, 2H)
        atoms = F.dropout(F.relu(self.W_o(o)), self.config.dropout, self.training)  # (A, H)
        return mean_over_graphs(atoms, batch)

    def atom_states(self, batch: GraphBatch) -> Tensor:
        """Return (A, H) atom states c_v after message passing."""
        source, target = batch.edge_index
        a0 = F.relu(linear_of_kinds(batch.atom_table, batch.atom_kind, self.W_a.weight, self.W_a.bias))  # (A, H)
        b0 = F.relu(linear_of_tables(self.W_b, *features_of_bonds(batch)))  # (B, H)

        def received(b: Tensor) -> Tensor:
            return sum_into(b, target, batch.num_atoms) * max_into(b, target, batch.num_atoms)  # (A, H) s_v

        a, b = a0, b0
        for W_k in self.W_k:
            a = a + received(b)
            b = F.relu(b0 + W_k(a.index_select(0, source) - reverse(b)))
            b = F.dropout(b, self.config.dropout, self.training)
        c: Tensor = self.W_c(torch.cat([received(b), a, a0], 1))
        return c

    def sequence_states(self, c: Tensor, batch: GraphBatch) -> Tensor:
        """Return (A, 2H) outputs of the GRU in both directions."""
        start = max_over_graphs(c, batch)  # (G, H)
        x = F.relu(c + self.beta)  # (A, H)
        if not self.config.padded:
            packed: Tensor = gru_over_atoms(self.gru, x, start, batch)
            return packed
        states: Tensor = gru_over_padding(self.gru, x, start, batch, length=batch.max_atoms)  # (L, G, 2H)
        place = index_in_molecule(batch) * batch.num_graphs + batch.graph_of_atom
        return states.flatten(0, 1).index_select(0, place)
