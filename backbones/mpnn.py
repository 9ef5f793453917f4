"""MPNN: message passing with a matrix per kind of bond (Gilmer et al., ICML 2017, arXiv:1704.01212, sections 2 and 5).

    h_v = relu(W_0 x_v + b_0)
    m_v = relu(W_r h_v + sum over w in N(v) of A(e_vw) h_w + b)     A: a network of two layers, e -> (H, H)
    h_v = GRU(m_v, h_v)                                             depth times
    y   = W_2 relu(W_1 Set2Set(h) + b_1) + b_2                      Set2Set: Vinyals et al., ICLR 2016, section 4.2

W_r, b and the relu around the message are those of the formulation in PyTorch Geometric's example; they can be
switched off. Bond rows take about twenty different values in a dataset, so A is evaluated once per value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.backbones import ATOM_WIDTHS, BOND_WIDTHS, surroundings
from samcmp.backbones.layers import linear_of_kinds, softmax_over_graphs, sum_into
from samcmp.graphs.batch import Columns, GraphBatch


@dataclass(frozen=True)
class Config:
    """Settings of the model."""

    features: str = "chemprop-v1"
    hidden: int = 64
    depth: int = 3
    edge_hidden: int = 128
    aggregation: Literal["sum", "mean"] = "sum"
    root_weight: bool = True
    message_bias: bool = True
    message_relu: bool = True
    readout_steps: int = 3

    def __post_init__(self) -> None:
        if self.features not in ATOM_WIDTHS:
            raise ValueError(f"features is one of {', '.join(ATOM_WIDTHS)}, got {self.features!r}")
        if self.aggregation not in ("sum", "mean"):
            raise ValueError(f"aggregation is sum or mean, got {self.aggregation!r}")
        if min(self.depth, self.hidden, self.edge_hidden, self.readout_steps) < 1:
            raise ValueError("depth, hidden, edge_hidden and readout_steps are at least 1")

    @property
    def columns(self) -> Columns:
        return Columns(self.features)


class Set2Set(nn.Module):
    """A query that reads the atoms of its molecule by attention, ``steps`` times."""

    def __init__(self, hidden: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.lstm = nn.LSTMCell(2 * hidden, hidden)

    def forward(self, h: Tensor, batch: GraphBatch) -> Tensor:
        graph = batch.graph_of_atom
        query = h.new_zeros(batch.num_graphs, h.shape[1])  # (G, H)
        cell, q_star = query, h.new_zeros(batch.num_graphs, 2 * h.shape[1])
        for _ in range(self.steps):
            query, cell = self.lstm(q_star, (query, cell))
            energy = (h * query.index_select(0, graph)).sum(dim=1, keepdim=True)  # (A, 1)
            attention = softmax_over_graphs(energy, batch)  # (A, 1)
            q_star = torch.cat([query, sum_into(attention * h, graph, batch.num_graphs)], dim=1)  # (G, 2H)
        return q_star


class Model(nn.Module):
    """Message passing with a GRU, Set2Set and a head of two layers."""

    def __init__(self, config: Config, tasks: int) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.embed = nn.Linear(ATOM_WIDTHS[config.features], hidden)
        self.edge = nn.Sequential(
            nn.Linear(BOND_WIDTHS["chemprop"], config.edge_hidden),
            nn.ReLU(),
            nn.Linear(config.edge_hidden, hidden * hidden),
        )
        self.root = nn.Linear(hidden, hidden, bias=False) if config.root_weight else None
        self.bias = nn.Parameter(torch.zeros(hidden)) if config.message_bias else None
        self.gru = nn.GRUCell(hidden, hidden)
        self.readout = Set2Set(hidden, config.readout_steps)
        self.head = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, tasks))

    def forward(self, batch: GraphBatch) -> Tensor:
        out: Tensor = self.head(self.readout(self.atom_states(batch), batch))  # (G, T)
        return out

    def atom_states(self, batch: GraphBatch) -> Tensor:
        """Return (A, H) states of the last step."""
        hidden, depth = self.config.hidden, self.config.depth
        matrices = self.edge(batch.bond_table).view(-1, hidden, hidden)  # (U, H, H) A of every kind of bond
        if surroundings.apply(batch, dropout=0):
            return surroundings.mpnn_atom_states(batch, self.embed, matrices, self.update, steps=depth)
        source, target = batch.edge_index
        degree = sum_into(torch.ones_like(target), target, batch.num_atoms)  # (A,)
        bond_kind = batch.bond_kind.repeat_interleave(2, output_size=batch.num_bonds)  # (B,)
        h = F.relu(linear_of_kinds(batch.atom_table, batch.atom_kind, self.embed.weight, self.embed.bias))  # (A, H)
        for _ in range(depth):
            # every state meets every kind's matrix, and a bond's message is one of those products
            products = torch.einsum("ai,uij->auj", h, matrices).flatten(0, 1)  # (A U, H)
            messages = products.index_select(0, source * len(matrices) + bond_kind)  # (B, H)
            h = self.update(sum_into(messages, target, batch.num_atoms), h, degree)
        return h

    def update(self, m: Tensor, h: Tensor, degree: Tensor) -> Tensor:
        """Return GRU(m_v, h_v), (A, H), of the summed messages m and the states h of atoms with so many messages."""
        if self.config.aggregation == "mean":
            m = m / degree.clamp(min=1).to(m.dtype).unsqueeze(1)
        if self.root is not None:
            m = m + self.root(h)
        if self.bias is not None:
            m = m + self.bias
        out: Tensor = self.gru(F.relu(m) if self.config.message_relu else m, h)
        return out
