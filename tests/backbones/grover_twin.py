"""GROVER written plainly from its equations: padded neighbour tables, one network at a time, molecule by molecule.

This is what the fast model is compared with, in numbers (``test_grover_twin.py``) and in time
(``tests/bench/bench_grover.py``). Tensors go by the released checkpoints' names. Row 0 is the padding row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from samcmp.backbones.grover import Config
from samcmp.graphs.batch import GraphBatch

Depths = Sequence[Sequence[Sequence[int]]]  # view, block, network


@dataclass
class Tables:
    """The padded arrays of a batch: row 0 of each is padding."""

    f_atoms: Tensor  # (N, 151)
    f_bonds: Tensor  # (E, 165)
    a2a: Tensor  # (N, D)
    a2b: Tensor  # (N, D)
    b2a: Tensor  # (E,)
    b2revb: Tensor  # (E,)
    scope: list[tuple[int, int]]

    @classmethod
    def of(cls, batch: GraphBatch) -> Tables:
        source, target = (side.tolist() for side in batch.edge_index)
        incoming: list[list[int]] = [[] for _ in range(batch.num_atoms + 1)]
        for bond, atom in enumerate(target):
            incoming[atom + 1].append(bond + 1)
        width = max(1, max(len(bonds) for bonds in incoming))
        a2b = torch.tensor([bonds + [0] * (width - len(bonds)) for bonds in incoming])
        b2a = torch.tensor([0] + [atom + 1 for atom in source])
        b2revb = torch.tensor([0] + [(bond ^ 1) + 1 for bond in range(len(source))])
        atoms = batch.atom_features
        bonds = torch.cat([atoms[batch.edge_index[0]], batch.directed_bond_features], 1)
        starts = batch.atom_ptr.tolist()
        scope = [(a + 1, b - a) for a, b in pairwise(starts)]
        return cls(F.pad(atoms, (0, 0, 1, 0)), F.pad(bonds, (0, 0, 1, 0)), b2a[a2b], a2b, b2a, b2revb, scope)


class Twin:
    def __init__(self, config: Config, state: Mapping[str, Tensor]) -> None:
        self.c, self.state, self.training = config, state, True

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def act(self, name: str, x: Tensor) -> Tensor:
        kind = self.c.activation
        if kind == "prelu":
            return F.prelu(x, self.state[f"{name}.weight"])
        if kind == "leaky_relu":
            return F.leaky_relu(x, 0.1)
        return {"relu": F.relu, "tanh": torch.tanh, "selu": F.selu, "elu": F.elu}[kind](x)

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (x.shape[-1],), self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.c.dropout, self.training)

    def summed(self, x: Tensor, index: Tensor) -> Tensor:
        if not self.c.padding_row:
            x = torch.cat([torch.zeros_like(x[:1]), x[1:]])
        return x[index].sum(1)

    def neighbours(self, view: str, m: Tensor, t: Tables) -> Tensor:
        if view == "node":
            return self.summed(m, t.a2a)
        return self.summed(m, t.a2b)[t.b2a] - m[t.b2revb]

    def network(self, name: str, view: str, x: Tensor, t: Tables, *, depth: int) -> Tensor:
        m = x
        for _ in range(depth - 1):
            z = self.linear(f"{name}.W_h", self.neighbours(view, m, t))
            m = self.drop(self.act(f"{name}.act_func", x + z))
        return m

    def block(self, name: str, view: str, x: Tensor, t: Tables, *, depths: Sequence[int]) -> Tensor:
        c, h, d = self.c, self.c.heads, self.c.hidden // self.c.heads
        if x.shape[1] != c.hidden:
            x = self.drop(self.norm(f"{name}.layernorm", self.act(f"{name}.act_func", self.linear(f"{name}.W_i", x))))
        outs = [
            self.network(f"{name}.heads.{i}.mpn_{r}", view, x, t, depth=depths[3 * i + j])
            for i in range(h)
            for j, r in enumerate("qkv")
        ]
        q, k, v = (
            self.linear(f"{name}.attn.linear_layers.{j}", torch.stack(outs[j::3], 1))  # (R, h, H)
            .view(-1, h, h, d)
            .transpose(1, 2)
            for j in range(3)
        )
        p = self.drop(torch.softmax(q @ k.transpose(-1, -2) / d**0.5, -1))
        u = self.linear(f"{name}.attn.output_linear", (p @ v).transpose(1, 2).reshape(-1, h, c.hidden))
        return self.drop(self.norm(f"{name}.sublayer.norm", self.linear(f"{name}.W_o", u.reshape(-1, h * c.hidden))))

    def outlet(self, name: str, x: Tensor) -> Tensor:
        ffn = f"grover.encoders.ffn_{name}"
        wide = self.drop(self.act(f"{ffn}.act_func", self.linear(f"{ffn}.W_1", x)))
        return self.drop(self.norm(f"grover.encoders.{name}_sublayer.norm", self.linear(f"{ffn}.W_2", wide)))

    def readout(self, x: Tensor, t: Tables) -> Tensor:
        vectors = []
        for start, count in t.scope:
            atoms = x[start : start + count]
            if self.c.self_attention:
                w1, w2 = self.state["readout.attn.w1"], self.state["readout.attn.w2"]
                vectors.append((torch.softmax(w2 @ torch.tanh(w1 @ atoms.t()), 1) @ atoms).flatten())
            else:
                vectors.append(atoms.sum(0) / count)
        return torch.stack(vectors)

    def head(self, name: str, x: Tensor) -> Tensor:
        for i in range(self.c.ffn_layers):
            x = self.linear(f"{name}.{1 + 3 * i}", self.drop(x))
            if i < self.c.ffn_layers - 1:
                x = self.act(f"{name}.2", x)
        return x

    def heads(self, batch: GraphBatch, t: Tables, *, depths: Depths) -> tuple[Tensor, Tensor]:
        states = []
        for view, f, drawn in (("node", t.f_atoms, depths[0]), ("edge", t.f_bonds, depths[1])):
            x = f
            for b in range(self.c.blocks):
                x = self.block(f"grover.encoders.{view}_blocks.{b}", view, x, t, depths=drawn[b])
            states.append(x)
        sums = (self.summed(states[0], t.a2a), self.summed(states[1], t.a2b))
        out = []
        for branch, s in zip(("atom_from_atom", "atom_from_bond"), sums, strict=True):
            vector = self.readout(self.outlet(branch, torch.cat([t.f_atoms, s], 1)), t)
            if batch.molecule_features is not None:
                vector = torch.cat([vector, batch.molecule_features], 1)
            out.append(self.head(f"mol_{branch}_ffn", vector))
        return out[0], out[1]
