"""CoMPT spelt out over all pairs of all padded positions: the slow twin of :mod:`samcmp.backbones.compt`.

It reads the parameters of a ``Model`` with ``released_parameters`` and follows the specification line by line: an
edge state for every pair, keys for every pair, both score matrices, the edge update that nobody reads, a GRU and a
sum over padding. Nothing here is clever.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from samcmp.backbones.compt import Attention, Layer, LayerNorm, Model
from samcmp.graphs.batch import GraphBatch


class Dense(NamedTuple):
    """Padded inputs; L positions."""

    atoms: Tensor  # (G, L, 115)
    index: Tensor  # (G, L) place + 1, 0 in padding
    distance: Tensor  # (G, L, L) 1e8 between fragments, 0 in padding
    bonds: Tensor  # (G, L, L, 13)


def unpack(batch: GraphBatch, length: int) -> Dense:
    """Return a batch as padded inputs."""
    graphs, dtype = batch.num_graphs, batch.atom_table.dtype
    atoms = torch.zeros(graphs, length, 115, dtype=dtype)
    index = torch.zeros(graphs, length, dtype=torch.long)
    distance = torch.zeros(graphs, length, length, dtype=dtype)
    bonds = torch.zeros(graphs, length, length, batch.bond_table.shape[1], dtype=dtype)
    features = batch.atom_features.clone()
    assert batch.atom_scalars is not None
    features[:, 111:113] = batch.atom_scalars
    paths = batch.extras["distance"].to(dtype)
    begin = 0
    for g in range(graphs):
        first, last = int(batch.atom_ptr[g]), int(batch.atom_ptr[g + 1])
        n = last - first
        atoms[g, :n] = features[first:last]
        index[g, :n] = torch.arange(1, n + 1)
        own = paths[begin : begin + n * n].view(n, n)
        distance[g, :n, :n] = torch.where(own < 0, 1e8, own)
        begin += n * n
    graph = batch.graph_of_atom[batch.edge_index[0]]
    i, j = batch.edge_index - batch.atom_ptr[graph]
    bonds[graph, i, j] = batch.directed_bond_features
    return Dense(atoms, index, distance, bonds)


def norm(module: torch.nn.Module, x: Tensor) -> Tensor:
    if isinstance(module, LayerNorm):
        return module.a_2 * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + module.b_2
    return module.scale * x / x.norm(dim=-1, keepdim=True).clamp(min=1e-5)  # type: ignore[operator]


def attend(module: Attention, z: Tensor, edges: Tensor, *, dense: Dense) -> tuple[Tensor, Tensor]:
    """Return the new node states and the edge update."""
    graphs, length, d = z.shape
    heads = module.config.heads
    padding = dense.index == 0  # (G, L)

    def split(x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], heads, d // heads)

    q, v = split(module.linears[0](z)), split(module.linears[2](z))  # (G, L, h, d_k)
    k = split(module.linears[1](edges))  # (G, L, L, h, d_k)
    outgoing = torch.einsum("gihd,gijhd->ghij", q, k) / math.sqrt(d // heads)
    incoming = torch.einsum("gihd,gjihd->ghij", q, k) / math.sqrt(d // heads)
    a, a_in = (s.masked_fill(padding[:, None, None, :], -torch.inf).softmax(-1) for s in (outgoing, incoming))
    far = (module.attenuation_lambda * dense.distance).masked_fill(padding[:, None, :], torch.inf)
    s = torch.exp(-far) if module.config.kernel == "exp" else torch.softmax(-far, -1)
    m = (a + a_in - a * torch.eye(length, dtype=z.dtype)) * s.unsqueeze(1)  # (G, h, L, L)
    heard = torch.einsum("ghij,gjhd->gihd", m, v).reshape(graphs, length, d)
    update = (m.permute(0, 2, 3, 1).unsqueeze(-1) * k).flatten(3)
    return F.mish(module.linears[3](heard)), F.mish(module.linears[4](update))


def layer(module: Layer, x: Tensor, edges: Tensor, *, dense: Dense) -> Tensor:
    z = norm(module.norm, x)
    y, _ = attend(module.self_attn, z, edges, dense=dense)
    r1 = z + norm(module.norm, y)
    r2 = r1
    for linear in module.feed_forward.linears:
        r2 = F.mish(linear(r2))
    return z + r1 + norm(module.norm, r2)


def encode(model: Model, dense: Dense) -> Tensor:
    """Return (G, L, d) states after the last norm."""
    root = math.sqrt(model.config.hidden)
    x = root * model.node_embed.lut(dense.atoms) + model.pos_embed.pe.weight[dense.index]
    edges = root * model.edge_embed.lut(dense.bonds)  # (G, L, L, d)
    for module in model.encoder.layers:
        x = layer(module, x, edges, dense=dense)  # type: ignore[arg-type]
    return norm(model.encoder.norm, x)


def forward(model: Model, dense: Dense) -> Tensor:
    """Return (G, T) as the released model does, padding and all."""
    real = dense.index > 0
    x = encode(model, dense) * real.unsqueeze(-1)
    return head(model, read(model, x) / real.sum(1, keepdim=True))


def forward_one_by_one(model: Model, dense: Dense) -> Tensor:
    """Return (G, T) with every molecule's read-out over its own atoms only."""
    pooled = []
    for x, index in zip(encode(model, dense), dense.index, strict=True):
        n = int((index > 0).sum())
        pooled.append(read(model, x[None, :n]) / n)
    return head(model, torch.cat(pooled))


def read(model: Model, x: Tensor) -> Tensor:
    """Return (G, d) sums over all positions."""
    generator = model.generator
    start = F.mish(x + generator.bias).amax(1)
    states, _ = generator.gru(x.transpose(0, 1), start.expand(2, *start.shape).contiguous())
    return F.mish(generator.linear(states)).sum(0)


def head(model: Model, x: Tensor) -> Tensor:
    for i, module in enumerate(model.generator.proj):
        x = norm(module, x) if i % 4 == 2 else module(x)
    return x
