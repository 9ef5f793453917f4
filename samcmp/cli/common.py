"""What several subcommands share: options, devices, folders, messages."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.errors import DataError, DeviceError, SamcmpError, UsageError
from samcmp.keys import Inputs

if TYPE_CHECKING:
    from rich.console import Console

    from samcmp.data.cards import DatasetCard
    from samcmp.data.fetch import Progress
    from samcmp.setup import Options

DATA = "Data"
TRAINING = "Training"
OUTPUT = "Output"

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1. Auto takes a GPU that is there.")]
StoreDir = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="Where results are kept.  [default: .samcmp, or $SAMCMP_STORE]"),
]
DataFile = Annotated[
    Path | None,
    typer.Option("--data", metavar="CSV", help="A CSV file of your own, as a dataset.", rich_help_panel=DATA),
]
SmilesColumn = Annotated[
    str, typer.Option(metavar="NAME", help="Your CSV's column with the SMILES.", rich_help_panel=DATA)
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        "--target", metavar="NAME", help="Your CSV's target column; repeat for several.", rich_help_panel=DATA
    ),
]
TaskKind = Annotated[
    str | None,
    typer.Option("--task", metavar="KIND", help="classification or regression; else guessed.", rich_help_panel=DATA),
]
Cards = Annotated[
    list[Path] | None,
    typer.Option("--cards", metavar="DIR", help="A folder with dataset cards of your own.", rich_help_panel=DATA),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="DIR|URL",
        help="Take dataset files from here.  [default: $SAMCMP_MIRROR, else their URLs]",
        rich_help_panel=DATA,
    ),
]
SplitFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A split of your own: JSON or CSV of row numbers.", rich_help_panel=DATA),
]
Subset = Annotated[
    int | None, typer.Option(metavar="N", help="Use N molecules only, drawn before splitting.", rich_help_panel=DATA)
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="OPTIMIZER.KEY=VALUE",
        help="A setting, or a sweep: --set graphsam.rho=0.05,0.005",
        rich_help_panel=TRAINING,
    ),
]
InitFrom = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Initial weights: a GROVER checkpoint or samcmp's own.", rich_help_panel=TRAINING
    ),
]


def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_error(error: SamcmpError) -> None:
    """Print an error as where, what and remedy; text from files is never read as markup."""
    from rich.text import Text

    console = stderr()
    line = Text("error: ", style="bold red")
    if error.where:
        line.append(f"{error.where}: ")
    line.append(error.what, style="bold")
    console.print(line, soft_wrap=True)
    if error.remedy:
        console.print(Text(error.remedy), soft_wrap=True)


def store_folder(store: Path | None) -> Path:
    return store or Path(os.environ.get("SAMCMP_STORE") or ".samcmp")


def pick_device(name: str) -> str:
    """Return cpu or cuda:i for a --device value, without importing torch. Raises UsageError or DeviceError."""
    text = name.strip().lower()
    if text == "cpu":
        return "cpu"
    if text == "auto":
        return "cuda:0" if cuda_is_likely() else "cpu"
    kind, _, index = text.partition(":")
    if kind != "cuda" or (":" in text and not index.isdigit()):
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


def cuda_is_likely() -> bool:
    """Say whether a GPU is there for torch, asking NVML: importing torch would cost seconds."""
    if "+cpu" in importlib.metadata.version("torch") or os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        return False
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            return bool(pynvml.nvmlDeviceGetCount() > 0)
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no driver, no library: then torch has no GPU either
        return False


@dataclass(frozen=True, slots=True)
class Sources:
    """The data side of a command line, checked."""

    datasets: tuple[str, ...] = ()
    user_cards: dict[str, DatasetCard] = field(default_factory=dict)
    content: dict[str, str] = field(default_factory=dict)
    cards: tuple[Path, ...] = ()
    source: str | None = None
    split_file: Path | None = None
    init_from: Path | None = None

    def inputs(self, fingerprint: str) -> Inputs:
        return Inputs(content=self.content, fingerprint=fingerprint, cards=self.cards)

    def options(self, device: str, save: Path | None = None) -> Options:
        from samcmp.setup import Options

        return Options(
            device=device,
            cards=self.cards,
            user_cards=self.user_cards,
            source=self.source,
            split_file=self.split_file,
            init_from=self.init_from,
            save=save,
        )


def sources(
    datasets: Sequence[str],
    *,
    data: Path | None = None,
    smiles_column: str = "smiles",
    targets: Sequence[str] = (),
    task: str | None = None,
    cards: Sequence[Path] = (),
    source: str | None = None,
    split_file: Path | None = None,
    init_from: Path | None = None,
    models: Sequence[str] = (),
) -> Sources:
    """Check the data options and hash the user's own files, so that a changed file is a changed case."""
    names = list(datasets)
    user_cards: dict[str, DatasetCard] = {}
    content: dict[str, str] = {}
    if data is not None:
        from samcmp.data import cards as dataset_cards

        card = dataset_cards.user_card(data, smiles_column, list(targets), task)
        if card.shortage:
            raise DataError(
                card.shortage,
                where=str(data),
                remedy="Add molecules, or choose another --target. Rows are counted from 0 after the header.",
            )
        user_cards[card.name] = card
        content[card.name] = f"{_digest(data)}:{smiles_column}:{','.join(targets)}:{card.task}"
        names.append(card.name)
    elif targets or task:
        raise UsageError("--target and --task describe a file of your own", remedy="Add --data my.csv.")
    for model in models:
        path = Path(model.partition(":")[0])
        if ":" in model and path.suffix == ".py" and path.is_file():
            content[model] = _digest(path)
    for name, path_or_none in (("split-file", split_file), ("init-from", init_from)):
        if path_or_none is not None:
            content[name] = _digest(path_or_none)
    return Sources(tuple(names), user_cards, content, tuple(cards), source, split_file, init_from)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=str(path)) from None


