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
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim.radius import Ball, Radius
from samcmp.optim.tensors import Vector, present, zero_if_overflown_

Closure = Callable[[], Any]
Context = Callable[[], contextlib.AbstractContextManager[Any]]
SHARED_KEYS = ("rho", "radius")  # group entries of ours that a new group takes from the first
NOT_KEPT = ("_lines", "_phase", "_direction", "_displaced", "_saved")  # of a copy: they belong to a step under way


class Phase(enum.Enum):
    """What the lines of an algorithm wait for."""

    CLEAN = "the gradient at θ"
    UPDATING = "the gradient that the base optimizer gets, at θ or at θ + ε"
    BASE_STEP = "nothing: weights are restored, the caller may unscale and clip"


Lines = Generator[Phase, None, None]
Gradient = Generator[Phase, None, list[Tensor | None]]


class SharpnessAware(Optimizer):
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
        _check(base, rho)
        self.base = base
        self.radius = Ball() if radius is None else radius
        self.no_sync: Context | None = None
        self.grad_scaler: Any = None
        self.clock = 0  # steps taken
        self.passes = 0  # gradients taken since construction
        self.vectors: dict[str, dict[Tensor, Tensor]] = {}  # own vectors by name, see :meth:`own`
        self.numbers: dict[str, Any] = {}  # own 0-dim tensors and host numbers by name
        self._lines: Lines | None = None
        self._phase: Phase | None = None
        self._previous: Phase | None = None
        self._direction: tuple[Vector, list[float], bool] | None = None  # d, ρ of each tensor, whether d is given away
        self._saved: dict[Tensor, Tensor] = {}  # θ of each parameter while it is displaced
        self._displaced: tuple[list[Tensor], list[Tensor]] = [], []  # what does not hold θ now, and its θ
        self._building = True
        super().__init__(base.param_groups, {} if rho is None else {"rho": rho})
        self._building = False
        self.defaults = {**base.defaults, **self.defaults}
        for group in base.param_groups:
            if rho is not None:
                group.setdefault("rho", rho)

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

    def own(self, name: str, *, precise: bool = False) -> list[Tensor]:
        """Return this optimizer's own vector of that name, zero at first; it is part of the state.

        ``precise`` keeps at least 32 bits: averages of bf16 numbers stall in bf16.
        """
        held = self.vectors.setdefault(name, {})
        for p in self.params:
            kind = torch.promote_types(p.dtype, torch.float32) if precise else p.dtype
            if p not in held or held[p].shape != p.shape:
                held[p] = torch.zeros_like(p, dtype=kind, requires_grad=False)
            elif held[p].dtype != kind or held[p].device != p.device:
                held[p] = held[p].to(p.device, kind)
        return [held[p] for p in self.params]

    @property
    def params(self) -> list[Tensor]:
        """The parameters of all groups."""
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def rhos(self) -> list[float]:
        """ρ of each parameter: its group's."""
        return [float(group["rho"]) for group in self.param_groups for _ in group["params"]]

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients as they are. Raises ValueError for a sparse one."""
        grads = [p.grad for p in self.params]
        layouts = {grad.layout for grad in present(grads)} - {torch.strided}
        if layouts:
            raise ValueError(
                f"a gradient of layout {layouts.pop()} cannot be perturbed along; "
                "build the layer with sparse=False (torch.nn.Embedding has that option)"
            )
        return grads

    def loss_scale(self, device: torch.device) -> Tensor:
        """Return what the attached GradScaler multiplies losses by now, 1 without one."""
        one = torch.ones((), device=device)
        return one if self.grad_scaler is None else self.grad_scaler.scale(one)

    @property
    def second_pass(self) -> bool:
        """Whether the gradient asked for now follows a clean one of the same step."""
        return self._phase is Phase.UPDATING and self._previous is Phase.CLEAN

    # ---- weights at another place, and back

    @torch.no_grad()
    def displace(self, params: Sequence[Tensor], *, silently: bool = False) -> list[Tensor]:
        """Save what ``params`` hold and return the tensors to write to: :meth:`restore` undoes what is written.

        ``silently`` keeps autograd from noticing, so that a graph made before can still be gone through after.
        """
        for p in params:
            held = self._saved.get(p)
            if held is None or (held.shape, held.dtype, held.device) != (p.shape, p.dtype, p.device):
                self._saved[p] = torch.empty_like(p, requires_grad=False)
        saved = [self._saved[p] for p in params]
        torch._foreach_copy_(saved, list(params))
        self._displaced = [p.data for p in params] if silently else list(params), saved
        return self._displaced[0]

    @torch.no_grad()
    def restore(self) -> None:
        """Give displaced weights what they held, bit for bit; an interrupted call is made good by another one."""
        displaced, saved = self._displaced
        if displaced:
            torch._foreach_copy_(displaced, saved)
            self._displaced = [], []

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
        asked, self._direction = self._direction, None
        if asked is None:
            return
        direction, rho, release = asked
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

    # ---- the base's groups and state, and a state that has both

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
        """The base optimizer's state; own vectors are in ``vectors``."""
        return self.base.state

    @state.setter
    def state(self, value: Any) -> None:
        if not self._building:
            self.base.state = value

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer; its rho is the first group's where it names none."""
        if self._building:
            return
        params = param_group["params"]
        param_group["params"] = [params] if isinstance(params, Tensor) else list(params)
        _refuse_complex([param_group])
        self.base.add_param_group(param_group)
        self._complete_groups()

    def _complete_groups(self) -> None:
        """Give groups that have none of our entries the first group's; the base may have been given one by itself."""
        first, *others = self.param_groups
        for group in others:
            for key in SHARED_KEYS:
                if key in first:
                    group.setdefault(key, first[key])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters."""
        self.base.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state dict and, under ``sharpness``, own vectors, numbers, clock and random state."""
        if self._displaced[0]:
            raise RuntimeError("the weights are perturbed; take the state after the step")
        own = {
            "optimizer": type(self).__name__,
            "clock": self.clock,
            "passes": self.passes,
            "numbers": {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in self.numbers.items()},
            "vectors": {
                name: [held[p].clone() if p in held else None for p in self.params]
                for name, held in self.vectors.items()
            },
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
        self.clock, self.passes = int(own["clock"]), int(own["passes"])
        device = self.params[0].device
        self.numbers = {k: v.to(device, copy=True) if isinstance(v, Tensor) else v for k, v in own["numbers"].items()}
        self.vectors = {
            name: {p: t.to(p.device, copy=True) for p, t in zip(self.params, parts, strict=True) if t is not None}
            for name, parts in own["vectors"].items()
        }
        self.load_extra_state(own)

    def extra_state(self) -> dict[str, Any]:
        """Return what else a subclass keeps, such as its random state; plain values and tensors only."""
        return {}

    def load_extra_state(self, own: Mapping[str, Any]) -> None:
        """Take back what :meth:`extra_state` gave."""

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k not in NOT_KEPT}
        state.pop("step", None)  # schedulers wrap it and hold this very object
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lines=None, _phase=None, _direction=None, _displaced=([], []), _saved={})


class Plain(SharpnessAware):
    """The base optimizer alone: ω = g = ∇L(θ). One pass a step, no memory."""

    def __init__(self, base: Optimizer) -> None:
        super().__init__(base, rho=None)

    def lines(self) -> Lines:
        yield from self.updating_gradient()  # ω = ∇L(θ)
        self.base_step()  # θ ← base(ω)


def _check(base: Optimizer, rho: float | None) -> None:
    if not isinstance(base, Optimizer):
        raise ValueError(f"base is a torch.optim.Optimizer instance, got {type(base).__name__}")
    if isinstance(base, torch.optim.LBFGS):
        raise ValueError("LBFGS asks for gradients inside its own step; take a base whose step uses the ones at hand")
    if rho is not None and not rho >= 0:
        raise ValueError(f"rho is a radius and must be >= 0, got {rho}")
    _refuse_complex(base.param_groups)


def _refuse_complex(groups: Sequence[Mapping[str, Any]]) -> None:
    for group in groups:
        if any(p.is_complex() for p in group["params"]):
            raise ValueError("a complex parameter has no norm here: keep it as torch.view_as_real(parameter)")
