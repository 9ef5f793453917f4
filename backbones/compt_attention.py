"""CoMPT's attention over bonds and distances, on real atoms only.

For one molecule and one head, with q_i of atoms, k_ij of bonds, distances D and the learnt decay lambda:

    A = softmax_j(q_i . k_ij / sqrt(d_k))    S = exp(-lambda D), or softmax_j(-lambda D)    M = (2 - I) A S    y = M v

A pair without a bond has the key of the zero bond, so all those of a row share one score. A score may be shifted by
row, hence that shared score is taken as 0 and the few bonds of each atom are what differs from it:

    y_i = 2 / Z_i (w_i sum_j S_ij (1 - I_ij / 2) v_j  +  sum_bonds (w_ij - w_i) S_ij v_j)
    w_i = exp(-m_i)    w_ij = exp(s_ij - m_i)    Z_i = (n - degree_i) w_i + sum_bonds w_ij    m_i = max(0, max_j s_ij)

One product with the decay S serves all heads, and no tensor over pairs has a head or a hidden dimension.
:func:`dense` spells the same out over all pairs, for dropout on M and for looking at the attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from samcmp.backbones.segments import sum_into
from samcmp.graphs.batch import GraphBatch

UNREACHABLE = -1
Kernel = Literal["exp", "softmax"]


class Attention(NamedTuple):
    """What one layer attends to, zero beyond a molecule's own atoms."""

    attention: Tensor  # (G, heads, L, L) A, rows sum to one
    decay: Tensor  # (G, L, L) S
    message: Tensor  # (G, heads, L, L) M, rows do not sum to one


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Where the pairs of atoms of a batch are, made once for all layers; L is the largest molecule."""

    graphs: int
    length: int
    slot: Tensor  # (A,) place of each atom in (G * L)
    distance: Tensor  # (G, L, L) float, negative where there is no path or no atom
    share: Tensor  # (G, L, L) 1 where there is a path, 1/2 on the diagonal, 0 elsewhere
    query: Tensor  # (B,) atom i of each directed bond
    key: Tensor  # (B,) atom j
    kind: Tensor  # (B,) row of the table of bonds
    at: Tensor  # (B,) place of (i, j) in (G * L * L)
    unbound: Tensor  # (A, 1) atoms of the own molecule without a bond to i, i included

    @classmethod
    def of(cls, batch: GraphBatch, dtype: torch.dtype) -> Pairs:
        """Lay out a batch whose ``extras["distance"]`` holds every molecule's n x n distances in turn."""
        length, graphs = batch.max_atoms, batch.num_graphs
        count = torch.arange(batch.num_atoms, device=batch.atom_ptr.device)
        local = count - batch.atom_ptr.index_select(0, batch.graph_of_atom)  # (A,)
        size = batch.atom_ptr.diff().index_select(0, batch.graph_of_atom)  # (A,) atoms of the own molecule
        slot = batch.graph_of_atom * length + local
        flat = batch.extras["distance"]  # (sum n^2,)
        row = torch.repeat_interleave(count, size, output_size=flat.numel())
        entry = torch.arange(flat.numel(), device=flat.device)
        place = entry + (slot * length - (size.cumsum(0) - size)).index_select(0, row)
        distance = torch.full((graphs * length * length,), UNREACHABLE, dtype=dtype, device=flat.device)
        distance[place] = flat.to(dtype)
        query, key = batch.edge_index[0], batch.edge_index[1]
        degree = torch.zeros_like(count).index_add_(0, query, torch.ones_like(query))
        distance = distance.view(graphs, length, length)
        share = (distance >= 0).to(dtype) - torch.eye(length, dtype=dtype, device=flat.device) / 2
        return cls(
            graphs=graphs,
            length=length,
            slot=slot,
            distance=distance,
            share=share.clamp_(min=0),
            query=query,
            key=key,
            kind=batch.bond_kind.repeat_interleave(2, output_size=query.numel()),
            at=slot.index_select(0, query) * length + local.index_select(0, key),
            unbound=(size - degree).to(dtype).unsqueeze(1),
        )

    def spread(self, atoms: Tensor) -> Tensor:
        """Return (G, L, ...) of (A, ...), zero where a molecule has no more atoms."""
        out = atoms.new_zeros(self.graphs * self.length, *atoms.shape[1:]).index_copy(0, self.slot, atoms)
        return out.view(self.graphs, self.length, *atoms.shape[1:])

    def collect(self, padded: Tensor) -> Tensor:
        """Return (A, ...) of (G, L, ...)."""
        return padded.flatten(0, 1).index_select(0, self.slot)


