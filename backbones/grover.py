"""GROVER for fine-tuning (Rong et al. 2020): two stacks of attention over message-passing networks, and two heads.

The node view's states are atoms, the edge view's are directed bonds; each stack has its own weights. A block runs
3h message-passing networks (query, key and value of h heads) from one start state x, with A the neighbour sum:

    m_1 = x,   m_{t+1} = Dropout(σ(x + W A m_t))                                                              (dyMPN)

and lets the h heads *of one row* attend to each other (there is no attention between atoms). Facts of the released
code that are settings here, not defaults: ``padding_row`` puts its padding row into every neighbour sum, which makes
a prediction depend on the largest degree in the batch; ``released_initialisation`` starts all vectors at zero,
LayerNorm gains included, which leaves the network without gradients. The bond outputs, which fine-tuning never
reads, are left out: they own no parameters here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.grover_messages import Neighbours, Network, activation, bulk_dropout, networks, random_depths
from samcmp.graphs import Columns, GraphBatch

ATOM_WIDTH = 151
BOND_WIDTH = 14
Vectors = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Config:
    """The sizes of the model; the defaults are those of the released GraphSAM code (Wang et al. 2024).

    ``molecule_features`` names per-molecule descriptors that both heads read beside the molecule vector.
    """

    hidden: int = 100
    depth: int = 3
    heads: int = 4
    blocks: int = 1
    activation: str = "relu"
    dropout: float = 0.0
    bias: bool = False
    ffn_hidden: int = 200
    ffn_layers: int = 2
    disagreement: float = 0.1
    random_depth: bool = True
    self_attention: bool = False
    attention_hidden: int = 4
    attention_out: int = 128
    molecule_features: str | None = None
    molecule_width: int = 200
    padding_row: bool = False
    released_initialisation: bool = False

    def __post_init__(self) -> None:
        for name in ("hidden", "heads", "blocks", "ffn_hidden", "ffn_layers", "attention_hidden", "attention_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.depth < 0:
            raise ValueError(f"depth must be >= 0, got {self.depth}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden must be a multiple of heads, got {self.hidden} and {self.heads}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is a probability below 1, got {self.dropout}")
        activation(self.activation)

    @property
    def columns(self) -> Columns:
        return Columns(atoms="grover", bonds="chemprop", molecule=self.molecule_features)


def of_atoms(batch: GraphBatch, weight: Tensor | None, *, bias: Tensor | None = None) -> Tensor:
    """Return W f + b of every atom (A, ...), f where there is no W; multiplies the kinds where they are the fewer."""
    if weight is None:
        return batch.atom_features
    if batch.atom_table.shape[0] > batch.num_atoms:
        return F.linear(batch.atom_features, weight, bias)
    return F.linear(batch.atom_table, weight, bias).index_select(0, batch.atom_kind)


class Inlet(nn.Module):
    """Dropout(LayerNorm(σ(W f + b))): from features to a block's start state, where their widths differ."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, config.hidden, bias=config.bias)
        self.activation = activation(config.activation)
        self.norm = nn.LayerNorm(config.hidden)
        self.dropout = config.dropout

    def forward(self, projected: Tensor) -> Tensor:
        """Return the start state (R, H) of ``projected`` = W f (R, H)."""
        if self.linear.bias is not None:
            projected = projected + self.linear.bias
        return bulk_dropout(self.norm(self.activation(projected)), self.dropout, self.training)


