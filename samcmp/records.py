"""Cases and Records: what is to be run, and what came of it.

A :class:`Case` is everything that decides a result; a :class:`Record` is the result with the facts a referee asks
for. Both are frozen and go to and from plain JSON; nothing here is ever pickled. What was not measured is ``None``
and has its reason beside it; it is never zero.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

SCHEMA = 2  # of a stored Record; a store written by a newer version is refused, not guessed at

SCHEDULES = ("noam", "constant", "cosine", "noam-released", "compt-adam-released")  # see samcmp.training.loop
BASES = ("adam", "adamw", "sgd")  # base optimizers, see samcmp.training.setup
CHOSEN_ROWS = frozenset({"file", "column"})  # splits that may take any rows of the dataset
METRICS = {"roc-auc": "ROC-AUC", "accuracy": "accuracy", "rmse": "RMSE", "mae": "MAE"}  # name -> as printed
LOWER_IS_BETTER = frozenset({"rmse", "mae"})

COUNTED = {"molecules": "graphs", "images": "images"}  # what a row of a dataset is -> as speeds name it

Kind = Literal["train", "profile"]
Holds = Literal["molecules", "images"]  # what a row of a dataset is
Status = Literal["ok", "diverged", "out-of-memory", "error", "timeout", "skipped", "partial"]
Json = Any  # what json.loads returns
T = typing.TypeVar("T")


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a model is trained: equal for every optimizer of a comparison (GraphSAM, Wang et al. 2024, A.4)."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    epochs: int = 30
    batch_size: int = 32
    base: str = "adam"  # one of BASES, under every variant
    schedule: str = "noam"  # one of SCHEDULES
    initial_lr: float = 1e-4
    peak_lr: float = 1e-3
    final_lr: float = 1e-4
    warmup_epochs: float = 2.0
    weight_decay: float = 0.0
    momentum: float = 0.9  # of sgd
    augment: bool = True  # images in training: random crops of the padded image, and flips
    subset: int | None = None  # samples drawn from the dataset before it is split
    loss_power: int = 1  # 2: the updating gradient is multiplied by the loss, as in the paper's released SAM arms
    threads: int = 1  # of a run on the CPU; sums in another order give other bits, so it decides the result
    init_from: str | None = None  # SHA-256 of the file with initial weights


OWN: Mapping[str, float] = {"times": 1.0, "learning_rate": 1.0, "weight_decay": 0.0}  # with what changes nothing


def arm_name(optimizer: str, settings: Mapping[str, Json], own: Mapping[str, Json] | None = None) -> str:
    """Name an optimizer with its settings and what its training has of its own: ``sam[rho=0.1]``, ``adam ×2``."""
    own = dict(own or {})
    times = own.pop("times", None)
    changed = ", ".join(f"{key}={value}" for key, value in sorted({**settings, **own}.items()))
    name = f"{optimizer}[{changed}]" if changed else optimizer
    return name if times is None else f"{name} ×{times:g}"


@dataclass(frozen=True, slots=True)
class Case:
    """One run. Two runs of one Case on one kind of device give the same accuracy."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: Kind
    dataset: str  # its name is for people: see ``data``
    model: str
    optimizer: str  # of the catalogue; the base alone has the base's own name
    protocol: Protocol = field(default_factory=Protocol)
    split: str = "random"
    split_seed: int = 0
    fold: int | None = None  # of cv5
    seed: int = 0  # of initial weights, batch order and dropout, each its own stream
    model_settings: Mapping[str, Json] = field(default_factory=dict)
    optimizer_settings: Mapping[str, Json] = field(default_factory=dict)
    device: str = "cpu"  # the kind: cpu or cuda
    peers: tuple[str, ...] = ()  # profile: the optimizers measured side by side in one session
    data: str = ""  # the dataset's content: see samcmp.data.catalogue.identity
    split_file: str = ""  # SHA-256 of the file with the split "file"
    own: Mapping[str, Json] = field(default_factory=dict)  # asked for this arm alone: keys of OWN
    trial: int = 0  # of a tuned comparison; 0: as asked
    search: str = ""  # names the rule and the ranges that a trial was drawn by
    drawn: Mapping[str, Json] = field(default_factory=dict)  # what the trial changes: learning rate, weight decay, rho
    code: Mapping[str, str] = field(default_factory=dict)  # of users' own: file.py:Class -> SHA-256 of its files

    def __post_init__(self) -> None:
        if self.optimizer in BASES:  # Records used to call every base alone "adam"
            object.__setattr__(self, "optimizer", self.protocol.base)

    @property
    def is_base(self) -> bool:
        """Whether this is the base optimizer alone."""
        return self.optimizer == self.protocol.base

    @property
    def block(self) -> str:
        """Name what this Case shares with the Cases it is compared with: split and seeds."""
        fold = "" if self.fold is None else f"/fold{self.fold}"
        return f"{self.split}/{self.split_seed}{fold}/seed{self.seed}"

    @property
    def arm(self) -> str:
        """Name the optimizer with what was asked for: settings that differ from its defaults, and its own training."""
        return arm_name(self.optimizer, self.optimizer_settings, self.own)

    @property
    def measured_as(self) -> str:
        """Name the arm that this one shares its profile with: the length of training changes no step's cost."""
        return arm_name(self.optimizer, self.optimizer_settings)

    @property
    def training(self) -> Protocol:
        """The protocol as this run trains by it: with what is its arm's own, then with what its trial drew."""
        own = {**self.own, **self.drawn}
        return dataclasses.replace(
            self.protocol,
            epochs=trained_epochs(self.protocol.epochs, own.get("times", 1.0)),
            weight_decay=own.get("weight_decay", self.protocol.weight_decay),
        )

    @property
    def learning_rate(self) -> float:
        """The factor on the arm's schedule of learning rates."""
        return float({**self.own, **self.drawn}.get("learning_rate", 1.0))

    @property
    def settings(self) -> dict[str, Json]:
        """The optimizer's settings as this run has them: those asked for, then those that its trial drew."""
        return {**self.optimizer_settings, **{key: value for key, value in self.drawn.items() if key not in OWN}}


