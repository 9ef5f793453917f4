"""CoMPT: communicative message passing transformer (Chen et al., IJCAI 2021, arXiv:2107.08773).

    x = sqrt(d) (W_n f + b_n) + P[index]        e_ij = sqrt(d) W_e g_ij, never updated
    z = Norm(x)    q = W_0 z    k = W_1 e    v = W_2 z
    y = mish(W_3 M v)                           M: attention times distance decay, see compt_attention
    r = z + Norm(y)    x' = z + r + Norm(mish(W_f r))

Read-out: a bidirectional GRU over the atoms in the order of the SMILES, started from max_i mish(x_i + c), then the
mean of mish(W_g [forward; backward]) and a small head.

The defaults compute what is decided by the molecule alone and own no parameter whose gradient is zero by
construction. The authors' released code differs in two ways, each with a setting:

* ``padded_readout=L``: the read-out runs over L positions, zeros behind the atoms, and sums the padding too;
* ``released_parameters``: also own what is there but never learns (the map of an edge update that is computed and
  dropped; biases of keys and bonds, which a softmax over the row cancels; the position of padding), so that
  released weights load. A constrained lambda was intended there but never took effect: it is free here as well.
  Pairs in different fragments have no decay term at all, where the released code takes a distance of 1e8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.backbones import compt_attention as att
from samcmp.backbones.compt_norms import LayerNorm, ScaleNorm
from samcmp.backbones.gru import over_atoms, over_padding
from samcmp.backbones.mish import mish
from samcmp.backbones.segments import linear_of_kinds, max_into, mean_over_graphs
from samcmp.graphs.batch import Columns, GraphBatch, MolGraph

ATOM_COLUMNS, BOND_COLUMNS, GASTEIGER = 115, 13, slice(111, 113)

_SCALE = {"norm": "scale", "kernel": "softmax"}
DATASET_SETTINGS: dict[str, dict[str, Any]] = {
    "bbbp": {},
    "tox21": {"depth": 8, "head_layers": 4},
    "sider": _SCALE,
    "clintox": {},
    "bace": {"heads": 8},
    "esol": {"depth": 3, **_SCALE},
    "freesolv": {"depth": 3, **_SCALE},
    "lipo": {"depth": 3, "heads": 8},
    "qm7": {"depth": 6, "norm": "scale"},
}
"""What the authors chose for each dataset, where it differs from the defaults."""


@dataclass(frozen=True)
class Config:
    """Settings of the model; the defaults are the authors' for BBBP."""

    hidden: int = 256
    depth: int = 4
    heads: int = 4
    dense_layers: int = 1
    head_layers: int = 2
    kernel: Literal["exp", "softmax"] = "exp"
    norm: Literal["layer", "scale"] = "layer"
    dropout: float = 0.0  # everywhere but on the bonds' embedding, which is one small table
    positions: int | None = None  # atoms beyond the table share its last row; None: padded_readout, else 512
    padded_readout: int | None = None  # the data set's largest molecule: 90 for BBBP, 98 for Tox21, 55 for ESOL
    released_parameters: bool = False

    def __post_init__(self) -> None:
        if self.kernel not in ("exp", "softmax"):
            raise ValueError(f"kernel is exp or softmax, got {self.kernel!r}")
        if self.norm not in ("layer", "scale"):
            raise ValueError(f"norm is layer or scale, got {self.norm!r}")
        if self.heads < 1 or self.hidden < 2 or self.hidden % self.heads:
            raise ValueError(f"hidden must be a multiple of heads, got {self.hidden} and {self.heads}")
        counts = (self.depth, self.dense_layers, self.head_layers, self.place_count, self.padded_readout or 1)
        if min(counts) < 1 or self.padded_readout == 0 or not 0 <= self.dropout < 1:
            raise ValueError("layers, positions and padded_readout are at least 1 and dropout is in [0, 1)")

    @property
    def place_count(self) -> int:
        """Rows of the table of positions; 512 is above MoleculeNet's largest molecule, of 492 atoms."""
        return (self.padded_readout or 512) if self.positions is None else self.positions

    @property
    def columns(self) -> Columns:
        return Columns("compt", "compt", scalars=("gasteiger",))


