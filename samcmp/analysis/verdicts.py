"""The declared comparisons of a cell: every arm against the base optimizer and against SAM."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from samcmp.analysis.comparison import EQUAL_COST, Interval, Role, Row, Settings, Verdict
from samcmp.analysis.grouping import Group, split_key
from samcmp.analysis.molecules import Predictions, one_test_set
from samcmp.analysis.paired import (
    Array,
    Difference,
    adjusted_interval,
    blocks_needed,
    holm,
    paired_difference,
    probability_better,
)
from samcmp.analysis.power import detectable
from samcmp.analysis.tuned import mean_passes
from samcmp.records import Accuracy, Record, speed_word

CORRECTED = "corrected resampled t"
SEEDS_ONLY = "paired t over seeds of one split"
ROUNDING = 1e-12  # of the scores: differences closer than this are equal
ROLES: tuple[Role, ...] = ("sam", "base")


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Paired differences of two arms, one a split (or one a seed where there is one split)."""

    differences: Array
    blocks: int
    blocks_of: int
    splits: int
    test_over_train: float
    tasks: str | None  # said where the two were scored on different tasks
    flat: bool  # the differences are one number but for rounding
    same_runs: bool  # the two went the same way, epoch by epoch

    @property
    def testable(self) -> bool:
        """Whether the differences show how far they vary: equal ones do where the runs themselves are equal."""
        return self.same_runs or not self.flat


def verdicts(
    rows: Sequence[Row],
    group: Group,
    *,
    margin: float | None,
    higher: bool,
    settings: Settings,
    predictions: Predictions | None = None,
) -> list[Verdict]:
    """Return the verdicts of all declared comparisons, Holm-adjusted within the cell (Holm 1979)."""
    costs = _equal_costs(rows, group)
    declared = _declared(rows, costs)
    pairs = [_pairs(group, row.arm, reference, higher=higher) for row, reference, _ in declared]
    tested = [
        paired_difference(p.differences, margin=margin, test_over_train=p.test_over_train, alpha=settings.alpha)
        if p is not None and margin is not None
        else None
        for p in pairs
    ]
    usable = [
        i
        for i, (t, p) in enumerate(zip(tested, pairs, strict=True))
        if t is not None and t.p is not None and p is not None and p.testable
    ]
    adjusted = {
        name: dict(zip(usable, holm([getattr(tested[i], name) for i in usable]), strict=True))
        for name in ("p", "p_inferior", "p_not_equivalent")
    }
    made = [
        _verdict(
            row, reference, role, pairs[i], tested[i], {name: of.get(i) for name, of in adjusted.items()},
            comparisons=len(usable), margin=margin, settings=settings,
        )
        for i, (row, reference, role) in enumerate(declared)
    ]  # fmt: skip
    made = [_with_cost(verdict, costs[verdict.arm], rows) if verdict.role == "cost" else verdict for verdict in made]
    return [_on_one_set(verdict, group, predictions, settings) for verdict in made]


@dataclass(frozen=True, slots=True)
class _EqualCost:
    reference: Row  # the base trained longer
    passes_ratio: float  # an arm's gradient evaluations over the reference's


def _declared(rows: Sequence[Row], costs: Mapping[str, _EqualCost]) -> list[tuple[Row, str, Role]]:
    """Pair every arm but the base with SAM, then every arm, SAM included, with the base, then those of equal cost.

    A longer base is compared with SAM once: at equal cost.
    """
    references: Sequence[tuple[Role, str]] = [(role, r.arm) for role in ROLES for r in rows if r.role == role]
    once = {(cost.reference.arm, arm) for arm, cost in costs.items()}
    declared: list[tuple[Row, str, Role]] = [
        (row, reference, role)
        for role, reference in references
        for row in rows
        if row.role != "base" and row.arm != reference and (row.arm, reference) not in once
    ]
    return declared + [(row, costs[row.arm].reference.arm, "cost") for row in rows if row.arm in costs]


