"""Command lines drawn at random but repeatably, and what a command may not do with them or with damaged files.

Command lines are made of the options that the commands have, so a new option is tried from its first day. A line runs
in this process, in a folder of its own; what would take long (training, measuring) ends it where that would begin.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from samcmp import backbones, child, cli, optim
from samcmp.data import cards, splits
from samcmp.errors import SamcmpError
from samcmp.printable import printable

SECONDS = 20  # after which a line hangs
MEMORY = 3 << 30  # bytes that a line may take beside what the process has
CODES = {0, 1, 2, *range(10, 15)}  # that --help and the documentation promise
TINY = ("--subset", "40", "--batch-size", "8", "--epochs", "1", "--device", "cpu")

# ---------------------------------------------------------------------------------------------- what there is

SMILES = [f"{'C' * (i % 7 + 1)}{tail}" for i in range(10) for tail in ("O", "N", "Cl", "c1ccccc1", "C(=O)O")]
TABLE = "smiles,y,z,set\n" + "".join(
    f"{smiles},{i % 9 / 10},{i % 2},{'train' if i < 40 else 'val' if i < 45 else 'test'}\n"
    for i, smiles in enumerate(SMILES)
)
ROWS = {"train": [*range(40)], "valid": [*range(40, 45)], "test": [*range(45, 50)]}
CARD = """name = "mine"
title = "Mine"
smiles_column = "smiles"
target_columns = ["y"]
task = "regression"
metric = "rmse"
file_name = "mine.csv"
"""
SUITE = """[protocol]
epochs = 2
base = "adam"
schedule = "noam"
peak_lr = 1e-3
warmup_epochs = 2.0
weight_decay = 0.0

[optimizers.sam]
rho = 0.02

[tuning]
learning_rate = { low = 0.1, high = 10 }
[tuning.optimizers]
graphsam = { rho = { low = 0.001, high = 0.2 } }

[suites.default]
title = "Tiny"
datasets = ["demo"]
models = ["gcn"]
optimizers = ["adam", "sam", { name = "graphsam", rho = 0.1, times = 2.0 }]
repeats = 2
profile_seconds = 1
protocol = { subset = 40, batch_size = 8 }

[suites.other]
title = "Other"
datasets = ["demo-tox"]
models = ["mpnn"]
optimizers = ["adam"]
split = "cv5"
folds = 5
seed = 3
"""
MODEL = """import torch
from torch import nn
from torch_geometric.nn import global_mean_pool

class Net(nn.Module):
    def __init__(self, in_channels, tasks, width=8):
        super().__init__()
        self.layer = nn.Linear(in_channels, tasks)

    def forward(self, data):
        return self.layer(global_mean_pool(data.x, data.batch))
