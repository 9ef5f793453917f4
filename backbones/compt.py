"""CoMPT: communicative message passing transformer (Chen et al., IJCAI 2021, arXiv:2107.08773).

    x = sqrt(d) (W_n f + b_n) + P[index]        e_ij = sqrt(d) W_e g_ij, never updated
    z = Norm(x)    q = W_0 z    k_ij = W_1 e_ij    v = W_2 z
    A = softmax_j(q_i k_ij / sqrt(d_k))    S = exp(-lambda D) or softmax_j(-lambda D)    M = (2 - I) A S    (per head)
    y = mish(W_3 M v)    r = z + Norm(y)    x' = z + r + Norm(mish(W_f r))

with D the lengths of the shortest paths. A pair without a bond has the features g = 0, and there are about twenty
different g in a dataset: q k is computed for each atom and each of those, not for each pair.

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
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.backbones.layers import (
    gru_over_atoms,
    gru_over_padding,
    index_in_molecule,
    linear_of_kinds,
    max_over_graphs,
    mean_over_graphs,
)
from samcmp.graphs.batch import Columns, GraphBatch, MolGraph

ATOM_COLUMNS, BOND_COLUMNS, GASTEIGER = 115, 13, slice(111, 113)
NO_PATH = -1

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
        counts = (self.depth, self.dense_layers, self.head_layers, self.position_count, self.padded_readout or 1)
        if min(counts) < 1 or self.padded_readout == 0 or not 0 <= self.dropout < 1:
            raise ValueError("layers, positions and padded_readout are at least 1 and dropout is in [0, 1)")

    @property
    def position_count(self) -> int:
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
    return {"distance": np.where(np.isfinite(lengths), lengths, NO_PATH).astype(np.int16).ravel()}


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The pairs of atoms of every molecule, padded to L, the largest molecule of the batch."""

    place: Tensor  # (A,) of each atom in (G * L)
    real: Tensor  # (G, L) 1 where there is an atom, 0 beyond the molecule
    bond_kind: Tensor  # (G, L, L) row of the bonds' embeddings, 0 where there is no bond
    distance: Tensor  # (G, L, L) float
    connected: Tensor  # (G, L, L) 1 where there is a path, 0 between fragments and beyond the molecule

    @classmethod
    def of(cls, batch: GraphBatch) -> Pairs:
        """Lay out a batch whose ``extras["distance"]`` holds every molecule's n x n distances in turn."""
        graphs, length, like = batch.num_graphs, batch.max_atoms, batch.atom_table
        index = index_in_molecule(batch)  # (A,)
        place = batch.graph_of_atom * length + index
        i, j = batch.edge_index
        kind = torch.zeros(graphs * length * length, dtype=torch.long, device=like.device)
        kind[place[i] * length + index[j]] = 1 + batch.bond_kind.repeat_interleave(2, output_size=batch.num_bonds)

        given = batch.extras["distance"]  # (sum of n^2,)
        size = batch.atom_ptr.diff().index_select(0, batch.graph_of_atom)  # (A,) atoms of the own molecule
        first = size.cumsum(0) - size  # (A,) where an atom's distances begin
        atom = torch.arange(batch.num_atoms, device=like.device).repeat_interleave(size, output_size=given.numel())
        column = torch.arange(given.numel(), device=like.device) - first[atom]
        distance = like.new_full((graphs * length * length,), NO_PATH)
        distance[place[atom] * length + column] = given.to(like.dtype)
        distance = distance.view(graphs, length, length)
        return cls(
            place=place,
            real=like.new_zeros(graphs * length).index_fill(0, place, 1).view(graphs, length),
            bond_kind=kind.view_as(distance),
            distance=distance.clamp(min=0),
            connected=(distance >= 0).to(like.dtype),
        )

    def pad(self, atoms: Tensor) -> Tensor:
        """Return (G, L, ...) of (A, ...), zero where a molecule has no more atoms."""
        graphs, length = self.real.shape
        out = atoms.new_zeros(graphs * length, *atoms.shape[1:]).index_copy(0, self.place, atoms)
        return out.view(graphs, length, *atoms.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """Return (A, ...) of (G, L, ...)."""
        return padded.flatten(0, 1).index_select(0, self.place)


class LayerNorm(nn.Module):
    """a (x - mean) / (s + 1e-6) + b with the unbiased standard deviation s; torch's norm is another."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.a_2 = nn.Parameter(torch.ones(hidden))
        self.b_2 = nn.Parameter(torch.zeros(hidden))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        s = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / math.sqrt(x.shape[-1] - 1)
        return torch.addcmul(self.b_2, centred / (s + 1e-6), self.a_2)


class ScaleNorm(nn.Module):
    """g x / max(|x|, 1e-5)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(math.sqrt(hidden)))

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-5)
        out: Tensor = x * (self.scale / length)
        return out


