"""The one place where a verdict becomes words, for the terminal, Markdown, LaTeX and JSON alike."""

from __future__ import annotations

from samcmp.report.comparison import Cell, Verdict
from samcmp.stats import Interval

METRICS = {"roc-auc": "ROC-AUC", "rmse": "RMSE", "mae": "MAE"}


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign (a true minus), so that it lines up and reads as one."""
    text = f"{value:+.{digits}f}"
    if float(text) == 0.0:
        text = f"{0.0:.{digits}f}"
    return text.replace("-", "−")


def digits_for(cell: Cell) -> int:
    """Return the decimals that a metric's size deserves: three below ten, fewer above, more for tiny errors."""
    means = [abs(row.score.mean) for row in cell.rows if row.score and row.score.mean]
    largest = max(means, default=1.0)
    return 1 if largest >= 10 else 3 if largest >= 0.05 else 5


def headline(cell: Cell) -> str:
    """Name a cell and what its verdicts rest on."""
    runs = max((len(row.blocks) for row in cell.rows), default=0)
    metric = METRICS.get(cell.metric, cell.metric or "no result")
    splits = len(cell.splits)
    on = f"{runs} run{'s' * (runs != 1)} an optimizer on {splits} {cell.split} split{'s' * (splits != 1)}"
    return f"{cell.name}: {metric}, {on}, margin {cell.margin_text}"


def sentences(cell: Cell) -> list[str]:
    """Say the verdicts of a cell: one sentence an optimizer, against SAM first, then against the base."""
    by_arm: dict[str, list[Verdict]] = {}
    for verdict in cell.verdicts:
        by_arm.setdefault(verdict.arm, []).append(verdict)
    order = {row.arm: i for i, row in enumerate(cell.rows)}
    return [sentence(by_arm[arm], cell) for arm in sorted(by_arm, key=lambda a: order[a])]


def sentence(verdicts: list[Verdict], cell: Cell) -> str:
    """Say what one optimizer's verdicts come to."""
    digits = digits_for(cell)
    parts = []
    for verdict in sorted(verdicts, key=lambda v: v.role != "sam"):
        if verdict.role == "sam":
            parts.append(_claim(verdict, digits))
        else:
            parts.append(f"against {verdict.reference}: {_accuracy(verdict, digits)}{_speed_aside(verdict)}")
    return f"{verdicts[0].arm}: {'; '.join(parts)}."


def _claim(verdict: Verdict, digits: int) -> str:
    head = "established" if verdict.claim else "not established"
    return f"as accurate as {verdict.reference} and faster: {head} ({_accuracy(verdict, digits)}; {_speed(verdict)})"


def _accuracy(verdict: Verdict, digits: int) -> str:
    numbers = ""
    if verdict.mean is not None:
        numbers = f" {signed(verdict.mean, digits)}"
        if verdict.low is not None and verdict.high is not None:
            numbers += f" [{signed(verdict.low, digits)}, {signed(verdict.high, digits)}]"
    said = f"accuracy {verdict.word}{numbers}"
    asides = []
    if verdict.blocks_needed is not None and verdict.blocks_needed > verdict.splits:
        asides.append(f"about {verdict.blocks_needed} splits would settle it")
    if verdict.why:
        asides.append(verdict.why)
    if verdict.one_test_set:
        asides.append(verdict.one_test_set)
    return said + (f", {', '.join(asides)}" if asides else "")


def _speed(verdict: Verdict) -> str:
    if verdict.speed is None:
        return "speed n/a"
    return f"speed {times(verdict.speed)}, {verdict.speed_word}"


def _speed_aside(verdict: Verdict) -> str:
    return "" if verdict.speed is None else f", speed {times(verdict.speed)}"


def times(ratio: Interval) -> str:
    """Write a speed ratio with its interval."""
    text = f"{ratio.value:.2f}×"
    if ratio.low is not None and ratio.high is not None and ratio.low != ratio.high:
        text += f" [{ratio.low:.2f}, {ratio.high:.2f}]"
    return text
