"""The options that several subcommands share, each once: name, range, help and the panel of --help it stands in."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from samcmp.cli import completion, said
from samcmp.errors import UsageError, unknown
from samcmp.report import FORMATS

EQUAL = ("trials", "passes", "seconds")
ROWS = ("arms", "runs")
CORES = os.cpu_count() or 1
N = TypeVar("N", int, float)


def positive(value: float | None, option: str, *, whole: bool = True, least: float = 1, most: float = 1e9) -> None:
    """Raise UsageError unless ``value`` is None or a finite number from ``least`` to ``most``."""
    if value is not None and not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        end = f"{CORES} (this machine's cores)" if most == CORES else f"{most:,.15g}"
        raise UsageError(f"must be {kind} from {least:g} to {end}, got {value:,.15g}", where=option)


def _reader(kind: type[N], expected: str, option: str, least: float, most: float) -> Callable[[object], N]:
    def read(text: object) -> N:
        try:
            value = kind(str(text))
        except ValueError:
            raise UsageError(f"expected {expected}, got {str(text)!r}", where=option) from None
        positive(value, option, whole=kind is int, least=least, most=most)
        return value

    return read


def whole(option: str, *, least: int = 1, most: int = 10**9) -> Callable[[object], int]:
    """Make the reader of a whole number; anything else is refused with the option's name as the command is read."""
    return _reader(int, "a whole number", option, least, most)


def number(option: str, *, least: float, most: float = 1e9) -> Callable[[object], float]:
    """Make the reader of a number, as :func:`whole` does."""
    return _reader(float, "a number", option, least, most)


def one_of(option: str, *allowed: str, kind: str = "value") -> Callable[[object], str]:
    """Make the reader of one of a few words, as :func:`whole` does. ``kind`` says what they are."""

    def read(text: object) -> str:
        if text not in allowed:
            raise unknown(kind, str(text), allowed, where=option)
        return str(text)

    return read


def trials(text: object) -> int:
    """Read a number of trials. Raises UsageError."""
    if str(text) in {"0", "1"}:
        raise UsageError(f"must be at least 2: trial 0 is the settings given, got {text}", where="--tune")
    return whole("--tune", least=2)(text)


def source(text: str) -> str:
    """Read where dataset files come from: a folder or a bundle that is there, or a URL."""
    if "://" not in text and not Path(text).expanduser().exists():
        raise UsageError(
            f"no such {'bundle' if Path(text).suffix else 'folder'}",
            where=f"--from {text}",
            remedy="Name a folder, a bundle of `samcmp fetch --bundle` or a URL.",
        )
    return text


DATA = "Data"
TRAINING = "Training"
TUNING = "Tuning and equal cost"
OUTPUT = "Output"
RUNNING = "Running"


def count(
    option: str, text: str, panel: str | None = None, *, least: int = 1, most: int = 10**9, shown: str | bool = True
) -> Any:
    """Make an option that is a whole number from ``least`` to ``most``. ``shown`` stands for its default in --help."""
    reader = whole(option, least=least, most=most)
    return typer.Option(option, metavar="N", parser=reader, help=text, show_default=shown, rich_help_panel=panel)


OF_SPLITS = "Of the first split; the next ones count up."


def seed(text: str, panel: str | None = None, *, shown: str | bool = True) -> Any:
    """Make the option --seed; ``text`` says of what."""
    return count("--seed", text, panel, least=0, shown=shown)


