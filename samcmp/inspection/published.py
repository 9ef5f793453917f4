"""What Wang et al. (2024) print of quantities that are measured here, on BBBP, to stand beside them."""

from __future__ import annotations

from collections.abc import Mapping

PAIRS: Mapping[str, float] = {"sam": 67.45, "graphsam": 72.46, "sam-k": 56.74, "sam-one": 40.05}  # figure 3c, per cent
ENTROPY = "Wang et al. (2024), CoMPT on BBBP: Adam 2.4130, GraphSAM 2.7239, SAM 2.8382"  # figure 10
