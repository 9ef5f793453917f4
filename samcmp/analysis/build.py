"""Records in, a Comparison out: rows, verdicts and what several cells say together."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from samcmp.analysis.comparison import Across, Cell, Comparison, Role, Row, Settings, SplitName, Untuned
from samcmp.analysis.grouping import Group, groups, machine_of, split_name, test_over_train
from samcmp.analysis.molecules import Predictions
from samcmp.analysis.names import plain, short_names
from samcmp.analysis.pareto import with_best, with_front
from samcmp.analysis.recommendation import RULE, RULE_OVER_CELLS, recommend, recommend_over
from samcmp.analysis.rows import row_of
from samcmp.analysis.sentences import sentences
from samcmp.analysis.step_shares import at_training_shares
from samcmp.analysis.target import with_targets
from samcmp.analysis.tuned import choose, metric_of, shortage, tried
from samcmp.analysis.verdicts import verdicts
from samcmp.data import coverage
from samcmp.data.coverage import span
from samcmp.errors import UsageError
from samcmp.machine import kind_of, tally
from samcmp.records import LOWER_IS_BETTER, Record, arm_name, to_json

V = TypeVar("V")


def compare(
    records: Iterable[Record],
    settings: Settings | None = None,
    *,
    suite: str | None = None,
    predictions: Predictions | None = None,
) -> Comparison:
    """Compare what the Records hold: cells, rows, verdicts, and standings over several cells.

    ``predictions`` (a Store's method of that name) lets a cell with a single test set be tested over its molecules.
    """
    settings = settings or Settings()
    records = list(records)
    found = groups(records)
    _refuse_all(found, settings)
    cells = [_cell(group, settings, predictions) for group in found]
    cells = [
        dataclasses.replace(cell, sentences=sentences(cell), recommendation=recommend(cell))
        for cell in _tell_apart(cells)
    ]
    notes = dict.fromkeys(note for record in records for note in record.notes)
    return Comparison(
        cells=tuple(cells),
        across=_across(cells, settings),
        settings=settings,
        suite=suite,
        machines=_distinct(machine_of(record.machine) for record in records),
        versions=_distinct(record.versions for record in records),
        notes=tuple(_with_labels(notes, [row for cell in cells for row in cell.rows])),
        records=len(records),
        recommendation=recommend_over(cells),
        rule=f"{RULE} {RULE_OVER_CELLS}" if len(cells) > 1 else RULE,
    )


def _refuse_all(found: Sequence[Group], settings: Settings) -> None:
    """Raise UsageError where no cell can be tuned as asked for; where some can, the others say why not."""
    trained = [group for group in found if group.runs]
    lacking = [shortage(group, settings) for group in trained]
    if not trained or not all(lacking):
        return
    stored = max(map(tried, trained))
    if settings.trials is not None and stored < settings.trials:
        raise UsageError(
            f"the store holds {stored} of every optimizer",
            where=f"--trials {settings.trials}",
            remedy=f"Run `samcmp compare --tune {settings.trials}`, or ask for fewer.",
        )
    remedy = "Use --equal passes, or let `samcmp compare` profile them."
    raise UsageError(lacking[0], where="--equal seconds", remedy=remedy)


def _across(cells: Sequence[Cell], settings: Settings) -> Across | None:
    if len(cells) < 2:
        return None
    from samcmp.analysis.aggregate import across_cells  # here: a single cell does without scipy.stats

    return across_cells(cells, settings)


def _distinct(values: Iterable[Mapping[str, V]]) -> tuple[Mapping[str, V], ...]:
    seen: dict[str, Mapping[str, V]] = {}
    for value in values:
        if value:
            seen.setdefault(repr(value), value)
    return tuple(seen.values())


def _tell_apart(cells: Sequence[Cell]) -> list[Cell]:
    """Name cells by what sets them apart: dataset and model, then what differs; what they share when nothing shows."""
    shown = short_names(cell.model for cell in cells)
    cells = [dataclasses.replace(cell, name=f"{cell.dataset} / {shown[cell.model]}") for cell in cells]
    by_name: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_name[cell.name].append(cell)
    named = [dataclasses.replace(cell, name=cell.name + _apart(cell, by_name[cell.name])) for cell in cells]
    times = Counter(cell.name for cell in named)
    return [dataclasses.replace(c, name=f"{c.name} #{c.key[:8]}") if times[c.name] > 1 else c for c in named]


def _apart(cell: Cell, twins: Sequence[Cell]) -> str:
    differing = []
    for key in ("split", "device", "model_settings", "dataset_hash", "metric", "splits", "protocol"):
        if len({repr(getattr(twin, key)) for twin in twins}) > 1 and (text := _spelled(cell, key, twins)):
            differing.append(text)
    return f" ({', '.join(differing)})" if differing else ""


def _spelled(cell: Cell, key: str, twins: Sequence[Cell]) -> str:
    value = getattr(cell, key)
    if key == "dataset_hash":
        return f"data {value[:8]}"
    if key == "splits":  # of runs on one partition; others differ by what else is named
        return f"split {value[0].hash[:8]}" if len(value) == 1 else ""
    if not isinstance(value, Mapping):
        return str(value)
    keys = [k for k in value if len({repr(getattr(twin, key).get(k)) for twin in twins}) > 1]
    return ", ".join(f"{k}={value[k]}" for k in keys) or "defaults"


def _cell(given: Group, settings: Settings, predictions: Predictions | None) -> Cell:
    case = given.case
    given, share_notes = at_training_shares(given)
    group, tuning = choose(given, settings)
    lacking = shortage(given, settings)
    metric = metric_of(given)
    higher = metric not in LOWER_IS_BETTER
    factor = test_over_train(group)
    rows = [_without_scores(row, lacking) for row in _rows(given)] if lacking else _rows(group)
    rows = with_front(rows, higher=higher, factor=factor, settings=settings)
    rows = with_best(rows, higher=higher)
    margin, margin_text = _margin(metric, rows, settings)
    rows = with_targets(rows, group, margin=margin, higher=higher)
    notes = [_settings_note(case.model, case.model_settings)] if case.model_settings else []
    notes += [_settings_note(row.label, s) for row in rows if (s := row.optimizer_settings) and "[" not in row.label]
    notes += dict.fromkeys(
        f"{record.case.optimizer}: speed is of a session that is {record.status}: {record.reason or 'no reason given'}"
        for record in group.profiles.values()
        if record.status != "ok" and record.throughput is not None
    )
    notes += [*share_notes, *_data_notes(group)]
    if lacking:
        notes.append(f"{lacking}: no scores, no verdicts")
    elif given.trials and tuning is None:
        notes.append(_why_untuned(given))
    if tuning is None:
        notes += _sweep_notes(rows)
    if group.replaced:
        notes.append(f"{group.replaced} older Records of the same runs are left out; the newest result counts")
    for role, name in (("base", "the base optimizer alone"), ("sam", "SAM")):
        if role not in {row.role for row in rows}:
            notes.append(f"no arm is {name}: nothing is compared with it")
    judged = []
    if not lacking:
        judged = verdicts(rows, group, margin=margin, higher=higher, settings=settings, predictions=predictions)
    if tuning is not None:
        order = {row.arm: i for i, row in enumerate(rows)}
        untuned = verdicts(_rows(given), given, margin=margin, higher=higher, settings=settings)
        tuning = dataclasses.replace(
            tuning,
            rows=tuple(sorted(tuning.rows, key=lambda row: order[row.arm])),
            untuned=tuple(Untuned(v.arm, v.reference, v.word, v.mean) for v in untuned),
        )
    return Cell(
        key=group.key,
        name=f"{case.dataset} / {case.model}",
        dataset=case.dataset,
        dataset_hash=group.dataset_hash,
        model=case.model,
        model_settings=case.model_settings,
        split=case.split,
        protocol=to_json(case.protocol),
        device=case.device,
        metric=metric,
        higher_is_better=higher,
        margin=margin,
        margin_text=margin_text,
        test_over_train=factor,
        splits=_splits(group),
        rows=tuple(rows),
        verdicts=tuple(judged),
        speed_session=group.session,
        speed_machine=group.machine,
        holds=group.holds,
        notes=tuple(_with_labels(notes, rows)),
        tuning=tuning,
    )


def _rows(group: Group) -> list[Row]:
    """Make a row of every arm: the base first, then SAM."""
    roles, factor = _roles(group), test_over_train(group)
    arms = sorted(set(group.runs) | set(group.profiles), key=lambda arm: (_place(arm, roles), arm))
    return _labelled([row_of(arm, group, roles=roles, factor=factor) for arm in arms])


def _without_scores(row: Row, why: str) -> Row:
    return dataclasses.replace(row, score=None, valid=None, blocks={}, holes=(), missing={**row.missing, "score": why})


def _why_untuned(group: Group) -> str:
    tried = {arm: min(map(len, blocks.values())) for arm, blocks in group.trials.items()}
    without = ", ".join(arm for arm, count in tried.items() if count < 2)
    return f"trials are left out: {without} has none beyond the settings given on every split"


def _sweep_notes(rows: Sequence[Row]) -> list[str]:
    """Warn where an optimizer stands in the table with several numbers for one setting."""
    values: dict[tuple[str, str], set[float]] = defaultdict(set)
    for row in rows:
        for key, value in {**row.optimizer_settings, **row.own}.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and key != "times":
                values[row.optimizer, key].add(value)
    arms = Counter(row.optimizer for row in rows)
    swept = [f"{optimizer}.{key}" for optimizer, key in values if arms[optimizer] > 1]
    return [f"{', '.join(swept)}: choosing by test score is biased; use --tune"] if swept else []


SMALL = 10  # molecules of a class below which a ROC-AUC moves in steps that are seen


def _data_notes(group: Group) -> list[str]:
    """Say what the scores of a cell rest on where it is little: tasks, classes, labels, repeated molecules."""
    scores = [r.accuracy for runs in group.runs.values() for r in runs.values() if r.accuracy is not None]
    holds = group.holds
    notes = []
    if any(score.tasks_scored < score.tasks_total for score in scores):
        tasks = span([score.tasks_scored for score in scores])
        notes.append(
            f"{tasks} of {scores[0].tasks_total} tasks scored; in the others the test {holds} are of one class, or "
            "have no label"
        )
    smallest = [score.smallest_class for score in scores if score.smallest_class is not None]
    if smallest and min(smallest) < SMALL and scores[0].metric == "roc-auc":
        notes.append(f"smallest class of a scored task: {span(smallest)} test {holds}, so scores move in large steps")
    kinds = tally(
        kind_of(record.machine, record.case.device)
        for runs in group.runs.values()
        for record in runs.values()
        if record.status == "ok"
    )
    if len(kinds) > 1:
        each = "; ".join(f"{n} on {kind}" for kind, n in kinds.most_common())
        notes.append(f"runs on {len(kinds)} kinds of machine, which differ in the fourth figure: {each}")
    found = [score.coverage for score in scores if score.coverage is not None]
    return [*notes, *coverage.sentences(found, holds=holds)]


def _with_labels(notes: Iterable[str], rows: Sequence[Row]) -> list[str]:
    """Name classes from files in the notes as in the table; a command to type keeps the path."""
    shown = {row.optimizer: plain(row.label) for row in rows if ":" in row.optimizer}
    for full, short in shown.items():
        notes = [note if "`" in note else note.replace(full, short) for note in notes]
    return [*notes]


def _settings_note(name: str, settings: Mapping[str, object]) -> str:
    return f"{name}: {', '.join(f'{key}={value}' for key, value in sorted(settings.items()))}"


def _labelled(rows: Sequence[Row]) -> list[Row]:
    """Name each arm by its optimizer, with those settings that tell it from another arm of that optimizer, and with
    what its training has of its own."""
    by_optimizer: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_optimizer[row.optimizer].append(row)
    named = []
    for row in rows:
        arms = [twin.optimizer_settings for twin in by_optimizer[row.optimizer]]
        telling = {key for arm in arms for key in arm if len({repr(arm.get(key)) for arm in arms}) > 1}
        settings = {key: value for key, value in row.optimizer_settings.items() if key in telling}
        named.append(dataclasses.replace(row, label=arm_name(row.optimizer, settings, row.own)))
    shown = short_names(row.label for row in named)
    return [dataclasses.replace(row, label=shown[row.label]) for row in named]


def _roles(group: Group) -> dict[str, Role]:
    """Find the two references: the base optimizer alone, and SAM with its default settings (or its only arm)."""
    arms: dict[str, str] = {}
    for members in (group.profiles, {arm: next(iter(runs.values())) for arm, runs in group.runs.items()}):
        arms.update({arm: record.case.optimizer for arm, record in members.items()})
    roles: dict[str, Role] = {}
    wanted: tuple[tuple[Role, str], ...] = (("base", group.case.protocol.base), ("sam", "sam"))
    for role, name in wanted:
        of_it = [arm for arm, optimizer in arms.items() if optimizer == name]
        if name in of_it:
            roles[name] = role
        elif len(of_it) == 1:
            roles[of_it[0]] = role
    return roles


def _place(arm: str, roles: Mapping[str, Role]) -> int:
    return {"base": 0, "sam": 1}.get(roles.get(arm, ""), 2)


def _splits(group: Group) -> tuple[SplitName, ...]:
    seen: dict[str, SplitName] = {}
    for runs in group.runs.values():
        for record in runs.values():
            seen.setdefault(split_name(record), SplitName(split_name(record), record.split_hash[:16]))
    return tuple(seen[name] for name in sorted(seen))


def _margin(metric: str, rows: Sequence[Row], settings: Settings) -> tuple[float | None, str]:
    margin = settings.margins.get(metric)
    if margin is None:
        return None, f"none for {metric}" if metric else "open until there is a result"
    if not margin.relative:
        return margin.value, f"±{margin}"
    of = next((row for row in rows if row.role == "base" and row.score), None) or next(
        (row for row in rows if row.score), None
    )
    if of is None or of.score is None:
        return None, f"±{margin} of a mean that is missing"
    return margin.value * of.score.mean, f"±{margin} of {of.arm}'s mean, ±{margin.value * of.score.mean:.3g}"
