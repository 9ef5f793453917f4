"""What the chemprop family shares after message passing: the head of two layers, and how weights start."""

from __future__ import annotations

from torch import nn


def two_layers(inputs: int, hidden: int, *, tasks: int, dropout: float) -> nn.Sequential:
    """Return the head: dropout, linear, relu, dropout, linear (Yang et al. 2019, chemprop 1)."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, tasks),
    )


def initialise(model: nn.Module) -> None:
    """Set weights as chemprop 1 and CMPNN do: matrices Xavier normal, vectors zero."""
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.zeros_(parameter)
        else:
            nn.init.xavier_normal_(parameter)
