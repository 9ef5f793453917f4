"""The arrays of a dataset's graphs and their cache files."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samcmp.files import cache_folder
from samcmp.graphs import cachefile, chunks
from samcmp.graphs.batch import Columns, Molecules, MolGraph
from samcmp.graphs.columns import expand_atoms, expand_bonds
from samcmp.graphs.featurize import VERSION, Arrays, directed

FORMAT = 3  # of the file: count up when an array is added or its type changes
SECONDS_EACH = 4e-4  # CPU time to featurise a molecule
DESCRIPTOR_SECONDS_EACH = 5e-3  # and to compute its descriptors

Progress = chunks.Progress
Prepare = Callable[[MolGraph], Mapping[str, NDArray[Any]]]  # 1-D arrays of one molecule
Extras = dict[str, tuple[NDArray[Any], NDArray[np.int64]]]  # values end to end, (M+1,) where each molecule's begin


@dataclass(frozen=True, slots=True, eq=False)
class GraphArrays:
    """M molecules: kinds of atoms and bonds, the ends of bonds, and the distinct codes."""

    atom_kind: NDArray[Any]  # (A,) int16 or int32
    atom_codes: NDArray[np.int16]  # (K, C)
    pairs: NDArray[Any]  # (B/2, 2)
    bond_kind: NDArray[Any]  # (B/2,)
    bond_codes: NDArray[np.int8]  # (U, 5)
    ptr: NDArray[np.int64]  # (2, M+1) where each molecule's atoms and bonds (not directed) begin
    scalars: NDArray[np.float32]  # (A, S)

    def tables(self, columns: Columns) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the features of every kind of atom, (K, F), and of bond, (U, F)."""
        return expand_atoms(self.atom_codes, columns.atoms), expand_bonds(self.bond_codes, columns.bonds)

    def graph(self, position: int, molecules: Molecules) -> MolGraph:
        """Return one molecule as :func:`samcmp.graphs.featurize.featurize` makes it."""
        atoms, bonds = (slice(*ends) for ends in self.ptr[:, position : position + 2])
        return MolGraph(
            atoms=self.atom_codes[self.atom_kind[atoms]],
            bonds=self.bond_codes[self.bond_kind[bonds]],
            edge_index=directed(self.pairs[bonds]),
            scalars=self.scalars[atoms],
            smiles=molecules.smiles[position],
            row=int(molecules.rows[position]),
        )


def build(molecules: Molecules, scalars: tuple[str, ...], *, progress: Progress | None = None) -> GraphArrays:
    """Featurise every molecule. Raises DataError that names the row."""
    flat = Arrays(
        **chunks.work(
            "samcmp.graphs.featurize:chunk",
            molecules.smiles,
            rows=molecules.rows.tolist(),
            options={"scalars": scalars},
            seconds_each=SECONDS_EACH,
            label="molecules",
            progress=progress,
        )
    )
    atom_kind, atom_codes = _kinds(flat.atoms)
    bond_kind, bond_codes = _kinds(flat.bonds)
    return GraphArrays(
        atom_kind=atom_kind,
        atom_codes=atom_codes,
        pairs=_narrow(flat.pairs, int(flat.atom_counts.max(initial=0))),
        bond_kind=bond_kind,
        bond_codes=bond_codes,
        ptr=np.stack([_ptr(flat.atom_counts), _ptr(flat.bond_counts)]),
        scalars=flat.scalars,
    )


def _ptr(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])


