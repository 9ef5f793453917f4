"""Look a dataset in the eye: rejected rows, duplicates, conflicting labels, balance, sizes, targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samcmp.data import fetch
from samcmp.data.cards import DatasetCard
from samcmp.data.molecules import Molecules, load
from samcmp.data.screen import screen
from samcmp.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGE = 100  # heavy atoms from which CoMPT leaves a molecule out


@dataclass(frozen=True)
class Rejected:
    """A row of the file that is not used, or that today's RDKit does not read."""

    row: int
    smiles: str
    reason: str
    used: bool  # a used row that RDKit reads only without its valence check


@dataclass(frozen=True)
class Duplicates:
    """Molecules that occur more than once among the used rows, by canonical isomeric SMILES."""

    repeated_strings: int  # rows whose SMILES text occurred before
    repeated_molecules: int  # rows whose molecule occurred before
    groups: int
    conflicting_groups: int  # with different labels for one molecule
    largest_difference: float | None  # regression: between labels of one molecule
    rows: tuple[tuple[int, ...], ...]  # the conflicting groups


@dataclass(frozen=True)
class TaskLabels:
    """The labels of one task over the used rows."""

    task: str
    labels: int
    missing: int
    positive: int | None = None  # classification
    negative: int | None = None
    mean: float | None = None  # regression
    std: float | None = None  # population
    minimum: float | None = None
    maximum: float | None = None
    classes: Mapping[str, int] = field(default_factory=dict)  # multiclass: molecules of each class


@dataclass(frozen=True)
class Sizes:
    """Numbers of heavy atoms over the used rows, and molecules that are unusual as graphs."""

    mean: float
    percentiles: Mapping[str, float]  # "0", "5", "25", "50", "75", "95", "100"
    large: int  # 100 heavy atoms and more
    single_atom: int
    no_bond: int
    fragments: int  # more than one
    dummies: int  # with an atom *
    elements: int  # distinct


@dataclass(frozen=True)
class Audit:
    """Everything worth knowing of a dataset before training on it."""

    dataset: str
    file: str
    dataset_hash: str
    kind: str
    metric: str
    file_rows: int
    molecules: int
    rejected: tuple[Rejected, ...]
    without_labels: int  # used rows with no label at all
    duplicates: Duplicates
    tasks: tuple[TaskLabels, ...]
    sizes: Sizes
    scaffolds: int
    single_scaffolds: int  # that hold one molecule
    acyclic: int
    largest_scaffolds: tuple[int, ...]
    rdkit: str
    notes: tuple[str, ...]


def audit(card: DatasetCard, *, source: str | Path | None = None, progress: fetch.Progress | None = None) -> Audit:
    """Read every row of a dataset's file and report. Raises DataError as :func:`samcmp.data.molecules.load` does."""
    import rdkit

    molecules = load(card, source=source, progress=progress)
    read = _read_all(molecules, progress)
    groups = Counter(read.scaffolds)
    empty = groups.get("", 0)
    return Audit(
        dataset=molecules.name,
        file=card.file_name,
        dataset_hash=molecules.dataset_hash,
        kind=molecules.kind,
        metric=molecules.metric,
        file_rows=molecules.file_rows,
        molecules=len(molecules),
        rejected=tuple(_rejected(molecules)),
        without_labels=int(np.isnan(molecules.y).all(axis=1).sum()),
        duplicates=_duplicates(molecules, read.canonical),
        tasks=tuple(_labels(molecules, t) for t in range(len(molecules.tasks))),
        sizes=read.sizes(),
        scaffolds=len(groups),
        single_scaffolds=sum(count == 1 for count in groups.values()),
        acyclic=empty,
        largest_scaffolds=tuple(count for _, count in groups.most_common(3)),
        rdkit=rdkit.__version__,
        notes=(*molecules.notes, *filter(None, [card.shortage])),
    )


@dataclass
class _Read:
    canonical: list[str]
    scaffolds: list[str]
    heavy: list[int]
    atoms: list[int]
    bonds: list[int]
    fragments: list[int]
    dummies: int
    elements: set[str]

    def sizes(self) -> Sizes:
        points = (0, 5, 25, 50, 75, 95, 100)
        found = np.percentile(self.heavy, points, method="inverted_cdf")
        return Sizes(
            mean=float(np.mean(self.heavy)),
            percentiles={str(p): float(value) for p, value in zip(points, found, strict=True)},
            large=sum(count >= LARGE for count in self.heavy),
            single_atom=sum(count == 1 for count in self.heavy),
            no_bond=sum(count == 0 for count in self.bonds),
            fragments=sum(count > 1 for count in self.fragments),
            dummies=self.dummies,
            elements=len(self.elements),
        )


