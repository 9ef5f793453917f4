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
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.backbones import grover_names
from samcmp.backbones.grover_lean import attend_heads, bulk_dropout, into_atoms, is_lean
from samcmp.backbones.grover_lean import networks as lean_networks
from samcmp.backbones.grover_messages import (
    Neighbours,
    Network,
    attend_heads_plainly,
    masked_networks,
    networks,
    random_depths,
)
from samcmp.backbones.grover_parts import ATOM_WIDTH, Head, Inlet, Outlet, Readout
from samcmp.backbones.grover_rows import Rows
from samcmp.backbones.grover_sizes import Sizes
from samcmp.backbones.segments import linear_of_kinds
from samcmp.graphs.batch import Columns, GraphBatch

BOND_WIDTH = 14
Vectors = tuple[Tensor, Tensor]
AnyRows = Neighbours | Rows
Drawn = Sequence[int] | Tensor  # of a block's networks; a tensor while compiling
Depths = Sequence[Sequence[Drawn]] | Tensor  # by view, block and network


@dataclass(frozen=True)
class Config(Sizes):
    """The model's settings and the features it reads."""

    @property
    def columns(self) -> Columns:
        return Columns(atoms="grover", bonds="chemprop", molecule=self.molecule_features)


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

    def forward(self, x: Tensor, rows: AnyRows, *, depths: Drawn) -> tuple[Tensor, AnyRows]:
        """Return the new states, and their rows, of ``x``: projected features where there is an inlet, else states."""
        if self.inlet is not None:
            x = self.inlet(x)
        u, rows = self.attend(x, rows, depths=depths)
        return bulk_dropout(self.norm(self.joined(u)), self.config.dropout, self.training), rows

    def attend(self, x: Tensor, rows: AnyRows, *, depths: Drawn) -> tuple[Tensor, AnyRows]:
        """Return what the heads of each row draw from each other, (R, sub-heads, h, H/h), and the rows."""
        dropout = self.config.dropout if self.training else 0.0
        modules = cast("list[Network]", list(self.networks))
        if isinstance(rows, Neighbours):
            if isinstance(depths, Tensor):
                deepest = self.config.depth + 2
                m = masked_networks(x, rows, modules=modules, depths=depths, deepest=deepest, dropout=dropout)
            else:
                m = networks(x, rows, modules=modules, depths=depths, dropout=dropout)  # (3h, R, H)
            projected = [linear(m[j::3]) for j, linear in enumerate(self.projections)]  # (h, R, H)
            return attend_heads_plainly(*projected, dropout=dropout), rows
        run = lean_networks(x, rows, modules=modules, depths=cast("Sequence[int]", depths), dropout=dropout)
        q, k, v = (
            torch.stack([run.spread(linear(run.states[i]), i) for i in range(j, len(modules), 3)])
            for j, linear in enumerate(self.projections)
        )
        return attend_heads(q, k, v, dropout=dropout), run.after

    def joined(self, u: Tensor) -> Tensor:
        """Return W_o (W u_1 + b, ..., W u_h + b), (R, H), of the heads' u (R, sub-heads, h, H/h).

        Nothing stands between the two matrices: multiplied first, they cost H rows where in turn they cost R.
        """
        hidden, h = self.config.hidden, self.config.heads
        if u.shape[0] <= hidden:
            by_head = self.output(u.transpose(1, 2).reshape(-1, h, hidden))
            return cast("Tensor", self.join(by_head.view(-1, h * hidden)))
        parts = self.join.weight.view(hidden, h, hidden)
        weight = (parts @ self.output.weight).view(hidden, h, h, hidden // h)  # head, sub-head
        bias: Tensor | None = self.join.bias
        if bias is not None:
            bias = bias + parts.sum(1) @ self.output.bias
        return F.linear(u.reshape(-1, h * hidden), weight.transpose(1, 2).reshape(hidden, h * hidden), bias)


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

    def forward(self, x: Tensor, rows: AnyRows, *, depths: Sequence[Drawn] | Tensor) -> tuple[Tensor, AnyRows]:
        """Return the last states, and their rows, from the projected features ``x`` (R, H)."""
        for block, drawn in zip(self.blocks, depths, strict=True):
            x, rows = block(x, rows, depths=drawn)
        return x, rows


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

    def released_names(self) -> dict[str, str]:
        """Return the released checkpoints' names of our tensors."""
        return {name: grover_names.released_name(name) for name in self.state_dict()}

    task_parts = ("head", "readout")  # what pre-training does not have
    never_read = staticmethod(grover_names.never_read)
    released_settings = staticmethod(grover_names.released_settings)

    def draw_depths(self) -> Depths:
        """Return the depth of every network, fixed outside training; a compiler gets random ones as a tensor."""
        config = self.config
        shape = (2, config.blocks, 3 * config.heads)
        if not (self.training and config.random_depth):
            return [[[config.depth] * shape[2]] * shape[1]] * shape[0]
        drawn = random_depths(config.depth, shape[0] * shape[1] * shape[2]).view(shape)
        return drawn if torch.compiler.is_compiling() else cast("list[list[list[int]]]", drawn.tolist())

    def encode(self, batch: GraphBatch, *, depths: Depths | None = None) -> Vectors:
        """Return atom vectors (A, H) from the node view and from the edge view."""
        node_depths, edge_depths = depths if depths is not None else self.draw_depths()
        atoms, bonds = self._rows(batch)
        a, atoms = self.nodes(self._atom_inputs(batch, atoms), atoms, depths=node_depths)
        b, bonds = self.edges(self._bond_inputs(batch, bonds), bonds, depths=edge_depths)
        return _vectors(self.from_nodes, a, atoms, batch=batch), _vectors(self.from_edges, b, bonds, batch=batch)

    def _rows(self, batch: GraphBatch) -> tuple[AnyRows, AnyRows]:
        padded = self.config.padding_row
        if padded or not is_lean(batch.atom_table, self.from_nodes.activation):
            nodes, edges = (Neighbours.read(batch, of_bonds=view, padding_row=padded) for view in (False, True))
            return nodes, edges
        shared = not (self.training and self.config.dropout > 0)
        return Rows.of_atoms(batch, shared=shared), Rows.of_bonds(batch, shared=shared)

    def _atom_inputs(self, batch: GraphBatch, rows: AnyRows) -> Tensor:
        """Return W_i f of the atoms, or f where the view has no inlet."""
        weight, kind = self.nodes.input_weight, rows.pick(batch.atom_kind)
        if weight is None:
            return rows.padded(batch.atom_table.index_select(0, kind))
        return rows.padded(linear_of_kinds(batch.atom_table, kind, weight))

    def _bond_inputs(self, batch: GraphBatch, rows: AnyRows) -> Tensor:
        """Return W_i f of the directed bonds, f = [origin atom ; bond], or f where the view has no inlet."""
        weight = self.edges.input_weight
        origin = rows.pick(batch.atom_kind.index_select(0, batch.edge_index[0]))
        bond = rows.pick(batch.bond_kind.repeat_interleave(2, output_size=batch.num_bonds))
        if weight is None:
            f = [batch.atom_table.index_select(0, origin), batch.bond_table.index_select(0, bond)]
            return rows.padded(torch.cat(f, dim=1))
        of_origin, of_bond = weight.tensor_split([ATOM_WIDTH], dim=1)
        x = linear_of_kinds(batch.atom_table, origin, of_origin)
        return rows.padded(x + linear_of_kinds(batch.bond_table, bond, of_bond))

    def heads(self, batch: GraphBatch, *, depths: Depths | None = None) -> Vectors:
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

    def loss_elements(self, batch: GraphBatch, criterion: Any) -> Tensor:
        """Return ℓ(p, y) + ℓ(q, y) + c (p - q)² of every label, (G, T), 0 where it is missing."""
        p, q = self.heads(batch)
        disagreement = (p - q).square() * ~batch.y.isnan()
        elements: Tensor = criterion.elements(p, batch.y) + criterion.elements(q, batch.y)
        return elements + self.config.disagreement * disagreement

    def attention(self, batch: GraphBatch) -> Vectors:
        """Return the read-out's attention (A, attention_out) over the atoms, in the node and in the edge view."""
        a, b = self.encode(batch)
        return self.readout.weights(a, batch), self.readout.weights(b, batch)


def _vectors(outlet: Outlet, states: Tensor, rows: AnyRows, *, batch: GraphBatch) -> Tensor:
    """Return the atoms' vectors (A, H) of one view's last states."""
    if isinstance(rows, Neighbours):
        return cast("Tensor", outlet(rows.into_atoms(states)[: batch.num_atoms], batch, kind=batch.atom_kind))
    sums = rows.atom_sums()
    vectors: Tensor = outlet(into_atoms(states, sums), batch, kind=sums.kind)
    return vectors if sums.of_atom is None else vectors.index_select(0, sums.of_atom)