class Block(nn.Module):
    """3h message-passing networks, attention over the h heads of a row, W_o, LayerNorm; no residual."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        hidden = config.hidden
        self.config = config
        self.inlet = Inlet(config, width) if width != hidden else None
        # Head 0's query, key, value, then head 1's, ...: the order in which the released code draws depths.
        self.networks = nn.ModuleList(
            Network(hidden=hidden, bias=config.bias, activation_name=config.activation) for _ in range(3 * config.heads)
        )
        self.projections = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(3))
        self.output = nn.Linear(hidden, hidden, bias=config.bias)
        self.join = nn.Linear(config.heads * hidden, hidden, bias=config.bias)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, x: Tensor, sums: Neighbours, *, depths: Sequence[int]) -> Tensor:
        """Return the new states (R, H) of ``x`` (R, H): projected features where there is an inlet, else states."""
        if self.inlet is not None:
            x = self.inlet(x)
        joined = self.attend(self.messages(x, sums, depths=depths))
        return bulk_dropout(self.norm(joined), self.config.dropout, self.training)

    def messages(self, x: Tensor, sums: Neighbours, *, depths: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (h, R, H)."""
        modules = cast("list[Network]", list(self.networks))
        dropout = self.config.dropout if self.training else 0.0
        m = networks(x, sums, modules=modules, depths=depths, dropout=dropout)  # (3h, R, H)
        q, k, v = m.view(-1, 3, *m.shape[1:]).unbind(1)
        return q, k, v

    def attend(self, messages: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return W_o of the heads' attention to each other, (R, H)."""
        h, rows, hidden = messages[0].shape
        q, k, v = (
            linear(m).view(h, rows, h, hidden // h).permute(1, 2, 0, 3)  # (R, sub-heads, h, H/h)
            for linear, m in zip(self.projections, messages, strict=True)
        )
        scores = q @ k.transpose(-1, -2) * (hidden // h) ** -0.5  # (R, sub-heads, h, h)
        p = bulk_dropout(scores.softmax(-1), self.config.dropout, self.training)
        u = (p @ v).permute(0, 2, 1, 3).reshape(rows, h * hidden)  # head 0's H numbers first
        if rows <= hidden:
            return cast("Tensor", self.join(self.output(u.view(rows, h, hidden)).view(rows, h * hidden)))
        return self._joined_once(u)

    def _joined_once(self, u: Tensor) -> Tensor:
        """Return W_o (W u_1 + b, ..., W u_h + b) with the two matrices multiplied first.

        Nothing stands between them, and their product costs H rows where applying them in turn costs R.
        """
        hidden, h = self.config.hidden, self.config.heads
        parts = self.join.weight.view(hidden, h, hidden)
        weight = (parts @ self.output.weight).view(hidden, h * hidden)
        bias: Tensor | None = self.join.bias
        if bias is not None:
            bias = bias + parts.sum(1) @ self.output.bias
        return F.linear(u, weight, bias)


class View(nn.Module):
    """The blocks of the node view or of the edge view."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        widths = [width] + [config.hidden] * (config.blocks - 1)
        self.blocks = nn.ModuleList(Block(config, w) for w in widths)

    @property
    def input_weight(self) -> Tensor | None:
        """The matrix W_i (H, F) of the first block; None where the features are as wide as the states."""
        inlet = cast("Block", self.blocks[0]).inlet
        return None if inlet is None else inlet.linear.weight

    def forward(self, x: Tensor, sums: Neighbours, *, depths: Sequence[Sequence[int]]) -> Tensor:
        """Return the last states (R, H) from the projected features ``x`` (R, H)."""
        for block, drawn in zip(self.blocks, depths, strict=True):
            x = block(x, sums, depths=drawn)
        return x


class Outlet(nn.Module):
    """Dropout(LayerNorm(W_2 Dropout(σ(W_1 [f ; s])))): from raw atom features and summed states to atom vectors."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.expand = nn.Linear(ATOM_WIDTH + config.hidden, 4 * config.hidden)
        self.activation = activation(config.activation)
        self.contract = nn.Linear(4 * config.hidden, config.hidden)
        self.norm = nn.LayerNorm(config.hidden)
        self.dropout = config.dropout

    def forward(self, states: Tensor, batch: GraphBatch) -> Tensor:
        """Return atom vectors (A, H) from neighbour sums ``states`` (A, H)."""
        features, summed = self.expand.weight.tensor_split([ATOM_WIDTH], dim=1)
        raw = of_atoms(batch, features, bias=self.expand.bias)
        wide = torch.addmm(raw, states, summed.t())  # (A, 4H)
        wide = bulk_dropout(self.activation(wide), self.dropout, self.training)
        return bulk_dropout(self.norm(self.contract(wide)), self.dropout, self.training)


class Readout(nn.Module):
    """The molecule vector: the mean of its atoms, or (Lin et al. 2017) a learned attention over them."""

    def __init__(self, config: Config) -> None:
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
        total = e.new_zeros(top.shape).index_add(0, batch.graph_of_atom, e)
        return e / total.gather(0, owner)

    def forward(self, vectors: Tensor, batch: GraphBatch) -> Tensor:
        """Return molecule vectors (G, H), or (G, attention_out·H)."""
        if self.attention is None:
            total = vectors.new_zeros(batch.num_graphs, vectors.shape[1]).index_add(0, batch.graph_of_atom, vectors)
            return total / batch.atom_ptr.diff().clamp(min=1).unsqueeze(1)
        weighted = (self.weights(vectors, batch).unsqueeze(2) * vectors.unsqueeze(1)).flatten(1)  # (A, out·H)
        return weighted.new_zeros(batch.num_graphs, weighted.shape[1]).index_add(0, batch.graph_of_atom, weighted)


class Head(nn.Module):
    """Dropout and Linear, then (σ, Dropout, Linear) for each further layer; one activation for all of them."""

    def __init__(self, config: Config, tasks: int) -> None:
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
                x = self.activation(x)
            x = linear(bulk_dropout(x, self.dropout, self.training))
        return x


class Model(nn.Module):
    """The fine-tuning network with its two heads, one on the atoms' and one on the bonds' view of the molecule."""

    def __init__(self, config: Config, tasks: int) -> None:
        super().__init__()
        self.config = config
        self.nodes = View(config, ATOM_WIDTH)
        self.edges = View(config, ATOM_WIDTH + BOND_WIDTH)
        self.from_nodes = Outlet(config)
        self.from_edges = Outlet(config)
        self.readout = Readout(config)
        self.head_nodes = Head(config, tasks)
        self.head_edges = Head(config, tasks)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw matrices Xavier normal and set biases 0, gains 1, slopes 0.25 (released scheme: every vector 0)."""
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.PReLU):
                nn.init.constant_(module.weight, 0.25)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.config.released_initialisation:
            for parameter in self.parameters():
                if parameter.dim() == 1:
                    nn.init.zeros_(parameter)

    def draw_depths(self) -> list[list[list[int]]]:
        """Return the depth of every network, indexed by view, block and network; fixed outside training."""
        config = self.config
        shape = (2, config.blocks, 3 * config.heads)
        if not (self.training and config.random_depth):
            return [[[config.depth] * shape[2]] * shape[1]] * shape[0]
        drawn = random_depths(config.depth, shape[0] * shape[1] * shape[2])
        nested: list[list[list[int]]] = drawn.view(shape).tolist()
        return nested

    def encode(self, batch: GraphBatch, *, depths: Sequence[Sequence[Sequence[int]]] | None = None) -> Vectors:
        """Return atom vectors (A, H) from the node view and from the edge view."""
        node_depths, edge_depths = depths if depths is not None else self.draw_depths()
        padded = self.config.padding_row
        atoms = Neighbours.read(batch, of_bonds=False, padding_row=padded)
        bonds = Neighbours.read(batch, of_bonds=True, padding_row=padded)
        x, e = self._inputs(batch)
        a = atoms.into_atoms(self.nodes(x, atoms, depths=node_depths))[: batch.num_atoms]
        b = bonds.into_atoms(self.edges(e, bonds, depths=edge_depths))[: batch.num_atoms]
        return self.from_nodes(a, batch), self.from_edges(b, batch)

    def _inputs(self, batch: GraphBatch) -> Vectors:
        """Return W_i f of the atoms (A, H) and of the directed bonds (B, H), or f itself where a view has no inlet."""
        atom_weight, bond_weight = self.nodes.input_weight, self.edges.input_weight
        x = of_atoms(batch, atom_weight)
        if bond_weight is None:
            features = [batch.atom_features.index_select(0, batch.edge_index[0]), batch.directed_bond_features]
            e = torch.cat(features, dim=1)
        else:
            origin, bond = bond_weight.tensor_split([ATOM_WIDTH], dim=1)
            e = of_atoms(batch, origin).index_select(0, batch.edge_index[0])
            e = e + (batch.bond_table @ bond.t()).index_select(0, batch.bond_kind.repeat_interleave(2))
        if self.config.padding_row:
            x, e = F.pad(x, (0, 0, 0, 1)), F.pad(e, (0, 0, 0, 1))
        return x, e

    def heads(self, batch: GraphBatch, *, depths: Sequence[Sequence[Sequence[int]]] | None = None) -> Vectors:
        """Return the raw outputs p and q of the two heads, each (G, T)."""
        a, b = self.encode(batch, depths=depths)
        vectors = [self.readout(a, batch), self.readout(b, batch)]
        if self.config.molecule_features:
            if batch.molecule_features is None:
                raise ValueError(f"the batch carries no molecule features, {self.config.molecule_features} is set")
            vectors = [torch.cat([v, batch.molecule_features], dim=1) for v in vectors]
        return self.head_nodes(vectors[0]), self.head_edges(vectors[1])

    def forward(self, batch: GraphBatch) -> Tensor:
        """Return the mean (G, T) of the two heads' raw outputs."""
        p, q = self.heads(batch)
        return (p + q) / 2

    def predict(self, batch: GraphBatch, link: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the mean (G, T) of the two heads after ``link``: probabilities are averaged, not logits."""
        p, q = self.heads(batch)
        return (link(p) + link(q)) / 2

    def loss(self, batch: GraphBatch, criterion: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return ℓ(p, y) + ℓ(q, y) + c (p - q)² averaged over the labels that are there."""
        p, q = self.heads(batch)
        known = ~batch.y.isnan()
        disagreement = ((p - q).square() * known).sum() / known.sum().clamp(min=1)
        return criterion(p, batch.y) + criterion(q, batch.y) + self.config.disagreement * disagreement

    def attention(self, batch: GraphBatch) -> Vectors:
        """Return the read-out's attention (A, attention_out) over the atoms, in the node and in the edge view."""
        a, b = self.encode(batch)
        return self.readout.weights(a, batch), self.readout.weights(b, batch)
