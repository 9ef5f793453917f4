"""Sort Records into cells: what may be compared with each other, and which speeds belong to it.

Training Records share a cell when everything but the optimizer, the split's seed and the run's seed is equal. Speeds
come from one profiling session each, because only what was measured side by side can be set in relation.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from samcmp.records import CHOSEN_ROWS, Case, Holds, Protocol, Record, canonical_json, content_key

ROWS_BY_CONTENT = {*CHOSEN_ROWS, "scaffold"}  # splits whose name and seed do not say which rows are where

# what makes two machines the same for a measurement; load and free memory change by the minute
MACHINE = (
    "gpu", "gpu_uuid", "processor", "architecture", "physical_cores", "usable_cores", "cpu_quota", "threads", "cuda",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Group:
    """The Records of one cell: by arm and block, and the profile Record of each arm.

    In a tuned comparison ``runs`` are the settings as given and ``trials`` all of them, in their order, as far as no
    number is missing; :func:`samcmp.analysis.tuned.choose` makes a Group of the chosen ones.
    """

    key: str  # of what they share
    case: Case  # any of them
    dataset_hash: str
    runs: dict[str, dict[str, Record]]  # arm -> block -> Record
    trials: dict[str, dict[str, tuple[Record, ...]]]  # arm -> block -> trials 0, 1, ...; empty: nothing is tuned
    profiles: dict[str, Record]  # arm -> Record of the chosen session; arms of equal steps share one
    session: str
    machine: Mapping[str, object]
    blocks: frozenset[str]  # of any arm
    replaced: int  # older Records of a Case that was run again

    @property
    def holds(self) -> Holds:
        """What the dataset's rows are; of a failed run that did not come to its data it is not known."""
        members = [*self.profiles.values(), *(r for runs in self.runs.values() for r in runs.values())]
        return next((r.holds for r in members if r.status == "ok"), members[0].holds if members else "molecules")


def groups(records: Iterable[Record]) -> list[Group]:
    """Sort Records into cells, in the order of dataset, model and split. Profiles without runs make cells too.

    What data and split a Record is of is told by their content, never by a name.
    """
    runs: dict[_Cell, list[Record]] = defaultdict(list)
    profiles: dict[Hashable, list[Record]] = defaultdict(list)
    for record, content in _with_contents(_of_newest_files(list(records))):
        if record.case.kind == "train":
            runs[_Cell.of(record.case, content)].append(record)
        else:
            profiles[_speeds(record.case, content)].append(record)
    groups_ = []
    trained = set()
    keys = Counter(cell.key for cell in runs)
    for cell, members in runs.items():
        case = members[0].case
        key = cell.key if keys[cell.key] == 1 else content_key([cell.key, cell.content.metric])
        speeds = _speeds(case, cell.content)
        trained.add(speeds)
        arms, replaced = _by_block(record for record in members if not record.case.trial)
        drawn, again = _by_trial([record for record in members if record.case.trial], arms)
        session = _session(profiles.get(speeds, []), case, {r.case.measured_as for r in members})
        groups_.append(_group(key, cell.content.data, case, arms, drawn, session, replaced + again))
    for speeds, members in profiles.items():
        if speeds not in trained:
            case = members[0].case
            cell = _Cell.of(case, _Content(members[0].dataset_hash or case.data))
            groups_.append(_group(cell.key, cell.content.data, case, {}, {}, _session(members, case, set()), 0))
    return sorted(groups_, key=lambda g: (g.case.dataset, g.case.model, g.case.split, canonical_json(g.case.protocol)))


def _of_newest_files(records: Sequence[Record]) -> list[Record]:
    """Leave out Records of what a user's own file was before: one name of an arm or a model stands for one content."""
    newest: dict[str, tuple[str, str]] = {}
    for record in records:
        for source, content in record.case.code.items():
            newest[source] = max(newest.get(source, ("", "")), (record.created, content))
    return [
        record
        for record in records
        if all(
            newest[name][1] == record.case.code.get(name)
            for name in (record.case.model, record.case.optimizer)
            if name in newest
        )
    ]


