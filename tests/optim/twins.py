"""A plain twin of every optimizer of the catalogue, in numpy, written from its paper's equations and not from our code.

A twin is a generator: it is given the problem, the first parameters and a base optimizer, and yields the parameters
after every step with the gradients that the step took. Nothing here imports samcmp or torch. Letters are the papers';
θ is one flat vector, ``problem.tensors(v)`` are views of v, a parameter tensor each.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Twin = Iterator[tuple[Vector, int]]
EPOCHS, STEPS_PER_EPOCH, BATCH = 4, 10, 32
T = EPOCHS * STEPS_PER_EPOCH
SHAPES = ((16, 12), (16,), (1, 16), (1,))
SIZES = [math.prod(shape) for shape in SHAPES]
IS_WEIGHT = np.repeat([len(shape) > 1 for shape in SHAPES], SIZES)
DELTA = 1e-12


def sigmoid(z: Vector) -> Vector:
    return 1 / (1 + np.exp(-z))


class Problem:
    """A 12-16-1 tanh network, binary cross-entropy, 40 batches of 32 samples in four epochs, gradients by hand."""

    def __init__(self) -> None:
        draw = np.random.default_rng(5)
        self.x = draw.standard_normal((STEPS_PER_EPOCH * BATCH, 12))
        self.y = (self.x[:, :3].sum(1) + draw.standard_normal(len(self.x)) > 0).astype(np.float64)
        order = [draw.permutation(len(self.x)).reshape(STEPS_PER_EPOCH, BATCH) for _ in range(EPOCHS)]
        self.rows = np.concatenate(order)  # (T, BATCH)
        self.theta = np.concatenate([draw.standard_normal(n) * 0.3 for n in SIZES])
        self.theta[-1] = 0.0  # a tensor of zeros, as a new layer's bias

    def tensors(self, v: Vector) -> list[Vector]:
        return np.split(v, np.cumsum(SIZES)[:-1])

    def outputs(self, theta: Vector, t: int) -> tuple[Vector, Vector, Vector]:
        """Return logits (G,), hidden values (G, 16) and inputs (G, 12) of step t's batch."""
        w1, b1, w2, b2 = (v.reshape(shape) for v, shape in zip(self.tensors(theta), SHAPES, strict=True))
        x = self.x[self.rows[t]]
        h = np.tanh(x @ w1.T + b1)
        return (h @ w2.T + b2)[:, 0], h, x

    def losses(self, theta: Vector, t: int) -> Vector:
        z = self.outputs(theta, t)[0]
        return np.logaddexp(0, z) - self.y[self.rows[t]] * z  # type: ignore[no-any-return]

    def gradient(
        self, theta: Vector, t: int, *, keep: Any = slice(None), dz: Callable[[Vector], Vector] | None = None
    ) -> Vector:
        """∇ of the mean loss over ``keep``; ``dz`` adds a term's own derivative by the logits."""
        z, h, x = self.outputs(theta, t)
        weight = np.zeros(BATCH)
        weight[keep] = 1 / len(weight[keep])
        back = (sigmoid(z) - self.y[self.rows[t]]) * weight
        if dz is not None:
            back = back + dz(z)
        w2 = self.tensors(theta)[2]
        hidden = back[:, None] * w2 * (1 - h**2)
        return np.concatenate([(hidden.T @ x).ravel(), hidden.sum(0), back @ h, [back.sum()]])


class SGD:
    def __init__(self, lr: float = 0.05, mu: float = 0.9) -> None:
        self.lr, self.mu, self.momentum = lr, mu, np.zeros(sum(SIZES))

    def __call__(self, theta: Vector, omega: Vector) -> Vector:
        self.momentum = self.mu * self.momentum + omega
        return theta - self.lr * self.momentum