def form(names: Sequence[str], *, default: str | bool = "what --output ends with, else table") -> Any:
    """Make the option --format with these names."""
    return typer.Option(
        "--format", metavar="NAME", help=f"{', '.join(names[:-1])} or {names[-1]}.", rich_help_panel=OUTPUT,
        autocompletion=completion.among(*names), show_default=default,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- what is run


def _name(long: str, short: str, offers: Callable[..., object], text: str) -> Any:
    return typer.Option(long, short, metavar="NAME", help=text, autocompletion=offers)


_dataset = partial(_name, "--dataset", "-d", completion.datasets)
_model = partial(_name, "--model", "-m", completion.models)
_optimizer = partial(_name, "--optimizer", "-o", completion.optimizers)
Dataset = Annotated[str, _dataset("See `samcmp list datasets`.")]
Model = Annotated[str, _model("See `samcmp list models`, or your own: file.py:Class, package.module:Class.")]
Optimizer = Annotated[str, _optimizer("See `samcmp list optimizers`, or your own: file.py:Class.")]
Datasets = Annotated[list[str] | None, _dataset("Repeat for several; see `samcmp list datasets`.")]
Models = Annotated[
    list[str] | None, _model("Repeat for several; `samcmp list models`, file.py:Class or package.module:Class.")
]
Optimizers = Annotated[
    list[str] | None, _optimizer("Repeat for several; `samcmp list optimizers`, or your own: file.py:Class.")
]
Suite = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A suite of benchmarks.toml, see `samcmp list suites`.",
        autocompletion=completion.suites,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Suites, protocol and settings.", show_default="the benchmarks.toml of samcmp"),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto, cpu, cuda or cuda:1. Auto takes a GPU that is there.",
        autocompletion=completion.among("auto", "cpu", "cuda"),
    ),
]
StoreDir = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="Where results are kept.", show_default="$SAMCMP_STORE, else .samcmp"),
]

# ---------------------------------------------------------------------------------------------- data

DataFile = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="A table of your own: CSV, TSV or Parquet, also packed.",
        rich_help_panel=DATA,
    ),
]
SmilesColumn = Annotated[
    str, typer.Option(metavar="NAME", help="Your table's column with the SMILES.", rich_help_panel=DATA)
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        "--target", metavar="NAME", help="Your table's target column; repeat for several.", rich_help_panel=DATA
    ),
]
TaskKind = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="KIND",
        help="classification (0 and 1), multiclass (names of classes) or regression.",
        show_default="guessed from the labels",
        autocompletion=completion.among("classification", "multiclass", "regression"),
        rich_help_panel=DATA,
    ),
]
Cards = Annotated[
    list[Path] | None,
    typer.Option("--cards", metavar="DIR", help="A folder with dataset cards of your own.", rich_help_panel=DATA),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="SOURCE",
        parser=source,
        help="A folder or bundle, here or at a URL, to take dataset files from.",
        show_default="$SAMCMP_MIRROR, else their URLs",
        rich_help_panel=DATA,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="random, cv5, scaffold, scaffold-balanced, stratified or fixed.",
        show_default="the suite's, else random, of images fixed",
        autocompletion=completion.among("random", "cv5", "scaffold", "scaffold-balanced", "stratified", "fixed"),
        rich_help_panel=DATA,
    ),
]
SplitFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A split of your own: JSON (chemprop's, too) or a table of row numbers.",
        rich_help_panel=DATA,
    ),
]
SplitColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Your table's column that says train, valid or test.",
        rich_help_panel=DATA,
    ),
]
Subset = Annotated[
    int | None, count("--subset", "Use N molecules or images only, drawn before splitting.", DATA, least=10)
]

# ---------------------------------------------------------------------------------------------- training

Epochs = Annotated[int | None, count("--epochs", "Passes over the training rows.", TRAINING, shown="the suite's")]
BatchSize = Annotated[int | None, count("--batch-size", "Molecules or images a step.", TRAINING, shown="the suite's")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME.KEY=VALUE",
        help="A setting of an optimizer or a model; a sweep: --set graphsam.rho=0.05,0.005",
        autocompletion=completion.settings,
        rich_help_panel=TRAINING,
    ),
]
InitFrom = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Initial weights: a GROVER checkpoint or samcmp's own.", rich_help_panel=TRAINING
    ),
]
Threads = Annotated[
    int | None,
    count("--threads", "Of one run on the CPU; other sums, other bits.", TRAINING, most=CORES,
          shown="the suite's, else 1"),
]  # fmt: skip

# ---------------------------------------------------------------------------------------------- tuning, equal cost

