"""A gate for continuous integration: did anything get worse since a baseline?

The baseline is a comparison that was exported with ``--format json``. Exit codes: 0 nothing got worse, 10 accuracy, a
failed run included, 11 speed, 12 memory, 13 not enough evidence, 14 the baseline is missing, damaged, or of another
machine or suite.
Of several the first in the order 14, 10, 11, 12, 13 counts; every finding is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samcmp import files
from samcmp.analysis.comparison import Cell, Comparison, Interval, Row, from_json_text, labels
from samcmp.analysis.numbers import memory, signed, times
from samcmp.analysis.paired import Difference, adjusted_interval, holm, paired_difference, vector
from samcmp.analysis.sentences import form_of, with_limits
from samcmp.printable import counted
from samcmp.profiling import BUSY_BEFORE, BUSY_WHILE, WARNING
from samcmp.records import METRICS

OK, ACCURACY, SPEED, MEMORY, EVIDENCE, BASELINE = 0, 10, 11, 12, 13, 14
ORDER = (BASELINE, ACCURACY, SPEED, MEMORY, EVIDENCE)
SPEED_LOSS = 0.05  # two sessions on one machine differ by a few per cent without any change
MEMORY_GROWTH = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked: its exit code (0: fine) and what was found."""

    code: int
    where: str
    what: str
    check: str = "baseline"  # accuracy, speed, memory, runs or baseline