@dataclass(frozen=True, slots=True)
class _Content:
    data: str  # hash of the molecules and labels
    rows: str = ""  # hash of the split, or of the file with it, where its name and seed do not say what it is
    metric: str = ""


@dataclass(frozen=True, slots=True)
class _Cell:
    """Everything that the training Records of a cell share."""

    dataset: str
    content: _Content
    model: str
    model_settings: str
    split: str
    protocol: Protocol
    device: str

    @classmethod
    def of(cls, case: Case, content: _Content) -> _Cell:
        settings = canonical_json(case.model_settings) if case.model_settings else ""
        return cls(case.dataset, content, case.model, settings, case.split, case.protocol, case.device)

    @property
    def key(self) -> str:
        """The same whether a run has a score or not: a baseline's cell is found again where all of its runs fail."""
        rows = [self.content.rows] if self.content.rows else []
        settings = json.loads(self.model_settings or "{}")
        return content_key(
            [self.dataset, self.content.data, self.model, settings, self.split, self.protocol, self.device, *rows]
        )


def _with_contents(records: Sequence[Record]) -> Iterator[tuple[Record, _Content]]:
    """Yield each Record with its content; what a failed run does not say is taken from other Records of its case."""
    data: dict[Hashable, str] = {}
    rows: dict[Hashable, str] = {}
    metrics: dict[Hashable, str] = {}
    for record in records:
        case = record.case
        if record.dataset_hash:
            data[case.data, case.protocol.subset] = record.dataset_hash
        if record.split_hash:
            rows[case.data, case.protocol.subset, case.split, case.split_file] = record.split_hash
        if record.accuracy is not None:
            metrics[case.data or record.dataset_hash] = record.accuracy.metric
    for record in records:
        case = record.case
        key = record.dataset_hash or data.get((case.data, case.protocol.subset), case.data)
        split = record.split_hash or rows.get((case.data, case.protocol.subset, case.split, case.split_file), "")
        metric = record.accuracy.metric if record.accuracy is not None else metrics.get(case.data or key, "")
        yield record, _Content(key, (case.split_file or split) if case.split in ROWS_BY_CONTENT else "", metric)


def _speeds(case: Case, content: _Content) -> Hashable:
    """Name what a speed belongs to: the way to split does not matter to it, rows that were chosen do."""
    settings = canonical_json(case.model_settings) if case.model_settings else ""
    return content.data, content.rows if case.split in CHOSEN_ROWS else "", case.model, settings


def machine_of(machine: Mapping[str, object]) -> dict[str, object]:
    """Return what identifies the machine of a run, without what changes from minute to minute."""
    return {name: machine[name] for name in MACHINE if machine.get(name) is not None}


def split_name(record: Record) -> str:
    """Name a Record's split as it is printed: dataset/split/seed, with the fold where there is one."""
    case = record.case
    fold = "" if case.fold is None else f"/fold{case.fold}"
    return f"{case.dataset}/{case.split}/{case.split_seed}{fold}"


def split_key(record: Record) -> str:
    """Tell splits apart: by content where the hash is known."""
    return record.split_hash or split_name(record)


def test_over_train(group: Group) -> float | None:
    """Mean n_test / n_train, the correlation of overlapping splits; 0 where there is one split only (see verdicts)."""
    ratios = [
        record.accuracy.test_size / record.accuracy.train_size
        for runs in group.runs.values()
        for record in runs.values()
        if record.accuracy and record.accuracy.train_size
    ]
    return fmean(ratios) if ratios else None