def prepare(graph: MolGraph) -> dict[str, np.ndarray]:
    """Return the molecule's shortest-path lengths, n x n in one row; -1 between fragments."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    n = len(graph.atoms)
    i, j = graph.edge_index
    bonds = csr_array((np.ones(len(i)), (i, j)), shape=(n, n))
    lengths = shortest_path(bonds, method="D", unweighted=True)  # (n, n)
    return {"distance": np.where(np.isfinite(lengths), lengths, att.UNREACHABLE).astype(np.int16).ravel()}


def _norm(config: Config) -> nn.Module:
    return LayerNorm(config.hidden) if config.norm == "layer" else ScaleNorm(config.hidden)


class Attention(nn.Module):
    """mish(W_3 M v): what the atoms hear from each other."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, released = config.hidden, config.released_parameters
        self.config = config
        self.attenuation_lambda = nn.Parameter(torch.tensor(0.1))
        self.linears = nn.ModuleList(nn.Linear(d, d, bias=k != 1 or released) for k in range(5 if released else 4))

    def scores(self, z: Tensor, bonds: Tensor, pairs: att.Pairs) -> Tensor:
        """Return (B, heads) scores above that of a pair without a bond, row 0 of ``bonds`` (1 + U, d)."""
        keys = self.linears[1](bonds)
        return att.scores_of(self.linears[0](z), keys[1:] - keys[:1], pairs, heads=self.config.heads)

    def look(self, z: Tensor, bonds: Tensor, pairs: att.Pairs) -> att.Attention:
        decay = att.decay_of(pairs, self.attenuation_lambda, self.config.kernel)
        return att.dense(self.scores(z, bonds, pairs), decay, pairs=pairs)

    def forward(self, z: Tensor, bonds: Tensor, pairs: att.Pairs) -> Tensor:
        v = self.linears[2](z)  # (A, d)
        if self.training and self.config.dropout > 0:
            message = F.dropout(self.look(z, bonds, pairs).message, self.config.dropout)
            heard = att.apply(message, v, pairs=pairs)
        else:
            decay = att.decay_of(pairs, self.attenuation_lambda, self.config.kernel)
            heard = att.sparse(self.scores(z, bonds, pairs), v, decay, pairs=pairs)
        return mish(self.linears[3](heard))  # (A, d)


class FeedForward(nn.Module):
    """Maps of the hidden size, each with mish: there is no wider layer between."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.linears = nn.ModuleList(nn.Linear(config.hidden, config.hidden) for _ in range(config.dense_layers))

    def forward(self, x: Tensor) -> Tensor:
        for linear in self.linears:
            x = F.dropout(mish(linear(x)), self.dropout, self.training)
        return x


class Layer(nn.Module):
    """One layer; its one norm is used three times, and the residual starts from the normalised state."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.feed_forward = FeedForward(config)
        self.norm = _norm(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, bonds: Tensor, pairs: att.Pairs) -> Tensor:
        z = self.drop(self.norm(x))  # (A, d)
        r = z + self.drop(self.norm(self.self_attn(z, bonds, pairs)))
        out: Tensor = z + r + self.drop(self.norm(self.feed_forward(r)))
        return out

    def look(self, x: Tensor, bonds: Tensor, pairs: att.Pairs) -> att.Attention:
        return self.self_attn.look(self.norm(x), bonds, pairs)


class Encoder(nn.Module):
    """The layers and a last norm."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = _norm(config)

    def forward(self, x: Tensor, bonds: Tensor, pairs: att.Pairs) -> Tensor:
        for layer in self.layers:
            x = layer(x, bonds, pairs)
        out: Tensor = self.norm(x)
        return out

    def look(self, x: Tensor, bonds: Tensor, pairs: att.Pairs) -> list[att.Attention]:
        seen = []
        for layer in self.layers:
            seen.append(cast(Layer, layer).look(x, bonds, pairs))
            x = layer(x, bonds, pairs)
        return seen


class Embedding(nn.Module):
    """A linear map in the place the released names give it."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.lut = nn.Linear(inputs, outputs, bias=bias)