@dataclass(frozen=True, slots=True)
class Gate:
    """What a comparison against a baseline came to."""

    code: int
    findings: tuple[Finding, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """What to print: what is wrong first, then how much is fine."""
        wrong = [f"{finding.where}: {finding.what}" for finding in self.findings if finding.code != OK]
        fine = sum(finding.code == OK for finding in self.findings)
        return (*wrong, f"{fine} of {len(self.findings)} checks passed; exit code {self.code}")


def read(baseline: Path) -> Comparison | Gate:
    """Read an exported comparison; what cannot be read is a gate that is closed already."""
    try:
        return from_json_text(files.read(baseline, once=True))
    except OSError as error:
        make = f"`samcmp compare ... --format json --output {baseline}` makes one"
        return _closed(str(baseline), f"the baseline cannot be read: {error.strerror}; {make}")
    except ValueError as error:
        return _closed(str(baseline), f"not a baseline: {error}")


def check(comparison: Comparison, baseline: Path) -> Gate:
    """Compare with the exported comparison in the file ``baseline``."""
    before = read(baseline)
    return before if isinstance(before, Gate) else compare(comparison, before)


def compare(now: Comparison, before: Comparison) -> Gate:
    """Check every cell and arm of the baseline: accuracy on equal blocks, speed on the same machine, peak memory."""
    if None not in (now.suite, before.suite) and now.suite != before.suite:  # a store's report is of no suite
        return _closed("suite", f"the baseline is of suite {before.suite}, this is {now.suite}")
    cells = {cell.key: cell for cell in now.cells}
    findings = _failures(now, before)
    busy = _busy(now) or _busy(before)
    accuracy: list[tuple[str, Difference, Cell]] = []
    for old in before.cells:
        new = cells.get(old.key)
        if new is None:
            findings.append(Finding(BASELINE, old.name, "is in the baseline and not here"))
            continue
        if _chosen_by(new) != _chosen_by(old):
            said = f"the baseline is {_chosen_by(old)}, this is {_chosen_by(new)}"
            findings.append(Finding(BASELINE, old.name, said))
            continue
        rows = {row.arm: row for row in new.rows}
        for row in old.rows:
            where = f"{old.name}, {labels(old)[row.arm]}"
            if row.arm not in rows:
                findings.append(Finding(BASELINE, where, "is in the baseline and not here"))
                continue
            findings += _missing(rows[row.arm], row, where)
            found = _accuracy(new, rows[row.arm], row)
            if isinstance(found, Finding):
                findings.append(replace(found, where=where))
            elif found is not None:
                accuracy.append((where, found, new))
            findings += [replace(f, where=where) for f in _cost(new, old, rows[row.arm], row, busy=busy)]
    findings += _judged(accuracy, now.settings.alpha)
    if not findings:
        return _closed("baseline", "holds nothing that could be compared")
    codes = {finding.code for finding in findings}
    return Gate(next((code for code in ORDER if code in codes), OK), tuple(findings))


def _chosen_by(cell: Cell) -> str:
    if cell.tuning is None:
        return "untuned"
    return (
        f"tuned with {counted(cell.tuning.trials, 'trial')} at equal {cell.tuning.equal}, ranges {cell.tuning.search}"
    )


def _closed(where: str, what: str) -> Gate:
    return Gate(BASELINE, (Finding(BASELINE, where, what),))


def _failures(now: Comparison, before: Comparison) -> list[Finding]:
    """Name the runs that have failed and had not when the baseline was made, those that it does not know included."""
    known = {(cell.key, row.arm, block) for cell in before.cells for row in cell.rows for block in _failed(row)}
    findings = []
    for cell in now.cells:
        for row in cell.rows:
            failed = {b: why for b, why in _failed(row).items() if (cell.key, row.arm, b) not in known}
            runs = len(row.blocks) + len(_failed(row))
            for why in dict.fromkeys(failed.values()):
                count = list(failed.values()).count(why)
                findings.append(
                    Finding(
                        ACCURACY,
                        f"{cell.name}, {labels(cell)[row.arm]}",
                        f"{count} of {runs} runs failed, {why}",
                        "runs",
                    )
                )
    return findings


def _failed(row: Row) -> dict[str, str]:
    """Return the blocks of failed runs with the cause; those that were not run yet are something else."""
    return {
        block: f"{hole.status}: {hole.reason}"
        for hole in row.holes
        if hole.status != "missing"
        for block in hole.blocks
    }


def _missing(new: Row, old: Row, where: str) -> list[Finding]:
    """Say how many results of the baseline have no counterpart because they were not run."""
    missing = old.blocks.keys() - new.blocks.keys() - _failed(new).keys()
    if not missing or missing == old.blocks.keys():  # all of them: said where the accuracy is compared
        return []
    return [Finding(EVIDENCE, where, f"{len(missing)} of {len(old.blocks)} runs of the baseline were not run", "runs")]


def _accuracy(cell: Cell, new: Row, old: Row) -> Finding | Difference | None:
    """Return the paired difference now − before on equal splits, or a finding where none can be tested."""
    if old.score is None:
        return None
    metric = METRICS.get(cell.metric, cell.metric)
    if new.score is None:
        code = ACCURACY if _failed(new) or not new.holes else EVIDENCE
        return Finding(code, "", f"no {metric} any more: {new.missing.get('score', 'no result')}", "accuracy")
    common = [block for block in old.blocks if block in new.blocks]
    sign = 1.0 if cell.higher_is_better else -1.0
    differences = [sign * (new.blocks[block] - old.blocks[block]) for block in common]
    if not common:
        return Finding(EVIDENCE, "", "no run on a split that the baseline has", "accuracy")
    if all(d == 0.0 for d in differences):
        return Finding(OK, "", f"{metric} unchanged", "accuracy")
    if len(common) < 2 or cell.margin is None:
        said = signed(differences[0], form_of(cell))
        return Finding(EVIDENCE, "", f"{metric} changed by {said} in a single run; use --repeats", "accuracy")
    factor = cell.test_over_train or 0.0
    return paired_difference(differences, margin=cell.margin, test_over_train=factor if len(cell.splits) > 1 else 0.0)


def _judged(accuracy: list[tuple[str, Difference, Cell]], alpha: float) -> list[Finding]:
    """Worse: the two-sided test, Holm-adjusted over all arms. Fine: not inferior by the margin. Else no evidence."""
    worse = holm([test.p if test.p is not None else 1.0 for _, test, _ in accuracy])
    findings = []
    for (where, test, cell), p in zip(accuracy, worse, strict=True):
        interval = adjusted_interval(
            test, p=p, p_inferior=test.p_inferior or 0.0, p_not_equivalent=1.0, margin=cell.margin or 0.0,
            comparisons=len(accuracy), alpha=alpha,
        )  # fmt: skip
        said = f"accuracy {with_limits(test.mean, interval, form_of(cell))}"
        if interval.below(0.0):
            findings.append(Finding(ACCURACY, where, f"{said}: worse than the baseline", "accuracy"))
        elif interval.above(-(cell.margin or 0.0)):
            findings.append(Finding(OK, where, f"{said}: not worse", "accuracy"))
        else:
            findings.append(Finding(EVIDENCE, where, f"{said}: neither worse nor safely as good", "accuracy"))
    return findings


def _cost(new_cell: Cell, old_cell: Cell, new: Row, old: Row, *, busy: bool) -> list[Finding]:
    """Check speed and memory, which only mean something on the baseline's own machine."""
    if old.graphs_per_second is None and old.peak_bytes is None:
        return []
    if _machine(new_cell.speed_machine) != _machine(old_cell.speed_machine):
        return [Finding(BASELINE, "", f"the baseline ran on {_said(old_cell)}, this on {_said(new_cell)}")]
    findings = []
    if old.graphs_per_second is not None:
        if new.graphs_per_second is None:
            findings.append(Finding(SPEED, "", f"no speed any more: {new.missing.get('graphs_per_second')}", "speed"))
        else:
            findings.append(_speed(new, old, busy=busy))
    if old.peak_bytes:
        if new.peak_bytes is None:
            findings.append(Finding(MEMORY, "", f"no peak memory any more: {new.missing.get('peak_bytes')}", "memory"))
        else:
            grew = new.peak_bytes > old.peak_bytes * (1.0 + MEMORY_GROWTH)
            said = f"peak memory {memory(old.peak_bytes)} → {memory(new.peak_bytes)}"
            findings.append(Finding(MEMORY if grew else OK, "", said, "memory"))
    return findings


def _machine(machine: Mapping[str, object]) -> str:
    return repr(sorted((key, repr(value)) for key, value in machine.items()))


def _said(cell: Cell) -> str:
    return cell.speed_session or "no machine (not profiled)"


def _busy(comparison: Comparison) -> bool:
    """Say whether other programs took the machine while its speeds were measured."""
    said = [note for note in comparison.notes if note.startswith(WARNING)]
    return any(text in note for note in said for text in (BUSY_BEFORE, BUSY_WHILE))


def _speed(new: Row, old: Row, *, busy: bool) -> Finding:
    """Slower: the whole interval of now/before lies below 1 − 5 %. Fine: it lies above. Else not enough evidence.

    A loss on a machine that other work kept ``busy`` is no evidence either: its rounds agree about the other work, too.
    """
    if new.block_seconds and new.block_seconds == old.block_seconds:
        return Finding(OK, "", "speed: the same measurement", "speed")
    ratio = _ratio(new, old)
    said = f"speed {times(ratio)} of the baseline's"
    if ratio.low is None or ratio.high is None:
        code = OK if ratio.value >= 1.0 else EVIDENCE
    elif ratio.high < 1.0 - SPEED_LOSS:
        code = EVIDENCE if busy else SPEED
        said += ", while other programs took the machine, here or for the baseline: measure again" * busy
    else:
        code = OK if ratio.low > 1.0 - SPEED_LOSS else EVIDENCE
    return Finding(code, "", said, "speed")


def _ratio(new: Row, old: Row) -> Interval:
    """The ratio of the reported speeds, as uncertain as the rounds of the two sessions make it."""
    value = (new.graphs_per_second or 0.0) / (old.graphs_per_second or 1.0)
    if min(len(new.block_seconds), len(old.block_seconds)) < 2 or not (new.block_graphs and old.block_graphs):
        return Interval(value)
    # a speed may be composed of several kinds of blocks, of which the raw rounds are one: only their spread counts
    low, high = independent_spread(new.block_seconds, old.block_seconds)
    return Interval(value, value * low, value * high)


def independent_spread(
    seconds: npt.ArrayLike, before: npt.ArrayLike, *, draws: int = 10_000, seed: int = 0, alpha: float = 0.05
) -> tuple[float, float]:
    """Return the limits of the ratio of median times before / now over its estimate: two sessions share no rounds.

    The percentile bootstrap over each session's rounds.
    """
    a, b = vector(seconds), vector(before)
    rng = np.random.default_rng(seed)
    mine = np.median(a[rng.integers(0, a.size, (draws, a.size))], axis=1) / np.median(a)
    theirs = np.median(b[rng.integers(0, b.size, (draws, b.size))], axis=1) / np.median(b)
    low, high = np.quantile(theirs / mine, [alpha / 2.0, 1.0 - alpha / 2.0])
    return float(low), float(high)