def _by_block(members: Iterable[Record]) -> tuple[dict[str, dict[str, Record]], int]:
    """Keep the newest Record of each arm and block."""
    arms: dict[str, dict[str, Record]] = defaultdict(dict)
    replaced = 0
    for record in members:
        blocks = arms[record.case.arm]
        old = blocks.get(record.case.block)
        replaced += old is not None
        # a result is worth more than a later failure: code that got worse shows up in the gate, not as a hole here
        if old is None or (_rank(record) >= _rank(old)):
            blocks[record.case.block] = record
    return {arm: dict(sorted(blocks.items())) for arm, blocks in arms.items()}, replaced


def _by_trial(
    drawn: Sequence[Record], arms: Mapping[str, Mapping[str, Record]]
) -> tuple[dict[str, dict[str, tuple[Record, ...]]], int]:
    """Put the drawn trials of each arm and block behind trial 0, up to the first that is missing.

    An arm that was searched in several ways has the trials of the search that went furthest, of equal ones the newest.
    """
    if not drawn:
        return {}, 0
    searches: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in drawn:
        searches[record.case.arm][record.case.search].append(record)
    trials: dict[str, dict[str, tuple[Record, ...]]] = {}
    replaced = 0
    for arm, firsts in arms.items():
        trials[arm] = {block: (first,) for block, first in firsts.items()}
        by_number: dict[int, list[Record]] = defaultdict(list)
        for record in max(searches[arm].values(), key=_reach, default=()):
            by_number[record.case.trial].append(record)
        for number in sorted(by_number):
            blocks, again = _by_block(by_number[number])
            replaced += again
            for block, record in blocks[arm].items():
                if len(trials[arm].get(block, ())) == number:
                    trials[arm][block] += (record,)
    return trials, replaced


def _reach(search: Sequence[Record]) -> tuple[int, str]:
    return len({(r.case.trial, r.case.block) for r in search}), max(r.created for r in search)


def _rank(record: Record) -> tuple[bool, str]:
    return record.accuracy is not None, record.created


def _group(
    key: str,
    data: str,
    case: Case,
    arms: dict[str, dict[str, Record]],
    trials: dict[str, dict[str, tuple[Record, ...]]],
    session: Mapping[str, Record],
    replaced: int,
) -> Group:
    measured_as = {arm: next(iter(runs.values())).case.measured_as for arm, runs in arms.items()}
    profiles = {arm: session[name] for arm, name in measured_as.items() if name in session}
    profiles |= {name: record for name, record in session.items() if name not in measured_as.values()}
    sample = next(iter(profiles.values()), None)
    return Group(
        key=key,
        case=case,
        dataset_hash=data,
        runs=arms,
        trials=trials,
        profiles=profiles,
        session=_session_name(sample) if sample else "",
        machine=machine_of(sample.machine) if sample else {},
        blocks=frozenset(block for runs in arms.values() for block in runs),
        replaced=replaced,
    )


def _session(profiles: Sequence[Record], case: Case, measured_as: set[str]) -> dict[str, Record]:
    """Choose the session that fits the cell best: same protocol and device, most arms, newest."""
    sessions: dict[Hashable, list[Record]] = defaultdict(list)
    for record in profiles:
        of = record.case
        sessions[of.device, of.peers, of.protocol, of.seed, repr(machine_of(record.machine))].append(record)
    if not sessions:
        return {}

    def fit(members: Sequence[Record]) -> tuple[bool, bool, int, str]:
        first = members[0].case
        return (
            first.device == case.device,
            first.protocol.batch_size == case.protocol.batch_size,
            len({r.case.arm for r in members if r.throughput} & measured_as),
            max(r.created for r in members),
        )

    best = max(sessions.values(), key=fit)
    newest: dict[str, Record] = {}
    for record in best:
        old = newest.get(record.case.arm)
        if old is None or (record.throughput is not None, record.created) >= (old.throughput is not None, old.created):
            newest[record.case.arm] = record
    return newest


def _session_name(record: Record) -> str:
    case = record.case
    device = str(record.machine.get("gpu") or record.machine.get("processor") or case.device)
    return f"{device}, batch {case.protocol.batch_size}"