def _equal_costs(rows: Sequence[Row], group: Group) -> dict[str, _EqualCost]:
    """Find for each arm the longer base that takes as many gradient evaluations, the nearest of several."""
    base = group.case.protocol.base
    longer = [row for row in rows if row.optimizer == base and set(row.own) == {"times"} and row.times > 1.0]
    if not longer:
        return {}
    passes = {arm: mean for arm, runs in group.runs.items() if (mean := mean_passes(runs.values()))}
    costs: dict[str, _EqualCost] = {}
    for row in rows:
        if row.optimizer == base or row.arm not in passes:
            continue
        options = [_EqualCost(r, passes[row.arm] / passes[r.arm]) for r in longer if r.arm in passes]
        nearest = min(options, key=lambda cost: abs(math.log(cost.passes_ratio)), default=None)
        if nearest is not None and EQUAL_COST[0] <= nearest.passes_ratio <= EQUAL_COST[1]:
            costs[row.arm] = nearest
    return costs


def _with_cost(verdict: Verdict, cost: _EqualCost, rows: Sequence[Row]) -> Verdict:
    """Add the ratios of cost. The reference takes the base's own steps, so its time is exactly in relation to it."""
    mine, reference = (
        next(row.speed_to.get("base") for row in rows if row.arm == arm) for arm in (verdict.arm, verdict.reference)
    )
    time = None
    if mine is not None and reference is not None:
        low, high = (None if limit is None else reference.value / limit for limit in (mine.high, mine.low))
        time = Interval(reference.value / mine.value, low, high)
    return dataclasses.replace(verdict, passes_ratio=cost.passes_ratio, time_ratio=time)


def _on_one_set(verdict: Verdict, group: Group, predictions: Predictions | None, settings: Settings) -> Verdict:
    """Add the test over molecules where all runs share one test set and their predictions were kept."""
    if predictions is None or verdict.splits != 1:
        return verdict
    text = one_test_set(group, verdict.arm, verdict.reference, predictions=predictions, settings=settings)
    return dataclasses.replace(verdict, one_test_set=text)


def _pairs(group: Group, arm: str, reference: str, *, higher: bool) -> _Pairs | None:
    first, second = _scored(group, arm), _scored(group, reference)
    common = sorted(set(first) & set(second))
    if not common:
        return None
    sign = 1.0 if higher else -1.0
    by_split: dict[str, list[float]] = defaultdict(list)
    tasks = None
    for block in common:
        a, b, same = _on_common_tasks(first[block], second[block])
        if a is None or b is None:
            continue
        if not same:
            tasks = "averaged over the tasks that both could be scored on"
        by_split[split_key(group.runs[arm][block])].append(sign * (a - b))
    if not by_split:
        return None
    if len(by_split) == 1:
        differences = np.array(next(iter(by_split.values())))
        factor = 0.0
    else:
        differences = np.array([fmean(values) for values in by_split.values()])
        factor = _mean_ratio([first[block] for block in common])
    blocks = sum(len(values) for values in by_split.values())
    every = set(group.runs.get(arm, {})) | set(group.runs.get(reference, {}))
    largest = max(abs(accuracy.test) for block in common for accuracy in (first[block], second[block]))
    return _Pairs(
        differences=differences,
        blocks=blocks,
        blocks_of=len(every),
        splits=len(by_split),
        test_over_train=factor,
        tasks=tasks,
        flat=bool(np.ptp(differences) <= ROUNDING * largest),
        same_runs=all(_same(group.runs[arm][block], group.runs[reference][block]) for block in common),
    )


def _same(first: Record, second: Record) -> bool:
    mine, theirs = (
        [(epoch.train_loss, epoch.valid_score, epoch.test_score, epoch.test_loss) for epoch in record.history]
        for record in (first, second)
    )
    return bool(mine) and mine == theirs


def _scored(group: Group, arm: str) -> dict[str, Accuracy]:
    runs: Mapping[str, Record] = group.runs.get(arm, {})
    return {block: r.accuracy for block, r in runs.items() if r.accuracy is not None and r.status == "ok"}


def _mean_ratio(accuracies: Sequence[Accuracy]) -> float:
    ratios = [a.test_size / a.train_size for a in accuracies if a.train_size]
    return fmean(ratios) if ratios else 0.0


