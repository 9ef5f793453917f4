"""Content keys: everything that decides a result, and nothing that does not.

A result is looked up by its key, so a key must change when the data, the split, the settings, the seed or the code
that runs changes, and must not change with comments, file dates or the order in which things are asked for.
Nothing here imports torch: a plan of a thousand cases is keyed in a fraction of a second.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from samcmp.records import Case, content_key

KEY_VERSION = 1  # raised when the meaning of a Case changes without its fields changing


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run rests on beyond its Case."""

    content: Mapping[str, str] = field(default_factory=dict)  # dataset, model or split-file -> hash of a user's file
    fingerprint: str = ""  # of the machine: speeds are comparable on one machine only
    cards: tuple[Path, ...] = ()  # folders of a user's dataset cards


def key_of(case: Case, inputs: Inputs) -> str:
    """Content key of ``case``: everything that decides its result, and nothing that does not."""
    decides = {
        "version": KEY_VERSION,
        "case": case,
        "dataset": dataset_hash(case.dataset, inputs),
        "files": {name: inputs.content[name] for name in (case.model, "split-file") if name in inputs.content},
        "code": _code(case),
        "torch": _version("torch"),
        "rdkit": _version("rdkit"),
    }
    if case.kind == "profile":
        decides["machine"] = inputs.fingerprint
    return content_key(decides)


_version = functools.cache(importlib.metadata.version)


def dataset_hash(name: str, inputs: Inputs) -> str:
    """The content hash of a dataset: its card's, or of the file a user gave."""
    return inputs.content[name] if name in inputs.content else _card_hash(name, inputs.cards)


@functools.cache
def _card_hash(name: str, folders: tuple[Path, ...]) -> str:
    from samcmp.data import cards

    card = cards.find(name, folders)
    return card.dataset_hash or ",".join(card.sha256)


_TRAIN_ROOTS = (
    "samcmp.train",
    "samcmp.tasks",
    "samcmp.data.molecules",
    "samcmp.data.splits",
    "samcmp.features.graphset",
    "samcmp.optim.base",
    "samcmp.optim.building",
)
_PROFILE_ROOTS = (*_TRAIN_ROOTS, "samcmp.profiling.session")
# nouns, error messages and look-ups: they carry results, they do not decide them
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BESIDE = {"errors", "files", "records", "cards", "fetch", "machine", "store", "runner", "keys"}


def _code(case: Case) -> str:
    """Hash of the code that the case runs: its roots and what they import, comments and docstrings aside."""
    import backbones
    from samcmp import optim

    roots = [*(_PROFILE_ROOTS if case.kind == "profile" else _TRAIN_ROOTS), optim.entry(case.optimizer).module]
    if ".py:" not in case.model:
        roots.append(backbones.entry(case.model).module)
    return _closure_digest(tuple(roots))


@functools.cache
def _closure_digest(roots: tuple[str, ...]) -> str:
    seen: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module in seen or module.rpartition(".")[2] in _BESIDE:
            continue
        digest, imports = _read_module(module)
        seen[module] = digest
        waiting.extend(imports)
    return hashlib.sha256("".join(f"{m}:{d};" for m, d in sorted(seen.items())).encode()).hexdigest()


@functools.cache
def _read_module(module: str) -> tuple[str, tuple[str, ...]]:
    """SHA-256 of a module's syntax tree without docstrings, and what of this project it imports; not imported."""
    path = _source(module)
    if path is None:
        return "", ()
    tree = ast.parse(path.read_bytes())
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    ours = tuple(name for name in imports if name.startswith(("samcmp.", "backbones.")))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), ours


def _source(module: str) -> Path | None:
    package, _, name = module.rpartition(".")
    try:
        spec = importlib.util.find_spec(package) if package else importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    if spec is None:
        return None
    if not package:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    return next(
        (p for root in spec.submodule_search_locations or () if (p := Path(root) / f"{name}.py").is_file()), None
    )