def _norm(config: Config) -> nn.Module:
    return LayerNorm(config.hidden) if config.norm == "layer" else ScaleNorm(config.hidden)


class Weights(NamedTuple):
    """What one layer attends to; rows beyond a molecule's own atoms have no meaning."""

    attention: Tensor  # (G, h, L, L) A, rows sum to one
    decay: Tensor  # (G, L, L) S
    message: Tensor  # (G, h, L, L) M, rows do not sum to one


class Attention(nn.Module):
    """mish(W_3 M v)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, released = config.hidden, config.released_parameters
        self.config = config
        self.attenuation_lambda = nn.Parameter(torch.tensor(0.1))
        # W_0 of queries, W_1 of keys, W_2 of values, W_3 of outputs; released weights have a W_4, which is never read
        self.linears = nn.ModuleList(nn.Linear(d, d, bias=k != 1 or released) for k in range(5 if released else 4))

    def weights(self, z: Tensor, bonds: Tensor, pairs: Pairs) -> Weights:
        """Return A, S and M of states z (A, d) and embedded kinds of bond (1 + U, d)."""
        heads, width = self.config.heads, self.config.hidden // self.config.heads
        q = self.linears[0](z).view(-1, heads, width)  # (A, h, d_k)
        k = self.linears[1](bonds).view(-1, heads, width)  # (1 + U, h, d_k)
        by_kind = pairs.pad(torch.einsum("ahd,uhd->ahu", q, k) / math.sqrt(width)).transpose(1, 2)  # (G, h, L, 1 + U)
        scores = by_kind.gather(3, pairs.bond_kind.unsqueeze(1).expand(-1, heads, -1, -1))  # (G, h, L, L)
        attention = (scores + pairs.real.log()[:, None, None, :]).softmax(-1)
        decay = self.decay(pairs)  # (G, L, L)
        factor = 2 - torch.eye(decay.shape[1], dtype=decay.dtype, device=decay.device)  # (L, L)
        return Weights(attention, decay, attention * (factor * decay).unsqueeze(1))

    def decay(self, pairs: Pairs) -> Tensor:
        """Return S (G, L, L); pairs without a path have none, whatever the sign of lambda."""
        exponent = -self.attenuation_lambda * pairs.distance
        if self.config.kernel == "exp":
            return exponent.exp() * pairs.connected
        lowest = torch.finfo(exponent.dtype).min  # finite, for the rows beyond a molecule
        return exponent.masked_fill(pairs.connected == 0, lowest).softmax(-1) * pairs.connected

    def forward(self, z: Tensor, bonds: Tensor, pairs: Pairs) -> Tensor:
        message = self.weights(z, bonds, pairs).message
        message = F.dropout(message, self.config.dropout, self.training)
        v = pairs.pad(self.linears[2](z).view(len(z), self.config.heads, -1)).transpose(1, 2)  # (G, h, L, d_k)
        received = pairs.unpad((message.to(v.dtype) @ v).transpose(1, 2)).flatten(1)  # (A, d)
        return F.mish(self.linears[3](received))


class FeedForward(nn.Module):
    """Maps of the hidden size, each with mish: there is no wider layer between."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.linears = nn.ModuleList(nn.Linear(config.hidden, config.hidden) for _ in range(config.dense_layers))

    def forward(self, x: Tensor) -> Tensor:
        for linear in self.linears:
            x = F.dropout(F.mish(linear(x)), self.dropout, self.training)
        return x


