"""The one place where a verdict becomes words, for the terminal, Markdown, LaTeX and JSON alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from samcmp.analysis.comparison import EQUAL_COST, Cell, Interval, Untuned, Verdict, labels
from samcmp.analysis.numbers import form_for, signed, times
from samcmp.analysis.paired import Adjusted
from samcmp.records import METRICS

MOST_LINES = 8  # beyond this the claims that are not established share a line
WORDS = ("better", "equivalent", "non-inferior", "inconclusive", "worse")


def form_of(cell: Cell) -> str:
    """Return the format of a cell's scores and of their differences."""
    return form_for((row.score.mean for row in cell.rows if row.score), metric=cell.metric)


def metric_name(cell: Cell) -> str:
    """Name a cell's metric with the direction in which it improves."""
    return f"{METRICS.get(cell.metric, cell.metric)} {'↑' if cell.higher_is_better else '↓'}" if cell.metric else ""


def headline(cell: Cell) -> str:
    """Name a cell and what its verdicts rest on."""
    metric = METRICS.get(cell.metric, cell.metric or "no result")
    return f"{cell.name}{how_tuned(cell)}: {metric}, {runs_of(cell)}, margin {cell.margin_text}"


def runs_of(cell: Cell) -> str:
    """Count the runs of an arm and the splits that they are on."""
    runs, splits = max((len(row.blocks) for row in cell.rows), default=0), len(cell.splits)
    return f"{runs} run{'s' * (runs != 1)} on {splits} {cell.split} split{'s' * (splits != 1)}"


def how_tuned(cell: Cell) -> str:
    """Say how the runs were chosen; empty where nothing was."""
    if cell.tuning is None:
        return ""
    spent = "trials each" if cell.tuning.equal == "trials" else f"trials or fewer at equal {cell.tuning.equal}"
    return f", tuned with {cell.tuning.trials} {spent}, chosen by validation"


def how_all_tuned(cells: Sequence[Cell]) -> str:
    """Say whose settings are tuned, all of them or by name."""
    ways = dict.fromkeys(how_tuned(cell) for cell in cells)
    if len(ways) < 2:
        return "".join(ways)
    return "; " + "; ".join(
        f"{', '.join(c.name for c in cells if how_tuned(c) == how)}: {how.removeprefix(', ') or 'settings as given'}"
        for how in ways
    )


def sentences(cell: Cell) -> tuple[str, ...]:
    """Say the verdicts of a cell: a sentence an optimizer against SAM, and one for all against the base."""
    order = {row.arm: i for i, row in enumerate(cell.rows)}
    against = {
        role: sorted((v for v in cell.verdicts if v.role == role), key=lambda v: order[v.arm])
        for role in ("sam", "base")
    }
    form, names = form_of(cell), labels(cell)
    untuned = {(u.arm, u.reference): u for u in cell.tuning.untuned} if cell.tuning else {}
    established = [v for v in against["sam"] if v.claim]
    others = [v for v in against["sam"] if not v.claim]
    lines = [claim(v, form=form, names=names, untuned=untuned) for v in established]
    if len(against["sam"]) <= MOST_LINES:
        lines += [claim(v, form=form, names=names, untuned=untuned) for v in others]
    elif others:
        causes = "; ".join(f"{names[v.arm]} ({_cause(v)})" for v in others)
        lines.append(f"as accurate as {names[others[0].reference]} and faster, not established: {causes}.")
    if against["base"]:
        lines.append(_against_base(against["base"], form=form, names=names, untuned=untuned))
    lines += [_at_equal_cost(v, cell, form=form, untuned=untuned) for v in cell.verdicts if v.role == "cost"]
    return tuple(lines)


UntunedWords = Mapping[tuple[str, str], Untuned]  # of an arm against a reference


def claim(verdict: Verdict, *, form: str, names: Mapping[str, str], untuned: UntunedWords) -> str:
    """Say whether "as accurate and faster" is established, with the numbers that decide it."""
    head = "established" if verdict.claim else "not established"
    return (
        f"{names[verdict.arm]}: as accurate as {names[verdict.reference]} and faster: {head} "
        f"(accuracy {word_of(verdict)}{':' * verdict.within_margin} {difference(verdict, form)}{_asides(verdict)}"
        f"{_untuned(verdict, untuned, form)}; {_speed(verdict)})."
    )


def _untuned(verdict: Verdict, words: UntunedWords, form: str) -> str:
    found = words.get((verdict.arm, verdict.reference))
    if found is None:
        return ""
    mean = "" if found.mean is None else f" {signed(found.mean, form)}"
    return f" (untuned: {found.word}{mean})"


