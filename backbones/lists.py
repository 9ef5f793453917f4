"""Lists of row numbers, one for each row of something: who is summed into whom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Lists:
    """A list of row numbers for each row: list i is ``members[offsets[i]:offsets[i+1]]``."""

    members: Tensor  # (nnz,)
    offsets: Tensor  # (rows+1,)

    @classmethod
    def by_key(cls, keys: Tensor, rows: int) -> Lists:
        """Return for each of ``rows`` values the positions where ``keys`` has it, ascending."""
        return cls(keys.argsort(stable=True), _starts(keys.bincount(minlength=rows)))

    @cached_property
    def owner(self) -> Tensor:
        """The list that each member is in, (nnz,)."""
        return torch.repeat_interleave(self.offsets.diff(), output_size=self.members.shape[0])

    def select(self, rows: Tensor) -> Lists:
        """Return the lists of ``rows``."""
        offsets = _starts(self.offsets.diff().index_select(0, rows))
        shift = self.offsets.index_select(0, rows) - offsets[:-1]
        position = shift.repeat_interleave(offsets.diff())
        position += torch.arange(position.shape[0])
        return Lists(self.members.index_select(0, position), offsets)

    def head(self, rows: int) -> Lists:
        """Return the first ``rows`` lists."""
        offsets = self.offsets[: rows + 1]
        return Lists(self.members[: int(offsets[-1])], offsets)

    def filtered(self, kept: Tensor) -> Lists:
        """Return the lists with those members only whose ``kept`` (nnz,) is true."""
        lengths = self.owner[kept].bincount(minlength=self.offsets.shape[0] - 1)
        return Lists(self.members[kept], _starts(lengths))

    def renamed(self, names: Tensor) -> Lists:
        """Return the same lists with each member's name for the member."""
        return Lists(names.index_select(0, self.members), self.offsets)

    def transposed(self, rows: int) -> Lists:
        """Return for each of ``rows`` possible members the lists that hold it, as often as they do."""
        return Lists.by_key(self.members, rows).renamed(self.owner)

    def sums(self, m: Tensor) -> Tensor:
        """Return the sum over each list's rows of m: (R, H) to (rows, H)."""
        total: Tensor = torch.embedding_bag(m, self.members, self.offsets, mode=0, include_last_offset=True)[0]
        return total


def _starts(lengths: Tensor) -> Tensor:
    starts = lengths.new_zeros(lengths.shape[0] + 1)
    torch.cumsum(lengths, 0, out=starts[1:])
    return starts
