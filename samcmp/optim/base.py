"""What every optimizer of the family shares: a torch optimizer underneath, and the verbs of its algorithm.

A subclass writes its algorithm once, as the generator :meth:`SharpnessAware.lines`, in the order of the paper's
lines: it asks for gradients (``yield from``) and steps the base. ``step(closure)`` drives the lines with a closure;
the two-phase form drives the same lines from a training loop of one's own (gradient accumulation, GradScaler,
Lightning)::

    if optimizer.needs_clean:            # some algorithms, some steps: the gradient at θ
        loss = model(x); loss.backward()
    if optimizer.needs_perturbed:        # False only where the clean gradient already decided the step
        with optimizer.perturbed():      # weights at θ + ε inside, bit-for-bit home again after
            optimizer.zero_grad(); loss = model(x); loss.backward()
    optimizer.finish()                   # or scaler.step(optimizer)
"""

from __future__ import annotations

import contextlib
import enum
import operator
from collections.abc import Callable, Generator, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim import vectors
from samcmp.optim.around import Around
from samcmp.optim.radius import Ball, Radius
from samcmp.optim.space import movable
from samcmp.optim.vector import Vector
from samcmp.optim.vectors import Length

_ASKS = operator.attrgetter("requires_grad")
Closure = Callable[[], Any]
Context = Callable[[], contextlib.AbstractContextManager[Any]]


class Ask(enum.Enum):
    """What the lines of an algorithm wait for."""

    CLEAN = "the gradient at θ"
    UPDATING = "the gradient that the base optimizer gets, at θ or at θ + ε"
    HOME = "nothing: weights are home, the caller may unscale and clip"


Lines = Generator[Ask, None, None]
Asked = Generator[Ask, None, Vector]


