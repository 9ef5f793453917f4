"""The parameters as one vector: what an optimizer perturbs, averages and projects.

A :class:`Space` knows every tensor of the param groups. Where it is safe it re-points them, once, into one contiguous
buffer per (group, device, dtype), so that a pass over all parameters is one kernel without temporaries; tensors for
which it is not safe (storage shared with somebody, not contiguous, a tensor subclass) stay where they are.

Its vectors are :class:`~samcmp.optim.vector.Vector`.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from samcmp.optim import kernels, pages
from samcmp.optim.vector import Block, Layout, Vector, Walk

_ALIGN = 64  # bytes between the starts of two parameters, so that every kernel stays vectorised
_SHORT = 16384  # elements; below, a kernel's start costs more than its work
_GRAD, _LAYOUT = operator.attrgetter("grad"), operator.attrgetter("layout")  # 151 tensors a step: no Python loops
_USES_OF_ONE_OWNER = 2  # the parameter, and the storage object that we look through


class Space:
    """The parameters of some param groups in order, and the vectors shaped like them."""

    def __init__(self, groups: Sequence[Mapping[str, Any]], *, flat: bool, mine: Collection[int] = ()) -> None:
        self.groups = groups
        self.params: list[Tensor] = [p for group in groups for p in group["params"]]
        self.group_of = [i for i, group in enumerate(groups) for _ in group["params"]]
        self.blocks = _layout(self.params, self.group_of, flat=flat, mine=mine)
        self.large = kernels.worthwhile(self.params)
        self._groups = [b.group for b in self.blocks for _ in range(len(b.members) - max(0, b.small - 1))]
        kinds = {p.dtype for p in self.params}
        walks = {
            True: Walk([b.numel for b in self.blocks], [b.group for b in self.blocks]),
            False: Walk([p.numel() for p in self.params], self.group_of),
        }
        self.layout = Layout(self.blocks, kinds.pop() if len(kinds) == 1 else None, self.large, walks)
        self.theta = self._adopt()
        self._spare: Vector | None = None
        self._shelters: list[pages.Shelter | _Copies] = []  # a block each
        self._places = _places(self.params)
        self._counts = [len(group["params"]) for group in groups]

    def holds(self, groups: Sequence[Mapping[str, Any]]) -> bool:
        """Tell whether every parameter is still as and where this space put it (``model.to`` and the like move it)."""
        if [len(group["params"]) for group in groups] != self._counts:
            return False
        current = itertools.chain.from_iterable(group["params"] for group in groups)
        return all(map(operator.is_, current, self.params)) and _places(self.params) == self._places

    @property
    def in_place(self) -> bool:
        """Whether every parameter is where it was: quicker than :meth:`holds`."""
        return list(map(Tensor.data_ptr, self.params)) == self._places[0]

    @property
    def storages(self) -> set[int]:
        """Addresses of the flat buffers that parameters live in."""
        owned = [whole for block, whole in zip(self.blocks, self.theta.tensors, strict=True) if block.offsets]
        return {whole.untyped_storage().data_ptr() for whole in owned}

    def new(self, *, precise: bool = False, apart: int = 0) -> Vector:
        """Return a vector of zeros. ``precise`` keeps at least 32 bits: averages of bf16 numbers stall in bf16.

        ``apart`` is for vectors that are walked together with others, see :func:`samcmp.optim.pages.zeros`.
        """
        if precise:
            return self._shaped(lambda kind: torch.promote_types(kind, torch.float32), apart)
        return self._shaped(lambda kind: kind, apart)

    def leave(self) -> Vector:
        """Keep θ in a vector of its own until :meth:`come_home` and return that; all parameters are to be written."""
        if self._spare is None:
            self._spare = self.new()
            pairs = zip(self.blocks, self.theta.tensors, self._spare.tensors, strict=True)
            self._shelters = [_shelter(block, theta, home) for block, theta, home in pairs]
        for shelter in self._shelters:
            shelter.leave()
        return self._spare

    def come_home(self) -> None:
        """Give the parameters, where they are, what they held before :meth:`leave`, bit for bit.

        What is home stays: an interrupted call is made good by another one.
        """
        for shelter in self._shelters:
            shelter.come_home()

    @property
    def away(self) -> bool:
        """Whether some parameters have left."""
        return any(shelter.away for shelter in self._shelters)

    def gradient(self) -> Vector:
        """Return the gradients as they are. Raises ValueError for a sparse one."""
        grads = list(map(_GRAD, self.params))
        vector = Vector(grads, layout=self.layout)
        try:
            layouts = set(map(_LAYOUT, grads))
        except AttributeError:  # some are None
            layouts = {g.layout for g in grads if g is not None}
        if not layouts <= {torch.strided}:
            raise ValueError(
                f"a gradient of layout {(layouts - {torch.strided}).pop()} cannot be perturbed along; "
                "build the layer with sparse=False (torch.nn.Embedding has that option)"
            )
        return vector

    def paired(self, *vectors: Vector) -> tuple[list[int], list[list[Tensor]]]:
        """Line vectors up: the param group and the tensors of each, as few as possible, where all have a part.

        Only the first may be written to.
        """
        if all(vector.wholes is not None for vector in vectors):
            return [block.group for block in self.blocks], [vector.tensors for vector in vectors]
        if vectors[0].wholes is not None:
            pieces = [vector.pieces() for vector in vectors]
            if None not in pieces:
                return self._groups, pieces  # type: ignore[return-value]
        keep = [i for i in range(len(self.params)) if all(vector.parts[i] is not None for vector in vectors)]
        return [self.group_of[i] for i in keep], [[v.parts[i] for i in keep] for v in vectors]  # type: ignore[misc]

    def _shaped(self, dtype: Callable[[torch.dtype], torch.dtype], apart: int) -> Vector:
        parts: list[Tensor | None] = [None] * len(self.params)
        wholes = []
        for block in self.blocks:
            first = self.params[block.members[0]].detach()
            if block.offsets:
                whole = _zeros(block.numel, dtype=dtype(first.dtype), device=first.device, apart=apart)
                for member, offset in zip(block.members, block.offsets, strict=True):
                    param = self.params[member]
                    parts[member] = whole.narrow(0, offset, param.numel()).view(param.shape)
            else:
                whole = parts[block.members[0]] = torch.zeros_like(first, dtype=dtype(first.dtype))
            wholes.append(whole)
        return Vector(parts, wholes, layout=self.layout)

    @torch.no_grad()
    def _adopt(self) -> Vector:
        """Move the parameters of flat blocks into one buffer each; from here on they are views of it."""
        parts: list[Tensor | None] = [p.detach() for p in self.params]
        wholes = []
        for block in self.blocks:
            first = self.params[block.members[0]]
            if not block.offsets:
                wholes.append(first.detach())
                continue
            whole = _zeros(block.numel, dtype=first.dtype, device=first.device)
            for member, offset in zip(block.members, block.offsets, strict=True):
                param = self.params[member]
                home = whole.narrow(0, offset, param.numel()).view(param.shape)
                home.copy_(param)
                param.data = home
                parts[member] = home
            wholes.append(whole)
        return Vector(parts, wholes, layout=self.layout)


def _places(params: Sequence[Tensor]) -> list[list[Any]]:
    """Return what changes when a parameter's numbers move, are cut, transposed or get another shape."""
    return [list(map(of, params)) for of in (Tensor.data_ptr, Tensor.numel, Tensor.is_contiguous, Tensor.dim)]


