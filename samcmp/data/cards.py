"""Dataset cards: what a dataset is, where it comes from and which of its rows are used. One card is one TOML file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from samcmp import files
from samcmp.errors import ConfigError, SamcmpError, UsageError, choice, nearest, unknown
from samcmp.records import COUNTED, Holds

Kind = Literal["classification", "multiclass", "regression"]
METRICS: Mapping[Kind, tuple[str, ...]] = {
    "classification": ("roc-auc",),
    "multiclass": ("accuracy",),
    "regression": ("rmse", "mae"),
}
SPLITS = ("random", "cv5", "scaffold", "scaffold-balanced", "stratified", "fixed", "column")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # of a card: also a folder name, so never a path
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,127}")
COMPT = "@compt"  # after a dataset's name: the population without molecules of 100 and more atoms
ENTRY_POINTS = "samcmp.datasets"
TABLES = (".csv", ".tsv", ".tab", ".parquet", ".pq", ".gz", ".zip", ".smi", ".txt")  # how a file's name ends


@dataclass(frozen=True)
class DatasetCard:
    """A dataset of molecules or images: its file, columns, task, and the frozen list of the rows that are used.

    A molecule's identity is its row in the published file (0-based, header not counted), so ``leave_out`` and not
    today's RDKit decides what the population is.
    """

    name: str
    title: str
    smiles_column: str  # "" of images
    target_columns: tuple[str, ...]
    task: Kind
    metric: str
    file_name: str
    kind: Holds = "molecules"
    url: str = ""
    sha256: tuple[str, ...] = ()  # any of these; two where the published line ends are unknown
    md5: str = ""  # of a file whose publisher gives no other; the SHA-256 is then recorded when it is fetched first
    split: str = "random"  # the split that the dataset's authors or MoleculeNet recommend
    molecules: int | None = None  # rows that are used
    file_rows: int | None = None
    leave_out: tuple[int, ...] = ()
    images: int | None = None
    train_members: tuple[str, ...] = ()  # images: members of the archive, as their publisher parts them
    test_members: tuple[str, ...] = ()
    label_bytes: int = 1  # before each image; the last of them is its class
    classes: tuple[str, ...] = ()  # names of the classes 0, 1, ... in their order
    compt_leave_out: tuple[int, ...] = ()  # more rows left out by the population "compt": 100 atoms and more
    target_positions: tuple[int, ...] = ()  # columns by position, for a file whose column names repeat
    group_column: str = ""  # scaffold group given by the file itself
    split_column: str = ""  # part of the split "column" given by the file itself
    dataset_hash: str | None = None
    compt_hash: str | None = None
    scaffold_partition: str | None = None  # first 16 digits, see splits.partition_hash
    unit: str = ""  # of a regression's labels, for the axes of figures
    paper: str = ""
    licence: str = ""
    remarks: str = ""
    built_in: bool = False
    path: Path | None = field(default=None, compare=False)  # where the card was read
    data: Path | None = field(default=None, compare=False)  # the file itself, where no download is needed
    notes: tuple[str, ...] = ()  # to be said to the user
    shortage: str = ""  # why a user's file can be looked into, but not be split
    population: str = ""  # "" or "compt"

    @property
    def tasks(self) -> int:
        return len(self.target_columns)

    @property
    def size(self) -> int | None:
        """How many molecules or images are used."""
        return self.images if self.kind == "images" else self.molecules

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for a sample: one a task, or one a class."""
        return len(self.classes) or self.tasks

    @property
    def frozen(self) -> bool:
        """Whether the rows are a frozen list: one that cannot be parsed is an error, not a row to skip."""
        return self.dataset_hash is not None or bool(self.sha256) or bool(self.md5) or self.built_in


def shipped_folder() -> Path:
    """Return the folder of the shipped cards: package data of an installed wheel, ``datasets/`` in a checkout."""
    here = Path(__file__).resolve().parent.parent
    for folder in (here / "datasets", here.parent / "datasets"):
        if any(folder.glob("*.toml")):
            return folder
    raise ConfigError(
        "the shipped dataset cards are missing", where=str(here / "datasets"), remedy="Install samcmp again."
    )


def names(folders: Iterable[Path] = ()) -> list[str]:
    """Return the names of all datasets: shipped, from ``folders`` and from installed entry points.

    A card with molecules of 100 atoms and more is there twice: ``bbbp`` and, without them, ``bbbp@compt``.
    """
    found = _catalogue(folders)
    # Looking for the key instead of parsing keeps the names cheap, and a broken card from spoiling all of them.
    small = [name + COMPT for name, path in found.items() if b"\ncompt_leave_out" in path.read_bytes()]
    return sorted([*found, *small])


