"""GROVER's settings as its parts see them."""

from __future__ import annotations

from dataclasses import dataclass

from samcmp.backbones.grover_messages import activation


@dataclass(frozen=True)
class Sizes:
    """The sizes of the model; the defaults are those of the released GraphSAM code (Wang et al. 2024).

    ``molecule_features`` names per-molecule descriptors that both heads read beside the molecule vector.
    """

    hidden: int = 100
    depth: int = 3
    heads: int = 4
    blocks: int = 1
    activation: str = "relu"
    dropout: float = 0.0
    bias: bool = False
    ffn_hidden: int = 200
    ffn_layers: int = 2
    disagreement: float = 0.1
    random_depth: bool = True
    self_attention: bool = False
    attention_hidden: int = 4
    attention_out: int = 128
    molecule_features: str | None = None
    molecule_width: int = 200
    padding_row: bool = False
    released_initialisation: bool = False

    def __post_init__(self) -> None:
        for name in ("hidden", "heads", "blocks", "ffn_hidden", "ffn_layers", "attention_hidden", "attention_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.depth < 0:
            raise ValueError(f"depth must be >= 0, got {self.depth}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden must be a multiple of heads, got {self.hidden} and {self.heads}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is a probability below 1, got {self.dropout}")
        activation(self.activation)
