"""Python code as content: the hash of a module, what it imports, its defaults. Read, never run, and without torch.

A module is named as Python does ("samcmp.optim.sam") or, where the name ends in .py, by the path of a user's file.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from typing import Any

from samcmp.errors import SamcmpError

_PACKAGE = Path(__file__).resolve().parent
_ENDINGS = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES)
_VERSION = "version of "  # before the name of an installed package, whose version stands for its content
# nouns, error messages and look-ups of this project: they carry results, they do not decide them
_NEUTRAL = {
    f"samcmp.{name}"
    for name in (
        "data.cards", "data.catalogue", "data.fetch", "errors", "experiment.keys", "experiment.store", "files",
        "locks", "machine", "modules", "printable", "records", "training.modelfile",
    )
}  # fmt: skip
_REQUIRED = ("torch", "torch_geometric", "numpy", "scipy", "rdkit")  # what samcmp is built on: thousands of files
_held: set[str] = set()  # modules of this project that this process has imported as the keys of its cases say


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    path: Path | None  # None: known by a version
    module: str = ""  # as Python names it; empty for a user's file
    beside: Path | None = None  # the folder of the user's file that it belongs to


def closure(roots: Iterable[str]) -> Mapping[str, str]:
    """Return every module that ``roots`` import, directly or not, with its hash, comments and docstrings aside.

    Of this project the modules count and the packages do not: an optimizer does not depend on the others. A user's
    files count wherever they lie, and so does the package that a root is of; another installed one has its version,
    and so have torch and the like, whatever a root is.
    """
    roots = tuple(roots)
    foreign = {root: path for root in roots if not _is_project(root) and (path := path_of(root)) is not None}
    tops = {root.partition(".")[0]: path for root, path in foreign.items()}
    own = {_distribution(top, path) for top, path in tops.items() if top not in _REQUIRED}
    waiting = [file for root in roots for file in _of_root(root, own)]
    found: dict[str, str] = {}
    while waiting:
        file = waiting.pop()
        if file.name in found or file.name in _NEUTRAL:
            continue
        if file.path is None:
            found[file.name] = version(file.name.removeprefix(_VERSION)) or ""
            continue
        found[file.name], imports = _read_once(file.path) if _is_project(file.name) else _read(file.path)
        for level, name in imports:
            waiting += _imported(_absolute(level, name, file), file, own)
    return dict(sorted(found.items()))


def hold(code: Mapping[str, str]) -> None:
    """Refuse code that is no longer what :func:`closure` read, and import this project's part of it now.

    So later edits of the project do not reach this process; a user's files are compared again at every call.
    Raises SamcmpError: a run of other code must not get the key of the code that the comparison began with.
    """
    for name in code.keys() - _held:
        if name.startswith(_VERSION):
            continue
        path = path_of(name)
        if path is None or digest_of(path) != code[name]:
            raise SamcmpError(
                "has been edited since this comparison began",
                where=str(path or name),
                remedy="Run the same command again: what has finished is kept, and what the edit concerns is run anew.",
            )
        if _is_project(name):
            with suppress(ImportError):  # what an optional package is for: whoever needs it says so
                importlib.import_module(name)
            _held.add(name)


def content_of(code: Mapping[str, str]) -> str:
    """SHA-256 of a user's part of what :func:`closure` read, wherever its files lie."""
    own = sorted(digest for name, digest in code.items() if not name.startswith("samcmp."))
    return hashlib.sha256("\n".join(own).encode()).hexdigest()


def package_of(name: str) -> str | None:
    """Name the installed package whose version an entry of :func:`closure` is; None for a module or a file."""
    return name.removeprefix(_VERSION) if name.startswith(_VERSION) else None


def path_of(name: str) -> Path | None:
    """Return the file of a module, found without importing it, or a user's file itself; None where there is none."""
    if name.endswith(".py"):
        return Path(name) if Path(name).is_file() else None
    return _files(name, None).get(name)


def digest_of(path: Path) -> str:
    """SHA-256 of a module's syntax tree without docstrings; of its bytes where it is not Python."""
    return _read(path)[0]


