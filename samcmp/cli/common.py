"""What several subcommands share: devices, folders, messages."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from samcmp import files
from samcmp.data.catalogue import Catalogue
from samcmp.errors import DataError, DeviceError, SamcmpError, UsageError
from samcmp.experiment.keys import Inputs
from samcmp.printable import counted

if TYPE_CHECKING:
    from rich.console import Console

    from samcmp.cli.options import DataOptions, SplitOptions
    from samcmp.data.fetch import Progress
    from samcmp.experiment.merge import Stores
    from samcmp.experiment.store import Store
    from samcmp.training.setup import Options


def stdout(*, width: int | None = None, color: bool = True) -> Console:
    """Return what prints results; ``width`` is for a file or a pipe, which has none of its own.

    Escape codes go to a terminal alone, or where FORCE_COLOR asks for them, NO_COLOR does not forbid them and what is
    printed allows for them.
    """
    from samcmp.cli.console import SafeConsole

    if sys.stdout.isatty():
        return SafeConsole(highlight=False)
    codes = None if color and not os.environ.get("NO_COLOR") else False
    return SafeConsole(highlight=False, force_terminal=codes, width=None if "COLUMNS" in os.environ else width)


_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def silence() -> Iterator[None]:
    """Print no progress and no message meanwhile."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def stderr(*, always: bool = False) -> Console:
    """Return what prints progress and messages: a log of it never holds escape codes.

    With --quiet it prints nothing; with --log what it prints is appended there, too. In a notebook with ipywidgets it
    is the cell, where bars are drawn; without them, lines of plain text.

    Args:
        always: for errors, which are printed in any case.
    """
    from samcmp.cli import said
    from samcmp.cli.console import Voice

    quiet = _silent.get() or (said.is_quiet() and not always)
    screen = sys.stderr.isatty() and not quiet
    if "ipykernel" in sys.modules and not quiet and importlib.util.find_spec("ipywidgets"):
        return Voice(said.log, stderr=True, highlight=False, force_interactive=True)
    return Voice(
        said.log, stderr=True, highlight=False, force_terminal=screen, force_interactive=False if quiet else None,
        force_jupyter=False, soft_wrap=not screen, quiet=quiet,
    )  # fmt: skip


def print_error(error: SamcmpError) -> None:
    """Print an error as where, what and remedy; text from files is never read as markup."""
    from rich.text import Text

    console = stderr(always=True)
    line = Text("error: ", style="bold red")
    if error.where:
        line.append(f"{error.where}: ")
    line.append(error.what, style="bold")
    console.print(line, soft_wrap=True)
    if error.remedy:
        console.print(Text(error.remedy), soft_wrap=True)


def print_damaged(kept: Store | Stores, what: str = "left out, damaged") -> None:
    """Name the files of a store that could not be read, each once."""
    for path, why in dict(kept.damaged).items():
        stderr().print(f"{what}: {path}: {why}", markup=False)
    kept.damaged.clear()


def store_folder(store: Path | None) -> Path:
    return store or Path(os.environ.get("SAMCMP_STORE") or ".samcmp")


def standing(path: Path) -> Path:
    """Return the part of ``path`` that is there already: itself or the nearest parent."""
    return next(p for p in (path, *path.parents, *path.absolute().parents) if os.path.exists(p))


def check_writable(path: Path | None, option: str) -> None:
    """Refuse a file that could not be written in the end, before hours of work. Raises UsageError."""
    if path is None:
        return
    if files.open_stream(path) is not None:
        return
    there = standing(path)
    if there.is_dir() and there == path:
        raise UsageError("is a folder", where=f"{option} {path}", remedy="Name a file in it.")
    if there != path and not there.is_dir():
        raise UsageError(f"{there} is a file, not a folder", where=f"{option} {path}", remedy="Name another place.")
    if not os.access(there, os.W_OK):
        raise UsageError(
            f"there is no permission to write in {there}", where=f"{option} {path}", remedy="Name another place."
        )


def check_folder(path: Path, option: str) -> None:
    """Refuse a folder that could not be made, or take a file, in the end. Raises UsageError."""
    there = standing(path)
    if not there.is_dir():
        what = "is a file" if there == path else f"{there} is a file, not a folder"
        raise UsageError(what, where=f"{option} {path}", remedy="Name another folder.")
    if not os.access(there, os.W_OK):
        raise UsageError(
            f"there is no permission to write in {there}", where=f"{option} {path}", remedy="Name another folder."
        )


