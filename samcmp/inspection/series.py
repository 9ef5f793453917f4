"""What a figure is drawn of: the runs of each optimizer, or of each pair, and the sentences that say what they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samcmp.errors import UsageError
from samcmp.inspection import WHAT, Inspection, Measured, Trained
from samcmp.inspection.results import Results
from samcmp.printable import counted
from samcmp.records import LOWER_IS_BETTER, Case
from samcmp.report.canvas import Drawn, Options, foot
from samcmp.report.styles import DASHES, Style, styles_of
from samcmp.report.units import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LEFT_OUT = 6  # reasons that a caption gives, at most


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The runs of one optimizer in one cell; of a path those of one pair."""

    label: str
    optimizer: str
    style: Style
    runs: tuple[Measured, ...]

    def scalars(self, name: str) -> Array:
        """The values of the runs that have one, (R,)."""
        every = (run.inspection.scalars.get(name) for run in self.runs)
        return np.array([value for value in every if value is not None], dtype=np.float64)

    def arrays(self, name: str) -> list[Array]:
        """The arrays of the runs that have one."""
        return [np.asarray(run.arrays[name]) for run in self.runs if name in run.arrays]


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """The series of one dataset and model."""

    name: str
    series: tuple[Series, ...]

    @property
    def first(self) -> Inspection:
        """Of the first run, for what all runs of the cell share."""
        return self.series[0].runs[0].inspection


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What is drawn, with a style for every label, and what is not, with the reason."""

    cells: tuple[Cell, ...]
    used: dict[str, Style]
    left_out: tuple[str, ...]

    def title(self, cell: Cell, text: str) -> str:
        """The text, and the cell's name where there are several."""
        return text if len(self.cells) == 1 else f"{cell.name}: {text}"


def shown(results: Results, what: str, *needs: str, remedy: str = "A run that ends well has them.") -> Shown:
    """Sort the runs of a measurement into cells and series; what cannot be drawn is left out, with its reason.

    Args:
        needs: arrays or scalars of which a run must have at least one.

    Raises UsageError where no run has what is drawn.
    """
    looks = styles_of((arm.optimizer, arm.label) for arm in results.arms)
    cells: list[Cell] = []
    reasons: dict[str, list[str]] = {}
    for key in results.cells:
        found: list[Series] = []
        for label, runs, why in _groups(results, key, what):
            whole = tuple(run for run in runs if _has(run, needs))
            if whole:
                found.append(_series(label, whole, results, looks, taken=[one.style for one in found]))
            for run in runs:
                if run not in whole:
                    reasons.setdefault(_why(run, needs), []).append(label)
            if why:
                reasons.setdefault(why, []).append(label)
        if found:
            cells.append(Cell(_name(found[0].runs[0].inspection.case), tuple(found)))
    left_out = tuple(f"{', '.join(dict.fromkeys(labels))} ({why})" for why, labels in reasons.items())
    if not cells:
        why = "; ".join(left_out) or f"{what} was not measured"
        raise UsageError(f"nothing to draw: {why}", where="figure", remedy=remedy)
    return Shown(tuple(cells), {one.label: one.style for cell in cells for one in cell.series}, left_out)


def _groups(results: Results, cell: tuple[str, str], what: str) -> list[tuple[str, list[Measured], str]]:
    """The label and the runs of each series, and why some are not there."""
    if not WHAT[what].pair:
        found = []
        for arm in results.of(cell):
            runs = list(arm.measured.get(what, ()))
            why = arm.reason(what, "all") if len(runs) < len(arm.cases) else ""
            found.append((arm.label, runs, why))
        return found
    pairs: dict[str, list[Measured]] = {}
    for one in results.pairs:
        case, other = one.inspection.case, one.inspection.other
        if one.inspection.what == what and other is not None and (case.dataset, case.model) == cell:
            pairs.setdefault(f"{results.label(case)} to {results.label(other.case)}", []).append(one)
    return [(label, runs, "") for label, runs in pairs.items()]


def _has(run: Measured, needs: Sequence[str]) -> bool:
    return any(name in run.arrays or name in run.inspection.scalars for name in needs)


def _series(
    label: str, runs: tuple[Measured, ...], results: Results, looks: dict[str, Style], *, taken: list[Style]
) -> Series:
    first = runs[0].inspection
    here = looks[results.label(first.case)]
    if first.other is None:
        return Series(label, first.case.optimizer, here, runs)
    # a pair has the colour and the marker of its end and the dash of its start, or another where two would be alike
    end = looks[results.label(first.other.case)]
    used = [style["linestyle"] for style in taken if style["color"] == end["color"]]
    dash = next((dash for dash in (here["linestyle"], *DASHES) if dash not in used), here["linestyle"])
    return Series(label, first.case.optimizer, {**end, "linestyle": dash}, runs)


def _why(run: Measured, needs: Sequence[str]) -> str:
    missing = run.inspection.missing
    return next((missing[name] for name in (*needs, "all") if name in missing), "not measured")


