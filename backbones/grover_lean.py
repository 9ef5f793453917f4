"""GROVER's message passing and attention on a CPU: the numbers of the batched form, with less work.

One network runs after the other, so that its states stay in the cache; products run over distinct rows, and before
the sums, W (A m) = A (W m), because the level below has the fewer rows; the backward passes are written out and add
their gradients in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from samcmp.backbones.grover_rows import AtomSums, Level, Rows, Sums

aten = torch.ops.aten


def is_lean(x: Tensor, slope_of: nn.Module) -> bool:
    """Tell whether this form may run: on a CPU, neither compiling nor in autocast, and σ a kind of ReLU."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return isinstance(slope_of, (nn.ReLU, nn.LeakyReLU, nn.PReLU))


def bit_source() -> np.random.SFC64:
    """Return a fast source of random bits, seeded by torch's CPU generator."""
    return np.random.SFC64(int(torch.randint(2**62, ()).item()))


def keep_mask(like: Tensor, p: float, bits: np.random.SFC64 | None = None) -> Tensor:
    """Return 1/(1-p) where an element is kept and 0 where dropout takes it, 16 random bits an element.

    ``p`` is met to 1/65536 and the scale belongs to the rate that is met. One draw of the source serves four elements,
    which makes this eight times as fast as a Bernoulli draw of torch's generator for each.
    """
    taken = round(p * 65536)
    drawn = (bits or bit_source()).random_raw((like.numel() + 3) // 4)
    parts = torch.from_numpy(drawn.view(np.int16))[: like.numel()].view(like.shape)
    return torch.ge(parts, taken - 32768, out=torch.empty_like(like)).mul_(65536 / (65536 - taken))


class _Drop(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask = keep_mask(x, p)
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return g * mask, None


def bulk_dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Return Dropout(x); on a CPU with the mask of :func:`keep_mask`."""
    if not training or p == 0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not x.is_contiguous():
        return F.dropout(x, p)
    dropped: Tensor = _Drop.apply(x, p)  # type: ignore[no-untyped-call]
    return dropped


class _LearnedSlope(Function):
    """PReLU with one slope; the gradient of the slope is a dot product, where torch makes a matrix of terms."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return F.leaky_relu(x, slope.item())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        into_slope = torch.dot(g.flatten(), x.clamp(max=0).flatten()).view(1)
        return aten.leaky_relu_backward(g, x, slope.item(), False), into_slope


def activate(module: nn.Module, x: Tensor) -> Tensor:
    """Return σ(x)."""
    if not isinstance(module, nn.PReLU) or not is_lean(x, module):
        return cast("Tensor", module(x))
    activated: Tensor = _LearnedSlope.apply(x, module.weight)  # type: ignore[no-untyped-call]
    return activated


class _Sums(Function):
    @staticmethod
    def forward(ctx: Any, m: Tensor, sums: Sums) -> Tensor:
        ctx.sums = sums
        return sums.lists.sums(m)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return ctx.sums.back.sums(g.contiguous()), None


def into_atoms(m: Tensor, atoms: AtomSums) -> Tensor:
    """Return the sums (atoms, H) of the rows (R, H) that point at each atom."""
    total: Tensor = _Sums.apply(m, atoms.sums)  # type: ignore[no-untyped-call]
    return total


@dataclass(frozen=True, eq=False)
class _Run:
    """What 3h networks share: their levels, their depths, dropout, and the fixed slope of σ below zero."""

    levels: Sequence[Level]
    depths: Sequence[int]
    dropout: float
    slope: float | None  # None: each network's own
    biased: bool

    def sums(self, network: int) -> list[Sums]:
        """Return the sums of each iteration of a network: into every row at its end, before that into those read."""
        passed = self.levels[: max(0, self.depths[network] - 1)]
        return [level.onward for level in passed[:-1]] + [level.last for level in passed[-1:]]

    def activated(self, kept: Tensor, slope: float) -> Tensor:
        """Return σ of what is kept of an iteration; where the slope is 0, that is σ's result already."""
        return kept if self.slope == 0.0 else F.leaky_relu(kept, slope)

    def split(self, parameters: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """Return weights, biases and slopes; the last two may be empty."""
        count = len(self.depths)
        weights, rest = parameters[:count], parameters[count:]
        return (weights, rest[:count], rest[count:]) if self.biased else (weights, (), rest)


def networks(x: Tensor, rows: Rows, *, modules: Sequence[Any], depths: Sequence[int], dropout: float) -> Lean:
    """Run the networks from x (C, H) at ``rows``: the last state of each on rows of its own level."""
    steps = max(0, max(depths) - 1)
    levels, after = rows.levels(steps)
    first = modules[0]
    own_slopes = isinstance(first.activation, nn.PReLU)
    slope = None if own_slopes else float(getattr(first.activation, "negative_slope", 0.0))
    biased = first.linear.bias is not None
    parameters = [module.linear.weight for module in modules]
    parameters += [module.linear.bias for module in modules] if biased else []
    parameters += [module.activation.weight for module in modules] if own_slopes else []
    run = _Run(levels, depths, dropout, slope, biased)
    states = cast("tuple[Tensor, ...]", _Networks.apply(run, x, *parameters))  # type: ignore[no-untyped-call]
    return Lean(states, [depth - 1 for depth in depths], levels, rows, after)


@dataclass(frozen=True, eq=False)
class Lean:
    """The last states of the networks, each on the rows of the level that it reached."""

    states: Sequence[Tensor]
    reached: Sequence[int]
    levels: Sequence[Level]
    before: Rows
    after: Rows

    def spread(self, values: Tensor, network: int) -> Tensor:
        """Return ``values``, computed from one network's states, on the rows after all levels."""
        level = self.reached[network]
        if level == len(self.levels) or not self.before.shared:
            return values
        of_row = self.before.of_row if level < 1 else self.levels[level - 1].of_row
        return values.index_select(0, self.after.pick(of_row))


class _Networks(Function):
    """m_t = Dropout(σ(x + A (W m_{t-1}) + b)), t = 1, ..., n - 1, for each network from the same m_0 = x."""

    @staticmethod
    def forward(ctx: Any, run: _Run, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        weights, biases, slopes = run.split(parameters)
        starts = [x if level.start is None else x.index_select(0, level.start) for level in run.levels]
        saved: list[Tensor] = []
        finals: list[Tensor] = []
        bits = bit_source() if run.dropout else None
        for k, depth in enumerate(run.depths):
            m = x
            slope = slopes[k].item() if run.slope is None else run.slope
            for start, sums in zip(starts, run.sums(k), strict=False):
                pre = sums.lists.sums(m[: sums.below] @ weights[k].t())
                pre.add_(start[: len(pre)])
                if run.biased:
                    pre.add_(biases[k])
                if run.dropout:
                    pre.mul_(
                        keep_mask(pre, run.dropout, bits)
                    )  # s σ(p) = σ(s p) for s >= 0: the mask stays in what is kept
                saved.append(pre.relu_() if run.slope == 0.0 else pre)
                m = run.activated(pre, slope)
            finals.append(m if depth > 1 else x.clone())
        ctx.run = run
        ctx.save_for_backward(x, *parameters, *saved)
        return tuple(finals)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        run: _Run = ctx.run
        x, *rest = ctx.saved_tensors
        total = len(run.depths) * (1 + run.biased + (run.slope is None))
        parameters, saved = rest[:total], rest[total:]
        into = _Gradients(run, x, parameters)
        for k, depth in enumerate(run.depths):
            into.add(k, grads[k], saved[: max(0, depth - 1)])
            saved = saved[max(0, depth - 1) :]
        return None, into.start(), *into.parameters


class _Gradients:
    """The gradients of :class:`_Networks`, summed network by network."""

    def __init__(self, run: _Run, x: Tensor, parameters: Sequence[Tensor]) -> None:
        self.run, self.x = run, x
        self.weights, _, self.slopes = run.split(parameters)
        self.parameters = [torch.zeros_like(p) for p in parameters]
        self.into_weights, self.into_biases, self.into_slopes = run.split(self.parameters)
        self.into_x = torch.zeros_like(x)
        self.into_starts = [
            self.into_x if level.start is None else x.new_zeros(level.start.shape[0], x.shape[1])
            for level in run.levels
        ]

    def add(self, k: int, g: Tensor, kept: Sequence[Tensor]) -> None:
        """Go back through network k from the gradient g of its last state; ``kept`` went into each σ."""
        weight, into_weight = self.weights[k], self.into_weights[k]
        slope = self.slopes[k].item() if self.run.slope is None else self.run.slope
        for t, sums in reversed(list(enumerate(self.run.sums(k)))):
            if self.run.slope is None:
                self.into_slopes[k].add_(torch.dot(g.flatten(), kept[t].clamp(max=0).flatten()))
            g = self._through_activation(g, kept[t], slope)
            self.into_starts[t][: len(g)].add_(g)
            if self.run.biased:
                self.into_biases[k].add_(g.sum(0))
            g = sums.back.sums(g)
            if t == 0:
                into_weight.addmm_(g.t(), self.x[: sums.below])
                self.into_x[: sums.below].addmm_(g, weight)
                return
            into_weight.addmm_(g.t(), self.run.activated(kept[t - 1], slope))
            g = g @ weight
        self.into_x.add_(g)

    def _through_activation(self, g: Tensor, kept: Tensor, slope: float) -> Tensor:
        out: Tensor
        if self.run.slope == 0.0:
            out = aten.threshold_backward(g, kept, 0)
        else:
            out = aten.leaky_relu_backward(g.contiguous(), kept, slope, False)
        if self.run.dropout:
            if self.run.slope != 0.0:
                out.mul_(torch.ne(kept, 0, out=torch.empty_like(kept)))
            out.mul_(65536 / (65536 - round(self.run.dropout * 65536)))
        return out

    def start(self) -> Tensor:
        """Return the gradient of x: that of every level's start rows, and of the first product."""
        for level, into in zip(self.run.levels, self.into_starts, strict=True):
            if level.start is not None:
                self.into_x.index_add_(0, level.start, into)
        return self.into_x


class _AttendHeads(Function):
    """u = Dropout(softmax(Q Kᵀ / √d)) V over the h heads of a row; Q, K, V (h, R, H) to u (R, sub-heads, h, d)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        h, rows, hidden = q.shape
        # (R·h, h, d): a matrix for each row and sub-head, without a copy.
        q, k, v = (x.view(h, rows * h, hidden // h).transpose(0, 1) for x in (q, k, v))
        scores = torch.bmm(q, k.transpose(1, 2)).permute(1, 2, 0).contiguous()  # softmax is fastest on long rows
        p = scores.mul_((hidden // h) ** -0.5).softmax(1)  # (h, h, R·h)
        mask = keep_mask(p, dropout) if dropout else None
        dropped = (p if mask is None else p * mask).permute(2, 0, 1).contiguous()
        ctx.save_for_backward(q, k, v, p, dropped, mask)
        return torch.bmm(dropped, v).view(rows, h, h, hidden // h)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, p, dropped, mask = ctx.saved_tensors
        count, h, d = q.shape
        g = g.reshape(count, h, d)
        into_v = torch.bmm(dropped.transpose(1, 2), g)
        into_p = torch.bmm(g, v.transpose(1, 2)).permute(1, 2, 0).contiguous()
        t = into_p.mul_(p) if mask is None else into_p.mul_(mask).mul_(p)
        t = t.addcmul_(p, t.sum(1, keepdim=True), value=-1).mul_(d**-0.5).permute(2, 0, 1).contiguous()
        into_q, into_k = torch.bmm(t, k), torch.bmm(t.transpose(1, 2), q)
        q_, k_, v_ = (x.transpose(0, 1).reshape(h, count // h, h * d) for x in (into_q, into_k, into_v))
        return q_, k_, v_, None


def attend_heads(q: Tensor, k: Tensor, v: Tensor, *, dropout: float) -> Tensor:
    """Return what each head of a row draws from the heads of the same row: (h, R, H) to (R, sub-heads, h, H/h)."""
    u: Tensor = _AttendHeads.apply(q, k, v, dropout)  # type: ignore[no-untyped-call]
    return u
