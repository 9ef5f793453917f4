"""What stands before and after GROVER's blocks: their start states, atom vectors, molecule vectors, heads."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from samcmp.backbones.grover_lean import activate, bulk_dropout
from samcmp.backbones.grover_messages import activation
from samcmp.backbones.segments import linear_of_kinds, mean_over_graphs, sum_into
from samcmp.graphs.batch import GraphBatch

if TYPE_CHECKING:
    from samcmp.backbones.grover_sizes import Sizes

ATOM_WIDTH = 151


class Inlet(nn.Module):
    """Dropout(LayerNorm(σ(W f + b))): from features to a block's start state, where their widths differ."""

    def __init__(self, config: Sizes, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, config.hidden, bias=config.bias)
        self.activation = activation(config.activation)
        self.norm = nn.LayerNorm(config.hidden)
        self.dropout = config.dropout

    def forward(self, projected: Tensor) -> Tensor:
        """Return the start state (R, H) of ``projected`` = W f (R, H)."""
        if self.linear.bias is not None:
            projected = projected + self.linear.bias
        return bulk_dropout(self.norm(activate(self.activation, projected)), self.dropout, self.training)


class Outlet(nn.Module):
    """Dropout(LayerNorm(W_2 Dropout(σ(W_1 [f ; s])))): from raw atom features and summed states to atom vectors."""

    def __init__(self, config: Sizes) -> None:
        super().__init__()
        self.expand = nn.Linear(ATOM_WIDTH + config.hidden, 4 * config.hidden)
        self.activation = activation(config.activation)
        self.contract = nn.Linear(4 * config.hidden, config.hidden)
        self.norm = nn.LayerNorm(config.hidden)
        self.dropout = config.dropout

    def forward(self, states: Tensor, batch: GraphBatch, *, kind: Tensor) -> Tensor:
        """Return vectors (A, H) from neighbour sums ``states`` (A, H) of atoms of these kinds (A,)."""
        features, summed = self.expand.weight.tensor_split([ATOM_WIDTH], dim=1)
        raw = linear_of_kinds(batch.atom_table, kind, features, self.expand.bias)
        wide = torch.addmm(raw, states, summed.t())  # (A, 4H)
        wide = bulk_dropout(activate(self.activation, wide), self.dropout, self.training)
        return bulk_dropout(self.norm(self.contract(wide)), self.dropout, self.training)


class Readout(nn.Module):
    """The molecule vector: the mean of its atoms, or (Lin et al. 2017) a learned attention over them."""

    def __init__(self, config: Sizes) -> None:
        super().__init__()
        self.attention: nn.ModuleList | None = None
        if config.self_attention:
            self.attention = nn.ModuleList(
                [
                    nn.Linear(config.hidden, config.attention_hidden, bias=False),
                    nn.Linear(config.attention_hidden, config.attention_out, bias=False),
                ]
            )

    def weights(self, vectors: Tensor, batch: GraphBatch) -> Tensor:
        """Return S (A, attention_out): softmax over each molecule's atoms of W_2 tanh(W_1 x)."""
        if self.attention is None:
            raise ValueError("the mean read-out has no attention: build the model with self_attention=True")
        scores = self.attention[1](torch.tanh(self.attention[0](vectors)))  # (A, out)
        owner = batch.graph_of_atom.unsqueeze(1).expand_as(scores)
        top = scores.new_full((batch.num_graphs, scores.shape[1]), -torch.inf)
        top = top.scatter_reduce(0, owner, scores.detach(), "amax")
        e: Tensor = (scores - top.gather(0, owner)).exp()
        total = sum_into(e, batch.graph_of_atom, batch.num_graphs)
        return e / total.gather(0, owner)

    def forward(self, vectors: Tensor, batch: GraphBatch) -> Tensor:
        """Return molecule vectors (G, H), or (G, attention_out·H)."""
        if self.attention is None:
            return mean_over_graphs(vectors, batch.graph_of_atom, batch.atom_ptr)
        weighted = (self.weights(vectors, batch).unsqueeze(2) * vectors.unsqueeze(1)).flatten(1)  # (A, out·H)
        return sum_into(weighted, batch.graph_of_atom, batch.num_graphs)


class Head(nn.Module):
    """Dropout and Linear, then (σ, Dropout, Linear) for each further layer; one activation for all of them."""

    def __init__(self, config: Sizes, tasks: int) -> None:
        super().__init__()
        width = config.hidden * (config.attention_out if config.self_attention else 1)
        width += config.molecule_width if config.molecule_features else 0
        widths = [width] + [config.ffn_hidden] * (config.ffn_layers - 1) + [tasks]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = activation(config.activation) if config.ffn_layers > 1 else None
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        for i, linear in enumerate(self.linears):
            if i and self.activation is not None:
                x = activate(self.activation, x)
            x = linear(bulk_dropout(x, self.dropout, self.training))
        return x
