"""A vector as long as all parameters together, in two views at once.

``parts`` has one tensor a parameter, ``None`` where a gradient is missing, and ``wholes`` as few tensors as possible.
Work between two vectors that an optimizer owns runs on wholes; work with gradients, which autograd allocates one by
one, runs on parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of the vector that one kernel can work on: several parameters of one group, or a single one."""

    group: int
    members: tuple[int, ...]  # positions in the list of parameters
    offsets: tuple[int, ...]  # of the members, in elements; empty where the block is the parameter itself
    numel: int
    small: int = 0  # so many of the last members are short and lie without gaps

    def pieces(self, parts: Sequence[Tensor], whole: Tensor | None) -> list[Tensor]:
        """Return the block of a vector as its long parts and one tensor of all short ones; it may be a copy."""
        if not self.small:
            return [parts[member] for member in self.members]
        long, short = self.members[: -self.small], self.members[-self.small :]
        if whole is not None:
            tail = whole.narrow(0, self.offsets[-self.small], self.numel - self.offsets[-self.small])
        else:
            tail = torch.cat([p if p.dim() == 1 else p.reshape(-1) for p in (parts[member] for member in short)])
        return [*(parts[member] for member in long), tail]


class Walk:
    """How many elements the tensors of a vector have, and which param group's they are."""

    def __init__(self, numels: Sequence[int], groups: Sequence[int]) -> None:
        self.numels = list(numels)
        self.sizes, self.groups = np.array(numels, dtype=np.intp), np.array(groups, dtype=np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How some parameters lie in memory, and with them every vector of their shape."""

    blocks: Sequence[Block]
    dtype: torch.dtype | None  # of all of them, where they are of one
    large: bool  # of one kind, on the CPU, and more than a cache holds
    walks: Mapping[bool, Walk]  # over wholes, and over parts


class Vector:
    """One number for every parameter element; a ``None`` part counts as zero."""

    __slots__ = ("_pieces", "held", "layout", "parts", "places", "wholes")

    def __init__(
        self,
        parts: Sequence[Tensor | None],
        wholes: Sequence[Tensor] | None = None,
        *,
        layout: Layout | None = None,
    ) -> None:
        self.parts = list(parts)
        self.wholes = None if wholes is None else list(wholes)
        self.layout = layout
        self.places: dict[bool, np.ndarray | None] = {}  # addresses, of wholes and of parts: a vector stays where it is
        self._pieces: list[Tensor] | None = None  # views of wholes
        self.held = False  # a gradient that is needed after the next pass

    def let_go(self) -> None:
        """Drop a gradient that was climbed along: the next pass's gradients take its place in memory."""
        if self.wholes is None and not self.held:
            self.parts, self.places = [None] * len(self.parts), {}

    @property
    def tensors(self) -> list[Tensor]:
        """The fewest tensors that cover the vector."""
        if self.wholes is not None:
            return self.wholes
        return [part for part in self.parts if part is not None]

    @property
    def has_gaps(self) -> bool:
        """Whether parts are missing."""
        return self.wholes is None and any(part is None for part in self.parts)

    def pieces(self) -> list[Tensor] | None:
        """Return few tensors that cover the vector, to read only; None if a part or the layout is missing."""
        if self._pieces is not None:
            return self._pieces
        if self.layout is None or self.has_gaps:
            return None
        found: list[Tensor] = []
        for i, block in enumerate(self.layout.blocks):
            whole = None if self.wholes is None or not block.offsets else self.wholes[i]
            found += block.pieces(self.parts, whole)  # type: ignore[arg-type]
        if self.wholes is not None:
            self._pieces = found
        return found