def decay_of(pairs: Pairs, rate: Tensor, kernel: Kernel) -> Tensor:
    """Return (G, L, L) S with a halved diagonal; pairs without a path have none, whatever the sign of ``rate``."""
    if kernel == "exp":
        return torch.exp(-rate * pairs.distance) * pairs.share
    absent = pairs.distance < 0
    lowest = torch.finfo(pairs.distance.dtype).min  # finite: rows beyond a molecule stay finite
    return torch.softmax((-rate * pairs.distance).masked_fill(absent, lowest), -1) * pairs.share


def scores_of(q: Tensor, keys: Tensor, pairs: Pairs, *, heads: int) -> Tensor:
    """Return (B, heads) scores of the bonds, from products with the table's few rows of ``keys`` (U, d)."""
    width = q.shape[1] // heads
    per_head = q.view(-1, heads, width).transpose(0, 1)  # (heads, A, d_k)
    table = (keys / math.sqrt(width)).view(-1, heads, width).permute(1, 2, 0)  # (heads, d_k, U)
    scores = torch.bmm(per_head, table).flatten(1)  # (heads, A * U)
    return scores.index_select(1, pairs.query * keys.shape[0] + pairs.kind).t()


def sparse(scores: Tensor, v: Tensor, decay: Tensor, *, pairs: Pairs) -> Tensor:
    """Return (A, d) M v from the scores of the bonds (B, heads)."""
    atoms, heads, width = v.shape[0], scores.shape[1], v.shape[1] // scores.shape[1]
    scores = scores.to(decay.dtype)  # under autocast the products before are in half precision
    at = pairs.query.unsqueeze(1).expand_as(scores)
    top = scores.new_zeros(atoms, heads).scatter_reduce_(0, at, scores.detach(), "amax")  # (A, heads) m
    bound = torch.exp(scores - top.index_select(0, pairs.query))  # (B, heads) w_ij
    unbound = torch.exp(-top)  # (A, heads) w_i
    # Adding into the product by index_add would be shorter: torch 2.13's inductor miscompiles that in two layers.
    total = pairs.unbound * unbound + sum_into(bound, pairs.query, atoms)  # (A, heads) Z
    over_all = pairs.collect(torch.bmm(decay, pairs.spread(v))).view(atoms, heads, width)  # (A, heads, d_k)
    excess = (bound - unbound.index_select(0, pairs.query)) * decay.flatten().index_select(0, pairs.at).unsqueeze(1)
    message = v.index_select(0, pairs.key).view(len(scores), heads, width) * excess.unsqueeze(2)  # (B, heads, d_k)
    summed = (unbound.unsqueeze(2) * over_all).index_add(0, pairs.query, message)
    return (summed * (2 / total).unsqueeze(2)).flatten(1)


def dense(scores: Tensor, decay: Tensor, *, pairs: Pairs) -> Attention:
    """Return A, S and M over all pairs."""
    heads, length = scores.shape[1], pairs.length
    own = pairs.spread(torch.ones_like(pairs.unbound)).squeeze(2)  # (G, L)
    every = scores.new_zeros(pairs.graphs * length * length, heads).index_copy(0, pairs.at, scores)
    every = every.view(pairs.graphs, length, length, heads).permute(0, 3, 1, 2)
    every = every.masked_fill(own[:, None, None, :] == 0, torch.finfo(every.dtype).min)
    attention = torch.softmax(every, -1) * own[:, None, :, None]
    message = 2 * attention * decay.unsqueeze(1)
    diagonal = torch.eye(length, dtype=decay.dtype, device=decay.device)
    return Attention(attention, decay * (1 + diagonal) * own.unsqueeze(2), message)


def apply(message: Tensor, v: Tensor, *, pairs: Pairs) -> Tensor:
    """Return (A, d) M v, head by head."""
    heads = message.shape[1]
    values = pairs.spread(v.view(v.shape[0], heads, -1)).transpose(1, 2)  # (G, heads, L, d_k)
    return pairs.collect((message @ values).transpose(1, 2)).flatten(1)