def _on_common_tasks(a: Accuracy, b: Accuracy) -> tuple[float | None, float | None, bool]:
    """Return both scores over the tasks that both runs define, and whether these are all that either has."""
    mine = {task for task, score in a.per_task.items() if score is not None}
    theirs = {task for task, score in b.per_task.items() if score is not None}
    if mine == theirs:
        return a.test, b.test, True
    both = sorted(mine & theirs)
    if not both:
        return None, None, False
    return _mean_over(a, both), _mean_over(b, both), False


def _mean_over(accuracy: Accuracy, tasks: Sequence[str]) -> float:
    return fmean(score for task in tasks if (score := accuracy.per_task[task]) is not None)


def _verdict(
    row: Row,
    reference: str,
    role: Role,
    pairs: _Pairs | None,
    test: Difference | None,
    adjusted: Mapping[str, float | None],
    *,
    comparisons: int,
    margin: float | None,
    settings: Settings,
) -> Verdict:
    speed = row.speed_to.get(role)
    faster = speed_word(speed.low, speed.high, threshold=settings.speed_threshold) if speed else None
    blank = Verdict(
        row.arm, reference, role, margin=margin, comparisons=comparisons, speed=speed, speed_word=faster
    )  # fmt: skip
    if pairs is None or test is None or margin is None:
        why = "no margin is set for this metric" if pairs is not None else "no run that both have finished"
        return dataclasses.replace(blank, why=why)
    verdict = dataclasses.replace(
        blank, blocks=pairs.blocks, blocks_of=pairs.blocks_of, splits=pairs.splits, mean=test.mean, median=test.median
    )
    if test.sd is None:
        return dataclasses.replace(verdict, why="a single run says nothing about chance")
    p, p_inferior, p_apart = (adjusted[name] for name in ("p", "p_inferior", "p_not_equivalent"))
    if p is None or p_inferior is None or p_apart is None:
        counted = f"{test.n} {'splits' if pairs.splits > 1 else 'runs'}"
        why = f"one difference on all {counted} of runs that differ: the test parts are too small to show its spread"
        return dataclasses.replace(verdict, why="; ".join(filter(None, [why, _why(pairs)])))
    interval = adjusted_interval(
        test, p=p, p_inferior=p_inferior, p_not_equivalent=p_apart, margin=margin, comparisons=comparisons,
        alpha=settings.alpha,
    )  # fmt: skip
    word, needed = interval.word(margin), None
    if word == "inconclusive":
        needed = blocks_needed(
            test.mean, test.sd, margin=margin, test_over_train=pairs.test_over_train, comparisons=comparisons,
            alpha=settings.alpha,
        )  # fmt: skip
    least = detectable(test.n, test_over_train=pairs.test_over_train, sd=test.sd, alpha=settings.alpha)
    return dataclasses.replace(
        verdict,
        word=word,
        why=_why(pairs, endless=word == "inconclusive" and needed is None),
        method=CORRECTED if pairs.splits > 1 else SEEDS_ONLY,
        sd=test.sd,
        low=test.low,
        high=test.high,
        adjusted_low=interval.low,
        adjusted_high=interval.high,
        low_excluded=interval.low_excluded,
        high_excluded=interval.high_excluded,
        within_margin=word in {"better", "worse"} and interval.above(-margin) and interval.below(margin),
        p=test.p,
        p_holm=p,
        p_inferior_holm=p_inferior,
        p_not_equivalent_holm=p_apart,
        probability_better=probability_better(pairs.differences, alpha=settings.alpha),
        blocks_needed=needed,
        detectable=least if math.isfinite(least) else None,
        claim=interval.above(-margin) and faster == "faster",
    )


def _why(pairs: _Pairs, *, endless: bool = False) -> str | None:
    causes = []
    if pairs.blocks < pairs.blocks_of:
        causes.append(f"only {pairs.blocks} of {pairs.blocks_of} runs are in both")
    if pairs.splits == 1:
        causes.append("one split: says nothing about other test sets")
    if pairs.tasks:
        causes.append(pairs.tasks)
    if pairs.same_runs:
        causes.append("the runs are equal in every epoch")
    if endless:
        causes.append("no number of such splits would settle it")
    return "; ".join(causes) or None