class Positions(nn.Module):
    """A vector for each place in the SMILES."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.first = int(config.released_parameters)  # there, row 0 belongs to padding
        self.pe = nn.Embedding(config.place_count + self.first, config.hidden)

    def forward(self, place: Tensor) -> Tensor:
        out: Tensor = self.pe((place + self.first).clamp(max=self.pe.num_embeddings - 1))
        return out


class Generator(nn.Module):
    """Read-out and head."""

    def __init__(self, config: Config, tasks: int) -> None:
        super().__init__()
        d = config.hidden
        self.length = config.padded_readout
        self.bias = nn.Parameter(torch.empty(d).uniform_(-1 / math.sqrt(d), 1 / math.sqrt(d)))
        blocks: list[nn.Module] = []
        for _ in range(config.head_layers - 1):
            blocks += [nn.Linear(d, d), nn.Mish(), _norm(config), nn.Dropout(config.dropout)]
        self.proj = nn.Sequential(*blocks, nn.Linear(d, tasks))
        self.gru = nn.GRU(d, d, bidirectional=True)
        self.linear = nn.Linear(2 * d, d)

    def start(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """Return (G, d), the state that both directions start from."""
        return max_into(mish(x + self.bias), batch.graph_of_atom, batch.num_graphs)

    def pool(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """Return (G, d) molecule vectors of atom states x (A, d), over real atoms."""
        ptr, graph = batch.atom_ptr, batch.graph_of_atom
        start = self.start(x, batch)
        states = over_atoms(self.gru, x, start, graph_of_atom=graph, atom_ptr=ptr, steps=batch.max_atoms)  # (A, 2d)
        return mean_over_graphs(mish(self.linear(states)), graph, ptr)

    def pool_padded(self, x: Tensor, batch: GraphBatch, *, length: int) -> Tensor:
        """Return (G, d) molecule vectors as the released code does: sums over padding, divided by real atoms."""
        if batch.max_atoms > length:
            raise ValueError(f"padded_readout is {length}, but a molecule has {batch.max_atoms} atoms")
        ptr = batch.atom_ptr
        size = ptr.diff().unsqueeze(1)  # (G, 1)
        start = self.start(x, batch)
        start = torch.where(size < length, torch.maximum(start, mish(self.bias)), start)
        states = over_padding(self.gru, x, start, graph_of_atom=batch.graph_of_atom, atom_ptr=ptr, steps=length)
        return mish(self.linear(states)).sum(0) / size  # (L, G, d) to (G, d)

    def forward(self, x: Tensor, batch: GraphBatch) -> Tensor:
        pooled = self.pool(x, batch) if self.length is None else self.pool_padded(x, batch, length=self.length)
        out: Tensor = self.proj(pooled)
        return out


class Model(nn.Module):
    """Embeddings, encoder, read-out; parameters carry the released names."""

    def __init__(self, config: Config, tasks: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.node_embed = Embedding(ATOM_COLUMNS, config.hidden)
        self.edge_embed = Embedding(BOND_COLUMNS, config.hidden, bias=config.released_parameters)
        self.pos_embed = Positions(config)
        self.generator = Generator(config, tasks)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def atoms(self, batch: GraphBatch) -> Tensor:
        """Return (A, d) embedded atoms."""
        if batch.atom_scalars is None:
            raise ValueError("CoMPT reads Gasteiger charges: build the graphs with its config's columns")
        lut, drop = self.node_embed.lut, self.config.dropout
        x = linear_of_kinds(batch.atom_table, batch.atom_kind, lut.weight)
        x = x + F.linear(batch.atom_scalars, lut.weight[:, GASTEIGER], lut.bias)
        count = torch.arange(batch.num_atoms, device=batch.atom_ptr.device)
        place = count - batch.atom_ptr.index_select(0, batch.graph_of_atom)
        where = F.dropout(self.pos_embed(place), drop, self.training)
        return math.sqrt(self.config.hidden) * F.dropout(x, drop, self.training) + where

    def bonds(self, batch: GraphBatch) -> Tensor:
        """Return (1 + U, d) embedded kinds of bond, the first that of a pair without a bond."""
        out: Tensor = math.sqrt(self.config.hidden) * self.edge_embed.lut(F.pad(batch.bond_table, (0, 0, 1, 0)))
        return out

    def forward(self, batch: GraphBatch) -> Tensor:
        pairs = att.Pairs.of(batch, batch.atom_table.dtype)
        x = self.encoder(self.atoms(batch), self.bonds(batch), pairs)  # (A, d)
        out: Tensor = self.generator(x, batch)  # (G, T)
        return out

    @torch.no_grad()
    def attention(self, batch: GraphBatch) -> list[att.Attention]:
        """Return what every layer attends to; the ordinary forward never makes these tensors."""
        return self.encoder.look(self.atoms(batch), self.bonds(batch), att.Pairs.of(batch, batch.atom_table.dtype))