def trained_epochs(epochs: int, times: float) -> int:
    """The length of a training that is ``times`` as long."""
    return round(epochs * times)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of a training run. Times exclude evaluation."""

    train_loss: float
    valid_score: float | None
    test_score: float | None
    learning_rate: float
    seconds: float
    passes: int  # gradient evaluations
    test_loss: float | None = None  # mean over labels, on the scale of train_loss; read after selection only
    rho: float | None = None


Parts = tuple[int, int, int]  # of training, validation and test


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the parts of a split rest on, in samples."""

    sizes: Parts
    labelled: Parts  # that have a label of any task
    repeated: int  # test samples that are in training or validation, too


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The test score at the best validation epoch (ties to the earlier), and what it rests on."""

    metric: str  # one of METRICS
    test: float
    valid: float
    best_epoch: int  # 0-based
    per_task: Mapping[str, float | None]  # None: a single class in the test rows
    tasks_scored: int
    tasks_total: int
    smallest_class: int | None  # fewest samples of a class in a scored test task
    train_size: int
    valid_size: int
    test_size: int
    coverage: Coverage | None = None  # None: a Record of an earlier version
    per_class: Mapping[str, float | None] = field(default_factory=dict)  # multiclass: share of a class that is right


Ratio = tuple[float, float | None, float | None]
SpeedWord = Literal["faster", "slower", "same", "ambiguous"]


def speed_word(low: float | None, high: float | None, *, threshold: float = 0.02) -> SpeedWord:
    """Name a speed ratio by its interval: beyond, within or across a practical margin around 1. None: unbounded."""
    top = 1.0 + threshold
    if low is not None and low > top:
        return "faster"
    if high is not None and high < 1.0 / top:
        return "slower"
    if low is not None and high is not None and low >= 1.0 / top and high <= top:
        return "same"
    return "ambiguous"


@dataclass(frozen=True, slots=True)
class Throughput:
    """Training speed of one optimizer within one interleaved session (spec: whole periods, same batches)."""

    graphs_per_second: float  # or images, see Record.holds; resident batches: median over the rounds
    passes_per_step: float | None  # gradient evaluations, counted
    steps: int  # that were timed
    rounds: int
    block_seconds: tuple[float, ...]  # raw, one a round, never trimmed
    block_graphs: int
    stopped: str  # precision, noise or budget
    ratio_to: Mapping[str, Ratio] = field(default_factory=dict)  # peer -> ratio, low, high (95 %); None: unbounded
    pipeline_graphs_per_second: float | None = None  # through the whole data path
    atoms_per_second: float | None = None
    efficiency: float | None = None  # to the gradient-count bound
    details: Mapping[str, Json] = field(default_factory=dict)  # phases, clocks, warnings, flops


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak memory of training steps, from a pass of its own."""

    peak_bytes: int | None  # CUDA: peak allocated; CPU: growth of the peak resident set
    reserved_bytes: int | None = None
    device_bytes: int | None = None  # NVML, what is really gone
    split_bytes: Mapping[str, int] = field(default_factory=dict)  # parameters, gradients, optimizer state, ...
    how: str = ""  # the source of peak_bytes
    missing: Mapping[str, str] = field(default_factory=dict)  # field -> why it is None