"""
SPLITS = {  # one split in every form that is read
    "split.json": json.dumps(ROWS),
    "ranges.json": json.dumps([{"train": "0-39", "val": "40-44", "test": "45,46-49"}]),
    "several.json": json.dumps([ROWS, {"train": "5-49", "val": "0-2", "test": "3,4"}]),
    "lists.json": json.dumps([*ROWS.values()]),
    "split.csv": "row,part\n" + "".join(f"{row},{part}\n" for part, rows in ROWS.items() for row in rows),
    "split.tsv": "index\tset\n" + "".join(f"{row}\t{part}\n" for part, rows in ROWS.items() for row in rows),
}


def furnish(folder: Path) -> None:
    """Put one of everything that an option may name into ``folder``; a store is added by its owner."""
    texts = {
        "mine.csv": TABLE, "suite.toml": SUITE, "model.py": MODEL, "broken.py": "import no_such_module\n",
        "cards/mine.toml": CARD, "cards/mine.csv": TABLE, "empty": "", "latin.csv": "é,y\nC,1\n", **SPLITS,
    }  # fmt: skip
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode("latin-1" if name == "latin.csv" else "utf-8"))
    (folder / "mine.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    (folder / "noise").write_bytes(random.Random(0).randbytes(3000))
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")


# ---------------------------------------------------------------------------------------------- command lines

GARBAGE = (
    "", " ", "-", "--", "0", "-1", "1", "1.5", "nan", "inf", "-inf", "1e999", "1e-400", "9" * 30, "9" * 5000, "1_000",
    "٣", "１", "0x10", "true", "none", "ü", "名前", "\udcff", "a\x00b", "\x1b[31mred", "a" * 5000, "[bold]", "[/]",
    "{}", "%s", "../..", "/", ".", "..", "=", ",", ",,", "a=b", "a.b=c", ":", "x:y", ".py", "\n", "'\"", "*",
    "~", "\u202e",
)  # fmt: skip
PATHS = (
    "mine.csv", "mine.csv.gz", "suite.toml", "model.py", "cards", "cards/mine.toml", "empty", "latin.csv", "noise",
    "folder", "pipe", "dangling", "loop", "store", "results.json", "weights", *SPLITS, ".", "..", "missing", "a/b/c",
    "new.csv", "new.json", "new.tar", "mine.csv/x", "pipe/x", "/dev/null", "/dev/zero", "/dev/full", "/dev/stdout",
    "x" * 300, "nul\x00.csv", "\udcff.csv", "名前.csv", "~nobody/x",
    "https://example.invalid/x.tar", "http://[::1", "http://h:99999/",
    "file:///dev/zero", "ftp://h/x", "://", "http://u:p@h/\x1b", f"http://{'h' * 300}/",
)  # fmt: skip
NUMBERS = ("0", "1", "2", "3", "5", "10", "64", "1000", "100000", "1000000000", "1000000001", "-5", "0.5", "1e3", "1.0")
TIMES = ("1s", "5min", "2h", "0s", "90", "1e9h", ".5min", "1 s", "-1s", "9" * 400 + "h", "1d")
SETTINGS = (
    "sam.rho=0.1", "sam.rho=0.1,0.2", "sam.rho=nan", "sam.rho=-1", "sam.rho=", "sam.rho=1e999", "sam.roh=1",
    "graphsam.rho=true", "graphsam.times=2", "adam.times=0", "adam.learning_rate=1e9", "gcn.hidden=8", "gcn.hidden=0",
    "gcn.hidden=-3", "gcn.hidden=99999999999", "gcn.hidden=1e3", "model.py:Net.width=9", "model.py:Net.nope=9",
    "sam.rho=" + ",".join(map(str, range(400))), "nobody.x=1", "sam.rho=1" + "0" * 400, "sam.=1", ".rho=1",
)  # fmt: skip
TARGETS = (
    "model.py:Net", "model.py", "broken.py", "missing.py", "noise.py", "math:inf", "json:JSONDecoder",
    "torch.nn:Linear", "no_such_package:X", ":", "a:b:c", "model.py:", "..:x", "torch.optim:SGD",
)  # fmt: skip
KNOWN: dict[str, Sequence[str]] = {  # good values, and nearly good ones, of options whose metavar does not tell
    "--dataset": (*cards.names(), "mine", "demo@compt", "bbbp@x", "esol "),
    "datasets": (*cards.names(), "mine", "demo@compt"),
    "--model": (*backbones.names(), *TARGETS),
    "target": (*optim.names(), *backbones.names(), *TARGETS),
    "--optimizer": (*optim.names(), "adma", "adamw", "sgd"),
    "--suite": ("default", "other", "smoke", "paper-table2", "nope"),
    "--set": SETTINGS,
    "--split": (*splits.NAMES, "cv10"),
    "--split-column": ("set", "y", "smiles", "nope"),
    "--smiles-column": ("smiles", "y", "SMILES", "nope"),
    "--target": ("y", "z", "set", "smiles", "nope"),
    "--task": ("regression", "classification", "clustering"),
    "--device": ("auto", "cpu", "cuda", "cuda:1", "cuda:-1", "cuda:99999999", "CPU", "mps"),
    "--format": ("table", "markdown", "latex", "csv", "json", "parquet", "html", "md"),
    "--figure": tuple(
        f"{kind}={file}"
        for kind in ("pareto", "differences", "curves", "profiles", "sweep", "tuning", "sensitivity", "anytime", "pie")
        for file in ("f.svg", "f.png", "f.pdf", "f.gif", "folder", "a/b.svg", "/dev/null", "mine.csv/f.svg", "")
    ),
    "--equal": ("trials", "passes", "seconds", "nope"),
    "--folds": ("5", "4", "10"),
    "kind": ("datasets", "models", "optimizers", "suites", "suite"),
}
BY_METAVAR = {
    "N": NUMBERS, "X": NUMBERS, "SECONDS": NUMBERS, "5": NUMBERS,
    "N,N,...": ("32", "8,16", "8,,16", "0", "1,1", "9" * 30),
    "FILE": PATHS, "DIR": PATHS, "SOURCE": PATHS, "TIME": TIMES,
}  # fmt: skip


def commands() -> dict[str, list[Any]]:
    """Return the options and arguments of every command, as the command line has them."""
    group: Any = typer.main.get_command(cli.app)
    context = typer.Context(group)
    return {name: group.get_command(context, name).params for name in cli.COMMANDS}


def line(rng: random.Random, known: dict[str, list[Any]]) -> list[str]:
    """Draw a command line: mostly of values that are good or nearly so, seldom of two that are not."""
    name = rng.choice([*known, "compare", "train", "report"])
    sour = rng.choice((0.0, 0.05, 0.3))  # the share of garbage
    words: list[str] = []
    for parameter in rng.sample(known[name], k=min(len(known[name]), rng.choice((0, 1, 1, 2, 2, 3, 4, 6, 9)))):
        for _ in range(2 if rng.random() < 0.08 else 1):
            words += _given(rng, parameter, sour)
    if name == "compare" and rng.random() < 0.8:
        words.append("--dry-run")
    if rng.random() < 0.05:
        words.insert(rng.randint(0, len(words)), rng.choice((*GARBAGE, "--help", "-h", "--no-such", "-x")))
    if rng.random() < 0.02:
        name = rng.choice(GARBAGE)
    return [name, *words]


def _given(rng: random.Random, parameter: Any, sour: float) -> list[str]:
    name = parameter.opts[0]
    word = rng.choice(parameter.opts)
    if getattr(parameter, "is_flag", False):
        return [word]
    good = KNOWN.get(name) or BY_METAVAR.get(parameter.metavar or "") or GARBAGE
    value = rng.choice(GARBAGE if rng.random() < sour else good)
    if parameter.param_type_name == "argument":
        return [value]
    return [f"{word}={value}"] if rng.random() < 0.1 and word.startswith("--") else [word, value]


# ---------------------------------------------------------------------------------------------- running


class Begins(SamcmpError):
    """Here a run would begin."""


class Hangs(BaseException):
    """A line has taken too long."""


def _begin(*_: object, **__: object) -> Any:
    raise Begins("a run begins", where="here", remedy="It is not meant to.")


def without_runs(patch: pytest.MonkeyPatch) -> None:
    """End a line where training, measuring or trying promises would begin."""
    from samcmp.conformance import backbone, optimizer
    from samcmp.engines import local
    from samcmp.profiling import largest_batch, processes, selfcheck

    for owner, name in (
        (local, "train"), (processes, "measure"), (largest_batch, "sentences"), (largest_batch, "sentence"),
        (selfcheck, "run"), (optimizer, "check_optimizer"), (backbone, "check_config"),
    ):  # fmt: skip
        patch.setattr(owner, name, _begin)
    patch.setattr(child, "Child", _Here)


class _Here:
    """A child whose life is in this process."""

    def __init__(self, target: Any, *arguments: Any, parental: bool = False) -> None:
        self.sent: list[Any] = []
        target(self, *arguments)

    def send(self, what: Any) -> None:
        self.sent.append(what)

    def receive(self, *, seconds: float | None = None) -> Any:
        return self.sent.pop(0)

    def end(self) -> None: ...


def without_network(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "there is no network here")

    patch.setattr(socket, "getaddrinfo", refuse)
    patch.setattr(socket.socket, "connect", refuse)
    patch.setattr(socket.socket, "connect_ex", lambda *_: errno.ENETUNREACH)


class Fence:
    """Notes what is written outside a folder while a line runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.outside, self.up = os.path.realpath(folder), list[str](), False
        sys.addaudithook(self._look)  # for the life of this process

    def _look(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.up:
            return
        opened = event == "open" and given[2] is not None and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if opened or event in {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate"}:
            path = given[0] if event in {"open", "os.mkdir", "os.truncate"} else given[1]
            real = os.path.realpath(os.fsdecode(path)) if isinstance(path, (str, bytes)) else self.folder
            if not real.startswith((self.folder, "/dev/", "/proc/")) and "__pycache__" not in real:
                self.outside.append(f"{event} {real}")


@dataclass(frozen=True)
class Outcome:
    """What became of a line: its exit code and text, or what went wrong."""

    code: int | None
    text: str
    fault: str = ""


def run(words: Sequence[str], fence: Fence) -> Outcome:
    """Run a line in this process and current folder, and judge it."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "replace", write_through=True) for _ in range(2)]
    code: int | None = None
    fault = ""
    before = sys.argv, sys.stdout, sys.stderr
    old = signal.signal(signal.SIGALRM, _alarm)
    sys.argv = ["samcmp", *words]
    sys.stdout, sys.stderr = streams
    signal.alarm(SECONDS)
    fence.outside.clear()
    fence.up = True
    try:
        with little_memory():
            cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException as error:
        fault = "".join(traceback.format_exception(error)[-6:])
    finally:
        signal.alarm(0)
        fence.up = False
        signal.signal(signal.SIGALRM, old)
        sys.argv, sys.stdout, sys.stderr = before
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    fault = fault or _judged(code, out, err) or ", ".join(fence.outside)
    return Outcome(code, out + err, fault)


def _judged(code: int | None, out: str, err: str) -> str:
    if code not in CODES:
        return f"exit code {code}"
    if "Traceback (most recent" in out + err:
        return "prints a traceback"
    if code == 2 and not err.strip():
        return "exit code 2 without a word"
    if (commands := out + err) != printable(commands):
        return f"prints control characters: {[c for c in commands if c != printable(c)][:5]}"
    return ""


def _alarm(*_: object) -> None:
    raise Hangs(f"no end within {SECONDS} s")


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Let a line that reads without end run out of memory before the machine does."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def furnished(template: Path, folder: Path) -> Iterator[Path]:
    """Stand in a fresh copy of ``template``, two floors below ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    work = folder / "a" / "b"
    shutil.copytree(template, work, symlinks=True, ignore=shutil.ignore_patterns("pipe"))
    os.mkfifo(work / "pipe")
    here = Path.cwd()
    os.chdir(work)
    try:
        yield work
    finally:
        os.chdir(here)