Tune = Annotated[
    int | None,
    typer.Option(
        "--tune",
        metavar="N",
        parser=trials,
        help="Try N settings an optimizer and split, chosen by validation; the first are those given.",
        show_default="the suite's, else no tuning",
        rich_help_panel=TUNING,
    ),
]
Equal = Annotated[
    str | None,
    typer.Option(
        "--equal",
        metavar="WHAT",
        parser=one_of("--equal", *EQUAL, kind="unit"),
        autocompletion=completion.among(*EQUAL),
        help="What every optimizer's tuning may take: trials, passes or seconds.",
        show_default="trials",
        rich_help_panel=TUNING,
    ),
]
EqualCost = Annotated[
    bool,
    typer.Option("--equal-cost", help="Add the base trained twice as long: SAM's cost.", rich_help_panel=TUNING),
]

# ---------------------------------------------------------------------------------------------- output

Format = Annotated[str | None, form(FORMATS)]
ShortFormat = Annotated[str, form(("table", "json"), default=True)]
OUTPUT_FILE = typer.Option("--output", metavar="FILE", help="Write there, not to the screen.", rich_help_panel=OUTPUT)
Output = Annotated[Path | None, OUTPUT_FILE]
Margin = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        parser=number("--margin", least=0, most=1),
        help="Loss of accuracy that counts as none.",
        show_default="0.01 AUC, 0.005 of accuracy, 0.02 of the RMSE or MAE",
        rich_help_panel=OUTPUT,
    ),
]
Published = Annotated[
    bool, typer.Option("--published", help="Show the paper's numbers beside yours.", rich_help_panel=OUTPUT)
]


Rows = Annotated[
    str,
    typer.Option(
        "--rows",
        metavar="WHAT",
        parser=one_of("--rows", *ROWS, kind="kind of row"),
        help="Of csv and parquet: one an optimizer (arms), or one a training run (runs).",
        rich_help_panel=OUTPUT,
    ),
]

# ---------------------------------------------------------------------------------------------- groups of options


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Which molecules: of a shipped dataset, of a card, or of a table of one's own."""

    subset: Subset = None
    data: DataFile = None
    smiles_column: SmilesColumn = "smiles"
    target: Target = None
    task: TaskKind = None
    cards: Cards = None
    source: Source = None


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How they are split."""

    split: Split = None
    split_file: SplitFile = None
    split_column: SplitColumn = None


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a model is trained, where the suite does not say it."""

    epochs: Epochs = None
    batch_size: BatchSize = None


@dataclass(frozen=True, slots=True)
class SettingOptions:
    """Settings of optimizers and models, and what they begin with."""

    config: Config = None
    set_: Settings = None
    init_from: InitFrom = None
    threads: Threads = None


@dataclass(frozen=True, slots=True)
class TuningOptions:
    """How fair the comparison is: equally many trials, equal cost."""

    tune: Tune = None
    equal: Equal = None
    equal_cost: EqualCost = False


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What is made of the results."""

    format_: Format = None
    rows: Rows = "arms"
    output: Output = None
    margin: Margin = None
    published: Published = False


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take its options as dataclasses, of which typer sees the fields.

    The parameter ``data: DataOptions`` of ``command`` becomes ``--subset``, ``--data``, ... on the command line.
    """
    kinds = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in kinds.items() if is_dataclass(kind)}
    flat: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if name not in groups:
            flat.append(parameter.replace(annotation=kinds[name]))
            continue
        own = get_type_hints(groups[name], include_extras=True)
        flat += [
            Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=own[f.name])
            for f in fields(groups[name])
        ]

    flat += said.PARAMETERS

    def call(**given: Any) -> None:
        del given["quiet"], given["log"]
        made = {
            name: kind(**{f.name: given.pop(f.name) for f in fields(kind)})  # type: ignore[operator]
            for name, kind in groups.items()
        }
        command(**made, **given)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    call.__signature__ = signature(command).replace(  # type: ignore[attr-defined]
        parameters=[parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in flat]
    )
    return call
