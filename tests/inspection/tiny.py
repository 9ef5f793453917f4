"""Small models with losses that can be written down: what measurements at weights are tried on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from samcmp.inspection.weights import MeanLoss
from samcmp.training.tasks import Criterion


@dataclass(frozen=True)
class Rows:
    """A batch of plain rows."""

    x: Tensor  # (G, F)
    y: Tensor  # (G, T)

    @property
    def num_graphs(self) -> int:
        return len(self.y)


class Quadratic(nn.Module):
    """L = ½ θᵀAθ + c, whatever the batch."""

    def __init__(self, A: Tensor, theta: Tensor, c: float = 0.0) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta.clone())
        self.A, self.c = A, c

    def loss(self, batch: Any, criterion: Any) -> Tensor:
        return 0.5 * self.theta @ self.A @ self.theta + self.c


class Net(nn.Module):
    """Two layers on rows, with dropout between them."""

    def __init__(self, activation: nn.Module, *, inputs: int = 3, hidden: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(hidden, 1)

    def forward(self, batch: Rows) -> Tensor:
        out: Tensor = self.second(self.dropout(self.activation(self.first(batch.x))))
        return out


def quadratic(A: Tensor, theta: Tensor, c: float = 0.0) -> MeanLoss:
    return MeanLoss(Quadratic(A, theta, c), [Rows(theta[None], torch.zeros(1, 1))], Criterion("regression"))  # type: ignore[list-item]


def symmetric(n: int, seed: int = 0) -> Tensor:
    """A symmetric matrix with eigenvalues of both signs, float64."""
    B = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return B + B.T + torch.diag(torch.arange(n, dtype=torch.float64))


def rows(sizes: tuple[int, ...], *, inputs: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Rows]:
    """Batches of those sizes, targets real numbers."""
    g = torch.Generator().manual_seed(seed)
    return [
        Rows(torch.randn(n, inputs, generator=g).to(dtype), torch.randn(n, 1, generator=g).to(dtype)) for n in sizes
    ]


def net(activation: nn.Module, *, dtype: torch.dtype = torch.float32, sizes: tuple[int, ...] = (8, 8, 5)) -> MeanLoss:
    """The mean loss of a small trained-like network."""
    torch.manual_seed(1)
    model = Net(activation).to(dtype)
    return MeanLoss(model, rows(sizes, dtype=dtype), Criterion("regression"))  # type: ignore[arg-type]


def bits(loss: MeanLoss) -> list[Tensor]:
    return [p.detach().clone() for p in loss.model.parameters()]
