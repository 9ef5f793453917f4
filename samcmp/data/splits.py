"""split-v1: partitions made of integers and SHA-256 alone, with a hash that says which molecules are where.

No random number generator of any library is involved, so two machines with the same split hash used the same
molecules, labels and partition. RDKit is needed for scaffold groups only.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samcmp.data import splitfile
from samcmp.data.molecules import Molecules, keys
from samcmp.data.samples import Samples
from samcmp.data.split import NAMES, PARTS, Parts, Split
from samcmp.errors import DataError, UsageError, unknown

if TYPE_CHECKING:
    from rdkit.Chem import Mol

ONE_PARTITION = frozenset({"scaffold", "fixed", "file", "column"})  # the seed changes nothing, or is not meant to
FOLDS = 5
Rows = Sequence[int]


def make(
    samples: Samples,
    split: str,
    *,
    seed: int = 0,
    fold: int | None = None,
    file: Path | None = None,
    sha256: str = "",
) -> Split:
    """Split a dataset. ``fold`` (0 to 4) is for cv5, ``file`` and the ``sha256`` that it must have for "file".

    Of a file with several splits ``seed`` is the number of the one that is meant, from 0.

    Raises UsageError for an unknown name or a missing fold, DataError when a part would be empty.
    """
    if split not in NAMES:
        raise unknown("split", split, NAMES, where="--split")
    if (split == "cv5") != (fold is not None):
        raise UsageError("the split cv5 has folds 0 to 4, the other splits have none", where=f"split {split}")
    if (split == "file") != (file is not None):
        raise UsageError("the split 'file' and a split file belong together", where="--split-file")
    if seed < 0:
        raise UsageError(f"a split seed is 0 or larger, got {seed}", where="--seed")
    if split == "column" and (samples.parts is None or samples.holds == "images"):
        raise UsageError(
            "no column of the data gives the parts", where="--split column", remedy="Name it with --split-column."
        )
    notes: tuple[str, ...] = ()
    if file is not None:
        parts, notes = splitfile.read_parts(file, samples, number=seed, sha256=sha256)
    elif split == "column":
        parts, notes = splitfile.of_column(samples)
    elif fold is not None:
        if not 0 <= fold < FOLDS:
            raise UsageError(f"cv5 has folds 0 to {FOLDS - 1}, got {fold}", where="fold")
        parts = cross_validation(samples.rows.tolist(), seed, fold=fold)
    elif split.startswith("scaffold"):
        molecules = _molecules(samples, split)
        groups = scaffold_groups(molecules)
        notes = _partition_notes(molecules, groups)
        parts = scaffold(groups) if split == "scaffold" else scaffold_balanced(groups, seed)
    elif split == "stratified":
        parts = stratified(samples, seed)
    elif split == "fixed" and samples.holds == "images" and samples.parts is not None:
        parts = published(samples, seed)
    else:
        parts = random(samples.rows.tolist(), seed)
    return _finish(samples, split, parts=parts, seed=seed, fold=fold, notes=notes)


def _molecules(samples: Samples, split: str) -> Molecules:
    if not isinstance(samples, Molecules):
        raise UsageError(
            f"{samples.holds} have no scaffolds", where=f"--split {split}", remedy="Take fixed, random or stratified."
        )
    return samples


def _finish(samples: Samples, name: str, *, parts: Parts, seed: int, fold: int | None, notes: tuple[str, ...]) -> Split:
    train, valid, test = (np.sort(np.asarray(part, dtype=np.int64)) for part in parts)
    for part, rows in (("train", train), ("validation", valid), ("test", test)):
        if not len(rows):
            raise DataError(
                f"the {part} part of the split {name!r} would be empty with {len(samples)} {samples.holds}",
                where=samples.name,
                remedy=f"Take more {samples.holds} or another split.",
            )
    digest = split_hash(samples.dataset_hash, train.tolist(), valid=valid.tolist(), test=test.tolist())
    return Split(name, seed, fold, train, valid, test, digest, samples.name, notes)


def split_hash(dataset_hash: str, train: Iterable[int], *, valid: Iterable[int], test: Iterable[int]) -> str:
    """SHA-256 of "split-v1", the dataset hash and the rows of each part, ascending."""
    lines = [f"split-v1\n{dataset_hash}\n"]
    for part, rows in (("train", train), ("valid", valid), ("test", test)):
        lines.append(f"{part}:{','.join(map(str, sorted(rows)))}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def by_key(rows: Rows, tag: str, *, seed: int) -> list[int]:
    """Sort rows by K(tag, seed, row)."""
    found = dict(zip(rows, keys(tag, seed, rows=rows), strict=True))
    return sorted(rows, key=found.__getitem__)


def random(rows: Rows, seed: int) -> Parts:
    """Rows in the order of K("random", seed, row): 8n//10 train, up to 9n//10 valid, the rest test."""
    order, n = by_key(rows, "random", seed=seed), len(rows)
    return order[: 8 * n // 10], order[8 * n // 10 : 9 * n // 10], order[9 * n // 10 :]


def published(samples: Samples, seed: int) -> Parts:
    """The test part that the publisher gives, and the other part in the order of K("valid", seed, row): n//10 validate.

    Every seed has the same test part.
    """
    given = samples.parts or ()
    train = [row for row, part in zip(samples.rows.tolist(), given, strict=True) if part != "test"]
    test = [row for row, part in zip(samples.rows.tolist(), given, strict=True) if part == "test"]
    order = by_key(train, "valid", seed=seed)
    return order[len(train) // 10 :], order[: len(train) // 10], test


def cross_validation(rows: Rows, seed: int, *, fold: int) -> Parts:
    """Five folds in the order of K("cv", seed, row), 70/10/20: every molecule is tested in one fold."""
    order, n = by_key(rows, "cv", seed=seed), len(rows)
    low, high = fold * n // FOLDS, (fold + 1) * n // FOLDS
    rest = by_key(order[:low] + order[high:], f"cv-valid-{fold}", seed=seed)
    return rest[n // 10 :], rest[: n // 10], order[low:high]


def stratified(samples: Samples, seed: int) -> Parts:
    """Blocks of 10 rows with neighbouring labels, 8/1/1 of each in the order of K("strat", seed, row)."""
    if samples.y.shape[1] != 1 or np.isnan(samples.y).any():
        raise UsageError(
            "a stratified split needs one task without missing labels", where=samples.name, remedy="Take random."
        )
    rows = samples.rows.tolist()
    found = dict(zip(rows, keys("strat", seed, rows=rows), strict=True))
    label = dict(zip(rows, samples.y[:, 0].tolist(), strict=True))
    order = sorted(rows, key=lambda row: (label[row], found[row]))
    train: list[int] = []
    valid: list[int] = []
    test: list[int] = []
    for start in range(0, len(order), 10):
        block = sorted(order[start : start + 10], key=found.__getitem__)
        if len(block) < 10:
            train += block
            continue
        train += block[:8]
        valid.append(block[8])
        test.append(block[9])
    if samples.kind != "regression":
        _spread_classes((train, valid, test), label=label, key=found)
    return train, valid, test


def _spread_classes(
    parts: tuple[list[int], list[int], list[int]], *, label: Mapping[int, float], key: Mapping[int, bytes]
) -> None:
    """Give every part a row of each class that has three, by exchanges between parts; sizes stay.

    Blocks spread a class of ten rows and more as a rule; a rarer one may lie in one part.
    """
    for value in sorted(set(label.values())):
        for poor in parts:
            if not poor or any(label[row] == value for row in poor):
                continue
            members = max(([row for row in part if label[row] == value] for part in parts), key=len)
            others = Counter(label[row] for row in poor)
            spare = [row for row in poor if others[label[row]] > 1]  # not the last of its class in that part
            if len(members) < 2 or not spare:
                continue
            given, taken = min(members, key=key.__getitem__), min(spare, key=key.__getitem__)
            rich = next(part for part in parts if given in part)
            rich[rich.index(given)], poor[poor.index(taken)] = taken, given


Groups = Mapping[int, Sequence[int]]  # smallest row of a group -> its rows, ascending


def scaffold(groups: Groups) -> Parts:
    """Whole scaffold groups, the largest first, equal ones by K("scaffold", 0, smallest row)."""
    found = dict(zip(groups, keys("scaffold", 0, rows=list(groups)), strict=True))
    return _fill(sorted(groups, key=lambda g: (-len(groups[g]), found[g])), groups)


def scaffold_balanced(groups: Groups, seed: int) -> Parts:
    """Whole scaffold groups, those above half the validation or test size first, in the order of K."""
    found = dict(zip(groups, keys("scaffold-balanced", seed, rows=list(groups)), strict=True))
    _, valid, test = _capacities(groups)
    big = {g for g, rows in groups.items() if 2 * len(rows) > valid or 2 * len(rows) > test}
    return _fill(sorted(groups, key=lambda g: (g not in big, found[g])), groups)


def _capacities(groups: Groups) -> tuple[int, int, int]:
    n = sum(map(len, groups.values()))
    return 8 * n // 10, 9 * n // 10 - 8 * n // 10, n - 9 * n // 10


def _fill(order: Sequence[int], groups: Groups) -> Parts:
    train: list[int] = []
    valid: list[int] = []
    test: list[int] = []
    room_train, room_valid, _ = _capacities(groups)
    for g in order:
        rows = groups[g]
        if len(train) + len(rows) <= room_train:
            train += rows
        elif len(valid) + len(rows) <= room_valid:
            valid += rows
        else:
            test += rows
    return train, valid, test


def scaffold_groups(molecules: Molecules) -> Groups:
    """Group rows by Bemis-Murcko scaffold without chirality; molecules without a ring are one group."""
    if molecules.groups is not None:
        labels: Sequence[object] = molecules.groups.tolist()
    else:
        labels = _scaffolds(molecules.smiles, tuple(molecules.rows.tolist()))
    by_label: dict[object, list[int]] = {}
    for label, row in zip(labels, molecules.rows.tolist(), strict=True):
        by_label.setdefault(label, []).append(row)
    return {rows[0]: rows for rows in by_label.values()}


def murcko(mol: Mol) -> str:
    """Return the Bemis-Murcko scaffold of a molecule as SMILES without chirality, "" when it has no ring."""
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

    if not mol.GetRingInfo().NumRings():  # RDKit would take minutes for a long chain
        return ""
    try:
        return str(MurckoScaffoldSmiles(mol=mol, includeChirality=False))  # type: ignore[no-untyped-call]
    except (ValueError, RuntimeError) as error:  # of a frozen row that is read without the valence check
        why = " ".join(str(error).split())
        raise DataError(
            f"RDKit finds no scaffold: {why}", remedy="Leave the row out, or take --split random."
        ) from None


@lru_cache(maxsize=4)
def _scaffolds(smiles: tuple[str, ...], rows: tuple[int, ...]) -> tuple[str, ...]:
    from rdkit.rdBase import BlockLogs

    from samcmp.graphs.featurize import parse

    labels = []
    with BlockLogs():
        for row, text in zip(rows, smiles, strict=True):
            try:
                labels.append(murcko(parse(text)))
            except DataError as error:
                raise DataError(error.what, where=f"row {row}", remedy=error.remedy) from None
    return tuple(labels)


def partition_hash(groups: Groups) -> str:
    """SHA-256 of lines "row:smallest row of its group", rows ascending."""
    pairs = sorted((row, g) for g, rows in groups.items() for row in rows)
    return hashlib.sha256("\n".join(f"{row}:{g}" for row, g in pairs).encode()).hexdigest()


def _partition_notes(molecules: Molecules, groups: Groups) -> tuple[str, ...]:
    if molecules.partition is None or partition_hash(groups).startswith(molecules.partition):
        return ()
    return (
        f"{molecules.name}: this RDKit groups scaffolds differently from the recorded version "
        f"({partition_hash(groups)[:16]} instead of {molecules.partition}); the split hash shows it",
    )


def refuse_repeats(splits: Sequence[Split]) -> tuple[str, ...]:
    """Raise UsageError when two splits are the same partition: repeating it is not a replicate.

    The splits of :data:`ONE_PARTITION` are one partition by definition, whatever the seed. They may repeat, and a
    note says what such repeats do not measure.
    """
    seen: dict[str, Split] = {}
    notes: dict[str, str] = {}
    for split in splits:
        other = seen.setdefault(split.hash, split)
        if other is split:
            continue
        if split.name not in ONE_PARTITION or split.name == "file":  # a file says which splits are meant
            instead = "Take other seeds, or --split fixed to say that one split is meant."
            if split.name == "file":
                instead = "Leave one of them out of the file."
            raise UsageError(
                f"the splits {other} and {split} are the same partition",
                where="splits",
                remedy=f"{_REPEATS} {instead}",
            )
        notes[split.name] = f"the split {split.name!r} is one partition whatever the seed. {_REPEATS}"
    return tuple(notes.values())


_REPEATS = (
    "Repeats of one split measure the spread of the model seed only; on ESOL, BBBP and BACE the spread of the split "
    "is 6 to 17 times larger."
)


def check_parts(samples: Samples, split: Split) -> None:
    """Refuse a split of which a part cannot be learnt from or scored. Raises DataError with the part and the remedy."""
    for part, rows in (("training", split.train), ("validation", split.valid), ("test", split.test)):
        y = samples.y[np.searchsorted(samples.rows, rows)]
        lack = "no label"
        usable = (~np.isnan(y)).any(axis=0)
        if samples.kind == "classification":
            lack = "a single class in every task" if len(samples.tasks) > 1 else "a single class"
            usable = (y == 0).any(axis=0) & (y == 1).any(axis=0)
        elif samples.kind == "multiclass" and part == "training" and usable.any():
            lack = "a single class"
            usable = np.array([len(np.unique(y[~np.isnan(y)])) > 1])
        if not usable.any():
            raise DataError(
                f"the {part} part holds {lack}", where=f"split {split}", remedy=_remedy(samples, split.name)
            )


def _remedy(samples: Samples, split: str) -> str:
    """Name what may help where a part lacks a class: never the split in use, nor one that would be refused."""
    y = samples.y
    ways = [f"Take more {samples.holds}"]
    if split not in ONE_PARTITION or split == "fixed":  # of images the part for validation is drawn
        ways.append("another --seed")
    complete = y.shape[1] == 1 and not np.isnan(y).any() and samples.kind == "classification"
    if split in {"file", "column"}:
        ways.append("move rows of the class that is missing into that part")
    elif complete and split != "stratified" and min((y == 0).sum(), (y == 1).sum()) >= len(PARTS) and len(y) >= 20:
        ways.append("--split stratified, which gives each part a row of both classes")
    elif split.startswith("scaffold"):
        ways.append("--split random")
    return f"{', '.join(ways[:-1])} or {ways[-1]}." if len(ways) > 1 else f"{ways[0]}."
