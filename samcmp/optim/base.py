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
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim import vectors
from samcmp.optim.radius import Ball, Radius
from samcmp.optim.space import Space, Vector

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


class SharpnessAware(Optimizer):
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
        if not isinstance(base, Optimizer):
            raise ValueError(f"base is a torch.optim.Optimizer instance, got {type(base).__name__}")
        if rho is not None and not rho >= 0:
            raise ValueError(f"rho is a radius and must be >= 0, got {rho}")
        self.base = base
        self.radius = Ball() if radius is None else radius
        self.no_sync = no_sync
        self.grad_scaler: Any = None  # torch.amp.GradScaler, for algorithms whose state depends on the loss scale
        self.clock = 0  # steps taken
        self.passes = 0  # gradients asked for since construction
        self.kept: dict[str, Vector] = {}  # own vectors by name
        self.numbers: dict[str, Any] = {}  # own 0-dim tensors and host numbers by name
        self._flat = flat
        self._pending: Lines | None = None
        self._ask: Ask | None = None
        self._came_from: Ask | None = None
        self._away = False  # the weights are not home
        self._building = True
        super().__init__(base.param_groups, {} if rho is None else {"rho": rho})
        self._building = False
        self.defaults = {**base.defaults, **self.defaults}
        for group in base.param_groups:
            if rho is not None:
                group.setdefault("rho", rho)
        self.space = Space(base.param_groups, flat=flat)

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
        self, direction: Vector | None = None, *, sign: float = 1.0, length: Tensor | None = None
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
        asks = list(map(_ASKS, self.space.params))
        if all(asks):
            return direction
        return Vector([part if asked else None for part, asked in zip(direction.parts, asks, strict=True)])

    def reused_gradient(self) -> Asked:
        """Let the clean gradient be ω."""
        yield Ask.HOME
        return self.space.gradient()

    @contextlib.contextmanager
    def climbed(self, direction: Vector, *, sign: float = 1.0, length: Tensor | None = None) -> Iterator[None]:
        """Hold the weights at θ + ε inside and bring them home, bit for bit and in the same storage, after."""
        rho = [sign * r for r in self.rhos]
        onto = getattr(self.radius, "climb_from", None)  # a rule that writes all of θ + ε needs no copy of θ there
        if onto is None:
            move = lambda home: self.radius.climb(self.space, direction, rho=rho, length=length)  # noqa: E731
        else:
            move = lambda home: onto(home, self.space, direction, rho=rho, length=length)  # noqa: E731
        with self.displaced(move, written=onto is not None):
            yield

    @contextlib.contextmanager
    def displaced(self, move: Callable[[Vector], None], *, written: bool = False) -> Iterator[None]:
        """Hold the weights inside where ``move``, given θ, puts them; ``written``: it writes all of them."""
        if self._away:
            raise RuntimeError("the weights are perturbed already")
        with torch.no_grad():
            home = self.space.leave(written=written)
        self._away = True
        try:
            with torch.no_grad():
                move(home)
            yield
        finally:
            with torch.no_grad():
                self.space.come_home()
            self._away = False

    def hold(self, gradient: Vector) -> Vector:
        """Keep a gradient over the next pass: free where the closure drops its tensors, else a copy."""
        held: list[Tensor | None] = []
        for param, grad in zip(self.space.params, gradient.parts, strict=True):
            whole = grad is not None and grad.untyped_storage().nbytes() == grad.numel() * grad.element_size()
            held.append(grad if whole or grad is None else grad.clone())
            param.grad = None
        kept = Vector(held)
        kept.held = True
        return kept

    def keep(self, name: str, *, precise: bool = False) -> Vector:
        """Return this optimizer's own vector of that name, zero at first; it is part of the state."""
        if name not in self.kept:
            self.kept[name] = self.space.new(precise=precise)
        return self.kept[name]

    @property
    def rhos(self) -> list[float]:
        """ρ of each param group."""
        return [float(group["rho"]) for group in self.param_groups]

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
        self._begin()
        try:
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

    @torch.no_grad()
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

    # ---- groups

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's own groups."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, value: list[dict[str, Any]]) -> None:
        if not self._building:
            self.base.param_groups = value

    @property
    def state(self) -> Any:
        """The base optimizer's state; own vectors are in ``kept``."""
        return self.base.state

    @state.setter
    def state(self, value: Any) -> None:
        if not self._building:
            self.base.state = value

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer; its rho is the first group's where it names none."""
        if self._building:
            return
        self.base.add_param_group(param_group)
        for key in {"rho", "radius"} & set(self.param_groups[0]):
            self.param_groups[-1].setdefault(key, self.param_groups[0][key])
        self._relay()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none=set_to_none)

    @torch.no_grad()
    def _relay(self) -> None:
        """Lay the space out anew after parameters came or moved; own vectors follow their parameters."""
        if self._away:
            raise RuntimeError("parameters moved while they were perturbed")
        old = self.space
        self.space = Space(self.param_groups, flat=self._flat, mine=old.storages)
        number = {id(p): i for i, p in enumerate(old.params)}
        for name, vector in self.kept.items():
            parts = [vector.parts[number[id(p)]] if id(p) in number else None for p in self.space.params]
            wide = any(t.dtype != p.dtype for t, p in zip(vector.parts, old.params, strict=True) if t is not None)
            self.kept[name] = self._filled(parts, precise=wide)

    def _filled(self, parts: Sequence[Tensor | None], *, precise: bool) -> Vector:
        vector = self.space.new(precise=precise)
        for mine, part in zip(vector.parts, parts, strict=True):
            if mine is not None and part is not None:
                mine.copy_(part)
        return vector

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state dict and, under ``sharpness``, own vectors, numbers, clock and random state."""
        if self._away:
            raise RuntimeError("the weights are perturbed; take the state after the step")
        own = {
            "optimizer": type(self).__name__,
            "clock": self.clock,
            "passes": self.passes,
            "numbers": {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in self.numbers.items()},
            "vectors": {k: [None if t is None else t.clone() for t in v.parts] for k, v in self.kept.items()},
            **self.extra_state(),
        }
        return {**self.base.state_dict(), "sharpness": own}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, on whatever device the parameters are now."""
        own = state_dict.get("sharpness")
        if own is None or own["optimizer"] != type(self).__name__:
            found = "a plain torch optimizer" if own is None else own["optimizer"]
            raise ValueError(f"this is the state of {found}, not of {type(self).__name__}")
        self._abandon()
        self.base.load_state_dict({k: v for k, v in state_dict.items() if k != "sharpness"})
        if not self.space.holds(self.param_groups):
            self._relay()
        self.clock, self.passes = int(own["clock"]), int(own["passes"])
        device = self.space.params[0].device if self.space.params else torch.device("cpu")
        self.numbers = {k: v.to(device, copy=True) if isinstance(v, Tensor) else v for k, v in own["numbers"].items()}
        self.kept = {}
        for name, parts in own["vectors"].items():
            wide = any(
                t is not None and torch.promote_types(t.dtype, p.dtype) != p.dtype
                for t, p in zip(parts, self.space.params, strict=True)
            )
            self.kept[name] = self._filled(parts, precise=wide)
        self.load_extra_state(own)

    def extra_state(self) -> dict[str, Any]:
        """Return what else a subclass keeps, such as its random state; plain values and tensors only."""
        return {}

    def load_extra_state(self, own: Mapping[str, Any]) -> None:
        """Take back what :meth:`extra_state` gave."""

    def __getstate__(self) -> dict[str, Any]:
        """Give everything but buffers that are views: a deep copy lays its own parameters out."""
        state = {k: v for k, v in self.__dict__.items() if k not in ("space", "kept", "_pending", "_ask")}
        state.pop("step", None)  # schedulers wrap it and hold this very object
        state["_vectors"] = {k: list(v.parts) for k, v in self.kept.items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = state.pop("_vectors")
        self.__dict__.update(state)
        self._pending = self._ask = None
        with torch.no_grad():
            self.space = Space(self.param_groups, flat=self._flat)
            wide = {
                name: any(t.dtype != p.dtype for t, p in zip(parts, self.space.params, strict=True))
                for name, parts in kept.items()
            }
            self.kept = {name: self._filled(parts, precise=wide[name]) for name, parts in kept.items()}


class Plain(SharpnessAware):
    """The base optimizer alone: ω = g = ∇L(θ). One pass a step, no memory."""

    has_rho: ClassVar[bool] = False

    def __init__(self, base: Optimizer, *, flat: bool = False, no_sync: Context | None = None) -> None:
        super().__init__(base, flat=flat, no_sync=no_sync)

    def lines(self) -> Lines:
        yield from self.updating_gradient()  # ω = ∇L(θ)
        self.base.step()  # θ ← base(ω)


__all__ = ["Ask", "Asked", "Closure", "Lines", "Plain", "SharpnessAware", "vectors"]