def _kinds(codes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the number of each row's kind and the distinct rows in ascending order."""
    distinct, kind = np.unique(codes, axis=0, return_inverse=True)
    return _narrow(kind.reshape(-1), len(distinct)), distinct


def _narrow(values: NDArray[Any], reach: int) -> NDArray[Any]:
    """Return values 0..reach-1 in two bytes each where they fit, else in four."""
    return values.astype(np.int16 if reach <= 2**15 else np.int32)


def load_or_build_arrays(
    molecules: Molecules, scalars: tuple[str, ...], *, cache: bool, progress: Progress | None
) -> GraphArrays:
    """Return the graphs from their cache file, else featurise them and write it."""

    def make() -> cachefile.Named:
        arrays = build(molecules, scalars, progress=progress)
        return {f.name: getattr(arrays, f.name) for f in fields(arrays)}

    return GraphArrays(**_cached(molecules.name, _identity(molecules, scalars), make, cache=cache))


def _cached(name: str, decides: list[Any], make: Callable[[], cachefile.Named], *, cache: bool) -> cachefile.Named:
    if not cache:
        return make()
    return cachefile.load_or_make(cachefile.path_for(cache_folder() / "graphs", name, decides=decides), make)


def _identity(molecules: Molecules, scalars: tuple[str, ...]) -> list[Any]:
    """Everything that decides what a featurisation holds. Labels do not, so a set with other labels shares the file."""
    import rdkit

    content = hashlib.sha256()
    for smiles in molecules.smiles:
        content.update(f"{smiles}\n".encode())
    return ["graphs", FORMAT, VERSION, rdkit.__version__, content.hexdigest(), list(scalars)]


def load_or_build_extras(
    molecules: Molecules, arrays: GraphArrays, prepare: Prepare, *, cache: bool, progress: Progress | None = None
) -> Extras:
    """Return what ``prepare`` makes of every molecule, end to end; cached where ``prepare`` is a plain function."""
    code = _code_of(prepare) if cache else None
    named = _cached(
        f"{molecules.name} {code[0] if code else ''}",
        [_identity(molecules, ()), arrays.scalars.shape[1], *(code or ())],
        lambda: _prepared(molecules, arrays, prepare, progress=progress),
        cache=code is not None,
    )
    names = [name.removeprefix("ptr.") for name in named if name.startswith("ptr.")]
    return {name: (named[f"values.{name}"], named[f"ptr.{name}"]) for name in names}


def _code_of(prepare: Prepare) -> tuple[str, str] | None:
    """Return a function's name and the hash of its file, so that edited code never reads an old cache."""
    if not inspect.isfunction(prepare) or prepare.__closure__ or prepare.__defaults__ or prepare.__kwdefaults__:
        return None  # what it makes depends on more than its text
    try:
        source = Path(inspect.getfile(prepare)).read_bytes()
    except (OSError, TypeError):
        return None
    return f"{prepare.__module__}.{prepare.__qualname__}", hashlib.sha256(source).hexdigest()


def _prepared(
    molecules: Molecules, arrays: GraphArrays, prepare: Prepare, *, progress: Progress | None = None
) -> cachefile.Named:
    made, total = [], len(molecules.smiles)
    for i in range(total):
        made.append(prepare(arrays.graph(i, molecules)))
        if progress is not None and ((i + 1) % 1000 == 0 or i + 1 == total):
            progress("prepared", i + 1, total)
    named: cachefile.Named = {}
    for name, values in (made[0] if made else {}).items():
        if np.ndim(values) != 1:
            raise ValueError(f"prepare must make 1-D arrays; {name!r} has another shape")
        named[f"values.{name}"] = np.concatenate([one[name] for one in made])
        named[f"ptr.{name}"] = _ptr(np.array([len(one[name]) for one in made], dtype=np.int64))
    return named


def describe(*, smiles: Sequence[str], rows: Sequence[int], name: str) -> cachefile.Named:
    """Compute descriptors as :mod:`samcmp.graphs.chunks` asks for it."""
    from samcmp.graphs import descriptors

    return {"features": np.asarray(descriptors.compute(name, smiles), dtype=np.float32)}


def load_or_build_features(
    molecules: Molecules, name: str, *, cache: bool, progress: Progress | None
) -> NDArray[np.float32]:
    """Return the descriptors ``name`` of every molecule: (M, D)."""
    from samcmp.graphs import descriptors

    def make() -> cachefile.Named:
        return chunks.work(
            "samcmp.graphs.graphstore:describe",
            molecules.smiles,
            rows=molecules.rows.tolist(),
            options={"name": name},
            seconds_each=DESCRIPTOR_SECONDS_EACH,
            label=f"descriptors {name}",
            progress=progress,
        )

    decides = [_identity(molecules, ()), "descriptors", name, descriptors.VERSION]
    return _cached(f"{molecules.name} {name}", decides, make, cache=cache)["features"]