def positive(value: float | None, option: str, *, whole: bool = True, least: float = 1) -> None:
    """Raise UsageError unless ``value`` is None or finite and at least ``least``."""
    if value is None:
        return
    if value > 1e9:
        raise UsageError(f"{value:g} is more than any run can do", where=option, remedy="Name a smaller number.")
    if not math.isfinite(value) or value < least:
        kind = "a whole number" if whole else "a finite number"
        raise UsageError(f"must be {kind} of at least {least:g}, got {value:g}", where=option)


def fingerprint(device: str) -> str:
    """Name the hardware whose speed is measured: records of another machine are not this plan's."""
    from samcmp import machine

    parts = [machine.processor() or "unknown processor", f"{len(machine.affinity() or ())} cores"]
    if device != "cpu":
        parts.append(gpu_name(int(device.partition(":")[2] or 0)) or "unknown GPU")
    return ", ".join(parts)


def gpu_name(index: int) -> str | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index))
            return name.decode() if isinstance(name, bytes) else str(name)
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # the name then stays unknown, and says so
        return None


def fetch_all(names: Iterable[str], options: Options) -> None:
    """Get the files of the named datasets before any run starts, with a bar where something is downloaded."""
    from samcmp.data import cards, fetch

    for name in sorted(names):
        card = options.user_cards.get(name) or cards.find(name, options.cards)
        if card.data is None and not card.built_in and not fetch.is_cached(card):
            with progress_bars() as progress:
                fetch.ensure(card, source=options.source, progress=progress)


@contextmanager
def progress_bars(shown: bool = True) -> Iterator[Progress | None]:
    """Yield a callback (what, done, total) that draws a bar for each ``what`` on standard error."""
    if not shown or not stderr().is_terminal:
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


def counted(n: int, what: str) -> str:
    """Say how many: ``1 run``, ``2 runs``."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")