class Adam:
    def __init__(self, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        self.lr, self.beta1, self.beta2, self.eps, self.t = lr, beta1, beta2, eps, 0
        self.momentum, self.v = np.zeros(sum(SIZES)), np.zeros(sum(SIZES))

    def __call__(self, theta: Vector, omega: Vector) -> Vector:
        self.t += 1
        self.momentum = self.beta1 * self.momentum + (1 - self.beta1) * omega
        self.v = self.beta2 * self.v + (1 - self.beta2) * omega**2
        m_hat, v_hat = self.momentum / (1 - self.beta1**self.t), self.v / (1 - self.beta2**self.t)
        return theta - self.lr * m_hat / (np.sqrt(v_hat) + self.eps)


Base = Any  # SGD or Adam
norm = np.linalg.norm


def unit(v: Vector, delta: float = DELTA) -> Vector:
    return v / (norm(v) + delta)


def epsilon(theta: Vector, d: Vector, rho: float, *, adaptive: bool = False, eta: float = 0.01) -> Vector:
    """SAM's ε = ρ d/‖d‖, or ASAM's ε = ρ T²d/‖Td‖ with T = |θ| + η on weights and 1 elsewhere."""
    if not adaptive:
        return rho * unit(d)
    t = np.where(IS_WEIGHT, np.abs(theta) + eta, 1.0)
    return rho * t**2 * d / (norm(t * d) + DELTA)


def rho_at(t: int, rho: float, rho_schedule: str, gamma: float, period: int) -> float:
    m = (t // STEPS_PER_EPOCH) // period
    return rho * {"constant": 1.0, "step": gamma**m, "compounded": gamma ** (m * (m + 1) / 2)}[rho_schedule]


# ---- one function an optimizer


def adam(p: Problem, theta: Vector, base: Base, /) -> Twin:
    for t in range(T):
        theta = base(theta, p.gradient(theta, t))
        yield theta, 1


def adam_loss_weighted(p: Problem, theta: Vector, base: Base, /) -> Twin:
    for t in range(T):
        theta = base(theta, p.losses(theta, t).mean() * p.gradient(theta, t))
        yield theta, 1


def sam(
    p: Problem, theta: Vector, base: Base, /, *, rho: float = 0.05, rho_schedule: str = "constant", gamma: float = 0.5,
    period: int = 1, on: Callable[[int], bool] = lambda t: True, **metric: Any,
) -> Twin:  # fmt: skip
    """Foret et al.: ω = ∇L(θ + ρ g/‖g‖); ``on`` says at which steps."""
    for t in range(T):
        perturbs = on(t)
        omega = g = p.gradient(theta, t)
        if perturbs:
            omega = p.gradient(theta + epsilon(theta, g, rho_at(t, rho, rho_schedule, gamma, period), **metric), t)
        theta = base(theta, omega)
        yield theta, 1 + perturbs


def asam(
    p: Problem, theta: Vector, base: Base, /, *, rho: float = 0.5, eta: float = 0.01, all_tensors: bool = False
) -> Twin:
    """Kwon et al.: ε = ρ T²g/‖Tg‖."""
    t_of = (lambda v: np.abs(v) + eta) if all_tensors else (lambda v: np.where(IS_WEIGHT, np.abs(v) + eta, 1.0))
    for t in range(T):
        g, scale = p.gradient(theta, t), t_of(theta)
        theta = base(theta, p.gradient(theta + rho * scale**2 * g / (norm(scale * g) + DELTA), t))
        yield theta, 2


def sam_k(p: Problem, theta: Vector, base: Base, /, *, rho: float = 0.05, k: float = 8, **metric: Any) -> Twin:
    """Wang et al., Section 4.1: the direction of the last step with t % k = 0."""
    d = np.zeros_like(theta)
    for t in range(T):
        if t % k == 0:
            d = p.gradient(theta, t)
        theta = base(theta, p.gradient(theta + epsilon(theta, d, rho, **metric), t))
        yield theta, 1 + (t % k == 0)


def sam_one(p: Problem, theta: Vector, base: Base, /, **settings: Any) -> Twin:
    return sam_k(p, theta, base, k=math.inf, **settings)


def sam_k_skip(p: Problem, theta: Vector, base: Base, /, *, k: int = 8, **settings: Any) -> Twin:
    return sam(p, theta, base, on=lambda t: t % k == 0, **settings)


def rst(p: Problem, theta: Vector, base: Base, /, *, seed: int, **settings: Any) -> Twin:
    """Zhao et al.: a SAM step with probability p; the draws are numpy's."""
    chance = settings.pop("p", 0.5)  # the paper's p
    draws = np.random.default_rng(seed).random(T)
    return sam(p, theta, base, on=lambda t: bool(draws[t] < chance), **settings)


def late_sam(p: Problem, theta: Vector, base: Base, /, *, share: float = 0.2, **settings: Any) -> Twin:
    """Zhou et al.: SAM in the last share of the epochs."""
    first_epoch = math.floor((1 - share) * EPOCHS + 1e-9)
    return sam(p, theta, base, on=lambda t: t // STEPS_PER_EPOCH >= first_epoch, **settings)


def looksam(
    p: Problem, theta: Vector, base: Base, /, *, rho: float = 1e-4, k: int = 8, alpha: float = 0.2, norm: str = "global"
) -> Twin:
    """Liu et al., Algorithm 1. Per tensor, the two public implementations add 1e-8 to ‖g_v‖."""
    pieces = (
        [slice(None)] if norm == "global" else [slice(e - n, e) for e, n in zip(np.cumsum(SIZES), SIZES, strict=True)]
    )
    small = 0.0 if norm == "global" else 1e-8
    g_v = np.zeros_like(theta)
    for t in range(T):
        omega = g = p.gradient(theta, t)
        if t % k == 0:
            omega = g_s = p.gradient(theta + rho * unit(g), t)
            for s in pieces:
                g_v[s] = g_s[s] - (g[s] @ g_s[s]) / (g[s] @ g[s]) * g[s]
        else:
            omega = g.copy()
            for s in pieces:
                omega[s] += alpha * np.linalg.norm(g[s]) / (np.linalg.norm(g_v[s]) + small) * g_v[s]
        theta = base(theta, omega)
        yield theta, 1 + (t % k == 0)


def ae_sam(
    p: Problem, theta: Vector, base: Base, /, *, rho: float = 0.05, delta: float = 0.9, lambda1: float = -1.0,
    lambda2: float = 1.0, late: bool = False,
) -> Twin:  # fmt: skip
    """Jiang et al.: a SAM step iff ‖g‖² ≥ μ + c_t √s. ``late``: step t decides by the norm of step t−1."""
    mu, s, before = 0.0, math.exp(-10), math.nan
    for t in range(T):
        g = p.gradient(theta, t)
        n = before if late else g @ g
        sharp = late and t == 0
        if not math.isnan(n):
            mu = delta * mu + (1 - delta) * n
            s = delta * s + (1 - delta) * (n - mu) ** 2
            c = t / T * lambda1 + (1 - t / T) * lambda2
            sharp = n >= mu + c * math.sqrt(s)
        before = g @ g
        theta = base(theta, p.gradient(theta + rho * unit(g), t) if sharp else g)
        yield theta, 1 + bool(sharp)


def esam(
    p: Problem,
    theta: Vector,
    base: Base,
    /,
    *,
    seed: int,
    rho: float = 0.05,
    beta: float = 0.6,
    gamma_data: float = 0.5,
) -> Twin:
    """Du et al. 2022: ε on tensors kept with probability β, ω on the samples whose loss ε raises most."""
    draw = random.Random(seed)
    kept = [True] * len(SIZES)
    for t in range(T):
        g = p.gradient(theta, t) * np.repeat(kept, SIZES)
        eps = rho * unit(g, 1e-7) / beta
        rise = p.losses(theta + eps, t) - p.losses(theta, t)
        keep = rise > np.sort(rise)[-int(gamma_data * BATCH)]
        theta = base(theta, p.gradient(theta + eps, t, keep=keep if keep.any() else slice(None)))
        kept = [draw.random() < beta for _ in SIZES]
        yield theta, 2


def _divergence_dz(z_ref: Vector, tau: float) -> Callable[[Vector], Vector]:
    """d/dz of τ² mean KL(σ(z_ref/τ) ‖ σ(z/τ))."""
    return lambda z: tau * (sigmoid(z / tau) - sigmoid(z_ref / tau)) / len(z)


def saf(
    p: Problem, theta: Vector, base: Base, /, *, lam: float = 0.3, tau: float = 5.0, gap: int = 2, start_epoch: int = 5
) -> Twin:
    """Du et al. 2022b: L + λτ²KL to the logits of the same samples Ẽ epochs ago."""
    logits = np.full((EPOCHS, len(p.x)), np.nan)
    for t in range(T):
        e = t // STEPS_PER_EPOCH
        logits[e, p.rows[t]] = p.outputs(theta, t)[0]
        dz = None
        if e > start_epoch and e >= gap:
            inner = _divergence_dz(logits[e - gap, p.rows[t]], tau)
            dz = lambda z, inner=inner: lam * inner(z)  # noqa: E731
        theta = base(theta, p.gradient(theta, t, dz=dz))
        yield theta, 1


def mesa(
    p: Problem, theta: Vector, base: Base, /, *, lam: float = 0.8, tau: float = 5.0, decay: float = 0.9995,
    start_epoch: int = 5,
) -> Twin:  # fmt: skip
    """Du et al. 2022b: L + λτ²KL to the logits at the averaged weights v ← βv + (1−β)θ."""
    v = theta
    for t in range(T):
        dz = None
        if t // STEPS_PER_EPOCH > start_epoch:
            inner = _divergence_dz(p.outputs(v, t)[0], tau)
            dz = lambda z, inner=inner: lam * inner(z)  # noqa: E731
        theta = base(theta, p.gradient(theta, t, dz=dz))
        v = decay * v + (1 - decay) * theta
        yield theta, 1


def vasso(p: Problem, x: Vector, base: Base, /, *, rho: float = 0.05, theta: float = 0.9) -> Twin:
    """Li and Giannakis: d ← (1−ϑ)d + ϑg, d₀ = g₀; their code adds 1e-7 to ‖d‖."""
    d = None
    for t in range(T):
        g = p.gradient(x, t)
        d = g if d is None else (1 - theta) * d + theta * g
        x = base(x, p.gradient(x + rho * unit(d, 1e-7), t))
        yield x, 2


def graphsam(
    p: Problem, theta: Vector, base: Base, /, *, rho: float = 0.05, rho_schedule: str = "step", gamma: float = 0.5,
    period: int = 1, beta: float = 0.99, K: int = 1, anchor: str = "raw", norm: str = "global", **metric: Any,
) -> Twin:  # fmt: skip
    """Wang et al., Algorithm 1 and Equations 3 and 4; K: anchored in every K-th epoch only."""
    d = omega = np.zeros_like(theta)
    for t in range(T):
        e, i = divmod(t, STEPS_PER_EPOCH)
        if anchors := i == 0 and e % K == 0:
            d = p.gradient(theta, t)
            d = unit(d) if anchor == "unit" else d
        elif norm == "global":
            d = beta * d + (1 - beta) * unit(omega)
        else:
            d = beta * d + (1 - beta) * np.concatenate([unit(part) for part in p.tensors(omega)])
        omega = p.gradient(theta + epsilon(theta, d, rho_at(t, rho, rho_schedule, gamma, period), **metric), t)
        theta = base(theta, omega)
        yield theta, 1 + anchors


def graphsam_k(p: Problem, theta: Vector, base: Base, /, *, K: int = 2, **settings: Any) -> Twin:
    return graphsam(p, theta, base, K=K, **settings)


def graphsam_released(
    p: Problem, theta: Vector, base: Base, /, *, rho: float = 0.05, rho_schedule: str = "compounded",
    gamma: float = 0.5, period: int = 1, tensor_radius: float | None = None, beta: float = 0.99, adaptive: bool = True,
    first_group_only: bool = False,
) -> Twin:  # fmt: skip
    """github.com/YL-wang/GraphSAM as it runs where gradients are zeroed in place; ω is L ∇L, the anchor ∇L."""
    d = omega = np.zeros_like(theta)
    for t in range(T):
        anchors = t % STEPS_PER_EPOCH == 0
        rho_t, radius = (rho_at(t, r, rho_schedule, gamma, period) for r in (rho, tensor_radius or rho))
        if anchors:
            d = p.gradient(theta, t)
            scale = rho_t / (norm((np.abs(theta) if adaptive else 1) * d) + DELTA)
        else:
            unit_k = [w / norm(w + 1e-8) for w in p.tensors(omega)]
            d = beta * d + (1 - beta) * np.concatenate(unit_k)
            scale = rho_t / DELTA  # the norm of gradients just zeroed
        eps = (theta**2 if adaptive else 1) * d * scale
        eps = np.concatenate([e * min(1.0, radius / norm(e)) if norm(e) > 0 else e for e in p.tensors(eps)])
        omega = p.losses(theta + eps, t).mean() * p.gradient(theta + eps, t)
        theta = base(theta, omega)
        yield theta, 1 + anchors


def s2_sam(p: Problem, theta: Vector, base: Base, /, *, rho: float = 0.05) -> Twin:
    """Ji et al.: along the last ω; nothing at the first step."""
    omega = np.zeros_like(theta)
    for t in range(T):
        omega = p.gradient(theta + rho * unit(omega), t)
        theta = base(theta, omega)
        yield theta, 1


def msam(p: Problem, theta: Vector, base: Base, /) -> Twin:
    """Becker et al.: against the base's momentum, nothing at the first step; ρ 0.3 for SGD, 1 for Adam's family."""
    rho = 0.3 if isinstance(base, SGD) else 1.0
    for t in range(T):
        theta = base(theta, p.gradient(theta - rho * unit(base.momentum), t))
        yield theta, 1


def f_sam(
    p: Problem, theta: Vector, base: Base, /, *, rho: float = 0.2, sigma: float = 1.0, lmbda: float = 0.9
) -> Twin:
    """Li et al.: d = g − σm, m ← λm + (1−λ)g; as in the authors' code d takes the m before, and d₀ = m₀ = g₀."""
    m = None
    for t in range(T):
        g = p.gradient(theta, t)
        d, m = (g, g) if m is None else (g - sigma * m, lmbda * m + (1 - lmbda) * g)
        theta = base(theta, p.gradient(theta + rho * unit(d), t))
        yield theta, 2


def gsam(p: Problem, theta: Vector, base: Base, /, *, rho: float = 0.05, alpha: float = 0.4) -> Twin:
    """Zhuang et al.: ω = g_p − α g_⊥, g_⊥ the part of g across g_p."""
    for t in range(T):
        g = p.gradient(theta, t)
        g_p = p.gradient(theta + rho * unit(g), t)
        theta = base(theta, g_p - alpha * (g - (g @ g_p) / (g_p @ g_p) * g_p))
        yield theta, 2


def wsam(
    p: Problem, theta: Vector, base: Base, /, *, rho: float = 0.05, weight: float = 0.9, decoupled: bool = True
) -> Twin:
    """Yue et al., Algorithm 2 (decoupled: base(g), then θ ← θ − lr·a(g_p − g)) and 1 (ω = a g_p + (1−a) g)."""
    a = weight / (1 - weight)
    for t in range(T):
        g = p.gradient(theta, t)
        g_p = p.gradient(theta + rho * unit(g), t)
        if decoupled:
            theta = base(theta, g) - base.lr * a * (g_p - g)
        else:
            theta = base(theta, a * g_p + (1 - a) * g)
        yield theta, 2


TWINS: dict[str, Callable[..., Twin]] = {
    "adam": adam, "adamw": adam, "sgd": adam,  # the base alone, whichever it is
    "adam-loss-weighted": adam_loss_weighted, "adam-released-schedule": adam, "sam": sam, "asam": asam,
    "sam-one": sam_one, "sam-k": sam_k, "sam-k-skip": sam_k_skip, "looksam": looksam, "ae-sam": ae_sam, "rst": rst,
    "esam": esam, "saf": saf, "mesa": mesa, "vasso": vasso, "graphsam": graphsam, "graphsam-k": graphsam_k,
    "graphsam-released": graphsam_released, "s2-sam": s2_sam, "msam": msam, "f-sam": f_sam, "gsam": gsam,
    "wsam": wsam, "late-sam": late_sam,
}  # fmt: skip
SEEDED = ("rst", "esam")


def run(
    name: str, base: str, *, seed: int, problem: Problem | None = None, **settings: Any
) -> tuple[Vector, list[int]]:
    """Return the parameters before and after every step, (T + 1, P), and the gradients that each step took."""
    p = Problem() if problem is None else problem
    seeds = {"seed": seed} if name in SEEDED else {}
    steps = list(TWINS[name](p, p.theta, {"adam": Adam, "sgd": SGD}[base](), **seeds, **settings))
    return np.stack([p.theta, *(theta for theta, _ in steps)]), [int(passes) for _, passes in steps]
