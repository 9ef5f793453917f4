"""The message passing of GROVER: neighbour sums, random depths, and 3h networks run together.

R rows are atoms in the node view and directed bonds in the edge view, H hidden units, K = 3h networks of a block.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.backbones.grover_lean import bulk_dropout
from samcmp.graphs.batch import GraphBatch

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "prelu": nn.PReLU,
    "tanh": nn.Tanh,
    "selu": nn.SELU,
    "elu": nn.ELU,
}


def activation(name: str) -> nn.Module:
    """Return a new activation module; a PReLU owns one learned slope."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()


class Network(nn.Module):
    """The weights of one dyMPN: a Linear shared by its iterations, and an activation of its own."""

    def __init__(self, *, hidden: int, bias: bool, activation_name: str) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, hidden, bias=bias)
        self.activation = activation(activation_name)


def depth_probabilities(depth: int) -> tuple[float, ...]:
    """Return P(n = depth - 3), ..., P(n = depth + 2) of the integer part of a truncated normal variate.

    The variate has mean ``depth`` and deviation 1 and is cut off at 3 deviations. The integer part rounds towards
    zero, so for a depth below 3 some of the values coincide; depths of 1 and less all mean no iteration.
    """
    total = math.erf(3 / math.sqrt(2))
    cdf = [math.erf(k / math.sqrt(2)) for k in range(-3, 4)]
    return tuple((b - a) / 2 / total for a, b in itertools.pairwise(cdf))


def random_depths(depth: int, count: int) -> Tensor:
    """Return ``count`` depths (int64, on the host), drawn from torch's CPU generator."""
    table = torch.tensor(depth_probabilities(depth), dtype=torch.float64)
    return torch.multinomial(table, count, replacement=True) + (depth - 3)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Who is summed into whom, in one view of one batch.

    With the padding row (its states stand in the last row) a sum holds ``padding`` = D - degree further terms, all
    of them the padding row, where D is the largest degree in the batch and at least 1.
    """

    source: Tensor  # (B,) the atom a bond leaves
    target: Tensor  # (B,) the atom it enters
    atoms: int  # with the padding row
    of_bonds: bool
    padding: Tensor | None = None  # (atoms, 1)

    @classmethod
    def read(cls, batch: GraphBatch, *, of_bonds: bool, padding_row: bool) -> Neighbours:
        source, target = batch.edge_index.unbind(0)
        if not padding_row:
            return cls(source, target, batch.num_atoms, of_bonds)
        ones = batch.atom_table.new_ones(batch.num_bonds)
        degree = batch.atom_table.new_zeros(batch.num_atoms + 1).index_add(0, target, ones)
        return cls(source, target, batch.num_atoms + 1, of_bonds, (degree.amax().clamp(min=1) - degree).unsqueeze(1))

    def pick(self, values: Tensor) -> Tensor:
        """Return ``values`` (R,): every atom or directed bond is a row."""
        return values

    def padded(self, x: Tensor) -> Tensor:
        """Return x with the padding row's zeros in the last row, where there is one."""
        return x if self.padding is None else F.pad(x, (0, 0, 0, 1))

    def into_atoms(self, m: Tensor) -> Tensor:
        """Return, for every atom, the sum over the rows that point at it: (..., R, H) to (..., atoms, H)."""
        if self.of_bonds:
            terms = m if self.padding is None else m[..., :-1, :]
        else:
            terms = m.index_select(-2, self.source)
        z = m.new_zeros(*m.shape[:-2], self.atoms, m.shape[-1]).index_add(-2, self.target, terms)
        return z if self.padding is None else z + self.padding * m[..., -1:, :]

    def __call__(self, m: Tensor) -> Tensor:
        """Return z (..., R, H): the neighbours' sum, for bonds all that enter the origin but the reverse."""
        z = self.into_atoms(m)
        if not self.of_bonds:
            return z
        if self.padding is None:
            return z.index_select(-2, self.source) - reversed_pairs(m)
        bonds = z[..., :-1, :].index_select(-2, self.source) - reversed_pairs(m[..., :-1, :])
        return torch.cat([bonds, z[..., -1:, :] - m[..., -1:, :]], dim=-2)