class Layer(nn.Module):
    """One layer; its one norm is used three times, and the residual starts from the normalised state."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.feed_forward = FeedForward(config)
        self.norm = _norm(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, bonds: Tensor, pairs: Pairs) -> Tensor:
        z = self.drop(self.norm(x))  # (A, d)
        r = z + self.drop(self.norm(self.self_attn(z, bonds, pairs)))
        out: Tensor = z + r + self.drop(self.norm(self.feed_forward(r)))
        return out


class Encoder(nn.Module):
    """The layers and a last norm."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = _norm(config)

    def forward(self, x: Tensor, bonds: Tensor, pairs: Pairs) -> Tensor:
        for layer in self.layers:
            x = layer(x, bonds, pairs)
        out: Tensor = self.norm(x)
        return out


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
        self.pe = nn.Embedding(config.position_count + self.first, config.hidden)

    def forward(self, index: Tensor) -> Tensor:
        out: Tensor = self.pe((index + self.first).clamp(max=self.pe.num_embeddings - 1))
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
        return max_over_graphs(F.mish(x + self.bias), batch)

    def pool(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """Return (G, d) molecule vectors of atom states x (A, d), over real atoms."""
        states = gru_over_atoms(self.gru, x, self.start(x, batch), batch)  # (A, 2d)
        return mean_over_graphs(F.mish(self.linear(states)), batch)

    def pool_padded(self, x: Tensor, batch: GraphBatch, *, length: int) -> Tensor:
        """Return (G, d) molecule vectors as the released code does: sums over padding, divided by real atoms."""
        if batch.max_atoms > length:
            raise ValueError(f"padded_readout is {length}, but a molecule has {batch.max_atoms} atoms")
        size = batch.atom_ptr.diff().unsqueeze(1)  # (G, 1)
        start = self.start(x, batch)
        start = torch.where(size < length, torch.maximum(start, F.mish(self.bias)), start)
        states = gru_over_padding(self.gru, x, start, batch, length=length)  # (length, G, 2d)
        return F.mish(self.linear(states)).sum(0) / size

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
        positions = F.dropout(self.pos_embed(index_in_molecule(batch)), drop, self.training)
        return math.sqrt(self.config.hidden) * F.dropout(x, drop, self.training) + positions

    def bonds(self, batch: GraphBatch) -> Tensor:
        """Return (1 + U, d) embedded kinds of bond, the first that of a pair without a bond."""
        out: Tensor = math.sqrt(self.config.hidden) * self.edge_embed.lut(F.pad(batch.bond_table, (0, 0, 1, 0)))
        return out

    def forward(self, batch: GraphBatch) -> Tensor:
        x = self.encoder(self.atoms(batch), self.bonds(batch), Pairs.of(batch))  # (A, d)
        out: Tensor = self.generator(x, batch)  # (G, T)
        return out

    @torch.no_grad()
    def attention(self, batch: GraphBatch) -> list[Weights]:
        """Return what every layer attends to, zero in the rows beyond a molecule."""
        x, bonds, pairs = self.atoms(batch), self.bonds(batch), Pairs.of(batch)
        own = pairs.real[:, None, :, None]
        found = []
        for layer in cast("list[Layer]", self.encoder.layers):
            a, s, m = layer.self_attn.weights(layer.norm(x), bonds, pairs)
            found.append(Weights(a * own, s * own[:, 0], m * own))
            x = layer(x, bonds, pairs)
        return found
