"""The figure of a sweep: the test score of an optimizer against a setting that `--set name.key=a,b,c` varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samcmp import optim
from samcmp.analysis.comparison import Cell, Comparison, Row, Score
from samcmp.analysis.sentences import headline, metric_name
from samcmp.errors import SamcmpError
from samcmp.records import Record, arm_name
from samcmp.report.canvas import Drawn, Options, legend, panels, tick
from samcmp.report.styles import Style, styles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = 20.0  # times the smallest value: a wider range is drawn on a logarithmic axis


@dataclass(frozen=True, slots=True)
class Sweep:
    """One optimizer with one setting varied, all others alike."""

    optimizer: str
    label: str  # with the settings that are alike
    key: str
    points: tuple[tuple[float, Score], ...]  # by value


def draw(comparison: Comparison, records: Sequence[Record], options: Options) -> Drawn:
    """Draw a panel for each cell and varied setting; the base optimizer is a line across."""
    wanted = [(cell, key, lines) for cell in comparison.cells for key, lines in sweeps(cell).items()]
    bases = {cell.key: base for cell, _, _ in wanted if (base := _base(cell)) is not None}
    arms = [(line.optimizer, line.label) for _, _, lines in wanted for line in lines]
    used = styles_of([*((base.optimizer, base.label) for base in bases.values()), *arms])
    figure, axes = panels(len(wanted), height=3.0, options=options, legend=list(used))
    for (cell, key, lines), one in zip(wanted, axes, strict=True):
        base = bases.get(cell.key)
        if base is not None and base.score is not None:
            one.axhline(base.score.mean, **{**used[base.label], "marker": ""}, linewidth=1.0)
        for line in lines:
            _line(line, one, used[line.label])
        values = [value for line in lines for value, _ in line.points]
        if min(values) > 0 and max(values) > WIDE * min(values):
            one.set_xscale("log")
        one.set_xlabel(tick(key))
        one.set_ylabel(f"test {metric_name(cell)}")
        one.set_title(tick(cell.name))
    legend(figure, used, options)
    said = (
        "Test score at the best validation epoch against the setting that was varied: mean over runs, bars: ± their "
        "SD. Line without markers: the base optimizer. Nothing was chosen by these scores."
    )
    cells = {cell.key: cell for cell, _, _ in wanted}.values()
    return Drawn(figure, " ".join([said, *(f"{headline(cell)}." for cell in cells)]))


def sweeps(cell: Cell) -> dict[str, list[Sweep]]:
    """Return the sweeps of a cell by the setting that they vary."""
    found: dict[str, list[Sweep]] = {}
    by_optimizer: dict[str, list[Row]] = {}
    for row in cell.rows:
        by_optimizer.setdefault(row.optimizer, []).append(row)
    for optimizer, rows in by_optimizer.items():
        for key in dict.fromkeys(key for row in rows for key in row.optimizer_settings):
            for alike, points in _groups(optimizer, key, rows).items():
                if len(points) > 1:
                    line = Sweep(optimizer, arm_name(optimizer, dict(alike)), key, tuple(sorted(points.items())))
                    found.setdefault(key, []).append(line)
    return found


def _groups(optimizer: str, key: str, rows: Sequence[Row]) -> Mapping[tuple[tuple[str, Any], ...], dict[float, Score]]:
    """The scores by the value of a setting, apart for different values of the others."""
    default = _default(optimizer, key)
    groups: dict[tuple[tuple[str, Any], ...], dict[float, Score]] = {}
    for row in rows:
        value = row.optimizer_settings.get(key, default)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and row.score is not None:
            others = tuple(sorted((k, v) for k, v in row.optimizer_settings.items() if k != key))
            groups.setdefault(others, {})[float(value)] = row.score
    return groups


def _default(optimizer: str, key: str) -> Any:
    try:
        return optim.entry(optimizer).settings.get(key)
    except SamcmpError:  # a file of the user's that is no longer there
        return None


def _base(cell: Cell) -> Row | None:
    return next((row for row in cell.rows if row.role == "base" and row.score is not None), None)


def _line(line: Sweep, axes: Axes, style: Style) -> None:
    x = [value for value, _ in line.points]
    mean = [score.mean for _, score in line.points]
    spread = [score.sd or 0.0 for _, score in line.points]
    axes.errorbar(x, mean, yerr=spread, capsize=3, elinewidth=1.0, markersize=5, linewidth=1.3, **style)
