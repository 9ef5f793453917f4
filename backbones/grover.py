"""GROVER for fine-tuning (Rong et al., NeurIPS 2020, arXiv:2007.02835): attention over message passing, in two views.

The node view's states are atoms, the edge view's are directed bonds; each view has its own weights. A block begins at
x = LayerNorm(σ(W_i f)) and runs message-passing networks (dyMPN) for query, key and value of each of its h heads:

    m_1 = x,    m_{t+1} = σ(x + W_h A m_t)                        A: the sum over the neighbours
    u_i = sum over j of softmax_j(q_i k_j / sqrt(d)) v_j          the h heads of one row attend to each other
    x'  = LayerNorm(W_o [W u_1; ...; W u_h])                      there is no attention between atoms, no residual
    a   = LayerNorm(W_2 σ(W_1 [f ; A x']))                        the atoms' vectors, one from each view
    p, q = two heads on the means of a over a molecule's atoms

with dropout after each LayerNorm and iteration, on the attention, inside W_2 σ(W_1 ·) and before the heads' maps.

Facts of the released code that are settings here, not defaults: ``padding_row`` puts its padding row into every
neighbour sum, which makes a prediction depend on the largest degree in the batch; ``released_initialisation`` starts
all vectors at zero, LayerNorm gains included, which leaves the network without gradients. The bond outputs, which
fine-tuning never reads, are left out: they own no parameters here. Parameters carry the released names.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samcmp.backbones import ATOM_WIDTHS, BOND_WIDTHS, layers, surroundings
from samcmp.graphs.batch import Columns, GraphBatch

ATOM_WIDTH, BOND_WIDTH = ATOM_WIDTHS["grover"], BOND_WIDTHS["chemprop"]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.1)}
ACTIVATIONS |= {"prelu": nn.PReLU, "tanh": nn.Tanh, "selu": nn.SELU, "elu": nn.ELU}
Vectors = tuple[Tensor, Tensor]
Tables = Sequence[tuple[Tensor, Tensor]]  # features [f; g; ...] of rows: a table, and each row's place in it
Drawn = Sequence[int] | Tensor  # depths of a block's networks; a tensor while compiling
Depths = Sequence[Sequence[Drawn]] | Tensor  # by view, block and network


@dataclass(frozen=True)
class Config:
    """Settings of the model; the defaults are those of the released GraphSAM code (Wang et al. 2024).

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
        least = dict.fromkeys(("hidden", "heads", "blocks", "ffn_hidden", "ffn_layers", "attention_hidden"), 1)
        for name, lowest in {**least, "attention_out": 1, "depth": 0}.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be >= {lowest}, got {getattr(self, name)}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden must be a multiple of heads, got {self.hidden} and {self.heads}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is a probability below 1, got {self.dropout}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")

    @property
    def columns(self) -> Columns:
        return Columns(atoms="grover", bonds="chemprop", molecule=self.molecule_features)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The neighbour sums A of one view of a batch; R rows are atoms or directed bonds.

    With the padding row, the last, a sum holds ``padding`` = D - degree further terms, all of them the padding row,
    where D is the largest degree in the batch and at least 1.
    """

    source: Tensor  # (B,) the atom a bond leaves
    target: Tensor  # (B,) the atom it enters
    atoms: int  # with the padding row
    origin: Tensor | None  # (R,) the atom that a row, a directed bond, leaves; None where rows are atoms
    reverse: Tensor  # (R,) the row of its reverse
    padding: Tensor | None  # (atoms, 1)

    @classmethod
    def of(cls, batch: GraphBatch, *, of_bonds: bool, padding_row: bool) -> Neighbours:
        source, target = batch.edge_index
        origin, reverse = source, torch.arange(batch.num_bonds, device=source.device) ^ 1
        atoms, padding = batch.num_atoms, None
        if padding_row:
            origin, reverse = F.pad(origin, (0, 1), value=atoms), F.pad(reverse, (0, 1), value=batch.num_bonds)
            degree = layers.sum_into(batch.atom_table.new_ones(batch.num_bonds), target, atoms + 1)
            atoms, padding = atoms + 1, (degree.amax().clamp(min=1) - degree).unsqueeze(1)
        return cls(source, target, atoms, origin if of_bonds else None, reverse, padding)

    def into_atoms(self, m: Tensor) -> Tensor:
        """Return, for every atom, the sum over the rows that point at it: (..., R, H) to (..., atoms, H)."""
        terms = m.index_select(-2, self.source) if self.origin is None else m[..., : len(self.target), :]
        z = m.new_zeros(*m.shape[:-2], self.atoms, m.shape[-1]).index_add(-2, self.target, terms)
        return z if self.padding is None else z + self.padding * m[..., -1:, :]

    def __call__(self, m: Tensor) -> Tensor:
        """Return A m (..., R, H): over the neighbours, or the bonds into a bond's origin but for its reverse."""
        z = self.into_atoms(m)
        return z if self.origin is None else z.index_select(-2, self.origin) - m.index_select(-2, self.reverse)


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


