"""Slow twins of the graph networks: the equations written plainly, padded and one molecule at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.graphs.batch import GraphBatch


@dataclass(frozen=True, slots=True, eq=False)
class PaddedBatch:
    """What the padded formulation reads: row 0 of atoms, bonds and neighbour lists is padding."""

    atoms: Tensor  # (A+1, F)
    bonds: Tensor  # (B+1, F + 14) source atom and bond
    into: Tensor  # (A+1, D) the bonds that end in each atom, 0 where there are fewer than D
    source: Tensor  # (B+1,)
    reverse: Tensor  # (B+1,)
    scope: list[tuple[int, int]]  # first atom and number of atoms of each molecule


def padded(batch: GraphBatch) -> PaddedBatch:
    x = batch.atom_features
    source, target = batch.edge_index
    incoming: list[list[int]] = [[] for _ in range(batch.num_atoms + 1)]
    for bond, atom in enumerate(target.tolist()):
        incoming[atom + 1].append(bond + 1)
    width = max(1, *map(len, incoming))
    bonds = torch.cat([x[source], batch.directed_bond_features], 1)
    reverse = (torch.arange(batch.num_bonds) ^ 1) + 1
    ptr = batch.atom_ptr.tolist()
    return PaddedBatch(
        atoms=torch.cat([x.new_zeros(1, x.shape[1]), x]),
        bonds=torch.cat([x.new_zeros(1, bonds.shape[1]), bonds]),
        into=torch.tensor([bonds + [0] * (width - len(bonds)) for bonds in incoming]),
        source=torch.cat([source.new_zeros(1), source + 1]),
        reverse=torch.cat([reverse.new_zeros(1), reverse]),
        scope=[(a + 1, b - a) for a, b in pairwise(ptr)],
    )


class PaddedCMPNN(nn.Module):
    """CMPNN with padded neighbour tables and, in the read-out, one molecule at a time (Song et al. 2020)."""

    def __init__(self, atoms: int = 133, bonds: int = 14, *, hidden: int = 300, depth: int = 3, tasks: int = 1) -> None:
        super().__init__()
        self.W_a = nn.Linear(atoms, hidden, bias=False)
        self.W_b = nn.Linear(atoms + bonds, hidden, bias=False)
        self.W_k = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(depth - 1))
        self.W_c = nn.Linear(3 * hidden, hidden, bias=False)
        self.beta = nn.Parameter(torch.zeros(hidden))
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.W_o = nn.Linear(2 * hidden, hidden)
        self.head = nn.Sequential(
            nn.Dropout(0.0), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.0), nn.Linear(hidden, tasks)
        )

    @staticmethod
    def heard(b: Tensor, into: Tensor) -> Tensor:
        arriving = b[into] * (into > 0).unsqueeze(2)  # (A+1, D, H)
        return arriving.sum(1) * arriving.max(1)[0]

    def forward(self, p: PaddedBatch) -> Tensor:
        a0 = F.relu(self.W_a(p.atoms))
        b0 = F.relu(self.W_b(p.bonds))
        a, b = a0, b0
        for W_k in self.W_k:
            a = a + self.heard(b, p.into)
            b = F.relu(b0 + W_k(a[p.source] - b[p.reverse]))
        c = self.W_c(torch.cat([self.heard(b, p.into), a, a0], 1))
        x = F.relu(c + self.beta)
        longest = max(n for _, n in p.scope)
        rows = torch.stack([F.pad(x[s : s + n], (0, 0, 0, longest - n)) for s, n in p.scope])  # (G, L, H)
        start = torch.stack([c[s : s + n].max(0)[0] for s, n in p.scope]).repeat(2, 1, 1)  # (2, G, H)
        states, _ = self.gru(rows, start)  # (G, L, 2H)
        o = torch.cat([state[:n] for state, (_, n) in zip(states, p.scope, strict=True)])  # (A, 2H)
        atoms = F.relu(self.W_o(o))
        vectors = torch.stack([atoms[s - 1 : s - 1 + n].sum(0) / n for s, n in p.scope])  # (G, H)
        out: Tensor = self.head(vectors)
        return out


class PlainDMPNN(nn.Module):
    """D-MPNN with a dense (B, B) matrix of who hears whom (Yang et al. 2019, equations 1 to 5)."""

    def __init__(self, atoms: int, *, hidden: int, depth: int, tasks: int, bias: bool = False) -> None:
        super().__init__()
        self.depth = depth
        self.W_i = nn.Linear(atoms + 14, hidden, bias=bias)
        self.W_h = nn.Linear(hidden, hidden, bias=bias)
        self.W_o = nn.Linear(atoms + hidden, hidden)
        self.head = nn.Sequential(
            nn.Dropout(0.0), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.0), nn.Linear(hidden, tasks)
        )

    def forward(self, batch: GraphBatch, *, undirected: bool = False) -> Tensor:
        x = batch.atom_features
        source, target = batch.edge_index
        bonds = torch.arange(batch.num_bonds)
        hears = (target.unsqueeze(0) == source.unsqueeze(1)) & (bonds.unsqueeze(0) != (bonds ^ 1).unsqueeze(1))
        ends = target.unsqueeze(0) == torch.arange(batch.num_atoms).unsqueeze(1)  # (A, B)
        member = batch.graph_of_atom.unsqueeze(0) == torch.arange(batch.num_graphs).unsqueeze(1)  # (G, A)
        z = self.W_i(torch.cat([x[source], batch.directed_bond_features], 1))
        h = F.relu(z)
        for _ in range(1, self.depth):
            h = (h + h[bonds ^ 1]) / 2 if undirected else h
            h = F.relu(z + self.W_h(hears.to(h.dtype) @ h))
        a = F.relu(self.W_o(torch.cat([x, ends.to(h.dtype) @ h], 1)))
        share = member.to(a.dtype) / member.sum(1, keepdim=True)
        out: Tensor = self.head(share @ a)
        return out


class EdgeMatrixMPNN(nn.Module):
    """MPNN with one matrix for each directed bond in each step (Gilmer et al. 2017, section 5; PyG's NNConv)."""

    def __init__(self, *, hidden: int = 64, edge_hidden: int = 128, depth: int = 3, tasks: int = 1) -> None:
        from torch_geometric.nn import NNConv, Set2Set

        super().__init__()
        self.depth = depth
        self.embed = nn.Linear(133, hidden)
        edge = nn.Sequential(nn.Linear(14, edge_hidden), nn.ReLU(), nn.Linear(edge_hidden, hidden * hidden))
        self.conv = NNConv(hidden, hidden, edge, aggr="add")
        self.gru = nn.GRU(hidden, hidden)
        self.readout = Set2Set(hidden, 3)
        self.head = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, tasks))

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor, batch: Tensor) -> Tensor:
        h = F.relu(self.embed(x))
        state = h.unsqueeze(0)
        for _ in range(self.depth):
            m = F.relu(self.conv(h, edge_index, edge_attr))
            out, state = self.gru(m.unsqueeze(0), state)
            h = out.squeeze(0)
        result: Tensor = self.head(self.readout(h, batch))
        return result


class PygGCN(nn.Module):
    """PyG's own GCN with the mean over atoms and a head of two layers."""

    def __init__(self, *, hidden: int = 128, depth: int = 3, tasks: int = 1) -> None:
        from torch_geometric.nn.models import GCN

        super().__init__()
        self.gnn = GCN(133, hidden, depth)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, tasks))

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        from torch_geometric.nn import global_mean_pool

        out: Tensor = self.head(global_mean_pool(self.gnn(x, edge_index), batch))
        return out