def _read_all(molecules: Molecules, progress: fetch.Progress | None) -> _Read:
    from rdkit import Chem

    from samcmp.data.splits import murcko
    from samcmp.graphs.featurize import parse

    out = _Read([], [], [], [], [], [], 0, set())
    for i, (row, text) in enumerate(zip(molecules.rows.tolist(), molecules.smiles, strict=True)):
        try:
            mol = parse(text)
            scaffold = murcko(mol)
        except DataError as error:
            raise DataError(error.what, where=f"{molecules.name}, row {row}", remedy=error.remedy) from None
        symbols = {atom.GetSymbol() for atom in mol.GetAtoms()}
        out.canonical.append(Chem.MolToSmiles(mol))
        out.scaffolds.append(scaffold)
        out.heavy.append(mol.GetNumHeavyAtoms())
        out.bonds.append(mol.GetNumBonds())
        out.fragments.append(len(Chem.GetMolFrags(mol)))
        out.dummies += "*" in symbols
        out.elements |= symbols
        if progress and i % 100 == 99:
            progress(f"{molecules.name}: molecules", i + 1, len(molecules))
    return out


def _rejected(molecules: Molecules) -> list[Rejected]:
    """List rows left out, each with RDKit's reason of today, and used rows that need the second way of parsing."""
    left_out = [Rejected(row, text, _problem(text), used=False) for row, text in molecules.left_out]
    skipped = [Rejected(*row, used=False) for row in molecules.skipped]
    rescued = []
    if molecules.frozen:
        problems = screen(molecules.smiles, strict=True).problems
        rescued = [
            Rejected(int(molecules.rows[i]), molecules.smiles[i], f"{why}; read without the valence check", used=True)
            for i, why in problems.items()
        ]
    return sorted([*left_out, *skipped, *rescued], key=lambda rejected: rejected.row)


def _problem(text: str) -> str:
    """Say why RDKit does not make a molecule of a SMILES, or why one was left out all the same."""
    from samcmp.graphs.featurize import parse_strictly

    try:
        mol = parse_strictly(text)
    except DataError as error:
        return error.what
    return "left out by the card, though this RDKit reads it" if mol.GetNumHeavyAtoms() else "no heavy atom"


def _duplicates(molecules: Molecules, canonical: Sequence[str]) -> Duplicates:
    places: dict[str, list[int]] = {}
    for i, key in enumerate(canonical):
        places.setdefault(key, []).append(i)
    groups = [places[key] for key in places if len(places[key]) > 1]
    spreads = [_spread(molecules.y[group]) for group in groups]
    conflicting = [group for group, spread in zip(groups, spreads, strict=True) if spread > 0]
    largest = max(spreads, default=0.0) if molecules.kind == "regression" else None
    return Duplicates(
        repeated_strings=len(molecules) - len(set(molecules.smiles)),
        repeated_molecules=len(molecules) - len(places),
        groups=len(groups),
        conflicting_groups=len(conflicting),
        largest_difference=largest,
        rows=tuple(tuple(molecules.rows[group].tolist()) for group in conflicting),
    )


def _spread(y: NDArray[np.float64]) -> float:
    """Largest difference between the labels of one molecule, over the tasks that are labelled more than once."""
    known = ~np.isnan(y)
    high = np.where(known, y, -np.inf).max(axis=0)
    low = np.where(known, y, np.inf).min(axis=0)
    return float(np.max(np.where(known.sum(axis=0) > 1, high - low, 0.0)))


def _labels(molecules: Molecules, task: int) -> TaskLabels:
    column = molecules.y[:, task]
    known = column[~np.isnan(column)]
    name, missing = molecules.tasks[task], len(column) - len(known)
    if molecules.kind == "classification":
        positive = int((known == 1).sum())
        return TaskLabels(name, len(known), missing, positive=positive, negative=len(known) - positive)
    if molecules.kind == "multiclass":
        counts = np.bincount(known.astype(int), minlength=len(molecules.classes)).tolist()
        return TaskLabels(name, len(known), missing, classes=dict(zip(molecules.classes, counts, strict=True)))
    if not len(known):
        return TaskLabels(name, 0, missing)
    return TaskLabels(
        name,
        len(known),
        missing,
        mean=float(known.mean()),
        std=float(known.std()),
        minimum=float(known.min()),
        maximum=float(known.max()),
    )