class Network(nn.Module):
    """The weights of one dyMPN: a map that its iterations share, and an activation of its own."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.W_h = nn.Linear(config.hidden, config.hidden, bias=config.bias)
        self.act_func = ACTIVATIONS[config.activation]()


class Block(nn.Module):
    """3h message-passing networks, attention over the h heads of a row, W_o, LayerNorm."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.config, hidden = config, config.hidden
        self.W_i: nn.Linear | None = None
        if width != hidden:  # as released: states follow features of the same width without a map
            self.W_i = nn.Linear(width, hidden, bias=config.bias)
            self.act_func = ACTIVATIONS[config.activation]()
            self.layernorm = nn.LayerNorm(hidden)
        self.heads = nn.ModuleList(
            nn.ModuleDict({f"mpn_{role}": Network(config) for role in "qkv"}) for _ in range(config.heads)
        )
        projections = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(3))
        self.attn = nn.ModuleDict(
            {"linear_layers": projections, "output_linear": nn.Linear(hidden, hidden, bias=config.bias)}
        )
        self.W_o = nn.Linear(config.heads * hidden, hidden, bias=config.bias)
        self.sublayer = nn.ModuleDict({"norm": nn.LayerNorm(hidden)})

    @property
    def networks(self) -> list[Network]:
        """Head 0's query, key, value, then head 1's, ...: the order in which the released code draws depths."""
        return [network for head in self.heads for network in head.children()]  # type: ignore[misc]

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)

    def start(self, features: Tables) -> Tensor:
        """Return the start state (R, H) of the first block."""
        if self.W_i is None:
            return torch.cat([table.index_select(0, row) for table, row in features], 1)
        return self.drop(self.layernorm(self.act_func(layers.linear_of_tables(self.W_i, *features))))

    def forward(self, x: Tensor, neighbours: Neighbours, *, depths: Drawn) -> Tensor:
        m = self.pass_messages(x, neighbours, depths=depths)  # (3h, R, H)
        q, k, v = (linear(m[i::3]) for i, linear in enumerate(cast("nn.ModuleList", self.attn["linear_layers"])))
        return self.joined(self.attend(q, k, v))

    def pass_messages(self, x: Tensor, neighbours: Neighbours, *, depths: Drawn) -> Tensor:
        """Return the last states (3h, R, H) of all networks, which iterate together from x (R, H).

        They stand in order of depth, so that an iteration runs over those that go on. A compiler does not know the
        depths: there all iterate to the largest possible depth, and those that have ended keep their states.
        """
        count = 3 * self.config.heads
        order = list(range(count)) if isinstance(depths, Tensor) else sorted(range(count), key=lambda i: -depths[i])
        weights, biases, slopes = self.stacked(order)
        m, sums = x.expand(count, *x.shape), neighbours(x)

        def iterated(t: int, going: int) -> Tensor:
            """Return m_{t+1} (going, R, H) of the first ``going`` networks."""
            z = sums.expand(going, *x.shape) if t == 1 else neighbours(m[:going])
            s = torch.baddbmm(x.expand_as(z), z, weights[:going])
            s = s if biases is None else s + biases[:going]
            return self.drop(self.activated(s, None if slopes is None else slopes[:going]))

        if isinstance(depths, Tensor):
            for t in range(1, self.config.depth + 2):
                m = torch.where(depths.to(x.device, non_blocking=True).view(-1, 1, 1) > t, iterated(t, count), m)
            return m
        for t in range(1, max(depths)):
            going = sum(depth > t for depth in depths)
            m = torch.cat([iterated(t, going), m[going:]])
        return m.index_select(0, torch.tensor(order).argsort().to(x.device, non_blocking=True))

    def stacked(self, order: Sequence[int]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return transposed maps (3h, H, H), biases (3h, 1, H) and slopes (3h, 1, 1) of the networks in this order.

        From a stack, a network that does not run (depth 1 and less) gets a gradient of zero, as in the released code.
        """
        networks = [self.networks[i] for i in order]
        weights = torch.stack([network.W_h.weight.t() for network in networks])
        biases: list[Tensor] = [network.W_h.bias for network in networks if network.W_h.bias is not None]
        slopes: list[Tensor] = [slope for network in networks for slope in network.act_func.parameters()]
        stacks = [torch.stack(part).unsqueeze(1) if part else None for part in (biases, slopes)]
        return weights, stacks[0], stacks[1]

    def activated(self, s: Tensor, slopes: Tensor | None) -> Tensor:
        """Return σ(s) of networks with these slopes, PReLU's below zero; None: σ has no parameters."""
        return cast("Tensor", self.networks[0].act_func(s)) if slopes is None else torch.lerp(F.relu(s), s, slopes)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return what each head of a row draws from the heads of the same row, (R, h, H), of q, k, v (h, R, H)."""
        h, rows, hidden = q.shape
        q, k, v = (x.view(h, rows, h, hidden // h).permute(1, 2, 0, 3) for x in (q, k, v))  # (R, sub-heads, h, d)
        p = (q @ k.transpose(-1, -2) / math.sqrt(hidden // h)).softmax(-1)  # (R, sub-heads, h, h)
        return (self.drop(p) @ v).transpose(1, 2).reshape(rows, h, hidden)

    def joined(self, u: Tensor) -> Tensor:
        """Return the block's states LayerNorm(W_o [W u_1 + b; ...; W u_h + b]), (R, H), of u (R, h, H).

        Nothing stands between the two matrices: multiplied first, they cost H rows where in turn they cost R.
        """
        each: nn.Linear = self.attn["output_linear"]  # type: ignore[assignment]
        parts = self.W_o.weight.view(self.config.hidden, self.config.heads, self.config.hidden)
        bias = None if each.bias is None else self.W_o.bias + parts.sum(1) @ each.bias
        return self.drop(self.sublayer["norm"](F.linear(u.flatten(1), (parts @ each.weight).flatten(1), bias)))


class FeedForward(nn.Module):
    """W_2 Dropout(σ(W_1 [f ; s]))."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.W_1 = nn.Linear(ATOM_WIDTH + config.hidden, 4 * config.hidden)
        self.act_func = ACTIVATIONS[config.activation]()
        self.W_2 = nn.Linear(4 * config.hidden, config.hidden)
        self.dropout = config.dropout

    def forward(self, table: Tensor, row: Tensor, s: Tensor) -> Tensor:
        """Return (A, H) of features f = table[row] (A, F) and sums s (A, H)."""
        wide = self.act_func(layers.linear_of_rows(self.W_1, (table, row), s))  # (A, 4H)
        return cast("Tensor", self.W_2(F.dropout(wide, self.dropout, self.training)))


class Encoder(nn.Module):
    """The two views, each with its blocks and the map from its last states to the atoms' vectors."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        for view, width in (("node", ATOM_WIDTH), ("edge", ATOM_WIDTH + BOND_WIDTH)):
            widths = [width] + [config.hidden] * (config.blocks - 1)
            self.add_module(f"{view}_blocks", nn.ModuleList(Block(config, w) for w in widths))
        for view in ("atom", "bond"):
            self.add_module(f"ffn_atom_from_{view}", FeedForward(config))
            self.add_module(f"atom_from_{view}_sublayer", nn.ModuleDict({"norm": nn.LayerNorm(config.hidden)}))

    def blocks(self, *, of_bonds: bool) -> list[Block]:
        return list(self.get_submodule("edge_blocks" if of_bonds else "node_blocks").children())  # type: ignore[arg-type]

    def forward(self, batch: GraphBatch, *, of_bonds: bool, depths: Sequence[Drawn] | Tensor) -> Tensor:
        """Return the atoms' vectors (A, H) from one view."""
        padding_row, dropout = self.config.padding_row, self.config.dropout if self.training else 0.0
        if not padding_row and surroundings.apply(batch, dropout=dropout):
            return surroundings.grover_atom_vectors(self, batch, of_bonds=of_bonds, depths=cast("Any", depths))
        neighbours = Neighbours.of(batch, of_bonds=of_bonds, padding_row=padding_row)
        blocks = self.blocks(of_bonds=of_bonds)
        x = blocks[0].start(features_of(batch, of_bonds=of_bonds, padding_row=padding_row))  # (R, H)
        for block, drawn in zip(blocks, depths, strict=True):
            x = block(x, neighbours, depths=drawn)
        sums = neighbours.into_atoms(x)[: batch.num_atoms]  # (A, H)
        return self.vectors(batch.atom_table, batch.atom_kind, sums, of_bonds=of_bonds)

    def vectors(self, table: Tensor, row: Tensor, s: Tensor, *, of_bonds: bool) -> Tensor:
        """Return LayerNorm(W_2 σ(W_1 [f ; s])), (A, H), of atoms with features table[row] and sums s (A, H)."""
        name = "atom_from_bond" if of_bonds else "atom_from_atom"
        out: Tensor = self.get_submodule(f"{name}_sublayer.norm")(self.get_submodule(f"ffn_{name}")(table, row, s))
        return F.dropout(out, self.config.dropout, self.training)


def features_of(batch: GraphBatch, *, of_bonds: bool, padding_row: bool = False) -> Tables:
    """Return the features of all rows of a view: of atoms, or of directed bonds [origin atom ; bond]."""
    tables: Tables = layers.features_of_bonds(batch) if of_bonds else [(batch.atom_table, batch.atom_kind)]
    if not padding_row:
        return tables
    return [(F.pad(table, (0, 0, 0, 1)), F.pad(row, (0, 1), value=len(table))) for table, row in tables]


class ReadoutAttention(nn.Module):
    """A learned attention over a molecule's atoms: softmax of W_2 tanh(W_1 x) (Lin et al., ICLR 2017)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.empty(config.attention_hidden, config.hidden))
        self.w2 = nn.Parameter(torch.empty(config.attention_out, config.attention_hidden))

    def forward(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """Return S (A, attention_out), which sums to 1 over each molecule's atoms, of vectors x (A, H)."""
        return layers.softmax_over_graphs(F.linear(torch.tanh(F.linear(x, self.w1)), self.w2), batch)


class Head(nn.ModuleDict):
    """Dropout and a map, then (σ, dropout, map) for each further layer, one σ for all of them.

    Names are the places in the released list: 1, 4, 7, ... of the maps, 2 of σ.
    """

    def __init__(self, config: Config, tasks: int) -> None:
        width = config.hidden * (config.attention_out if config.self_attention else 1)
        width += config.molecule_width if config.molecule_features else 0
        widths = [width] + [config.ffn_hidden] * (config.ffn_layers - 1) + [tasks]
        super().__init__({str(1 + 3 * i): nn.Linear(a, b) for i, (a, b) in enumerate(itertools.pairwise(widths))})
        if config.ffn_layers > 1:
            self["2"] = ACTIVATIONS[config.activation]()
        self.layers, self.dropout = config.ffn_layers, config.dropout

    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.layers):
            x = self["2"](x) if i else x
            x = self[str(1 + 3 * i)](F.dropout(x, self.dropout, self.training))
        return x