def _name(case: Case) -> str:
    settings = ", ".join(f"{key}={json.dumps(value)}" for key, value in sorted(case.model_settings.items()))
    return f"{case.dataset.partition('@')[0]}, {case.model}{f'[{settings}]' * bool(settings)}"


# ---------------------------------------------------------------------------------------------- sentences


def caption(shown: Shown, *sentences: str, weights: bool = False) -> str:
    """Put a caption together: which runs, at which weights and on which molecules, what is drawn, what is not."""
    parts = []
    for cell in shown.cells:
        parts.append(f"{cell.name}: {_runs(cell)}{f', {_weights(cell.first)}' * weights}.")
    parts += [f"{text[0].upper()}{text[1:]}." for text in sentences if text]
    if shown.left_out:
        more = len(shown.left_out) - LEFT_OUT
        parts.append(f"Not drawn: {'; '.join(shown.left_out[:LEFT_OUT])}{f'; and {more} more' * (more > 0)}.")
    return " ".join(parts)


def _runs(cell: Cell) -> str:
    counts = {one.label: len(one.runs) for one in cell.series}
    case = cell.first.case
    splits = {(run.inspection.case.split_seed, run.inspection.case.fold) for one in cell.series for run in one.runs}
    kind = "pair" if cell.first.other else "optimizer"
    if len(set(counts.values())) == 1:
        n = next(iter(counts.values()))
        text = f"{n} run{'s' * (n > 1)} per {kind}"
    else:
        text = "runs: " + ", ".join(f"{n} of {label}" for label, n in counts.items())
    text += f" on {len(splits)} {case.split} split{'s' * (len(splits) > 1)}"
    drawn = "" if case.protocol.subset is None else f" of {case.protocol.subset} {cell.first.run.holds}"
    return f"{text}{drawn}, {counted(case.protocol.epochs, 'epoch')}"


def _weights(inspection: Inspection) -> str:
    settings = inspection.settings
    at = "best-validation weights" if settings.get("weights") == "best" else "weights of the last epoch"
    return at if "molecules" not in settings else f"{at}, evaluation mode (no dropout), {_molecules(inspection)}"


def _molecules(inspection: Inspection) -> str:
    count = chosen(inspection.run, inspection.settings["molecules"])
    return (
        f"mean loss of {'the chosen' if count is None else count} training {inspection.run.holds} in batches of "
        f"{batch_of(inspection)}"
    )


def chosen(run: Trained, asked: int | None) -> int | None:
    """How many training molecules or images a loss at weights is of; None where the run has no score to tell it."""
    if run.accuracy is None:
        return None
    return run.accuracy.train_size if asked is None else min(asked, run.accuracy.train_size)


def batch_of(inspection: Inspection) -> int:
    """The batch of a loss at weights: the protocol's, or all that was chosen where that is less."""
    size = inspection.case.protocol.batch_size
    return min(size, chosen(inspection.run, inspection.settings["molecules"]) or size)


def metric(inspection: Inspection) -> str:
    """The metric's name as it is printed, with its unit where it has one."""
    run = inspection.run
    name = run.accuracy.metric if run.accuracy else ""
    return named(name, dataset=run.case.dataset, dataset_hash=run.dataset_hash)


def score_axis(axes: Axes, inspection: Inspection) -> None:
    """Let what was drawn stand on an axis of the test score, better is up."""
    accuracy = inspection.run.accuracy
    axes.set_ylabel(f"test {metric(inspection)}")
    if accuracy is not None and accuracy.metric in LOWER_IS_BETTER:
        axes.invert_yaxis()


def band(axes: Axes, x: Array, low: Array, middle: Array, high: Array, style: Style, **look: Any) -> None:
    """Draw a line within its band, (P,) each, with gaps at NaN; ``look`` is of the line."""
    axes.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)
    axes.plot(x, middle, **{**style, "markevery": max(1, len(x) // 8), "markersize": 4, "linewidth": 1.3, **look})


def range_band(axes: Axes, x: Array, rows: Sequence[Array], style: Style, **look: Any) -> None:
    """Draw the mean of rows, (P,) each, within their range; a gap where one of them is no finite number."""
    values = np.array(rows)
    values[~np.isfinite(values)] = np.nan
    with np.errstate(invalid="ignore"):
        band(axes, x, values.min(0), values.mean(0), values.max(0), style, **look)


def per_epoch(one: Series, name: str, of: Callable[[Array], Any] = np.nanmedian) -> tuple[Array, Array]:
    """Return the epochs, from 1, and ``of`` the values of all runs' steps in each; NaN where there is none."""
    values = np.concatenate(one.arrays(name))
    epochs = np.concatenate(one.arrays("epoch"))
    every = np.unique(epochs)
    rows = [values[(epochs == e) & np.isfinite(values)] for e in every]
    return every + 1, np.array([of(row) if len(row) else np.full_like(of(np.zeros(1)), np.nan) for row in rows])


def finished(figure: Figure, text: str, options: Options) -> Drawn:
    """Return a figure with its caption, below it in the picture, too, unless the options say no."""
    if options.foot:
        foot(figure, text, options)
    return Drawn(figure, text)