class _Copies:
    """What :class:`samcmp.optim.pages.Shelter` is, for contents that do not lie in pages of their own."""

    def __init__(self, here: Tensor, home: Tensor) -> None:
        self._here, self._home = here, home
        self.away = False

    def leave(self) -> None:
        self._home.copy_(self._here)
        self.away = True

    def come_home(self) -> None:
        if self.away:
            self._here.copy_(self._home)
            self.away = False


def _shelter(block: Block, theta: Tensor, home: Tensor) -> pages.Shelter | _Copies:
    own = bool(block.offsets) and theta.device.type == "cpu" and pages.suits(theta.numel() * theta.element_size())
    return pages.Shelter(theta, home) if own else _Copies(theta, home)


def _zeros(numel: int, *, dtype: torch.dtype, device: torch.device, apart: int = 0) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(numel, dtype=dtype, device=device)
    return pages.zeros(numel, dtype=dtype, apart=apart)


def _layout(params: Sequence[Tensor], group_of: Sequence[int], *, flat: bool, mine: Collection[int]) -> list[Block]:
    shared: dict[tuple[int, torch.device, torch.dtype], list[int]] = {}
    alone = []
    for i, param in enumerate(params):
        if flat and movable(param, mine):
            shared.setdefault((group_of[i], param.device, param.dtype), []).append(i)
        else:
            alone.append(Block(group_of[i], (i,), (), param.numel()))
    blocks = []
    for (group, _, _), members in shared.items():
        step = max(1, _ALIGN // params[members[0]].element_size())
        packed = params[members[0]].device.type == "cpu"  # a GPU's products want every matrix aligned
        long = [m for m in members if not packed or params[m].numel() >= _SHORT]
        short = [m for m in members if packed and params[m].numel() < _SHORT]
        offsets, end = [], 0
        for member in long:
            offsets.append(end)
            end += math.ceil(params[member].numel() / step) * step
        for member in short:
            offsets.append(end)
            end += params[member].numel()
        blocks.append(Block(group, (*long, *short), tuple(offsets), end, len(short)))
    return blocks + alone


def movable(param: Tensor, mine: Collection[int] = ()) -> bool:
    """Tell whether nobody can notice that this tensor's numbers move to another storage."""
    if param.layout is not torch.strided or not param.is_contiguous() or param.device.type == "meta":
        return False
    if type(param.data) is not Tensor or param.numel() == 0 or not param.is_leaf:
        return False
    storage = param.untyped_storage()
    if param.device.type == "cpu" and storage.is_shared():  # with other processes
        return False
    if storage.data_ptr() in mine:
        return True
    uses: Callable[[int], int] | None = getattr(torch._C, "_storage_Use_Count", None)
    if uses is None or storage.nbytes() != param.numel() * param.element_size():
        return False
    return uses(storage._cdata) <= _USES_OF_ONE_OWNER
