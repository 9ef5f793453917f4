"""Names of GROVER's tensors: ours and those of the released checkpoints, and what fine-tuning never reads."""

from __future__ import annotations

import re

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
_NEVER_READ = re.compile(
    r"grover\.encoders\.(ffn_bond_from_(atom|bond)\.|bond_from_(atom|bond)_sublayer\.|act_func_(node|edge)\.)"
    r"|grover\.encoders\.(node|edge)_blocks\.\d+\.(W_i|layernorm|act_func)\."
    r"|readout\.cached_zero_vector$"
    r"|mol_atom_from_(atom|bond)_ffn\.(5|8|11|14)\.weight$"
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
    """Tell whether fine-tuning may leave the released tensor unread: bond outputs, unused inputs and slopes."""
    return _NEVER_READ.match(released) is not None