def find(name: str, folders: Iterable[Path] = ()) -> DatasetCard:
    """Return the card called ``name``; ``name@compt`` is its population below 100 atoms. Raises UsageError."""
    base, at, population = name.partition("@")
    if at and population != COMPT[1:]:
        raise unknown("population", population, [COMPT[1:]], where=f"dataset {name!r}")
    folders = tuple(folders)
    path = shipped_folder() / f"{base}.toml"
    if folders or not NAME.fullmatch(base) or not path.is_file():
        paths = _catalogue(folders)
        if base not in paths:
            raise _unknown_dataset(base, paths)
        path = paths[base]
    card = read(path)
    return compt_population(card) if at else card


def _catalogue(folders: Iterable[Path]) -> dict[str, Path]:
    from importlib.metadata import entry_points

    found = {path.stem: path for path in sorted(shipped_folder().glob("*.toml"))}
    more = [Path(folder) for folder in folders]
    for folder in more:
        if not folder.is_dir():
            raise UsageError("no such folder", where=str(folder), remedy="--cards names a folder with *.toml cards.")
    more += [_entry_point_folder(point) for point in entry_points(group=ENTRY_POINTS)]
    for folder in more:
        for path in sorted(folder.glob("*.toml")):
            if not path.is_file():  # a pipe would be waited for
                raise ConfigError("is no file", where=str(path), remedy="Remove it, or rename it to another ending.")
            if path.stem in found and found[path.stem].resolve() != path.resolve():
                raise ConfigError(
                    f"there is already a dataset called {path.stem!r} ({found[path.stem]})",
                    where=str(path),
                    remedy="Rename the file and the card's `name`.",
                )
            found[path.stem] = path
    return found


def _entry_point_folder(point: Any) -> Path:
    """An entry point of the group names a package that holds cards, or a value that is the folder's path."""
    try:
        target = point.load()
    except Exception as error:  # a third party's import may fail in any way
        raise ConfigError(
            f"the installed plug-in {point.value!r} cannot be loaded: {error}",
            where=f"entry point {ENTRY_POINTS}:{point.name}",
            remedy="Repair or uninstall the package that brings it.",
        ) from error
    if isinstance(target, (str, Path)):
        return Path(target)
    return Path(next(iter(target.__path__)))


def _unknown_dataset(name: str, paths: Mapping[str, Path]) -> SamcmpError:
    titles = {read(path).title.lower(): stem for stem, path in paths.items()}
    by_title = titles.get(nearest(name, titles) or "")
    if by_title and not nearest(name, paths):
        return UsageError(
            f"unknown dataset {name!r}", remedy=f"Did you mean {by_title!r}? Allowed: {', '.join(sorted(paths))}."
        )
    if name.lower().endswith(TABLES):
        remedy = f"Name a table of your own with --data {name} --target COLUMN."
        return UsageError(f"unknown dataset {name!r}", remedy=remedy)
    return unknown("dataset", name, paths)


def compt_population(card: DatasetCard) -> DatasetCard:
    """Return the card with the rows that CoMPT uses: molecules of 100 and more atoms are left out as well."""
    left = card.compt_leave_out
    return replace(
        card,
        name=card.name + COMPT,
        title=f"{card.title}, below 100 atoms",
        leave_out=tuple(sorted({*card.leave_out, *left})),
        molecules=None if card.molecules is None else card.molecules - len(left),
        dataset_hash=card.compt_hash if left else card.dataset_hash,
        scaffold_partition=None if left else card.scaffold_partition,
        population=COMPT[1:],
    )


def read(path: Path) -> DatasetCard:
    """Read and check one card. Raises ConfigError with the file, the key, what was found and what is allowed."""
    where = str(path)
    content = files.read_toml(path, remedy="Check the path of the card.")
    card = _build(content, where)
    if card.name != path.stem:
        raise ConfigError(
            f"the name is {card.name!r} but the file is {path.name!r}",
            where=f"{where}, key name",
            remedy=f"Name the file {card.name}.toml or the card {path.stem!r}.",
        )
    beside = path.parent / card.file_name
    local = beside if card.built_in or not card.url else None
    return replace(card, path=path, data=local)


_INNER = {"path", "data", "notes", "shortage", "population"}
_KEYS = {f.name: f for f in fields(DatasetCard) if f.name not in _INNER}
_LISTS: Mapping[str, type] = {
    "target_columns": str,
    "sha256": str,
    "train_members": str,
    "test_members": str,
    "classes": str,
    "leave_out": int,
    "compt_leave_out": int,
    "target_positions": int,
}
_SCALARS: Mapping[str, type] = {
    "molecules": int, "images": int, "label_bytes": int, "file_rows": int, "built_in": bool,
}  # fmt: skip
_OF_IMAGES = ("images", "train_members", "test_members", "label_bytes")
_OF_MOLECULES = (
    "molecules", "smiles_column", "leave_out", "compt_leave_out", "target_positions", "group_column", "split_column",
)  # fmt: skip


