"""Which settings a tuned comparison tries: one low-discrepancy sequence, paired over optimizers, shifted by block.

Every trial is known before the first run, so a tuned comparison is a plan like any other. Trial 0 is the settings as
they were given; choosing among the trials is :mod:`samcmp.analysis.tuning`'s. Nothing here imports more than the
standard library: thousands of trials are planned in a fraction of a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from samcmp.records import Json, content_key

RULE = "tuning-v1"  # raised when the same ranges would give other draws
SHARED = ("learning_rate", "weight_decay")  # tuned for every optimizer, the base included
BASES = (2, 3, 5, 7, 11, 13, 17, 19)  # of the dimensions, by number, see :func:`dimensions`
EDGE = 0.1  # a draw nearer than this to either end of its range is at the edge


@dataclass(frozen=True, slots=True)
class Range:
    """From ``low`` to ``high``, log-uniformly."""

    low: float
    high: float

    def at(self, u: float) -> float:
        """The value at ``u`` in [0, 1): low (high / low)^u, to 4 significant digits."""
        return float(f"{self.low * (self.high / self.low) ** u:.4g}")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a list of values, each as likely."""

    values: tuple[Json, ...]

    def at(self, u: float) -> Json:
        return self.values[int(u * len(self.values))]


Ranges = Mapping[str, Range | Choice]  # setting -> where it is searched


def dimensions(names: Iterable[str]) -> dict[str, int]:
    """Number the settings of an optimizer: learning rate 0, its first own setting 1, weight decay 2, further ones 3 on.

    What every optimizer tunes keeps its number, so that trial i draws it alike for all of them.
    """
    names = list(names)
    own = [name for name in names if name not in SHARED]
    order = ("learning_rate", own[0] if own else "", "weight_decay", *own[1:])
    return {name: d for d, name in enumerate(order) if name in names}


def draw(ranges: Ranges, trial: int, *, dataset: str, model: str, block: str) -> dict[str, Json]:
    """The settings of one trial, 1 and up; trial 0 draws nothing."""
    if trial == 0:
        return {}
    places = positions(ranges, trial, dataset=dataset, model=model, block=block)
    return {name: ranges[name].at(u) for name, u in places.items()}


def positions(names: Iterable[str], trial: int, *, dataset: str, model: str, block: str) -> dict[str, float]:
    """Where in its range, from 0 to 1, a trial has each setting; ``names`` in the order of their ranges.

    In dimension d: u = (H_b(trial) + s_d) mod 1, with the radical inverse H in the d-th prime b (Halton 1960) and a
    shift s_d that the block fixes (Cranley and Patterson 1976). A larger number of trials extends a smaller one.
    """
    return {
        name: (radical_inverse(trial, BASES[d]) + shift(f"{dataset}/{model}/{block}/{d}")) % 1.0
        for name, d in dimensions(names).items()
    }


def radical_inverse(i: int, base: int) -> float:
    """Mirror the digits of ``i`` in ``base`` at the point: 1, 2, 3 in base 2 are 1/2, 1/4, 3/4."""
    value, unit = 0.0, 1.0
    while i:
        i, digit = divmod(i, base)
        unit /= base
        value += unit * digit
    return value


def shift(where: str) -> float:
    """A number in [0, 1) that ``where`` fixes: the first 8 bytes of a SHA-256."""
    return int.from_bytes(hashlib.sha256(f"{RULE}/{where}".encode()).digest()[:8], "big") / 2**64


def search_name(ranges: Ranges) -> str:
    """Name rule and ranges by their content: 8 hexadecimal digits."""
    spelled: Sequence[Json] = [
        [name, [r.low, r.high] if isinstance(r, Range) else {"choice": r.values}] for name, r in sorted(ranges.items())
    ]
    return content_key([RULE, spelled])[:8]