def reversed_pairs(m: Tensor) -> Tensor:
    """Return the rows of m (..., B, H) with each directed bond and its reverse exchanged."""
    return m.view(*m.shape[:-2], -1, 2, m.shape[-1]).flip(-2).view(m.shape)


def networks(
    x: Tensor, sums: Neighbours, *, modules: Sequence[Network], depths: Sequence[int], dropout: float
) -> Tensor:
    """Return the last states (K, R, H) of K networks that start from x (R, H), as batched products.

    The networks stand in order of depth, so that each iteration is one product over those that still run. A network
    that does not run (depth 1 and less) gets a gradient of zero, as in the released code.
    """
    order = sorted(range(len(modules)), key=lambda k: -depths[k])
    stack = _Stack.of([modules[k] for k in order])
    m, z = x.expand(len(modules), *x.shape), sums(x)
    done = []
    for t in range(1, max(depths)):
        running = sum(depth > t for depth in depths)
        done.append(m[running:])
        m = m[:running]
        z = sums(m) if t > 1 else z.expand_as(m)
        m = stack.iterated(x, z, running=running, dropout=dropout)
    finished = torch.cat([m, *reversed(done)])
    place = torch.tensor(order).argsort().to(x.device, non_blocking=True)
    return finished.index_select(0, place)


def masked_networks(
    x: Tensor, sums: Neighbours, *, modules: Sequence[Network], depths: Tensor, deepest: int, dropout: float
) -> Tensor:
    """Return the last states (K, R, H) of networks whose depths (K,) the host does not know: what a compiler traces.

    All networks take the iterations of the deepest, and those that have ended keep their states.
    """
    depth = depths.to(x.device, non_blocking=True).view(-1, 1, 1)
    stack = _Stack.of(modules)
    m, z = x.expand(len(modules), *x.shape), sums(x)
    for t in range(1, deepest):
        z = sums(m) if t > 1 else z.expand_as(m)
        m = torch.where(depth > t, stack.iterated(x, z, running=len(modules), dropout=dropout), m)
    return m


class _Stack(NamedTuple):
    """The parameters of K networks, and the σ of those whose slopes are not learned."""

    weights: Tensor  # (K, H, H)
    biases: Tensor | None  # (K, 1, H)
    slopes: Tensor | None  # (K, 1, 1)
    activation: nn.Module

    @classmethod
    def of(cls, modules: Sequence[Network]) -> _Stack:
        biases = slopes = None
        if modules[0].linear.bias is not None:
            biases = torch.stack([module.linear.bias for module in modules]).unsqueeze(1)
        if isinstance(modules[0].activation, nn.PReLU):
            slopes = torch.stack([cast("Tensor", module.activation.weight) for module in modules]).unsqueeze(1)
        weights = torch.stack([module.linear.weight.t() for module in modules])
        return cls(weights, biases, slopes, modules[0].activation)

    def iterated(self, x: Tensor, z: Tensor, *, running: int, dropout: float) -> Tensor:
        """Return Dropout(σ(x + W z + b)) of the first ``running`` networks."""
        pre = torch.baddbmm(x.expand_as(z), z, self.weights[:running])
        if self.biases is not None:
            pre = pre + self.biases[:running]
        m = self.activation(pre) if self.slopes is None else _prelu(pre, self.slopes[:running])
        return bulk_dropout(m, dropout, True)


def _prelu(pre: Tensor, slopes: Tensor) -> Tensor:
    return torch.where(pre > 0, pre, slopes * pre)


def attend_heads_plainly(q: Tensor, k: Tensor, v: Tensor, *, dropout: float) -> Tensor:
    """Return what each head of a row draws from the heads of the same row: (h, R, H) to (R, sub-heads, h, H/h)."""
    h, rows, hidden = q.shape
    q, k, v = (x.view(h, rows, h, hidden // h).permute(1, 2, 0, 3) for x in (q, k, v))
    p = (q @ k.transpose(-1, -2) * (hidden // h) ** -0.5).softmax(-1)  # (R, sub-heads, h, h)
    return bulk_dropout(p, dropout, True) @ v
