"""A Comparison: everything a table, a figure or a verdict shows, as plain data.

Built once from Records (:func:`samcmp.analysis.build.compare`), rendered many times. It goes to and from JSON with
:func:`samcmp.records.to_json` and :func:`samcmp.records.from_json`; :mod:`samcmp.analysis.schema` publishes its form.
What is missing is None and has its reason in ``missing``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from samcmp.printable import printable_json
from samcmp.records import Holds, SpeedWord, from_json, parse_json, to_json

SCHEMA = 2  # of an exported Comparison: raised when a reader of the old form would misread the new one

Role = Literal["base", "sam", "cost"]  # cost: the base trained longer, for as many gradient evaluations
EQUAL_COST = (0.9, 1.1)  # two trainings whose ratio of cost lies between these cost the same
Equal = Literal["trials", "passes", "seconds"]  # what every arm may spend on its tuning
Word = Literal["better", "worse", "equivalent", "non-inferior", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its two-sided confidence limits; the limits are None where nothing bounds them."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Margin:
    """The largest loss of accuracy that counts as none: fixed before the runs."""

    value: float = 0.01
    relative: bool = False  # a share of the base optimizer's mean

    def __str__(self) -> str:
        return f"{100 * self.value:g} %" if self.relative else f"{self.value:g}"


MARGINS: Mapping[str, Margin] = {
    "roc-auc": Margin(0.01),
    "accuracy": Margin(0.005),
    "rmse": Margin(0.02, relative=True),
    "mae": Margin(0.02, relative=True),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What is decided before looking at the numbers."""

    margins: Mapping[str, Margin] = field(default_factory=lambda: dict(MARGINS))
    alpha: float = 0.05
    speed_threshold: float = 0.02  # a smaller difference of speed does not matter
    equal: Equal = "trials"
    trials: int | None = None  # of a tuned comparison; None: as many as every arm has on every split
    draws: int = 10_000  # of every bootstrap
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Score:
    """A metric over the blocks of one arm."""

    mean: float
    sd: float | None  # sample standard deviation; None for one run
    n: int
    low: float | None = None  # 95 % of the mean over splits (corrected resampled t)
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Hole:
    """Runs without a result, and why."""

    status: str
    reason: str
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One arm (an optimizer with its settings) in one cell."""

    arm: str
    label: str  # the arm as briefly as the cell allows: settings only where they tell two arms apart
    optimizer: str
    optimizer_settings: Mapping[str, object]
    role: Role | None
    score: Score | None
    valid: Score | None
    blocks: Mapping[str, float]  # block -> test score
    holes: tuple[Hole, ...]
    graphs_per_second: float | None
    speed_to: Mapping[str, Interval]  # "base", "sam" -> that arm's training time over this one's
    passes_per_step: float | None
    peak_bytes: int | None
    joules_per_graph: float | None
    efficiency: float | None
    parameters: int | None
    front: bool | None  # on the Pareto front of mean score and graphs per second
    front_probability: float | None
    best: tuple[str, ...]  # the columns in which nothing is better
    missing: Mapping[str, str]  # column -> why it is None
    epochs_to_target: tuple[int | None, ...] = ()  # a run each; None: the target of its split was not reached
    cost_to_target: tuple[float | None, ...] = ()  # the same in trainings of the base, by gradient evaluations
    seconds_to_target: float | None = None  # median over runs at the measured speed; None: see ``missing``
    block_seconds: tuple[float, ...] = ()  # of the timed rounds
    block_graphs: int | None = None
    own: Mapping[str, object] = field(default_factory=dict)  # of its training: times, learning_rate, weight_decay
    passes_to_base: float | None = None  # gradient evaluations of a whole training over the base's
    times: float = 1.0  # how many times as long as the protocol's its training is


@dataclass(frozen=True, slots=True)
class Verdict:
    """One arm against one reference in one cell; differences are positive where the arm is better."""

    arm: str
    reference: str
    role: Role
    word: Word = "inconclusive"
    why: str | None = None  # why it is inconclusive, or what weakens it
    blocks: int = 0  # that both have
    blocks_of: int = 0  # that either has
    splits: int = 0  # distinct ones among them
    method: str = ""
    mean: float | None = None
    median: float | None = None
    sd: float | None = None
    low: float | None = None  # 95 %, of this comparison alone
    high: float | None = None
    adjusted_low: float | None = None  # 95 % for all of a cell's comparisons together: what its word is read from
    adjusted_high: float | None = None
    low_excluded: bool = (
        False  # the limit is 0 or the margin, which Holm's method excludes although the interval has it
    )
    high_excluded: bool = False
    within_margin: bool = False  # better or worse, but shown to be so by less than the margin
    margin: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_inferior_holm: float | None = None
    p_not_equivalent_holm: float | None = None
    comparisons: int = 0  # that Holm's adjustment covers
    probability_better: Interval | None = None
    blocks_needed: int | None = None  # to settle it, if mean and SD stay; None: settled, or no number would
    detectable: float | None = None  # smallest difference found with 80 % power by as many blocks
    speed: Interval | None = None
    speed_word: SpeedWord | None = None
    claim: bool = False  # "as accurate and faster" is established
    one_test_set: str | None = None  # a test over the molecules of a single test set, in words
    passes_ratio: float | None = None  # role cost: gradient evaluations of this arm's training over the reference's
    time_ratio: Interval | None = None  # role cost: time of this arm's training over the reference's


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to use, by the rule that is printed with it (:data:`RULE`)."""

    arm: str | None  # None: nothing can be said
    text: str