def refuse_overwriting(given: Mapping[str, object]) -> None:
    """Refuse a command that writes over a file that it reads, or twice into one. Raises UsageError.

    Args:
        given: options and their values, as typed, one or several. A new baseline may replace the one that was read.
    """
    taken: dict[object, str] = {}
    several = [(option, value if isinstance(value, (list, tuple)) else [value]) for option, value in given.items()]
    pairs = [(option, os.fspath(v)) for option, values in several for v in values if isinstance(v, (str, Path))]
    for option, text in sorted(pairs, key=lambda pair: pair[0] in WRITTEN):
        place = text.partition("=")[2] if option == "--figure" else re.sub(r"(?<=[.]py):[^/]*$", "", text)
        same = _identity(place)
        if option in WRITTEN and same in taken:
            raise UsageError(
                f"is the file of {taken[same]}, too", where=f"{option} {place}", remedy="Name another one."
            )
        if same is not None and option in (*READ, *WRITTEN):
            taken[same] = option


READ = (
    "--data", "--split-file", "--config", "--init-from", "--model-file", "--model", "--optimizer", "models"
)  # fmt: skip
WRITTEN = (
    "--output", "--save", "--save-split", "--trace", "--bundle", "--figure", "--gate-json", "--gate-junit",
    "--summary", "--log",
)  # fmt: skip


def _identity(place: str) -> object:
    """Return what tells a file from every other, however it is written; None for what is no file."""
    try:
        found = os.stat(place)
    except FileNotFoundError:
        return os.path.realpath(place)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def pick_device(name: str) -> str:
    """Return cpu or cuda:i for a --device value, without importing torch. Raises UsageError or DeviceError."""
    text = name.strip().lower()
    if text == "cpu":
        return "cpu"
    if text == "auto":
        return "cuda:0" if cuda_is_likely() else "cpu"
    kind, _, index = text.partition(":")
    if kind != "cuda" or (":" in text and not (index.isdecimal() and len(index) < 5)):
        raise UsageError(
            f"unknown device {name!r}",
            where="--device",
            remedy="Allowed: auto, cpu, cuda, or cuda:INDEX such as cuda:1.",
        )
    if "+cpu" in importlib.metadata.version("torch"):
        raise DeviceError(
            "CUDA was asked for, but this torch is a CPU build",
            where=f"--device {name}",
            remedy="Use --device cpu, or install a CUDA build of torch; `samcmp doctor` says what is missing.",
        )
    return f"cuda:{int(index or 0)}"


def pick_devices(name: str) -> tuple[str, ...]:
    """Return the devices of ``--device`` where several may be named: cuda:0,1,2,3. Raises UsageError or DeviceError."""
    kind, _, numbers = name.strip().lower().partition(":")
    if kind != "cuda" or "," not in numbers:
        return (pick_device(name),)
    devices = tuple(pick_device(f"cuda:{number.strip() or '?'}") for number in numbers.split(","))
    twice = next((device for device in devices if devices.count(device) > 1), None)
    if twice is not None:
        raise UsageError(f"names {twice} twice", where=f"--device {name}", remedy="Name every card once.")
    from samcmp.profiling.nvml import visible_gpus

    there = len(visible_gpus())
    absent = [device for device in devices if there and int(device.partition(":")[2]) >= there]
    if absent:
        raise DeviceError(
            f"there is no {', no '.join(absent)}: {counted(there, 'card')} visible",
            where=f"--device {name}",
            remedy=f"Name some of cuda:{','.join(map(str, range(there)))}.",
        )
    return devices


def pick_remote(name: str, option: str) -> str:
    """Return cpu or cuda:0 for the ``--device`` of other machines: a GPU is not needed here. Raises UsageError."""
    text = name.strip().lower()
    if text in {"cpu", "cuda"}:
        return "cpu" if text == "cpu" else "cuda:0"
    raise UsageError(
        "says nothing of other machines" if text == "auto" else "a worker uses the device that its engine gives it",
        where=f"--device {name} {option}",
        remedy="Say --device cpu or --device cuda.",
    )


def cuda_is_likely() -> bool:
    """Say whether a GPU is there for torch, asking NVML: importing torch would cost seconds."""
    if "+cpu" in importlib.metadata.version("torch"):
        return False
    from samcmp.profiling.nvml import visible_gpus

    return bool(visible_gpus())


