"""D-MPNN: messages along directed bonds (Yang et al., JCIM 2019, 59, 3370, equations 1 to 5), as in chemprop.

    z_vw   = W_i [x_v; e_vw]                        h_vw = relu(z_vw)
    m_vw   = sum over u in N(v) without w of h_uv   h_vw = relu(z_vw + W_h m_vw)     depth - 1 times
    a_v    = relu(W_o [x_v; sum over u of h_uv] + b)
    y      = W_2 relu(W_1 mean(a) + b_1) + b_2

The paper adds the activated h_vw where the code adds z_vw; this file does as the code. ``messages="atoms"`` is the
variant of the same family that keeps a state per atom: z_v = W_i x_v, m_v = sum over u of [h_u; e_uv].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.backbones import ATOM_WIDTHS, BOND_WIDTHS, surroundings
from samcmp.backbones.layers import (
    features_of_bonds,
    initialise,
    linear_of_kinds,
    linear_of_rows,
    linear_of_tables,
    mean_over_graphs,
    reverse,
    sum_into,
    two_layers,
)
from samcmp.graphs.batch import Columns, GraphBatch

NORM = 100.0  # chemprop's constant for aggregation "norm": sum / 100


@dataclass(frozen=True)
class Config:
    """Settings of the model: those of the paper and of chemprop 1."""

    features: str = "chemprop-v1"
    hidden: int = 300
    depth: int = 3
    bias: bool = False
    dropout: float = 0.0
    aggregation: Literal["mean", "sum", "norm"] = "mean"
    messages: Literal["bonds", "atoms"] = "bonds"
    undirected: bool = False
    initialisation: Literal["xavier-normal", "torch"] = "xavier-normal"

    def __post_init__(self) -> None:
        if self.features not in ATOM_WIDTHS:
            raise ValueError(f"features is one of {', '.join(ATOM_WIDTHS)}, got {self.features!r}")
        if self.aggregation not in ("mean", "sum", "norm"):
            raise ValueError(f"aggregation is mean, sum or norm, got {self.aggregation!r}")
        if self.messages not in ("bonds", "atoms"):
            raise ValueError(f"messages is bonds or atoms, got {self.messages!r}")
        if self.initialisation not in ("xavier-normal", "torch"):
            raise ValueError(f"initialisation is xavier-normal or torch, got {self.initialisation!r}")
        if self.depth < 1 or self.hidden < 1 or not 0 <= self.dropout < 1:
            raise ValueError("depth and hidden are at least 1 and dropout is in [0, 1)")
        if self.undirected and self.messages == "atoms":
            raise ValueError("undirected is a setting of bond messages")

    @property
    def columns(self) -> Columns:
        return Columns(self.features)


class Model(nn.Module):
    """Message passing, a read-out over atoms and a head of two layers."""

    def __init__(self, config: Config, tasks: int) -> None:
        super().__init__()
        self.config = config
        hidden, atoms, bonds = config.hidden, ATOM_WIDTHS[config.features], BOND_WIDTHS["chemprop"]
        on_bonds = config.messages == "bonds"
        self.W_i = nn.Linear(atoms + bonds * on_bonds, hidden, bias=config.bias)
        steps = config.depth - 1  # without a step, W_h would be a parameter that no gradient reaches
        self.W_h = nn.Linear(hidden + bonds * (not on_bonds), hidden, bias=config.bias) if steps else None
        self.W_o = nn.Linear(atoms + hidden, hidden)
        self.head = two_layers(hidden, hidden, tasks=tasks, dropout=config.dropout)
        if config.initialisation == "xavier-normal":
            initialise(self)

    def forward(self, batch: GraphBatch) -> Tensor:
        out: Tensor = self.head(self.pool(self.atom_states(batch), batch))  # (G, T)
        return out

    def atom_states(self, batch: GraphBatch) -> Tensor:
        """Return (A, H) atom states a_v."""
        if self.config.messages == "atoms":
            return self._states_by_atom_messages(batch)
        dropout = self.config.dropout if self.training else 0.0
        if self.W_h is not None and not self.config.undirected and surroundings.apply(batch, dropout=dropout):
            return surroundings.dmpnn_atom_states(batch, self.W_i, self.W_h, self.W_o, steps=self.config.depth - 1)
        return self._states_by_bond_messages(batch)

    def _states_by_bond_messages(self, batch: GraphBatch) -> Tensor:
        source, target = batch.edge_index
        z = linear_of_tables(self.W_i, *features_of_bonds(batch))  # (B, H)
        h = F.relu(z)
        if self.W_h is not None:
            for _ in range(1, self.config.depth):
                if self.config.undirected:
                    h = (h + reverse(h)) / 2
                m = sum_into(h, target, batch.num_atoms).index_select(0, source) - reverse(h)  # (B, H)
                h = F.relu(z + self.W_h(m))
                h = F.dropout(h, self.config.dropout, self.training)
        return self._joined(batch, sum_into(h, target, batch.num_atoms))

    def _states_by_atom_messages(self, batch: GraphBatch) -> Tensor:
        source, target = batch.edge_index
        z = linear_of_kinds(batch.atom_table, batch.atom_kind, self.W_i.weight, self.W_i.bias)  # (A, H)
        h = F.relu(z)
        if self.W_h is not None:
            w_h, w_e = torch.split(self.W_h.weight, [self.config.hidden, batch.bond_table.shape[1]], 1)
            of_bonds = linear_of_kinds(*features_of_bonds(batch)[1], w_e)  # (B, H)
            z = z + sum_into(of_bonds, target, batch.num_atoms)
            for _ in range(1, self.config.depth):
                m = sum_into(h.index_select(0, source), target, batch.num_atoms)  # (A, H)
                h = F.dropout(F.relu(z + F.linear(m, w_h, self.W_h.bias)), self.config.dropout, self.training)
        return self._joined(batch, sum_into(h.index_select(0, source), target, batch.num_atoms))

    def _joined(self, batch: GraphBatch, m: Tensor) -> Tensor:
        """Return relu(W_o [x_v; m_v] + b), (A, H)."""
        a = linear_of_rows(self.W_o, (batch.atom_table, batch.atom_kind), m)
        return F.dropout(F.relu(a), self.config.dropout, self.training)

    def pool(self, a: Tensor, batch: GraphBatch) -> Tensor:
        """Return (G, H) molecule vectors."""
        if self.config.aggregation == "mean":
            return mean_over_graphs(a, batch)
        total = sum_into(a, batch.graph_of_atom, batch.num_graphs)
        return total if self.config.aggregation == "sum" else total / NORM
