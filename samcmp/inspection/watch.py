"""A closure that watches the optimizer that calls it, and changes nothing: weights, gradients, random streams, losses.

It takes the place of a trainer's closure, which is all that an optimizer calls. Of step t with its batch B_t it keeps

- g_t = ∇L_{B_t}(θ_t), SAM's true perturbation gradient, in training mode with the masks of the step's first pass,
  without a loss power or a loss term;
- ε̂_t, the displacement at which the step's last pass was made;
- ω_t, the gradient of that pass, before the optimizer edits it;

as their inner products, and those with the step before, summed in float64.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samcmp.training.loop import model_loss

if TYPE_CHECKING:
    from samcmp.training.loop import Batch, StepClosure

CHUNK = 1 << 13  # elements: a block of all vectors in float64 stays in a core's cache
BALL = 0.05  # a step is a ball's where its length is its group's ρ to this share
G, G_BEFORE, EPSILON, EPSILON_BEFORE, OMEGA, OMEGA_BEFORE = range(6)  # the vectors of a Gram matrix
FORWARD = 1 / 3  # of a pass


@dataclass(frozen=True, slots=True)
class Steps:
    """What was watched of T steps."""

    gram: NDArray[np.float64]  # (T, 6, 6) inner products of g_t, g_{t-1}, ε̂_t, ε̂_{t-1}, ω_t, ω_{t-1}
    true: NDArray[np.bool_]  # (T,) whether g_t was taken
    at_theta: NDArray[np.bool_]  # (T,) whether a pass was made at θ_t
    loss: NDArray[np.float64]  # (T,) L(θ + ε̂) of a step that is approximated and a ball's, else NaN
    sam_loss: NDArray[np.float64]  # (T,) L(θ + ρ g/‖g‖) with the same batch and masks, of the same steps
    rho: NDArray[np.float64]  # (T,) of the optimizer's groups; NaN where they have none or several
    passes: float  # gradient evaluations beyond the training's


class Watch:
    """What an optimizer's ``step`` calls in place of ``closure``, to which everything is handed on.

    Raises ValueError for a model without a trained parameter.

    Args:
        every: true gradients at the steps t with t mod every in {0, 1}, so that changes have neighbours.
        rho: the optimizer's radius now; None where there is none, or several.
    """

    def __init__(self, closure: StepClosure, *, every: int = 1, rho: Callable[[], float | None] = lambda: None) -> None:
        self.closure = closure
        self.every = every
        self._rho = rho
        self._parameters = [p for p in closure.model.parameters() if p.requires_grad]
        if not self._parameters:
            raise ValueError("the model has no trained parameter")
        first = self._parameters[0]
        dtype = functools.reduce(torch.promote_types, (p.dtype for p in self._parameters), torch.float32)
        rows = torch.zeros(7, sum(p.numel() for p in self._parameters), dtype=dtype, device=first.device)
        self._vectors, self._theta = rows[:6], rows[6]
        self._views = [self._split(row) for row in rows]  # each row as tensors of the parameters' shapes
        self._cuda = [first.device] if first.device.type == "cuda" else []
        self._chunk = rows.shape[1] if self._cuda else CHUNK
        self._streams: tuple[Tensor, ...] = ()
        self._t = -1
        self._calls = 0
        self._true = self._at_theta = False
        self._losses: tuple[Any, Any] = (math.nan, math.nan)
        self._gram: list[Tensor] = []
        self._flags: list[tuple[bool, bool]] = []
        self._compared: list[tuple[Any, Any]] = []
        self._rhos: list[float] = []
        self.extra_passes = 0.0

    def __getattr__(self, name: str) -> Any:
        if name == "closure":  # not set yet: a copy is being made
            raise AttributeError(name)
        return getattr(self.closure, name)

    # ---- what an optimizer and a trainer see

    @property
    def batch(self) -> Batch | None:
        """The step's batch; setting it ends the step before and begins one."""
        return self.closure.batch

    @batch.setter
    def batch(self, batch: Batch | None) -> None:
        self._end()
        self.closure.batch = batch
        self._t += 1
        self._calls = 0
        self._true = self._at_theta = False
        self._losses = math.nan, math.nan
        torch._foreach_copy_(self._views[6], [p.detach() for p in self._parameters])
        self._streams = self._random_state()

    def __call__(self) -> Tensor:
        return self._pass(self.closure, plain=self.closure.loss_power == 1)

    def plain(self) -> Tensor:
        """Take the closure's pass without a loss power."""
        return self._pass(self.closure.plain, plain=True)

    def on(self, keep: Tensor) -> Tensor:
        """Take the closure's pass with the mean over the graphs in ``keep``, (G,) boolean."""
        return self._pass(functools.partial(self.closure.on, keep), plain=False)

    # ---- a step

    def _pass(self, take: Callable[[], Tensor], *, plain: bool) -> Tensor:
        """Take the optimizer's pass; before it note where it is, and after it what came of it."""
        now = self._t % 2
        epsilon = self._vectors[EPSILON + now]
        torch._foreach_copy_(self._views[EPSILON + now], [p.detach() for p in self._parameters])
        epsilon.sub_(self._theta)  # ε̂ = weights - θ
        here = not bool(epsilon.any())
        undisturbed = self.closure.loss_term is None and self._same(self._streams)
        wanted = self.every <= 2 or self._t % self.every in (0, 1)
        serves = here and plain and undisturbed  # this pass gives g itself
        compares = False
        if wanted and not self._true and not serves:
            compares = not here and self._calls == 0 and self._is_ball(epsilon)
            self._probe(now, compare=compares)
        loss = take()
        gradients = self._views[OMEGA + now]
        torch._foreach_copy_(gradients, self._gradients())
        if wanted and not self._true:
            self._vectors[G + now].copy_(self._vectors[OMEGA + now])
            self._true = True
        if compares:
            self._losses = (loss.detach() if undisturbed else math.nan), self._losses[1]
        self._calls += 1
        self._at_theta |= here
        return loss

    def _gradients(self) -> list[Tensor]:
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]

    def _is_ball(self, epsilon: Tensor) -> bool:
        rho = self._rho()
        if rho is None:
            return False
        return abs(float(torch.linalg.vector_norm(epsilon, dtype=torch.float64)) - abs(rho)) <= BALL * abs(rho)

    def _probe(self, now: int, *, compare: bool) -> None:
        """Take g at θ, and the loss at θ + ρ g/‖g‖ where steps are compared; all else is as it was afterwards."""
        model, batch = self.closure.model, self.closure.batch
        if batch is None:
            raise ValueError("set .batch before the optimizer's step")
        weights = [p.detach().clone() for p in self._parameters]
        g = self._vectors[G + now]
        with self._as_before(model):
            try:
                self._hold(self._theta)
                with torch.enable_grad():
                    loss = model_loss(model, batch, self.closure.criterion)
                    parts = torch.autograd.grad(loss, self._parameters, allow_unused=True)
                zeroed = [torch.zeros_like(p) if d is None else d for p, d in zip(self._parameters, parts, strict=True)]
                torch._foreach_copy_(self._views[G + now], zeroed)
                self._true = True
                self.extra_passes += 1
                if compare:
                    self._set_random_state(self._streams)
                    length = torch.linalg.vector_norm(self._vectors[EPSILON + now], dtype=torch.float64)
                    scale = length / torch.linalg.vector_norm(g, dtype=torch.float64)
                    self._hold(self._theta + scale.to(g.dtype) * g)  # θ + ρ g/‖g‖
                    with torch.no_grad():
                        self._losses = math.nan, model_loss(model, batch, self.closure.criterion)
                    self.extra_passes += FORWARD
            finally:
                torch._foreach_copy_([p.data for p in self._parameters], weights)

    def _hold(self, flat: Tensor) -> None:
        # through .data: an optimizer may still go through a graph that it made before
        torch._foreach_copy_([p.data for p in self._parameters], self._split(flat))

    @contextlib.contextmanager
    def _as_before(self, model: nn.Module) -> Iterator[None]:
        """Draw what the step's first pass draws; random streams and buffers are as they were afterwards."""
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        with torch.random.fork_rng(self._cuda):
            self._set_random_state(self._streams)
            try:
                yield
            finally:
                for buffer, held in buffers:
                    buffer.data.copy_(held)

    def _end(self) -> None:
        """Sum up the step that is over."""
        if self._t < 0 or not self._calls:
            return
        self._calls = 0
        k = self._t % 2
        products = torch.zeros(3, 6, dtype=torch.float64, device=self._vectors.device)  # of this step's with all
        for block in torch.split(self._vectors, self._chunk, dim=1):
            wide = block.double()
            products.addmm_(wide[k::2], wide.T)
        now, before = products[:, k::2], products[:, 1 - k :: 2]
        earlier = self._gram[-1][::2, ::2] if self._gram else torch.zeros_like(now)
        gram = torch.empty(6, 6, dtype=torch.float64, device=products.device)
        gram[::2, ::2], gram[::2, 1::2], gram[1::2, ::2], gram[1::2, 1::2] = now, before, before.T, earlier
        self._gram.append(gram)
        self._flags.append((self._true, self._at_theta))
        self._compared.append(self._losses)
        rho = self._rho()
        self._rhos.append(math.nan if rho is None else abs(rho))

    def steps(self) -> Steps:
        """Return what was watched until now; the step under way counts as over."""
        self._end()
        count = len(self._gram)
        gram = torch.stack(self._gram).cpu().numpy() if count else np.zeros((0, 6, 6))
        flags = np.array(self._flags, dtype=bool).reshape(count, 2)
        compared = np.array([[float(x) for x in pair] for pair in self._compared]).reshape(count, 2)
        # only approximated steps compare: not those that made another pass at θ
        compared[flags[:, 1]] = math.nan
        rho = np.array(self._rhos, dtype=np.float64)
        return Steps(gram, flags[:, 0], flags[:, 1], compared[:, 0], compared[:, 1], rho, self.extra_passes)

    # ---- random streams, and the rows as tensors

    def _random_state(self) -> tuple[Tensor, ...]:
        return (torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._cuda))

    def _set_random_state(self, states: Sequence[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for device, state in zip(self._cuda, states[1:], strict=True):
            torch.cuda.set_rng_state(state, device)

    def _same(self, states: Sequence[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(self._random_state(), states, strict=True))

    def _split(self, flat: Tensor) -> list[Tensor]:
        parts = torch.split(flat, [p.numel() for p in self._parameters])
        return [part.view(p.shape) for part, p in zip(parts, self._parameters, strict=True)]
