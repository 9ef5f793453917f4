"""The time of a mean step where a block is not a whole number of an optimizer's periods.

A step's *class* is its number of gradient evaluations. Three ways, from best to last:

* whole periods: block time over steps;
* parts: common steps, and blocks of their own in which the rare ones are frequent (GraphSAM: an anchor an epoch, and
  a twin that anchors at every step), t = sum of w_p t_p. With rare steps a share a of one block, b of the other and s
  of the training, the weights (b - s)/(b - a) and (s - a)/(b - a) give the mean step whatever anchors a block took;
  they need not be positive;
* classes: consecutive blocks of a sequence that does not repeat (AE-SAM, RST). With r_c the time of a class relative
  to the commonest and s_c its share, block b gives t_b = T_b sum(s_c r_c) / sum(n_bc r_c): the block's own speed, on
  the whole session's mixture, so two-pass steps do not make a round look slow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from samcmp.profiling.clocks import Timed
from samcmp.profiling.ratios import Floats


class Composer:
    """Turns the blocks of one contender into the time of a mean step, one figure a round."""

    def __init__(self, weights: Sequence[float], *, whole: bool, shares: Mapping[int, float] | None) -> None:
        self.weights = tuple(weights)
        self.whole = whole
        self.shares = shares

    def step_seconds(self, rounds: Sequence[Sequence[Timed]]) -> Floats:
        """Return the seconds of a mean step in each round, (rounds,)."""
        if not rounds:
            return np.empty(0)
        if self.whole:
            return np.array([self._weighted(blocks) for blocks in rounds])
        return self._by_class([blocks[0] for blocks in rounds])

    def _weighted(self, blocks: Sequence[Timed]) -> float:
        weights = self._solved(blocks) or self.weights
        return sum(w * t.seconds / len(t.passes) for w, t in zip(weights, blocks, strict=True))

    def _solved(self, blocks: Sequence[Timed]) -> tuple[float, float] | None:
        """Return the weights of two blocks that have the rare steps' true share, None where that is not asked for."""
        if self.shares is None or len(blocks) != 2:
            return None
        common = max(self.shares, key=lambda passes: self.shares[passes])  # type: ignore[index]
        a, b = (sum(p != common for p in t.passes) / len(t.passes) for t in blocks)
        s = 1 - self.shares[common]
        return None if a == b else ((b - s) / (b - a), (s - a) / (b - a))

    def _by_class(self, blocks: Sequence[Timed]) -> Floats:
        cost = relative_cost(blocks)
        shares = self.shares_taken(blocks)
        mean = sum(share * cost.get(passes, passes / min(cost)) for passes, share in shares.items())
        return np.array([t.seconds * mean / sum(cost[p] for p in t.passes) for t in blocks])

    def shares_taken(self, blocks: Sequence[Timed]) -> dict[int, float]:
        """Return passes -> share of the steps: the declared ones, else those of the session."""
        if self.shares is not None:
            return dict(self.shares)
        count = Counter(p for t in blocks for p in t.passes)
        total = sum(count.values())
        return {passes: n / total for passes, n in sorted(count.items())}


def relative_cost(blocks: Sequence[Timed]) -> dict[int, float]:
    """Return passes -> time of such a step relative to the commonest kind, by the median of marked steps.

    Steps are compared within their own block, so drift cancels; only a kind that never shared a block with the
    commonest is compared with the whole session's median.
    """
    count = Counter(p for t in blocks for p in t.passes)
    usual = max(count, key=lambda p: (count[p], -p))
    overall = float(np.median([s for t in blocks for s, p in _steps(t) if p == usual]))
    within: dict[int, list[float]] = {p: [] for p in count}
    apart: dict[int, list[float]] = {p: [] for p in count}
    for t in blocks:
        mine = [s for s, p in _steps(t) if p == usual]
        base = float(np.median(mine)) if mine else overall
        for seconds, passes in _steps(t):
            (within if mine else apart)[passes].append(seconds / base)
    return {p: 1.0 if p == usual else float(np.median(within[p] or apart[p])) for p in sorted(count)}


def _steps(timed: Timed) -> zip[tuple[float, int]]:
    return zip(timed.step_seconds, timed.passes, strict=True)
