"""The trajectory losses of SAF and MESA: how far predictions moved from those of a reference (Du et al. 2022, Eq. 6).

Predictions with one column a class and labels in one column are of classes. For binary labels the softmax over two
classes [0, z] makes the divergence a Bernoulli one of σ(z/τ). A regression
model has no class probabilities; the squared difference takes its place (the Gaussian divergence with unit variance,
without the factor ½ and without τ). That is an extension of this project, not of the paper.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Outputs = Literal["auto", "logits", "values"]
OUTPUTS = ("auto", "logits", "values")


def divergence(reference: Tensor, prediction: Tensor, y: Tensor, *, tau: float, outputs: Outputs) -> Tensor:
    """Return the mean over labelled entries of τ² KL(σ(z_ref/τ) ‖ σ(z/τ)), or of (z − z_ref)²: (G, T)s -> scalar.

    Of classes, predictions (G, C) and y (G, 1), σ is the softmax.

    ``y`` has NaN where a label is missing, ``reference`` where there is none. ``outputs="auto"`` takes predictions as
    logits where every label of the batch is 0 or 1, without asking the device.
    """
    if prediction.shape != y.shape:
        return _of_classes(reference, prediction, y, tau)
    known = ~(torch.isnan(y) | torch.isnan(reference))  # (G, T)
    z_ref = torch.where(known, reference, 0.0).to(prediction.dtype)
    z = torch.where(known, prediction, 0.0)
    if outputs == "logits":
        each = _bernoulli(z_ref, z, tau)
    elif outputs == "values":
        each = (z - z_ref).square()
    else:
        binary = (torch.isnan(y) | (y == 0) | (y == 1)).all()
        each = torch.where(binary, _bernoulli(z_ref, z, tau), (z - z_ref).square())
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


def _of_classes(reference: Tensor, prediction: Tensor, y: Tensor, tau: float) -> Tensor:
    known = ~(torch.isnan(y) | torch.isnan(reference).any(1, keepdim=True))  # (G, 1)
    z_ref = torch.where(known, reference, 0.0).to(prediction.dtype)
    z = torch.where(known, prediction, 0.0)
    a, b = functional.log_softmax(z_ref / tau, 1), functional.log_softmax(z / tau, 1)
    each = tau**2 * (a.exp() * (a - b)).sum(1, keepdim=True)  # (G, 1), 0 where it is not known
    return each.sum() / known.sum().clamp(min=1)


def _bernoulli(z_ref: Tensor, z: Tensor, tau: float) -> Tensor:
    a, b = z_ref / tau, z / tau
    p = torch.sigmoid(a)
    up = functional.logsigmoid(a) - functional.logsigmoid(b)
    down = functional.logsigmoid(-a) - functional.logsigmoid(-b)
    return tau**2 * (p * up + (1 - p) * down)
