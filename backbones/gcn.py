"""GCN: graph convolution (Kipf and Welling, ICLR 2017, arXiv:1609.02907, equation 2) with a read-out for molecules.

    S = D^-1/2 (A + I) D^-1/2        D: degrees of A + I
    H_l+1 = relu(S H_l W_l + b_l)    no activation after the last layer
    y = W_b relu(W_a pool(H_L) + a) + b

Bond features are not used. The paper has no read-out (it classifies nodes): pool is the mean over atoms by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.backbones import ATOM_WIDTHS
from samcmp.backbones.layers import linear_of_kinds, max_over_graphs, mean_over_graphs, sum_into
from samcmp.graphs.batch import Columns, GraphBatch


@dataclass(frozen=True)
class Config:
    """Settings of the model."""

    features: str = "chemprop-v1"
    hidden: int = 128
    depth: int = 3
    readout: Literal["mean", "sum", "max"] = "mean"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.features not in ATOM_WIDTHS:
            raise ValueError(f"features is one of {', '.join(ATOM_WIDTHS)}, got {self.features!r}")
        if self.readout not in ("mean", "sum", "max"):
            raise ValueError(f"readout is mean, sum or max, got {self.readout!r}")
        if self.depth < 1 or self.hidden < 1 or not 0 <= self.dropout < 1:
            raise ValueError("depth and hidden are at least 1 and dropout is in [0, 1)")

    @property
    def columns(self) -> Columns:
        return Columns(self.features)


def propagate(x: Tensor, edge_index: Tensor, scale: Tensor) -> Tensor:
    """Return S x, (A, H), where ``scale`` is the diagonal of D^-1/2 as a column."""
    scaled = x * scale  # (A, H)
    return scaled.index_add(0, edge_index[1], scaled.index_select(0, edge_index[0])) * scale


class Convolution(nn.Module):
    """S (H W) + b, with Glorot weights and zero biases."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, h: Tensor, edge_index: Tensor, scale: Tensor) -> Tensor:
        return propagate(F.linear(h, self.weight), edge_index, scale) + self.bias  # (A, H)


class Model(nn.Module):
    """Graph convolutions, a read-out over atoms and a head of two layers."""

    def __init__(self, config: Config, tasks: int) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.first = Convolution(ATOM_WIDTHS[config.features], hidden)
        self.convs = nn.ModuleList(Convolution(hidden, hidden) for _ in range(config.depth - 1))
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, tasks))

    def atom_states(self, batch: GraphBatch) -> Tensor:
        """Return (A, H) states of the last layer."""
        edge_index = batch.edge_index
        ones = torch.ones_like(edge_index[1])
        degree = torch.ones_like(batch.atom_kind).index_add_(0, edge_index[1], ones)  # (A,)
        scale = degree.to(batch.atom_table.dtype).rsqrt().unsqueeze(1)  # (A, 1)
        h = linear_of_kinds(batch.atom_table, batch.atom_kind, self.first.weight)  # (A, H)
        h = propagate(h, edge_index, scale) + self.first.bias  # (A, H)
        for conv in self.convs:
            h = F.dropout(F.relu(h), self.config.dropout, self.training)
            h = conv(h, edge_index, scale)  # (A, H)
        return h

    def pool(self, h: Tensor, batch: GraphBatch) -> Tensor:
        """Return (G, H) molecule vectors."""
        if self.config.readout == "mean":
            return mean_over_graphs(h, batch)
        if self.config.readout == "max":
            return max_over_graphs(h, batch)
        return sum_into(h, batch.graph_of_atom, batch.num_graphs)

    def forward(self, batch: GraphBatch) -> Tensor:
        out: Tensor = self.head(self.pool(self.atom_states(batch), batch))  # (G, T)
        return out