@cache
def version(package: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# ---------------------------------------------------------------------------------------------- what is imported


def _is_project(name: str) -> bool:
    return name.startswith("samcmp.") and not name.endswith(".py")


def _of_root(root: str, own: set[str | None]) -> Iterable[_File]:
    if not root.endswith(".py"):
        return _imported(root, None, own)
    path = path_of(root)
    return [] if path is None else [_File(root, path, beside=path.parent)]


def _imported(name: str, by: _File | None, own: set[str | None]) -> Iterator[_File]:
    """Yield what ``import name`` runs, as far as it decides results: files, or a package that has a version."""
    top = name.partition(".")[0]
    if top != "samcmp" and by is not None and _is_project(by.name):
        return  # the project's own requirements
    beside = None if by is None else by.beside
    folder = Path() if beside is None else beside.absolute()
    if top == "samcmp" and by is not None and not _is_project(by.name):
        for path in _named_lazily(name):  # of a package of ours a user's file may take any class
            yield from _imported(f"{name}.{path.stem}", None, own)
    for module, path in _files(name, beside).items():
        if top == "samcmp":
            yield _File(module, path, module)
            continue
        # not whatever lies below that folder: an environment with all that is installed may
        if beside is not None and (path.parent == folder or path.is_relative_to(folder / top)):
            yield _File(str(beside / path.relative_to(folder)), path, module, beside)
            continue
        if top in sys.stdlib_module_names:
            return
        package = _distribution(top, path)
        if package is not None and package not in own:
            yield _File(_VERSION + package, None)
            return
        yield _File(module, path, module, beside)


def _absolute(level: int, name: str, file: _File) -> str:
    """Name an import as if it were written in full: ``level`` leading dots stand for packages that ``file`` is in."""
    if level == 0 or file.path is None:
        return name
    parts = file.module.split(".")
    above = parts[: len(parts) - level + (file.path.name == "__init__.py")]
    return ".".join([*above, *([name] if name else [])])


def _files(name: str, beside: Path | None) -> dict[str, Path]:
    """Return the files that ``import name`` runs, by module: of each package above it and its own."""
    top, *rest = name.split(".")
    if top == "samcmp":
        own = _own_file(name)
        return {} if own is None else {name: own}
    path, inside = _inside([beside.absolute()], top) if beside is not None else (None, [])
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(top) if path is None else None
        if spec is not None:  # a mere folder beside hides nothing
            path = Path(spec.origin) if spec.origin else None
            inside = [*map(Path, spec.submodule_search_locations or ())]
    module, found = top, {}
    while True:
        if path is not None and path.is_file():
            found[module] = path
        if not rest:
            return found
        path, inside = _inside(inside, rest[0])
        module = f"{module}.{rest.pop(0)}"


@cache
def _own_file(name: str) -> Path | None:
    path = _PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py")
    return path if path.is_file() else None


def _inside(folders: Iterable[Path], name: str) -> tuple[Path | None, list[Path]]:
    """Find a module in the first of ``folders`` that has it, as Python does: its file, and where its modules lie."""
    folders = list(folders)
    for folder in folders:
        for path in (folder / name / "__init__.py", *(folder / f"{name}{ending}" for ending in _ENDINGS)):
            if path.is_file():
                return path, [folder / name] if path.name == "__init__.py" else []
    return None, [folder / name for folder in folders if (folder / name).is_dir()]


def _distribution(top: str, path: Path) -> str | None:
    """Name the package that ``path`` was installed with; None for a checkout, an editable install or a loose file."""
    for name in _packages_of(top):
        folder = _installed_in(name)
        if folder is not None and path.resolve().is_relative_to(folder):
            return name
    return None


@cache
def _installed_in(package: str) -> Path | None:
    """The folder that a package was installed into; None where it was not installed whole."""
    found = importlib.metadata.distribution(package)
    return None if found.read_text("WHEEL") is None else Path(str(found.locate_file(""))).resolve()


@cache
def _packages_of(top: str) -> list[str]:
    try:
        importlib.metadata.distribution(top)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return importlib.metadata.packages_distributions().get(top, [])  # reads what every package installed
    return [top]


# ---------------------------------------------------------------------------------------------- what is read

Imports = tuple[tuple[int, str], ...]  # leading dots, module
_IMPORTERS = {"import_module", "__import__"}


def _read(path: Path) -> tuple[str, Imports]:
    try:
        return _parsed(path.read_bytes())
    except OSError as error:
        raise SamcmpError(f"cannot be read: {error.strerror}", where=str(path), remedy="Check the file.") from None


_read_once = cache(_read)  # for modules of this project, which a process imports once


@lru_cache(maxsize=1024)
def _parsed(content: bytes) -> tuple[str, Imports]:
    imports: list[tuple[int, str]] = []
    try:
        tree = ast.parse(content)
        for node in ast.walk(tree):
            _SEEN.get(type(node), _pass)(node, imports)
        text = ast.dump(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # not Python: whoever runs it says what is wrong
        return hashlib.sha256(content).hexdigest(), ()
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), tuple(dict.fromkeys(imports))


def _pass(node: Any, imports: object) -> None:
    """Leave a node as it is: it imports nothing."""


def _import_from(node: Any, imports: list[tuple[int, str]]) -> None:
    module = node.module or ""
    imports.append((node.level, module))
    imports += [(node.level, f"{module}.{alias.name}".lstrip(".")) for alias in node.names]


def _import(node: Any, imports: list[tuple[int, str]]) -> None:
    imports += [(0, alias.name) for alias in node.names]


def _call(node: Any, imports: list[tuple[int, str]]) -> None:
    imports += [(0, name) for name in named_in_call(node)]


def _without_docstring(node: Any, _: object) -> None:
    if (ast.get_docstring(node, clean=False) or "").strip():
        node.body = node.body[1:] or [ast.Pass()]


_SEEN = {
    ast.ImportFrom: _import_from, ast.Import: _import, ast.Call: _call,
    **dict.fromkeys((ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef), _without_docstring),
}  # fmt: skip


def named_in_call(node: ast.Call) -> Iterator[str]:
    """Yield the module of ``import_module("name")`` and ``__import__("name")``."""
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if called in _IMPORTERS and node.args and isinstance(node.args[0], ast.Constant):
        name = node.args[0].value
        if isinstance(name, str) and not name.startswith("."):
            yield name


# ---------------------------------------------------------------------------------------------- defaults


def defaults(name: str, class_name: str) -> dict[str, Any]:
    """Read the defaults of a dataclass's fields and its bases'. What is not written as a plain value is left out."""
    found: dict[str, Any] = {}
    for path, node in _classes(path_of(name), class_name):
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id != class_name:
                found |= defaults(str(path), base.id)
        found |= _plain(_of_fields(node), _constants(path))
    return found


@dataclass(frozen=True, slots=True)
class Constructor:
    """What a class can be called with, as far as it is written."""

    names: tuple[str, ...] = ()  # in their order
    defaults: Mapping[str, Any] = field(default_factory=dict)  # those written as plain values
    anything: bool = True  # whether other names may be taken, too


def constructor(name: str, class_name: str) -> Constructor:
    """Read what a class's ``__init__`` takes; where it passes on what it does not name, what its base's takes, too."""
    for path, node in _classes(path_of(name), class_name):
        made = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        names, written = ((), {}) if made is None else _arguments(made)
        own = Constructor(names, _plain(written, _constants(path)), anything=False)
        if made is not None and made.args.kwarg is None:
            return own
        base = next((base.id for base in node.bases if isinstance(base, ast.Name) and base.id != class_name), None)
        above = Constructor() if base is None else constructor(str(path), base)
        more = above.names if made is None else above.names[1:]
        return Constructor((*names, *more), {**above.defaults, **own.defaults}, above.anything)
    return Constructor()


def _classes(path: Path | None, class_name: str, *, by: tuple[Path, ...] = ()) -> Iterator[tuple[Path, ast.ClassDef]]:
    """Find a class where it is written: in a file, or in what the file imports it from."""
    if path is None or path in by:
        return
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            yield path, node
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == class_name:
                    for other in _files_of(node.module, path.parent):
                        yield from _classes(other, alias.name, by=(*by, path))


def _files_of(module: str, beside: Path) -> list[Path]:
    """Return the files that a name imported from ``module`` may be written in: our packages name many lazily."""
    found = _files(module, beside).get(module)
    return [found] if found else _named_lazily(module)


def _named_lazily(package: str) -> list[Path]:
    folder = _PACKAGE.joinpath(*package.split(".")[1:])
    return sorted(folder.glob("[!_]*.py")) if package.startswith("samcmp.") and folder.is_dir() else []


def constants(name: str) -> dict[str, Any]:
    """Read the variables of a module that are written as plain values or made of such."""
    return _constants(path_of(name))


def _constants(path: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in _tree(path).body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found |= _plain({node.targets[0].id: node.value}, found)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found |= _plain({node.target.id: node.value}, found)
    return found


def _tree(path: Path | None) -> ast.Module:
    try:
        return _tree_of(path.read_bytes()) if path is not None else ast.Module([], [])
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


@lru_cache(maxsize=64)
def _tree_of(content: bytes) -> ast.Module:
    return ast.parse(content)


def _of_fields(node: ast.ClassDef) -> dict[str, ast.expr]:
    fields = (item for item in node.body if isinstance(item, ast.AnnAssign))
    return {f.target.id: f.value for f in fields if isinstance(f.target, ast.Name) and f.value is not None}


def _arguments(made: ast.FunctionDef) -> tuple[tuple[str, ...], dict[str, ast.expr]]:
    """Return the names that a method takes, self left out, and the defaults as they are written."""
    takes = made.args
    names = [a.arg for a in (*takes.posonlyargs, *takes.args)]
    written = dict(zip(names[len(names) - len(takes.defaults) :], takes.defaults, strict=True))
    written |= {a.arg: v for a, v in zip(takes.kwonlyargs, takes.kw_defaults, strict=True) if v is not None}
    return (*names[1:], *(a.arg for a in takes.kwonlyargs)), written


def _plain(written: Mapping[str, ast.expr], known: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key, node in written.items():
        with suppress(ValueError, KeyError, TypeError):
            found[key] = _value(node, known)
    return found


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return known[node.id]
    if isinstance(node, ast.Dict):
        made: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            made |= _value(value, known) if key is None else {_value(key, known): _value(value, known)}
        return made
    return ast.literal_eval(node)
