"""What every optimizer of the family shares: a torch optimizer underneath, and the verbs of its algorithm.

A subclass writes its algorithm once, as the generator :meth:`SharpnessAware.lines`, in the order of the paper's
lines: it asks for gradients (``yield from``) and steps the base. ``step(closure)`` drives the lines with a closure;
the two-phase form drives the same lines from a training loop of one's own (gradient accumulation, GradScaler,
Lightning)::

    if optimizer.needs_clean:            # some algorithms, some steps: the gradient at θ
        loss = model(x); loss.backward()
    if optimizer.needs_perturbed:        # False only where the clean gradient already decided the step
        with optimizer.perturbed():      # weights at θ + ε inside, at θ bit for bit after
            loss = model(x); loss.backward()
    optimizer.finish()                   # or scaler.step(optimizer)
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim.radius import Ball, Radius
from samcmp.optim.tensors import Vector, present, zero_if_overflown_
from samcmp.optim.wrapper import Wrapper

Closure = Callable[[], Any]
Context = Callable[[], contextlib.AbstractContextManager[Any]]


class Phase(enum.Enum):
    """What the lines of an algorithm wait for."""

    CLEAN = "the gradient at θ"
    UPDATING = "the gradient that the base optimizer gets, at θ or at θ + ε"
    BASE_STEP = "nothing: weights are restored, the caller may unscale and clip"


Lines = Generator[Phase, None, None]
Gradient = Generator[Phase, None, list[Tensor | None]]


class SharpnessAware(Wrapper):
    """A torch optimizer whose gradients are taken at perturbed weights.

    ``base`` is any torch optimizer instance; its ``step()`` makes every update, its param groups are this optimizer's
    groups, so every torch scheduler works, and ``rho`` is an entry of each. Own vectors are apart from the base's
    state. Set ``no_sync`` to DistributedDataParallel's method of that name: the clean pass runs inside it where the
    algorithm allows ranks to differ there (m-sharpness), see ``syncs_clean``. Set ``grad_scaler`` to the
    torch.amp.GradScaler of a two-phase loop where the algorithm is not ``scale_free``.

    Raises ValueError where ``base`` is not such an optimizer, a parameter is complex or ``rho`` is negative.
    """

    syncs_clean: ClassVar[bool] = False  # the clean gradient enters more than this step's ε: ranks must agree on it
    scale_free: ClassVar[bool] = True  # the clean gradient's length does not matter

    def __init__(self, base: Optimizer, *, rho: float | None = 0.05, radius: Radius | None = None) -> None:
        super().__init__(base, rho=rho)
        self.radius = Ball() if radius is None else radius
        self.no_sync: Context | None = None
        self.grad_scaler: Any = None
        self._lines: Lines | None = None
        self._phase: Phase | None = None
        self._previous: Phase | None = None
        self._direction: tuple[Vector, list[float], bool] | None = None  # d, ρ of each tensor, whether d is given away

    # ---- the algorithm, and its verbs

    def lines(self) -> Lines:
        """Write the algorithm's lines; a subclass does."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its step does: define lines()")

    def clean_gradient(self, *, keep: bool = False, guarded: bool = True) -> Gradient:
        """Ask for g = ∇L(θ); under an attached GradScaler, free of its scale where the algorithm is not scale-free.

        One that overflowed is zero, unless ``guarded`` is False. With ``keep`` it is a copy that later passes leave
        as it is: a gradient's memory may be a closure's or DistributedDataParallel's.
        """
        yield Phase.CLEAN
        g = [grad.clone() if keep and grad is not None else grad for grad in self.gradients()]
        if self.grad_scaler is not None and not self.scale_free:
            for part in present(g):
                part.div_(self.loss_scale(part.device))
        if guarded:
            zero_if_overflown_(g)
        return g

    def updating_gradient(
        self, direction: Vector | None = None, *, rho: Sequence[float] | None = None, release: bool = False
    ) -> Gradient:
        """Ask for ω = ∇L(θ + ε), ε along ``direction`` by the radius rule; without one, for ω = ∇L(θ).

        ``rho`` has another radius for each parameter than the groups'. With ``release`` the list of the direction is
        emptied once the weights are perturbed: the memory of a gradient serves the next pass.
        """
        if direction is not None:
            self._direction = direction, list(self.rhos if rho is None else rho), release
        yield Phase.UPDATING
        yield Phase.BASE_STEP
        return self.gradients()

    def clean_as_updating_gradient(self) -> Gradient:
        """Let the clean gradient be ω."""
        yield Phase.BASE_STEP
        return self.gradients()

    def base_step(self) -> None:
        """θ ← base(ω): let the base optimizer take its step with the gradients as they are."""
        self.base.step()

    def loss_scale(self, device: torch.device) -> Tensor:
        """Return what the attached GradScaler multiplies losses by now, 1 without one."""
        one = torch.ones((), device=device)
        return one if self.grad_scaler is None else self.grad_scaler.scale(one)

    @property
    def second_pass(self) -> bool:
        """Whether the gradient asked for now follows a clean one of the same step."""
        return self._phase is Phase.UPDATING and self._previous is Phase.CLEAN

    @contextlib.contextmanager
    def _perturbed_weights(self) -> Iterator[None]:
        """Hold the weights at θ + ε inside, if the lines named a direction."""
        try:
            self._perturb()
            yield
        finally:
            self.restore()

    @torch.no_grad()
    def _perturb(self) -> None:
        wanted, self._direction = self._direction, None
        if wanted is None:
            return
        direction, rho, release = wanted
        rows = [
            (p, d, r)
            for p, d, r in zip(self.params, direction, rho, strict=True)
            if d is not None and p.requires_grad  # one frozen since the direction was kept stays where it is
        ]
        if rows:
            params, steps, radii = (list(column) for column in zip(*rows, strict=True))
            self.displace(params)
            self.perturb(params, steps, radii)
        if release and isinstance(direction, list):
            direction.clear()

    def perturb(self, theta: Sequence[Tensor], d: Sequence[Tensor], rho: Sequence[float]) -> None:
        """θ ← θ + ε(d), in place, by the radius rule; ``rho`` has a radius for each tensor."""
        self.radius.perturb_(theta, d, rho)

    # ---- a step

    def step(self, closure: Closure | None = None) -> Any:
        """Take one step and return the first loss that the closure gave.

        ``closure`` runs forward and backward and returns the loss; gradients are cleared before it. Without one this
        ends a step in the two-phase form, so that ``scaler.step(optimizer)`` works. Raises RuntimeError where there
        is none to end.
        """
        if closure is None:
            self._end()
            return None
        losses = []
        try:
            self._begin()
            while self._phase is not None:
                if self._phase is not Phase.BASE_STEP:
                    with self._perturbed_weights():
                        losses.append(self._evaluate(closure))
                self._advance()
        except BaseException:
            self._abandon()
            raise
        return losses[0]

    @property
    def needs_clean(self) -> bool:
        """Whether this step begins with a gradient at the unperturbed weights."""
        if self._phase is not Phase.CLEAN:
            self._begin()
        return self._phase is Phase.CLEAN

    @property
    def needs_perturbed(self) -> bool:
        """Whether this step needs a gradient (a further one, after a clean pass) inside :meth:`perturbed`."""
        if self._phase is None:
            self._begin()
        if self._phase is Phase.CLEAN:
            self._advance()
        return self._phase is Phase.UPDATING

    @contextlib.contextmanager
    def perturbed(self) -> Iterator[None]:
        """Take the clean gradients if this step asked for them, and hold the weights at θ + ε inside.

        Gradients are cleared at its beginning.
        """
        try:
            if self._phase is None or (self._phase is Phase.BASE_STEP and self._previous is Phase.UPDATING):
                self._begin()
            if self._phase is Phase.CLEAN:
                self._advance()
            if self._phase is Phase.UPDATING:
                self.zero_grad()
            with self._perturbed_weights():
                yield
            if self._phase is Phase.UPDATING:
                self._advance()
        except BaseException:
            self._abandon()
            raise

    def finish(self) -> None:
        """Give the gradients to the base optimizer: the end of the two-phase form, with all that step() entails."""
        self.step()

    def _end(self) -> None:
        if self._phase is None:
            raise RuntimeError(
                "step() without a closure ends a step of the two-phase form: pass a closure that runs forward and "
                "backward, or run the backward pass inside `with optimizer.perturbed():` first"
            )
        if self._phase is not Phase.BASE_STEP:
            raise RuntimeError(
                "a gradient is missing: run the backward pass inside `with optimizer.perturbed():` first"
            )
        self._advance()

    def _begin(self) -> None:
        if self._phase is Phase.BASE_STEP:  # a GradScaler left the last step out; it counts as time all the same
            self.clock += 1
        self._abandon()
        self._complete_groups()
        self._lines, self._previous = self.lines(), None
        self._advance()

    @torch.no_grad()
    def _advance(self) -> None:
        """Let the lines go on to the next gradient that they need, or to their end."""
        if self._lines is None:
            raise RuntimeError("no step is under way")
        if self._phase in (Phase.CLEAN, Phase.UPDATING):
            self.passes += 1
        self._previous = self._phase
        try:
            self._phase = next(self._lines)
        except StopIteration:
            self._lines = self._phase = None
            self.clock += 1
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Drop a step under way, if there is one; the weights are at θ after it."""
        lines, self._lines, self._phase, self._direction = self._lines, None, None, None
        self.restore()
        if lines is not None:
            lines.close()

    def _evaluate(self, closure: Closure) -> Any:
        self.zero_grad()
        alone = self._phase is Phase.CLEAN and not self.syncs_clean and self.no_sync is not None
        with torch.enable_grad(), self.no_sync() if alone and self.no_sync else contextlib.nullcontext():
            return self.call(closure)

    def call(self, closure: Closure) -> Any:
        """Call the closure for the gradient that is asked for now; a subclass may want more of it."""
        return closure()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_lines": None, "_phase": None, "_direction": None}


class Plain(SharpnessAware):
    """The base optimizer alone: ω = g = ∇L(θ). One pass a step, no memory."""

    def __init__(self, base: Optimizer) -> None:
        super().__init__(base, rho=None)

    def lines(self) -> Lines:
        yield from self.updating_gradient()  # ω = ∇L(θ)
        self.base_step()  # θ ← base(ω)