@dataclass(frozen=True, slots=True)
class TunedSetting:
    """What the splits chose for one setting; those that kept the default are left out."""

    name: str
    values: tuple[object, ...]  # a split each
    edge: Literal["", "lowest", "highest"]  # the tenth of its range in which over half of all splits chose it
    at_edge: int


@dataclass(frozen=True, slots=True)
class TunedRow:
    """What tuning came to for one arm: block by block the trial that validates best."""

    arm: str
    trials: Mapping[str, int]  # block -> how many were tried
    chosen: Mapping[str, int]  # block -> which counts; 0: the settings as given, -1: all failed
    default: Score | None  # test score of the settings as given
    tuned: Score | None
    gain: Interval | None  # paired, positive where tuning helps
    settings: tuple[TunedSetting, ...]
    default_kept: int
    failed: int  # trials that were tried and lost by it, over all splits
    cost: float | None  # of all its trials on a split, in trainings of the base


@dataclass(frozen=True, slots=True)
class Untuned:
    """What an arm's verdict would be without tuning: shown, never declared."""

    arm: str
    reference: str
    word: Word
    mean: float | None


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the runs of a cell were chosen."""

    trials: int  # that every arm has on every split
    equal: Equal
    search: str  # names the rule and the ranges
    rows: tuple[TunedRow, ...]
    untuned: tuple[Untuned, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitName:
    """A split as it is printed under the table."""

    name: str  # dataset/split/seed
    hash: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One dataset and one model under one protocol: what is compared with each other."""

    key: str  # SHA-256 of what its Records share
    name: str  # dataset / model, and what sets it apart where two cells share both
    dataset: str
    dataset_hash: str
    model: str
    model_settings: Mapping[str, object]
    split: str
    protocol: Mapping[str, object]
    device: str
    metric: str
    higher_is_better: bool
    margin: float | None
    margin_text: str
    test_over_train: float | None
    splits: tuple[SplitName, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    speed_session: str  # where the speeds come from; empty without any
    speed_machine: Mapping[str, object]  # what it ran on; empty without any
    notes: tuple[str, ...]
    sentences: tuple[str, ...] = ()  # the verdicts in words, the same in every format
    tuning: Tuning | None = None  # None: every run has the settings as given
    recommendation: Recommendation | None = None  # None: an export of an earlier version
    holds: Holds = "molecules"  # what graphs_per_second and joules_per_graph count


@dataclass(frozen=True, slots=True)
class Standing:
    """One optimizer over several cells."""

    arm: str
    label: str
    cells: int
    mean_rank: float
    tied_with: tuple[str, ...]  # within one critical difference
    profile_score: float | None  # of time to the target, or of the error: see Across.profile_of
    iqm: Interval | None
    speed_to_sam: Interval | None
    speed_to_base: Interval | None


@dataclass(frozen=True, slots=True)
class PairTest:
    """Wilcoxon's signed-rank test of two arms over cells."""

    first: str
    second: str
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class Across:
    """What several cells say together. With few cells ranks have little power; the numbers say how little."""

    cells: tuple[str, ...]
    arms: tuple[str, ...]
    left_out: Mapping[str, str]  # arm -> why
    standings: tuple[Standing, ...]
    friedman_p: float | None
    critical_difference: float | None
    wilcoxon: tuple[PairTest, ...]
    profile_of: str
    profile_tau: tuple[float, ...]
    profile: Mapping[str, tuple[float, ...]]
    notes: tuple[str, ...]


Agreement = Literal["agree", "disagree", "n.a."]


@dataclass(frozen=True, slots=True)
class PublishedComparison:
    """A printed number of the GraphSAM paper beside ours. None: not printed, or not measured."""

    cell: str
    dataset: str
    model: str
    arm: str
    label: str
    table: int
    paper: float
    paper_sd: float | None
    ours: Score | None
    difference: Interval | None  # ours minus the paper's, with both uncertainties
    agreement: Agreement
    why: str  # why n.a.; what the interval rests on
    paper_speed_to_sam: float | None
    our_speed_to_sam: Interval | None
    flags: tuple[str, ...]
    reasons: Mapping[str, str]  # flag -> what to know


Outcome = Literal["holds", "does not hold", "cannot be told"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the GraphSAM paper and what the runs of one cell say to it."""

    text: str
    cell: str | None  # None: no cell has the arms
    outcome: Outcome
    evidence: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All cells of a set of Records, and what they say together."""

    cells: tuple[Cell, ...]
    across: Across | None
    settings: Settings
    suite: str | None
    machines: tuple[Mapping[str, object], ...]
    versions: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...]
    records: int
    recommendation: Recommendation | None = None  # over all cells; of a single one its own
    rule: str = ""  # that recommendations are made by
    published: tuple[PublishedComparison, ...] = ()  # see samcmp.analysis.published_comparison
    claims: tuple[Claim, ...] = ()  # of the paper, judged: see samcmp.analysis.claims
    schema: int = SCHEMA


def failures(comparison: Comparison) -> int:
    """Count the training runs without a result."""
    return sum(len(hole.blocks) for cell in comparison.cells for row in cell.rows for hole in row.holes)


def training_speed(row: Row) -> float | None:
    """Graphs or images per second over the length of training: what the time of a whole training goes by."""
    return None if row.graphs_per_second is None else row.graphs_per_second / row.times


def labels(cell: Cell) -> dict[str, str]:
    """Return the short name of each arm of a cell."""
    return {row.arm: row.label for row in cell.rows}


def to_json_text(comparison: Comparison) -> str:
    """Return the whole Comparison as JSON; its form is :func:`samcmp.analysis.schema.schema`."""
    return printable_json(json.dumps(to_json(comparison), indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def from_json_text(text: str | bytes) -> Comparison:
    """Read what :func:`to_json_text` wrote. Raises ValueError, naming the field, where it does not fit."""
    try:
        version = parse_json(text).get("schema")
    except (ValueError, AttributeError):
        raise ValueError("it is not the JSON of a comparison") from None
    if isinstance(version, int) and version > SCHEMA:
        raise ValueError(f"written by a newer samcmp (schema {version}, this version reads up to {SCHEMA})")
    return from_json(Comparison, text)
