"""Names of GROVER's tensors: ours and those of the released checkpoints, and what fine-tuning never reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_ENCODER = "grover.encoders."
_VIEWS = {"nodes": "node_blocks", "edges": "edge_blocks"}
_BLOCK_PARTS = {
    "inlet.linear": "W_i",
    "inlet.activation": "act_func",
    "inlet.norm": "layernorm",
    "projections.0": "attn.linear_layers.0",
    "projections.1": "attn.linear_layers.1",
    "projections.2": "attn.linear_layers.2",
    "output": "attn.output_linear",
    "join": "W_o",
    "norm": "sublayer.norm",
}
_BRANCHES = {"nodes": "atom_from_atom", "edges": "atom_from_bond"}
_OUTLET_PARTS = {
    "expand": "ffn_{}.W_1",
    "contract": "ffn_{}.W_2",
    "activation": "ffn_{}.act_func",
    "norm": "{}_sublayer.norm",
}
_SETTINGS = {"hidden": "hidden_size", "depth": "depth", "heads": "num_attn_head", "blocks": "num_mt_block"}
_NEVER_READ = re.compile(
    r"grover\.encoders\.(ffn_bond_from_(atom|bond)\.|bond_from_(atom|bond)_sublayer\.|act_func_(node|edge)\.)"
    r"|grover\.encoders\.(node|edge)_blocks\.\d+\.(W_i|layernorm|act_func)\."
)


def released_name(name: str) -> str:
    """Return the released checkpoints' name for our tensor ``name``; ``KeyError`` where there is none."""
    stem, _, leaf = name.rpartition(".")
    first, *rest = stem.split(".")
    if first in _VIEWS:
        return f"{_ENCODER}{_VIEWS[first]}.{rest[1]}.{_block_part('.'.join(rest[2:]))}.{leaf}"
    kind, _, view = first.partition("_")
    branch = _BRANCHES.get(view, "")
    part = ".".join(rest)
    if kind == "from":
        return f"{_ENCODER}{_OUTLET_PARTS[part].format(branch)}.{leaf}"
    if kind == "head":
        # The released head is a flat list: dropout, linear, then (activation, dropout, linear) for each further layer.
        place = 2 if part == "activation" else 1 + 3 * int(part.removeprefix("linears."))
        return f"mol_{branch}_ffn.{place}.{leaf}"
    if stem in ("readout.attention.0", "readout.attention.1"):
        return f"readout.attn.w{int(stem[-1]) + 1}"
    raise KeyError(name)


def _block_part(part: str) -> str:
    found = re.fullmatch(r"networks\.(\d+)\.(linear|activation)", part)
    if found is None:
        return _BLOCK_PARTS[part]
    head, role = divmod(int(found[1]), 3)
    return f"heads.{head}.mpn_{'qkv'[role]}.{'W_h' if found[2] == 'linear' else 'act_func'}"


def never_read(released: str) -> bool:
    """Tell whether fine-tuning may leave the released tensor unread.

    These are the bond outputs, unused inputs and slopes, heads (they belong to a task) and pre-training's own parts.
    """
    return not released.startswith(_ENCODER) or _NEVER_READ.match(released) is not None


def released_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a released checkpoint's ``arguments`` name and that its tensors need."""
    activations = {"relu": "relu", "leakyrelu": "leaky_relu", "prelu": "prelu", "tanh": "tanh"}
    activations |= {"selu": "selu", "elu": "elu"}
    found: dict[str, Any] = {
        ours: int(arguments[theirs]) for ours, theirs in _SETTINGS.items() if arguments.get(theirs) is not None
    }
    if arguments.get("bias") is not None:
        found["bias"] = bool(arguments["bias"])
    name = str(arguments.get("activation", "")).lower()
    if name in activations:
        found["activation"] = activations[name]
    return found
