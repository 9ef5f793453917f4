"""A user's Python file as a module: run once for each state of it, with what lies beside it; and a class of it."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from samcmp import modules
from samcmp.errors import UsageError, unknown

_PREFIX = "samcmp_user_"  # of the module that a file becomes


def class_in(module: ModuleType, name: str, kinds: tuple[type, ...], *, where: str) -> Any:
    """Return the class ``name`` of a module, or without a name the only one of these kinds that it defines.

    Raises :class:`UsageError`.
    """
    own = {key: value for key, value in vars(module).items() if isinstance(value, type)}
    fit = {key: value for key, value in own.items() if issubclass(value, kinds) and value.__module__ == module.__name__}
    wanted = " or ".join(f"torch.{'nn' if kind.__name__ == 'Module' else 'optim'}.{kind.__name__}" for kind in kinds)
    if not name and len(fit) == 1:
        return next(iter(fit.values()))
    if not name:
        raise UsageError(
            f"expected one class that is a {wanted}, found {', '.join(sorted(fit)) or 'none'}",
            where=where,
            remedy=f"Name the class: {where}:CLASS.",
        )
    found = getattr(module, name, None)
    if found is None:
        raise unknown("class", name, fit or own, where=where)
    if not (isinstance(found, type) and issubclass(found, kinds)):
        raise UsageError(f"{name!r} is not a {wanted}", where=where, remedy="Name a class that derives from it.")
    return found


def imported(place: str, *, where: str) -> ModuleType:
    """Return the module of a user's file, run once for each state of it, or an installed module.

    Raises :class:`UsageError`.
    """
    if not place:
        raise UsageError("names no file", where=where, remedy="Write file.py:Class.")
    if place.endswith(".py") and not Path(place).is_file():
        raise UsageError(
            f"there is no file {place}", where=where, remedy="Write file.py:Class with a path to your file."
        )
    try:
        return _of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:
        remedy = "Correct the file." if place.endswith(".py") else "Install the package, or write file.py:Class."
        raise UsageError(
            f"importing {place} raised {type(error).__name__}: {error}", where=where, remedy=remedy
        ) from error


def _of_file(path: Path) -> ModuleType:
    code = modules.closure([str(path)])
    name = f"{_PREFIX}{hashlib.sha256(repr(code).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # as for every name that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with helpers_of(module):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


_helpers: dict[str, dict[str, ModuleType]] = {}  # a user's file, by its module's name -> what it imported beside it


@contextmanager
def helpers_of(module: ModuleType) -> Iterator[None]:
    """Let a user's file import what lies beside it, as Python does for a script; for everybody else nothing changes.

    Two files in two folders may each have a helper of the same name: each gets its own.
    """
    if not module.__name__.startswith(_PREFIX):
        yield
        return
    folder, mine = Path(str(module.__file__)).resolve().parent, _helpers.setdefault(module.__name__, {})
    names = _beside(folder)
    foreign = [key for key in sys.modules if key.partition(".")[0] in names and not _is_in(folder, key)]
    hidden = {key: sys.modules.pop(key) for key in foreign}
    before, path, caching = {*sys.modules}, [*sys.path], (sys.pycache_prefix, sys.dont_write_bytecode)
    sys.pycache_prefix, sys.dont_write_bytecode = os.devnull, True  # a cached file can be that of other content
    sys.modules.update(mine)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        sys.pycache_prefix, sys.dont_write_bytecode = caching
        mine |= {key: sys.modules[key] for key in {*sys.modules} - before if _is_in(folder, key)}
        for key in mine:
            sys.modules.pop(key, None)
        sys.modules.update(hidden)


def _beside(folder: Path) -> set[str]:
    """Name the modules that lie in a folder, of which a file there may import."""
    names = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/__init__.py")}
    return names - {"samcmp", *sys.stdlib_module_names}


def imports_late(place: str) -> bool:
    """Whether a user's file, or one that it imports beside it, imports what lies beside it when a function is called.

    Then every call finds those modules as the import of the file did; it takes about half a millisecond more.
    """
    if not place.endswith(".py"):
        return False
    own = [Path(name) for name in modules.closure([place]) if name.endswith(".py")]
    beside = {"", *_beside(Path(place).resolve().parent)}
    return any(_imported_in_functions(file) & beside for file in own)


def _imported_in_functions(file: Path) -> set[str]:
    """Name what a file imports where a function of it is called: the top of each name, "" for its own package."""
    found: set[str] = set()
    for function in ast.walk(ast.parse(file.read_bytes())):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add("" if node.level else node.module or "")
            elif isinstance(node, ast.Call):
                found.update(modules.named_in_call(node))
    return {name.partition(".")[0] for name in found}


def _is_in(folder: Path, name: str) -> bool:
    file = getattr(sys.modules[name], "__file__", None)
    path = Path(file or "/").resolve()
    return path.is_relative_to(folder) and "site-packages" not in path.relative_to(folder).parts
