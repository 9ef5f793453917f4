"""Sharpness-aware optimizers around any torch optimizer: one class, one file, one paper each.

::

    from samcmp.optim import GraphSAM

    optimizer = GraphSAM(torch.optim.Adam(model.parameters()), rho=0.05, beta=0.99, anchor_every=len(loader))
    loss = optimizer.step(closure)  # closure: forward, backward, return the loss

This module is the catalogue by name; it does not import torch before an optimizer is asked for. Other packages add
optimizers through the entry-point group ``samcmp.optimizers``: each entry point is an :class:`OptimizerEntry`.
A user's own class is named ``my_sam.py:MySAM``, see :mod:`samcmp.optim.user`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samcmp.errors import unknown
from samcmp.machine import plugins
from samcmp.optim.entry import (
    ADAPTIVE,
    ANCHOR_EVERY_EPOCH,
    ANCHOR_EVERY_K_EPOCHS,
    ANCHOR_EVERY_K_STEPS,
    BY_GRADIENT,
    DRAWN,
    LAST_EPOCHS,
    SCHEDULED,
    OptimizerEntry,
    Recipe,
)

if TYPE_CHECKING:
    from torch.optim import Optimizer

ENTRY_POINTS = "samcmp.optimizers"


def _entry(
    where: str, summary: str, paper: str, passes: str, /, *, like: Mapping[str, Any] | None = None, **own: Any
) -> OptimizerEntry:
    """A line of the catalogue; ``own`` are its settings with their defaults, after those that it shares."""
    about = {key: own.pop(key) for key in ("kinds", "loss_power", "schedule") if key in own}
    module, class_name = where.split(":")
    settings = {**(like or {}), **own}
    return OptimizerEntry(f"samcmp.optim.{module}", class_name, summary, paper, passes, settings, **about)


_BALL = {"rho": 0.05, **SCHEDULED, **ADAPTIVE}
_GRAPHSAM = {**_BALL, "rho_schedule": "step", "beta": 0.99, "anchor": "raw", "norm": "global"}
_WANG = "Wang et al., ICLR 2024"
_DU = "Du et al., NeurIPS 2022, arXiv:2205.14083"

OPTIMIZERS: dict[str, OptimizerEntry] = {
    "adam": _entry("base:Plain", "Adam alone, where it is the base", "Kingma and Ba, ICLR 2015", "1"),
    "adamw": _entry("base:Plain", "AdamW alone, where it is the base", "Loshchilov and Hutter, ICLR 2019", "1"),
    "sgd": _entry("base:Plain", "SGD with momentum alone, where it is the base", "Polyak 1964", "1"),
    "sam": _entry("sam:SAM", "the gradient at the worst point of a ball", "Foret et al., ICLR 2021", "2", like=_BALL),
    "asam": _entry(
        "asam:ASAM", "SAM in units of the weights", "Kwon et al., ICML 2021", "2", like=SCHEDULED,
        rho=0.5, eta=0.01, all_tensors=False,
    ),
    "sam-one": _entry(
        "sam_k:SAMOne", "the first SAM direction for ever", f"{_WANG}, Section 4.1", "1 + 1/T", like=_BALL
    ),
    "sam-k": _entry(
        "sam_k:SAMk", "a SAM direction for k steps", f"{_WANG}, Section 4.1", "1 + 1/k",
        kinds=ANCHOR_EVERY_K_STEPS, like=_BALL, k=8,
    ),
    "sam-k-skip": _entry(
        "sam_k:SAMkSkip", "a SAM step every k steps", "Liu et al., CVPR 2022", "1 + 1/k",
        kinds=ANCHOR_EVERY_K_STEPS, like=_BALL, k=8,
    ),
    "looksam": _entry(
        "looksam:LookSAM", "re-uses the part of SAM's gradient that changes slowly", "Liu et al., CVPR 2022",
        "1 + 1/k", kinds=ANCHOR_EVERY_K_STEPS, like=_BALL, rho=1e-4, k=8, alpha=0.2, norm="global",
    ),
    "ae-sam": _entry(
        "ae_sam:AESAM", "a SAM step where the gradient is unusually long", "Jiang et al., ICLR 2023", "1 + q",
        kinds=BY_GRADIENT, like=_BALL, delta=0.9, lambda1=-1.0, lambda2=1.0, late=False,
    ),
    "rst": _entry(
        "rst:RST", "a SAM step with probability p", "Zhao et al., 2022", "1 + p", kinds=DRAWN, like=_BALL, p=0.5
    ),
    "esam": _entry(
        "esam:ESAM", "random tensors perturbed, the most affected samples updated on", "Du et al., ICLR 2022",
        "2 + 2 forward", like=_BALL, beta=0.6, gamma_data=0.5,
    ),
    "saf": _entry(
        "saf:SAF", "stays near its own earlier predictions", _DU, "1", lam=0.3, tau=5.0, gap=2, start_epoch=5,
        outputs="auto",
    ),
    "mesa": _entry(
        "mesa:MESA", "stays near the predictions of its averaged weights", _DU, "1 + 1 forward", lam=0.8, tau=5.0,
        decay=0.9995, start_epoch=5, outputs="auto",
    ),
    "vasso": _entry(
        "vasso:VaSSO", "SAM along an average of gradients", "Li and Giannakis, NeurIPS 2023", "2", like=_BALL, theta=0.9
    ),
    "graphsam": _entry(
        "graphsam:GraphSAM", "along the average of past gradients, anchored once an epoch", f"{_WANG}, Algorithm 1",
        "1 + 1/N", kinds=ANCHOR_EVERY_EPOCH, like=_GRAPHSAM,
    ),
    "graphsam-k": _entry(
        "graphsam:GraphSAM", "GraphSAM anchored every K epochs", f"{_WANG}, Section 5.4", "1 + 1/(K N)",
        kinds=ANCHOR_EVERY_K_EPOCHS, like=_GRAPHSAM, K=2,
    ),
    "graphsam-released": _entry(
        "graphsam_released:GraphSAMReleased", "GraphSAM as its authors' code really does it",
        f"{_WANG}, released code", "1 + 1/N", kinds=ANCHOR_EVERY_EPOCH, like=SCHEDULED, rho=0.05,
        rho_schedule="compounded", tensor_radius=None,
        beta=0.99, adaptive=True, first_group_only=False, loss_power=2,
    ),
    "s2-sam": _entry("s2_sam:S2SAM", "SAM along the last gradient", "Ji et al., NeurIPS 2024", "1", like=_BALL),
    "msam": _entry(  # rho: the authors' 1 around Adam's family, 0.3 around SGD
        "msam:MSAM", "against the base's momentum", "Becker et al., 2024", "1", like=_BALL, rho=None
    ),
    "f-sam": _entry(
        "f_sam:FSAM", "SAM without the full-batch part of its direction", "Li et al., CVPR 2024", "2", like=_BALL,
        rho=0.2, sigma=1.0, lmbda=0.9,
    ),
    "gsam": _entry(
        "gsam:GSAM", "also closes the gap between perturbed and plain loss", "Zhuang et al., ICLR 2022", "2",
        like=_BALL, alpha=0.4,
    ),
    "wsam": _entry(
        "wsam:WSAM", "weighs sharpness against loss", "Yue et al., KDD 2023", "2", like=_BALL, weight=0.9,
        decoupled=True,
    ),
    "late-sam": _entry(
        "late_sam:LateSAM", "SAM in the last epochs only", "Zhou et al., ICLR 2025", "1 + share",
        kinds=LAST_EPOCHS, like=_BALL, share=0.2,
    ),
    "adam-loss-weighted": _entry(
        "base:Plain", "Adam on losses that are weighted by themselves", f"{_WANG}, released SAM arms", "1",
        loss_power=2,
    ),
    "adam-released-schedule": _entry(
        "base:Plain", "Adam with the learning rates of the released Adam arm", f"{_WANG}, released CoMPT code", "1",
        schedule="compt-adam-released",
    ),
}  # fmt: skip

_CLASSES = {entry.class_name: entry.module for entry in OPTIMIZERS.values()} | {
    **dict.fromkeys(("SharpnessAware", "Phase"), "samcmp.optim.base"),
    **dict.fromkeys(("Ball", "BallPerTensor", "Adaptive", "Radius"), "samcmp.optim.radius"),
    **dict.fromkeys(
        ("RhoSchedule", "ConstantRho", "StepRho", "CompoundedRho", "ProportionalRho"), "samcmp.optim.schedules"
    ),
}


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_CLASSES])


def _third_party() -> Mapping[str, OptimizerEntry]:
    return plugins(ENTRY_POINTS, OptimizerEntry)


def names() -> list[str]:
    """Return every name that :func:`entry` knows, ours first."""
    return [*OPTIMIZERS, *(name for name in _third_party() if name not in OPTIMIZERS)]


def is_user_optimizer(name: str) -> bool:
    """Tell whether ``name`` is a user's own class, written ``file.py:Class`` or ``package.module:Class``."""
    return ":" in name


def is_foreign(name: str) -> bool:
    """Tell whether code of others runs under this name."""
    return name not in OPTIMIZERS


def entry(name: str) -> OptimizerEntry:
    """Return the catalogue's line for ``name``. Raises UsageError with the nearest name for an unknown one."""
    if is_user_optimizer(name):
        from samcmp.optim import user

        return user.entry(name)
    known = OPTIMIZERS.get(name) or _third_party().get(name)
    if known is None:
        raise unknown("optimizer", name, names())
    return known


def build(
    name: str,
    base: Optimizer,
    *,
    steps_per_epoch: int,
    epochs: int,
    seed: int,
    settings: Mapping[str, Any] | None = None,
) -> Recipe:
    """Build the named optimizer around ``base``, with what its training loop needs.

    Raises UsageError for an unknown name or setting, ValueError for a value that the optimizer refuses.
    """
    from samcmp.optim.building import assemble

    return assemble(
        name, entry(name), base, steps_per_epoch=steps_per_epoch, epochs=epochs, seed=seed, settings=settings or {}
    )