@dataclass(frozen=True, slots=True)
class Energy:
    joules_per_graph: float | None
    idle_watts: float | None = None
    how: str = ""
    missing: str = ""  # why it is None
    net_joules_per_graph: float | None = None  # above idle power
    watts: float | None = None  # mean over the window


@dataclass(frozen=True, slots=True)
class Record:
    """What came of a Case."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    key: str
    case: Case
    status: Status
    reason: str | None = None
    created: str = ""  # ISO 8601, UTC
    seconds: float = 0.0  # wall time of the whole run
    dataset_hash: str = ""
    split_hash: str = ""
    parameters: int | None = None
    accuracy: Accuracy | None = None
    history: tuple[Epoch, ...] = ()
    throughput: Throughput | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    notes: tuple[str, ...] = ()  # said to the user: skipped rows, guessed task
    machine: Mapping[str, Json] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    holds: Holds = "molecules"  # what the dataset's rows are, and what speeds and energies count
    schema: int = SCHEMA


def to_json(value: Any) -> Json:
    """Turn a noun of this module into plain JSON values. Non-finite numbers become None."""
    if value is None or isinstance(value, (str, int)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def from_json(cls: type[T], data: Json) -> T:
    """Build a noun of this module from :func:`to_json`'s output, or from its JSON text as bytes.

    Raises ValueError, naming the field, where something is missing, unknown or of another type, and for what
    :func:`parse_json` refuses.
    """
    from pydantic import ValidationError

    kind: Any = cls
    text = data if isinstance(data, (bytes, str)) else json.dumps(data)
    if _unusual(text if isinstance(text, bytes) else text.encode(errors="replace")):
        parse_json(text)
    try:
        return typing.cast(T, _adapter(kind).validate_json(text, strict=True))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in (cls.__name__, *first["loc"]))
        raise ValueError(f"{where}: {first['msg']}") from None


@functools.cache
def _adapter(cls: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


_HASH = re.compile(rb'"[0-9a-f]{16,}"')  # has digits behind an e more often than not
_SHAPE = bytes(
    48 if 48 <= c < 58 else 101 if c in b"eE" else c if c == 46 else 32 for c in range(256)
)  # 0, e, . or blank
_WHOLE = re.compile(rb"(?<![.0])0{19}")


def _unusual(text: bytes) -> bool:
    """Say whether a number may be beyond what is computed with; parsing every file twice would cost as much again."""
    if b"NaN" in text or b"Infinity" in text:
        return True
    shape = _HASH.sub(b"", text).translate(_SHAPE, b"+")
    return b"0e000" in shape or (b"0" * 19 in shape and _WHOLE.search(shape) is not None)


def parse_json(text: bytes | str) -> Json:
    """Parse JSON whose numbers are finite and, the whole ones, of 64 bits. Raises ValueError, also if nested deeply."""
    try:
        return json.loads(text, parse_float=_finite, parse_int=_in_64_bits, parse_constant=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text[:20]} is not a finite number")
    return float(text)


def _in_64_bits(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def canonical_json(value: Any) -> str:
    """The one spelling of a value: sorted keys, no blanks, ASCII. Equal values give equal text."""
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def content_key(value: Any) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def is_key(text: str) -> bool:
    """Whether a text is a content key: 64 hexadecimal digits."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def differing(settings: Mapping[str, Json], defaults: Mapping[str, Json]) -> dict[str, Json]:
    """Return the settings that are not the defaults, each in its default's type: one setting has one spelling."""
    typed = {key: _like(value, defaults.get(key)) for key, value in settings.items()}
    return {
        key: value
        for key, value in typed.items()
        if key not in defaults or type(value) is not type(defaults[key]) or value != defaults[key]
    }


def _like(value: Json, default: Json) -> Json:
    if isinstance(value, float) and value == 0:
        value = 0.0  # not -0.0
    if isinstance(default, float) and type(value) is int and abs(value) < 1 << 1023:
        return float(value)
    if default is None and isinstance(value, float) and value.is_integer():
        return int(value)  # takes any number, and a whole one serves wherever a decimal one does
    return value


def misfit(value: Json, default: Json) -> str | None:
    """Say what is wrong with the type of ``value`` beside its default, or None. A default of None takes any."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be finite, found {value}"
    if isinstance(default, float) and type(value) is int and abs(value) >= 1 << 1023:
        return "must be finite, found a number of more than 300 digits"
    if default is None:
        return None
    for kind, fits, expected in (
        (bool, bool, "true or false"),
        (int, int, "a whole number"),
        (float, (int, float), "a number"),
        (str, str, "text"),
    ):
        if isinstance(default, kind):
            right = isinstance(value, fits) and (kind is bool or not isinstance(value, bool))
            return None if right else f"expected {expected}, found {value!r}"
    return None
