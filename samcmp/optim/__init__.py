"""Sharpness-aware optimizers around any torch optimizer: one class, one file, one paper each.

::

    from samcmp.optim import GraphSAM

    optimizer = GraphSAM(torch.optim.Adam(model.parameters()), rho=0.05, beta=0.99, anchor_every=len(loader))
    loss = optimizer.step(closure)  # closure: zero_grad, forward, backward, return the loss

This module is the catalogue by name; it does not import torch before an optimizer is asked for. Other packages add
optimizers through the entry-point group ``samcmp.optimizers``: each entry point is an :class:`Entry`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samcmp.errors import unknown
from samcmp.machine import plugins
from samcmp.optim.entries import (
    ADAPTIVE,
    ANCHOR_EVERY_EPOCH,
    ANCHOR_EVERY_K_EPOCHS,
    ANCHOR_EVERY_K_STEPS,
    BY_GRADIENT,
    DRAWN,
    LAST_EPOCHS,
    SCHEDULED,
    Entry,
    Recipe,
    StepKinds,
)

if TYPE_CHECKING:
    from torch.optim import Optimizer

ENTRY_POINTS = "samcmp.optimizers"


def _entry(
    where: str,
    summary: str,
    paper: str,
    passes: str,
    kinds: StepKinds | None = None,
    /,
    *,
    rho: float | None = None,
    **settings: Any,
) -> Entry:
    module, class_name = where.split(":")
    radius = {} if rho is None else {"rho": rho, **SCHEDULED}
    return Entry(f"samcmp.optim.{module}", class_name, summary, paper, passes, {**radius, **settings}, kinds=kinds)


def _ball(*args: Any, rho: float, **settings: Any) -> Entry:
    return _entry(*args, rho=rho, **settings, **ADAPTIVE)


_GRAPHSAM = "Wang et al., ICLR 2024"
_DU = "Du et al., NeurIPS 2022, arXiv:2205.14083"

OPTIMIZERS: dict[str, Entry] = {
    "adam": _entry("base:Plain", "Adam alone, where it is the base", "Kingma and Ba, ICLR 2015", "1"),
    "adamw": _entry("base:Plain", "AdamW alone, where it is the base", "Loshchilov and Hutter, ICLR 2019", "1"),
    "sgd": _entry("base:Plain", "SGD with momentum alone, where it is the base", "Polyak 1964", "1"),
    "sam": _ball("sam:SAM", "the gradient at the worst point of a ball", "Foret et al., ICLR 2021", "2", rho=0.05),
    "asam": _entry(
        "asam:ASAM", "SAM in units of the weights", "Kwon et al., ICML 2021", "2", rho=0.5, eta=0.01, all_tensors=False
    ),
    "sam-one": _ball(
        "sam_k:SAMOne", "the first SAM direction for ever", f"{_GRAPHSAM}, Section 4.1", "1 + 1/T", rho=0.05
    ),
    "sam-k": _ball(
        "sam_k:SAMk", "a SAM direction for k steps", f"{_GRAPHSAM}, Section 4.1", "1 + 1/k", ANCHOR_EVERY_K_STEPS,
        rho=0.05, k=8,
    ),
    "sam-k-skip": _ball(
        "sam_k:SAMkSkip", "a SAM step every k steps", "Liu et al., CVPR 2022", "1 + 1/k", ANCHOR_EVERY_K_STEPS,
        rho=0.05, k=8,
    ),
    "looksam": _ball(
        "looksam:LookSAM", "re-uses the part of SAM's gradient that changes slowly", "Liu et al., CVPR 2022",
        "1 + 1/k", ANCHOR_EVERY_K_STEPS, rho=1e-4, k=8, alpha=0.2, norm="global",
    ),
    "ae-sam": _ball(
        "ae_sam:AESAM", "a SAM step where the gradient is unusually long", "Jiang et al., ICLR 2023", "1 + q",
        BY_GRADIENT, rho=0.05, delta=0.9, lambda1=-1.0, lambda2=1.0, late=False,
    ),
    "rst": _ball(
        "rst:RST", "a SAM step with probability p", "Zhao et al., 2022", "1 + p", DRAWN, rho=0.05, p=0.5
    ),
    "esam": _ball(
        "esam:ESAM", "random tensors perturbed, the most affected samples updated on", "Du et al., ICLR 2022",
        "2 + 2 forward", rho=0.05, beta=0.6, gamma_data=0.5,
    ),
    "saf": _entry(
        "saf:SAF", "stays near its own earlier predictions", _DU, "1", lam=0.3, tau=5.0, gap=2, start_epoch=5,
        outputs="auto",
    ),
    "mesa": _entry(
        "mesa:MESA", "stays near the predictions of its averaged weights", _DU, "1 + 1 forward", lam=0.8, tau=5.0,
        decay=0.9995, start_epoch=5, outputs="auto",
    ),
    "vasso": _ball(
        "vasso:VaSSO", "SAM along an average of gradients", "Li and Giannakis, NeurIPS 2023", "2", rho=0.05, theta=0.9
    ),
    "graphsam": _ball(
        "graphsam:GraphSAM", "along the average of past gradients, anchored once an epoch", f"{_GRAPHSAM}, Algorithm 1",
        "1 + 1/N", ANCHOR_EVERY_EPOCH, rho=0.05, rho_schedule="step", beta=0.99, anchor="raw", norm="global",
    ),
    "graphsam-k": _ball(
        "graphsam:GraphSAM", "GraphSAM anchored every K epochs", f"{_GRAPHSAM}, Section 5.4", "1 + 1/(K N)",
        ANCHOR_EVERY_K_EPOCHS, rho=0.05, rho_schedule="step", beta=0.99, K=2, anchor="raw", norm="global",
    ),
    "graphsam-released": Entry(
        "samcmp.optim.graphsam_released", "GraphSAMReleased", "GraphSAM as its authors' code really does it",
        f"{_GRAPHSAM}, released code", "1 + 1/N",
        {"rho": 0.05, **SCHEDULED, "rho_schedule": "compounded", "tensor_radius": None, "beta": 0.99, "adaptive": True,
         "first_group_only": False},
        loss_power=2, kinds=ANCHOR_EVERY_EPOCH,
    ),
    "s2-sam": _ball("s2_sam:S2SAM", "SAM along the last gradient", "Ji et al., NeurIPS 2024", "1", rho=0.05),
    "msam": _ball("msam:MSAM", "against the base's momentum", "Becker et al., 2024", "1", rho=0.05),
    "f-sam": _ball(
        "f_sam:FSAM", "SAM without the full-batch part of its direction", "Li et al., CVPR 2024", "2", rho=0.2,
        sigma=1.0, lmbda=0.9,
    ),
    "gsam": _ball(
        "gsam:GSAM", "also closes the gap between perturbed and plain loss", "Zhuang et al., ICLR 2022", "2", rho=0.05,
        alpha=0.4,
    ),
    "wsam": _ball(
        "wsam:WSAM", "weighs sharpness against loss", "Yue et al., KDD 2023", "2", rho=0.05, weight=0.9, decoupled=True
    ),
    "late-sam": _ball(
        "late_sam:LateSAM", "SAM in the last epochs only", "Zhou et al., ICLR 2025", "1 + share", LAST_EPOCHS,
        rho=0.05, share=0.2,
    ),
    "adam-loss-weighted": Entry(
        "samcmp.optim.base", "Plain", "Adam on gradients multiplied by the loss", f"{_GRAPHSAM}, released SAM arms",
        "1", loss_power=2,
    ),
    "adam-released-schedule": Entry(
        "samcmp.optim.base", "Plain", "Adam with the learning rates of the released Adam arm",
        f"{_GRAPHSAM}, released CoMPT code", "1", schedule="compt-adam-released",
    ),
}  # fmt: skip

_CLASSES = {
    entry.class_name: entry.module for entry in OPTIMIZERS.values()
} | {
    **dict.fromkeys(("SharpnessAware", "Ask"), "samcmp.optim.base"),
    **dict.fromkeys(("Ball", "BallPerTensor", "Adaptive", "Radius"), "samcmp.optim.radius"),
    **dict.fromkeys(
        ("RhoSchedule", "ConstantRho", "StepRho", "CompoundedRho", "ProportionalRho"), "samcmp.optim.schedules"
    ),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_CLASSES])


def _third_party() -> Mapping[str, Entry]:
    return plugins(ENTRY_POINTS, Entry)


def names() -> list[str]:
    """Return every name that :func:`entry` knows, ours first."""
    return [*OPTIMIZERS, *(name for name in _third_party() if name not in OPTIMIZERS)]


def entry(name: str) -> Entry:
    """Return the catalogue's line for ``name``. Raises UsageError with the nearest name for an unknown one."""
    found = OPTIMIZERS.get(name) or _third_party().get(name)
    if found is None:
        raise unknown("optimizer", name, names())
    return found


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