class Model(nn.Module):
    """The fine-tuning network with its two heads, one on the atoms' and one on the bonds' view of the molecule."""

    def __init__(self, config: Config, tasks: int) -> None:
        super().__init__()
        self.config = config
        self.grover = nn.ModuleDict({"encoders": Encoder(config)})
        self.readout = nn.ModuleDict({"attn": ReadoutAttention(config)} if config.self_attention else {})
        self.mol_atom_from_atom_ffn = Head(config, tasks)
        self.mol_atom_from_bond_ffn = Head(config, tasks)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw matrices Xavier normal and set biases 0, gains 1, slopes 0.25 (released scheme: every vector 0)."""
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.dim() > 1:
                    nn.init.xavier_normal_(parameter)
                elif self.config.released_initialisation or name == "bias":
                    nn.init.zeros_(parameter)
                else:
                    nn.init.constant_(parameter, 0.25 if isinstance(module, nn.PReLU) else 1.0)

    task_parts = ("mol_", "readout")  # what pre-training does not have

    @staticmethod
    def never_read(name: str) -> bool:
        """Tell whether fine-tuning may leave the released tensor ``name`` unread.

        These are the bond outputs, unused inputs and slopes, the heads of another task and what pre-training alone has.
        """
        dead = r"(ffn_bond_from_|bond_from_|act_func_|(node|edge)_blocks\.\d+\.(W_i|layernorm|act_func)\.)"
        return not name.startswith("grover.encoders.") or re.match(rf"grover\.encoders\.{dead}", name) is not None

    @staticmethod
    def released_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that a released checkpoint's ``arguments`` name and that its tensors need."""
        given = {key: value for key, value in arguments.items() if value is not None}
        sizes = {"hidden": "hidden_size", "depth": "depth", "heads": "num_attn_head", "blocks": "num_mt_block"}
        found: dict[str, Any] = {ours: int(given[theirs]) for ours, theirs in sizes.items() if theirs in given}
        if "bias" in given:
            found["bias"] = bool(given["bias"])
        name = str(given.get("activation", "")).lower().replace("leakyrelu", "leaky_relu")
        return found | ({"activation": name} if name in ACTIVATIONS else {})

    def draw_depths(self) -> Depths:
        """Return the depth of every network, fixed outside training; a compiler gets random ones as a tensor."""
        shape = (2, self.config.blocks, 3 * self.config.heads)
        if not (self.training and self.config.random_depth):
            return [[[self.config.depth] * shape[2]] * shape[1]] * shape[0]
        drawn = random_depths(self.config.depth, math.prod(shape)).view(shape)
        return drawn if torch.compiler.is_compiling() else cast("list[list[list[int]]]", drawn.tolist())

    def encode(self, batch: GraphBatch, *, depths: Depths | None = None) -> Vectors:
        """Return the atoms' vectors (A, H) from the node view and from the edge view."""
        views = zip((False, True), self.draw_depths() if depths is None else depths, strict=True)
        a, b = (self.grover["encoders"](batch, of_bonds=view, depths=drawn) for view, drawn in views)
        return a, b

    def molecule_vectors(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """Return (G, H) means of the atoms' vectors x (A, H), or (G, attention_out·H) by attention."""
        if not self.config.self_attention:
            return layers.mean_over_graphs(x, batch)
        weighted = (self.readout["attn"](x, batch).unsqueeze(2) * x.unsqueeze(1)).flatten(1)  # (A, out·H)
        return layers.sum_into(weighted, batch.graph_of_atom, batch.num_graphs)

    def heads(self, batch: GraphBatch, *, depths: Depths | None = None) -> Vectors:
        """Return the raw outputs p and q of the two heads, each (G, T)."""
        vectors = [self.molecule_vectors(x, batch) for x in self.encode(batch, depths=depths)]
        if self.config.molecule_features:
            if batch.molecule_features is None:
                raise ValueError(f"the batch carries no molecule features, {self.config.molecule_features} is set")
            vectors = [torch.cat([v, batch.molecule_features], dim=1) for v in vectors]
        return self.mol_atom_from_atom_ffn(vectors[0]), self.mol_atom_from_bond_ffn(vectors[1])

    def forward(self, batch: GraphBatch) -> Tensor:
        """Return the mean (G, T) of the two heads' raw outputs."""
        return self.predict(batch, lambda output: output)

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
        elements: Tensor = criterion.elements(p, batch.y) + criterion.elements(q, batch.y)
        return elements + self.config.disagreement * (p - q).square().sum_to_size(elements.shape) * ~batch.y.isnan()

    def attention(self, batch: GraphBatch) -> Vectors:
        """Return the read-out's attention (A, attention_out) over the atoms, in the node and in the edge view."""
        if not self.config.self_attention:
            raise ValueError("the mean read-out has no attention: build the model with self_attention=True")
        a, b = self.encode(batch)
        return self.readout["attn"](a, batch), self.readout["attn"](b, batch)