def _at_equal_cost(verdict: Verdict, cell: Cell, *, form: str, untuned: UntunedWords) -> str:
    """Hold an arm against the base trained longer, for as many gradient evaluations."""
    arm, longer = (next(row for row in cell.rows if row.arm == of) for of in (verdict.arm, verdict.reference))
    name, epochs = labels(cell)[arm.arm], cell.protocol["epochs"]
    if verdict.passes_ratio is None or not isinstance(epochs, int):
        raise ValueError("a verdict at equal cost has the ratio of passes, a cell its number of epochs")
    passes = verdict.passes_ratio * longer.times / arm.times  # a step: the base takes one
    scores = [f"{row.score.mean:{form}}" if row.score else "n/a" for row in (longer, arm)]
    time = "time not measured" if verdict.time_ratio is None else f"{times(verdict.time_ratio)} its time"
    said = {
        "better": f"{name} is worth its cost here: better than longer training by",
        "equivalent": f"{name} buys nothing that longer training does not:",
        "non-inferior": f"{name} is no worse than longer training; better is not shown:",
        "inconclusive": "undecided at equal cost:",
        "worse": f"longer training is the better use of {name}'s cost:",
    }[verdict.word]
    return (
        f"at {name}'s cost{' and time' if _equal_time(verdict.time_ratio) else ''} ({round(epochs * arm.times)} epochs "
        f"of {passes:.2f} passes) {longer.optimizer} trained for {round(epochs * longer.times)} reaches {scores[0]}, "
        f"{name} {scores[1]} ({verdict.passes_ratio:.2f}× its passes, {time}): {said} {difference(verdict, form)}"
        f"{', less than the margin' * verdict.within_margin}{_asides(verdict)}{_untuned(verdict, untuned, form)}."
    )


def _equal_time(ratio: Interval | None) -> bool:
    if ratio is None or ratio.low is None or ratio.high is None:
        return False
    return EQUAL_COST[0] <= ratio.low and ratio.high <= EQUAL_COST[1]


def _against_base(verdicts: Sequence[Verdict], *, form: str, names: Mapping[str, str], untuned: UntunedWords) -> str:
    groups: dict[str, list[str]] = {}
    for v in sorted(verdicts, key=lambda v: WORDS.index(v.word)):
        said = f"{names[v.arm]} {difference(v, form)}{_asides(v, short=True)}{_untuned(v, untuned, form)}"
        groups.setdefault(word_of(v), []).append(said)
    untested = dict.fromkeys(v.why for v in verdicts if v.why and v.mean is not None and v.low is None)
    reasons = f" ({'; '.join(untested)})" if untested else ""
    said = "; ".join(f"{word}: {', '.join(members)}" for word, members in groups.items())
    return f"accuracy against {names[verdicts[0].reference]}: {said}{reasons}."


def word_of(verdict: Verdict) -> str:
    """The word, with what its interval says about the margin."""
    return f"{verdict.word}, but by less than the margin" if verdict.within_margin else verdict.word


def difference(verdict: Verdict, form: str) -> str:
    """Write a difference with the interval that its word is read off."""
    if verdict.mean is None:
        return "n/a"
    if verdict.adjusted_low is None or verdict.adjusted_high is None:
        return signed(verdict.mean, form)
    interval = Adjusted(
        verdict.adjusted_low, verdict.adjusted_high, verdict.low_excluded, verdict.high_excluded
    )  # fmt: skip
    return with_limits(verdict.mean, interval, form)


def with_limits(value: float, interval: Adjusted, form: str) -> str:
    """Write a difference with its interval; a round bracket says that the limit itself is excluded."""
    left, right = "(" if interval.low_excluded else "[", ")" if interval.high_excluded else "]"
    return f"{signed(value, form)} {left}{signed(interval.low, form)}, {signed(interval.high, form)}{right}"


def _asides(verdict: Verdict, *, short: bool = False) -> str:
    asides = []
    if verdict.blocks_needed is not None:
        asides.append(f"about {verdict.blocks_needed} splits needed")
    if verdict.why and (not short or verdict.sd == 0.0):
        asides.append(verdict.why)
    if verdict.one_test_set and not short:
        asides.append(verdict.one_test_set)
    return "".join(f", {text}" for text in asides)


def _speed(verdict: Verdict) -> str:
    if verdict.speed is None:
        return "speed not measured"
    return f"{verdict.speed_word} {times(verdict.speed)}"


def _cause(verdict: Verdict) -> str:
    """Name the half of the claim that fails."""
    causes = []
    if verdict.word in {"inconclusive", "worse"}:
        causes.append(f"accuracy {verdict.word}")
    if verdict.speed_word != "faster":
        causes.append(f"speed {verdict.speed_word or 'not measured'}")
    return ", ".join(causes)