@dataclass(frozen=True, slots=True)
class Sources:
    """The data side of a command line, checked."""

    datasets: tuple[str, ...] = ()
    catalogue: Catalogue = field(default_factory=Catalogue)
    source: str | None = None
    split_file: Path | None = None
    split_sha256: str = ""
    splits: int = 1  # in the split file
    split_column: str | None = None
    init_from: Path | None = None
    init_sha256: str | None = None

    def split(self, name: str | None) -> str | None:
        """The split that is asked for: a file's, or by name. Raises UsageError where both are, or neither is whole."""
        own = {"file": self.split_file, "column": self.split_column}
        forms = [form for form, value in own.items() if value is not None]
        if name == "file" and not forms:
            raise UsageError(
                "the split 'file' is one of your own", where="--split file", remedy="Add --split-file FILE."
            )
        if forms and len({*forms, name or forms[0]}) > 1:
            named = [] if name is None else [f"--split {name}"]
            raise UsageError(
                "two splits contradict each other",
                where=" ".join([*named, *(f"--split-{form} {own[form]}" for form in forms)]),
                remedy="Leave one of them out.",
            )
        return forms[0] if forms else name

    def inputs(self, fingerprint: str) -> Inputs:
        return Inputs(self.catalogue, split_file=self.split_sha256, fingerprint=fingerprint)

    def options(
        self, device: str, code: Mapping[str, str], *, save: Path | None = None, keep: Path | None = None
    ) -> Options:
        from samcmp.training.setup import Options

        return Options(
            device=device,
            datasets=self.catalogue,
            code=code,
            source=self.source,
            split_file=self.split_file,
            init_from=self.init_from,
            save=save,
            keep=keep,
        )


def sources(
    datasets: Sequence[str],
    data: DataOptions,
    splitting: SplitOptions | None = None,
    *,
    init_from: Path | None = None,
) -> Sources:
    """Check the data options and hash the user's own files, so that a changed file is a changed case."""
    names = list(datasets)
    own = []
    targets = data.target or []
    split_file, split_column = (splitting.split_file, splitting.split_column) if splitting else (None, None)
    if data.data is not None:
        from samcmp.data import cards as dataset_cards
        from samcmp.data import table
        from samcmp.data.user_table import user_card

        content = table.content(data.data)
        card = user_card(
            data.data, data.smiles_column, targets, data.task, split_column=split_column or "", content=content
        )
        if card.shortage:
            raise DataError(
                card.shortage,
                where=str(data.data),
                remedy="Add molecules, or choose another --target. Rows are counted from 0 after the header.",
            )
        if data.cards and card.name in dataset_cards.names(data.cards):  # two datasets are never taken for one
            card = replace(card, name=f"{card.name}-csv")
        own.append((card, hashlib.sha256(content).hexdigest()))
        names.append(card.name)
    else:
        refuse_columns(targets, data.task, data.smiles_column, split_column)
    split_sha256, splits = "", 1
    if split_file is not None:
        from samcmp.data import splitfile

        content = _content(split_file, option="--split-file")
        split_sha256, splits = hashlib.sha256(content).hexdigest(), splitfile.count(content, split_file)
    weights = None if init_from is None else _content(init_from, option="--init-from")
    return Sources(
        tuple(names),
        Catalogue(data.cards or (), own),
        source=data.source,
        split_file=split_file,
        split_sha256=split_sha256,
        splits=splits,
        split_column=split_column,
        init_from=init_from,
        init_sha256=None if weights is None else hashlib.sha256(weights).hexdigest(),
    )


def refuse_columns(
    targets: Sequence[str] | None, task: str | None, smiles_column: str, split_column: str | None = None
) -> None:
    """Refuse words about a user's file where none is given. Raises UsageError."""
    if targets or task or smiles_column != "smiles" or split_column:
        raise UsageError(
            "--target, --task, --smiles-column and --split-column describe a file of your own",
            remedy="Add --data my.csv.",
        )


def _content(path: Path, *, option: str) -> bytes:
    try:
        return files.read(path)
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}", where=f"{option} {path}", remedy="Check the path."
        ) from None


def fetch_all(names: Iterable[str], options: Options) -> None:
    """Get the files of the named datasets before any run starts, with a bar where something is downloaded."""
    from samcmp.data import fetch

    for name in sorted(names):
        card = options.datasets.find(name)
        if card.data is None and not card.built_in and not fetch.is_cached(card):
            with progress_bars() as progress:
                fetch.ensure(card, source=options.source, progress=progress)


@contextmanager
def progress_bars(shown: bool = True) -> Iterator[Progress | None]:
    """Yield a callback (what, done, total) that draws a bar for each ``what`` on standard error."""
    if not shown or not stderr().is_interactive:
        yield None
        return
    from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    lines: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[count]}"))
    with Bars(*columns, TimeRemainingColumn(), console=stderr(), transient=True) as bars:

        def progress(what: str, done: int, total: int | None) -> None:
            if what not in lines:
                lines[what] = bars.add_task(what, total=total, count="")
            count = f"{done:,}" if total is None else f"{done:,} of {total:,}"
            bars.update(lines[what], completed=done, total=total, count=count)

        yield progress


def score(value: float) -> str:
    """Write a score or a loss with four decimals, or four figures where its unit makes it tiny or huge."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"
