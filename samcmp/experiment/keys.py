"""Content keys: everything that decides a result, and nothing that does not.

A result is looked up by its key, so a key must change when the data, the split, the settings, the seed or the code
that runs changes, and must not change with comments, file dates or the order in which things are asked for.
Nothing here imports torch: a plan of a thousand cases is keyed in a fraction of a second.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from samcmp.errors import SamcmpError
from samcmp.records import Case, content_key

_PACKAGES = ("torch", "rdkit", "numba")  # whose versions change bits; numba may be absent
KEY_VERSION = 1  # raised when the meaning of a Case changes without its fields changing


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run rests on beyond its Case."""

    content: Mapping[str, str] = field(default_factory=dict)  # dataset or "split-file" -> hash of a user's file
    fingerprint: str = ""  # of the machine: speeds are comparable on one machine only
    cards: tuple[Path, ...] = ()  # folders of a user's dataset cards


def key_of(case: Case, inputs: Inputs) -> str:
    """Content key of ``case``: everything that decides its result, and nothing that does not."""
    decides = {
        "version": KEY_VERSION,
        "case": case,
        "dataset": dataset_hash(case.dataset, inputs),
        "split-file": inputs.content.get("split-file"),
        "code": _digest(_roots(case)),
        **{package: _version(package) for package in _PACKAGES},
    }
    if case.kind == "profile":
        decides["machine"] = inputs.fingerprint
    return content_key(decides)


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def dataset_hash(name: str, inputs: Inputs) -> str:
    """The content hash of a dataset: its card's, or of the file a user gave."""
    return inputs.content[name] if name in inputs.content else _card_hash(name, inputs.cards)


@functools.cache
def _card_hash(name: str, folders: tuple[Path, ...]) -> str:
    from samcmp.data import cards

    card = cards.find(name, folders)
    return card.dataset_hash or ",".join(card.sha256)


# What runs is what these modules import. Packages are not followed: an optimizer does not depend on the others.
_ROOTS = {"train": "samcmp.experiment.run", "profile": "samcmp.profiling.session"}
_ALWAYS = "samcmp.optim.building"
# nouns, error messages and look-ups: they carry results, they do not decide them
_BESIDE = {"errors", "files", "locks", "records", "cards", "fetch", "machine", "store", "keys"}
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_held: set[str] = set()  # modules that this process has imported as their comparison's keys say


def code_of(*cases: Case) -> Mapping[str, str]:
    """Every module that the cases run, and a user's own model file, with its hash, comments and docstrings aside.

    A process reads a file once, so this is the code that the keys were made of, whenever it is asked for.
    """
    return {name: digest for roots in set(map(_roots, cases)) for name, digest in _closure(roots).items()}


def hold(code: Mapping[str, str]) -> None:
    """Import ``code`` now, so that later edits do not reach this process, and refuse what was edited before.

    A user's model file is read anew for every run, so it is compared at every call; modules are at the first.
    Raises SamcmpError: a run of other code must not get the key of the code that the comparison began with.
    """
    for name in code.keys() - _held:
        if _read(name)[0] != code[name]:
            raise SamcmpError(
                "has been edited since this comparison began",
                where=str(_source(name) or name),
                remedy="Run the same command again: what has finished is kept, and what the edit concerns is run anew.",
            )
        if not name.endswith(".py"):
            with suppress(ImportError):  # what an optional package is for: whoever needs it says so
                importlib.import_module(name)
            _held.add(name)


def _roots(case: Case) -> tuple[str, ...]:
    from samcmp import backbones, optim

    own = (case.model.rpartition(":")[0],) if backbones.is_user_model(case.model) else ()
    model = backbones.entry(case.model).module
    return _ROOTS[case.kind], _ALWAYS, optim.entry(case.optimizer).module, model, *own


@functools.cache
def _digest(roots: tuple[str, ...]) -> str:
    return content_key(_closure(roots))


@functools.cache
def _closure(roots: tuple[str, ...]) -> Mapping[str, str]:
    seen: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in seen and name.rpartition(".")[2] not in _BESIDE:
            seen[name], imports = _read_once(name)
            waiting.extend(imports)
    return {name: digest for name, digest in sorted(seen.items()) if digest}


def _read(name: str) -> tuple[str, tuple[str, ...]]:
    """SHA-256 of a module's or file's syntax tree without docstrings, and what of this project it imports."""
    path = _source(name)
    if path is None:
        return "", ()
    text = path.read_bytes()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # a user's file: whoever runs it says what is wrong
        return hashlib.sha256(text).hexdigest(), ()
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    ours = tuple(name for name in imports if name.startswith("samcmp."))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), ours


_read_once = functools.cache(_read)


def _source(name: str) -> Path | None:
    """The file of a module, found without importing it, or a user's file itself; None where there is none."""
    if name.endswith(".py"):
        return Path(name) if Path(name).is_file() else None
    package, _, name = name.rpartition(".")
    try:
        spec = importlib.util.find_spec(package) if package else importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    if spec is None:
        return None
    if not package:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    return next(
        (p for root in spec.submodule_search_locations or () if (p := Path(root) / f"{name}.py").is_file()), None
    )