def _build(content: Mapping[str, Any], where: str) -> DatasetCard:
    for key in content:
        if key not in _KEYS:
            raise ConfigError(f"unknown key {key!r}", where=where, remedy=choice(key, sorted(_KEYS)))
    values = {key: _value(key, value, where) for key, value in content.items()}
    _check_kind(values, where)
    values = {"smiles_column": "", **values}
    for key, f in _KEYS.items():
        if f.default is MISSING and key not in values:
            raise ConfigError(f"the key {key!r} is missing", where=where, remedy="Every card needs it.")
    card = DatasetCard(**values)
    _check(card, where)
    return card


def _check_kind(values: Mapping[str, Any], where: str) -> None:
    """Refuse keys of the other kind of card, and a card that lacks those of its own."""
    kind = values.get("kind", "molecules")
    _allowed("kind", kind, tuple(COUNTED), where)
    for key in ("train_members", "test_members", "classes") if kind == "images" else ("smiles_column",):
        if not values.get(key):
            raise ConfigError(f"the key {key!r} is missing", where=where, remedy=f"Every card of {kind} needs it.")
    for key in values.keys() & set(_OF_MOLECULES if kind == "images" else _OF_IMAGES):
        raise ConfigError(f"a card of {kind} has no key {key!r}", where=where, remedy="Leave it out.")


def _allowed(key: str, value: str, options: Sequence[str], where: str) -> None:
    if value not in options:
        error = unknown(key, value, options, where=f"{where}, key {key}")
        raise ConfigError(error.what, where=error.where, remedy=error.remedy)


def _value(key: str, value: Any, where: str) -> Any:
    if key in _LISTS:
        wanted = _LISTS[key]
        if not isinstance(value, list) or not all(type(item) is wanted for item in value):
            spoken = "texts" if wanted is str else "whole numbers"
            raise ConfigError(f"expected a list of {spoken}, found {value!r}", where=f"{where}, key {key}")
        return tuple(value)
    wanted = _SCALARS.get(key, str)
    if type(value) is not wanted:
        spoken = {str: "a text in quotes", int: "a whole number", bool: "true or false"}[wanted]
        raise ConfigError(f"expected {spoken}, found {value!r}", where=f"{where}, key {key}")
    return value


def _check(card: DatasetCard, where: str) -> None:
    def refuse(key: str, what: str, remedy: str) -> ConfigError:
        return ConfigError(what, where=f"{where}, key {key}", remedy=remedy)

    if not NAME.fullmatch(card.name):
        raise refuse("name", f"{card.name!r} is not a dataset name", "Use a-z, 0-9, '.', '_', '-'; at most 64 of them.")
    if not FILE_NAME.fullmatch(card.file_name):
        raise refuse("file_name", f"{card.file_name!r} is not a plain file name", "Give a name without folders.")
    _allowed("task", card.task, ("multiclass",) if card.kind == "images" else tuple(METRICS), where)
    _allowed("metric", card.metric, METRICS[card.task], where)
    _allowed("split", card.split, SPLITS, where)
    if not card.target_columns or len(set(card.target_columns)) != len(card.target_columns):
        raise refuse("target_columns", "there must be at least one, each once", "List the columns to be predicted.")
    if card.target_positions and len(card.target_positions) != len(card.target_columns):
        raise refuse("target_positions", "there must be one for every target column", "Make both lists equally long.")
    if card.task == "multiclass" and len(card.target_columns) > 1:
        raise refuse("target_columns", "a multiclass task has one target", "Make a card for each column.")
    if len(set(card.classes)) != len(card.classes) or (len(card.classes) > 1) != (card.task == "multiclass"):
        raise refuse(
            "classes",
            "a multiclass task names two classes or more, each once, and no other task does",
            'Write classes = ["...", "..."] in their order, or leave it out.',
        )
    if not 1 <= card.label_bytes <= 8:
        raise refuse("label_bytes", f"there are 1 to 8 before an image, found {card.label_bytes}", "Correct it.")
    if any(row < 0 for row in (*card.leave_out, *card.compt_leave_out, *card.target_positions)):
        raise refuse("leave_out", "rows and positions are counted from 0", "Remove the negative number.")
    for digest in card.sha256:
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise refuse("sha256", f"{digest!r} is not a SHA-256", "It has 64 digits 0-9 and a-f.")
    if card.url and not card.url.startswith(("https://", "http://", "file://")):
        raise refuse("url", f"{card.url!r} is not a URL", "It starts with https://, http:// or file://.")
    if card.md5 and not re.fullmatch(r"[0-9a-f]{32}", card.md5):
        raise refuse("md5", f"{card.md5!r} is not an MD5", "It has 32 digits 0-9 and a-f.")
    if card.url and not (card.sha256 or card.md5):
        raise refuse("sha256", "a file that is downloaded needs its SHA-256", 'Add sha256 = ["..."].')