class SharpnessAware(Around):
    """A torch optimizer whose gradients are taken at perturbed weights.

    ``base`` is any torch optimizer instance; its param groups are this optimizer's groups, so every torch scheduler
    works, and ``rho`` is an entry of each. With ``flat`` (the default) parameters whose storage nobody shares are
    re-pointed (``p.data``), once, into one buffer per group: ``p`` stays the same object, a reference to ``p.data``
    taken earlier does not follow. ``no_sync`` is DistributedDataParallel's method of that name: the clean pass runs
    inside it where the algorithm allows ranks to differ there (m-sharpness), see ``syncs_clean``.
    """

    syncs_clean: ClassVar[bool] = False  # the clean gradient enters more than this step's ε: ranks must agree on it
    scale_free: ClassVar[bool] = True  # the clean gradient's length does not matter
    has_rho: ClassVar[bool] = True

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float | None = None,
        radius: Radius | None = None,
        flat: bool = True,
        no_sync: Context | None = None,
    ) -> None:
        super().__init__(base, rho=rho, flat=flat)
        self.radius = Ball() if radius is None else radius
        self.no_sync = no_sync
        self.grad_scaler: Any = None  # torch.amp.GradScaler, for algorithms whose state depends on the loss scale
        self._pending: Lines | None = None
        self._ask: Ask | None = None
        self._came_from: Ask | None = None

    # ---- the algorithm, and its verbs

    def lines(self) -> Lines:
        """Write the algorithm's lines; a subclass does."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its step does: define lines()")

    def clean_gradient(self) -> Asked:
        """Ask for g = ∇L(θ); under an attached GradScaler, free of its scale where the algorithm is not scale-free."""
        yield Ask.CLEAN
        g = self.space.gradient()
        scale = self.loss_scale
        if scale is not None and not self.scale_free:
            for part in g.tensors:
                part.div_(scale.to(part.device))
        return g

    @property
    def loss_scale(self) -> Tensor | None:
        """What an attached GradScaler multiplies losses by now, on the device."""
        scale: Tensor | None = getattr(self.grad_scaler, "_scale", None)
        return scale

    def updating_gradient(
        self, direction: Vector | None = None, *, sign: float = 1.0, length: Length | None = None
    ) -> Asked:
        """Ask for ω = ∇L(θ + ε), ε along ``direction`` (``sign`` −1: against it); without one, for ω = ∇L(θ).

        ``length`` is the direction's norm where the caller has it.
        """
        if direction is None:
            yield Ask.UPDATING
        else:
            chosen = self._in_play(direction)
            with self.climbed(chosen, sign=sign, length=length if chosen is direction else None):
                chosen.let_go()
                direction.let_go()
                yield Ask.UPDATING
        yield Ask.HOME
        return self.space.gradient()

    def _in_play(self, direction: Vector) -> Vector:
        """Leave parameters out that were frozen since the direction was kept."""
        if all(map(_ASKS, self.space.params)):
            return direction
        return Vector([d if _ASKS(p) else None for d, p in zip(direction.parts, self.space.params, strict=True)])

    def reused_gradient(self) -> Asked:
        """Let the clean gradient be ω."""
        yield Ask.HOME
        return self.space.gradient()

    @contextlib.contextmanager
    def climbed(self, direction: Vector, *, sign: float = 1.0, length: Length | None = None) -> Iterator[None]:
        """Hold the weights at θ + ε inside and bring them home, bit for bit and in the same storage, after."""
        rho = [sign * r for r in self.rhos]
        with self.displaced(lambda home: self.radius.climb(self.space, home, direction, rho=rho, length=length)):
            yield

    @contextlib.contextmanager
    def displaced(self, write: Callable[[Vector], None]) -> Iterator[None]:
        """Hold the weights inside where ``write`` puts them: given θ, it writes all parameters."""
        if self.space.away:
            raise RuntimeError("the weights are perturbed already")
        if self._pending is not None and self._came_from is not None and not self.space.in_place:
            raise RuntimeError("parameters moved between the passes of a step: move them between steps")
        try:
            write(self.space.leave())
            yield
        finally:
            try:
                self.space.come_home()
            except KeyboardInterrupt:  # between two blocks
                self.space.come_home()
                raise

    def hold(self, gradient: Vector) -> Vector:
        """Keep a gradient over the next pass: free where nobody else has its memory (DDP's buckets), else a copy."""
        held: list[Tensor | None] = []
        for param, grad in zip(self.space.params, gradient.parts, strict=True):
            held.append(grad if grad is None or movable(grad) else grad.clone())
            param.grad = None
        kept = Vector(held, layout=self.space.layout)
        kept.held = True
        return kept

    @property
    def second_pass(self) -> bool:
        """Whether the gradient asked for now follows a clean one of the same step."""
        return self._ask is Ask.UPDATING and self._came_from is Ask.CLEAN

    # ---- a step

    def step(self, closure: Closure | None = None) -> Any:
        """Take one step and return the first loss that the closure gave.

        ``closure`` clears the gradients, runs forward and backward and returns the loss. Without one this is
        :meth:`finish`, so that ``scaler.step(optimizer)`` works after the two-phase form.
        """
        if closure is None:
            self.finish()
            return None
        losses = []
        try:
            self._begin()
            while self._ask is not None:
                if self._ask is not Ask.HOME:
                    losses.append(self._evaluate(closure))
                self._resume()
        except BaseException:
            self._abandon()
            raise
        return losses[0]

    @property
    def needs_clean(self) -> bool:
        """Whether this step begins with a gradient at the unperturbed weights."""
        if self._ask is not Ask.CLEAN:
            self._begin()
        return self._ask is Ask.CLEAN

    @property
    def needs_perturbed(self) -> bool:
        """Whether this step needs a gradient (a further one, after a clean pass) inside :meth:`perturbed`."""
        if self._ask is None:
            self._begin()
        if self._ask is Ask.CLEAN:
            self._resume()
        return self._ask is Ask.UPDATING

    @contextlib.contextmanager
    def perturbed(self) -> Iterator[None]:
        """Take the clean gradients if this step asked for them, and hold the weights at θ + ε inside."""
        if self._ask is None or (self._ask is Ask.HOME and self._came_from is Ask.UPDATING):
            self._begin()
        if self._ask is Ask.CLEAN:
            self._resume()
        try:
            yield
        except BaseException:
            self._abandon()
            raise
        if self._ask is Ask.UPDATING:
            self._resume()

    def finish(self) -> None:
        """Give the gradients to the base optimizer: the end of the two-phase form."""
        if self._ask is not Ask.HOME:
            raise RuntimeError("finish() ends a step: run the backward pass inside `with optimizer.perturbed():` first")
        self._resume()

    def _begin(self) -> None:
        if self._ask is Ask.HOME:  # a GradScaler left the last step out; it counts as time, not as a step of the base
            self.clock += 1
        self._abandon()
        if not self.space.holds(self.param_groups):
            self._relay()
        self._pending, self._came_from = self.lines(), None
        self._resume()

    def _resume(self) -> None:
        if self._pending is None:
            raise RuntimeError("no step is under way")
        if self._ask in (Ask.CLEAN, Ask.UPDATING):
            self.passes += 1
        self._came_from = self._ask
        try:
            with torch.no_grad():
                self._ask = next(self._pending)
        except StopIteration:
            self._pending = self._ask = None
            self.clock += 1
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        pending, self._pending, self._ask = self._pending, None, None
        if pending is not None:
            pending.close()

    def _evaluate(self, closure: Closure) -> Any:
        alone = self._ask is Ask.CLEAN and self.no_sync is not None and not self.syncs_clean
        with torch.enable_grad(), self.no_sync() if alone and self.no_sync is not None else contextlib.nullcontext():
            return closure()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k not in ("_pending", "_ask")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._pending = self._ask = None
        super().__setstate__(state)


class Plain(SharpnessAware):
    """The base optimizer alone: ω = g = ∇L(θ). One pass a step, no memory; its parameters lie as the others' do."""

    has_rho: ClassVar[bool] = False

    def __init__(self, base: Optimizer, *, flat: bool = True, no_sync: Context | None = None) -> None:
        super().__init__(base, flat=flat, no_sync=no_sync)

    def lines(self) -> Lines:
        yield from self.updating_gradient()  # ω = ∇L(θ)
        self.descend()  # θ ← base(ω)


__all__ = ["Ask", "Asked", "Closure", "Lines", "Plain", "SharpnessAware", "vectors"]
