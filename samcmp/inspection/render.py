"""Results as a table and in every format. What was not measured is n/a with its reason below the table."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samcmp.errors import unknown
from samcmp.inspection import SCHEMA, WHAT, Measured, published
from samcmp.inspection.results import Arm, Results, Value
from samcmp.inspection.series import chosen
from samcmp.printable import csv_cell, printable, printable_json
from samcmp.records import METRICS, to_json
from samcmp.report.grid import Column, Entry, Footnotes, Grid

if TYPE_CHECKING:
    from rich.console import RenderableType

PUBLISHED_PAIRS = "figure 3c of Wang et al. (2024), BBBP, perturbation and previous updating gradient agree: "
PUBLISHED_PAIRS += ", ".join(f"{share:.2f} % of the steps of {name}" for name, share in published.PAIRS.items())
PUBLISHED_ENTROPY = f"figure 10 of {published.ENTROPY}"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A column of the table."""

    title: str
    what: str
    name: str
    error: str = ""  # name of its error, behind ±
    percent: bool = False
    meaning: str = ""


QUANTITIES = (
    Quantity("L", "loss", "loss", meaning="L: mean loss of the chosen training molecules at the weights, no dropout"),
    Quantity("‖∇L‖", "loss", "gradient_norm"),
    Quantity(
        "m-sharp", "sharpness", "m_sharpness",
        meaning="m-sharp, adaptive: mean rise of a batch's loss within the radius; the first depends on the scale of "
        "weights (Dinh et al. 2017)",
    ),
    Quantity("adaptive", "sharpness", "adaptive_sharpness"),
    Quantity("λ max", "sharpness", "lambda_max", meaning="λ max, trace: of the Hessian, by differences over 0.01"),
    Quantity("trace", "sharpness", "trace", error="trace_error"),
    Quantity("pairs a", "gradients", "pairs_next", percent=True, meaning="pairs a: steps with cos(g[t+1], ω[t]) ≥ 0"),
    Quantity(
        "pairs b", "gradients", "pairs_direction", percent=True,
        meaning="pairs b: perturbed steps with cos(ε̂[t], g[t]) ≥ 0; approximated: those without a pass at θ[t] alone",
    ),
    Quantity("approximated", "gradients", "pairs_direction_approximated", percent=True),
    Quantity("entropy", "attention", "entropy", meaning="entropy: of attention, nats, mean over the test molecules"),
)  # fmt: skip
AT_WEIGHTS = ("sharpness", "landscape", "surface", "path")  # each has the loss and its gradient, too


def grid(results: Results) -> tuple[Grid, tuple[str, ...]]:
    """Return the table and its footnotes."""
    shown = [q for q in QUANTITIES if _is_asked(q, results)]
    score = METRICS.get(results.metric, results.metric or "test")
    columns = [Column(name, right=False, foldable=name == "optimizer") for name in ("dataset", "model", "optimizer")]
    columns += [Column(f"test {score}"), *(Column(q.title) for q in shown)]
    notes = Footnotes()
    rows: list[tuple[Entry, ...]] = []
    starts = set()
    for cell in results.cells:
        starts.add(len(rows))
        for arm in results.of(cell):
            test = arm.test()
            first = _entry(test, "") if test else Entry("n/a", note=notes(arm.reason("", "")))
            rows.append(
                (*map(Entry, (arm.dataset, arm.model, arm.label)), first, *(_cell(q, arm, notes) for q in shown))
            )
    title = f"Inside the training of {', '.join(f'{model} on {dataset}' for dataset, model in results.cells)}"
    remarks = _remarks(results, shown)
    return Grid(tuple(columns), tuple(rows), frozenset(starts), title, remarks), tuple(notes.texts)


def _is_asked(quantity: Quantity, results: Results) -> bool:
    if quantity.what == "loss":
        return any(what in results.what for what in AT_WEIGHTS)
    return quantity.what in results.what


def _cell(quantity: Quantity, arm: Arm, notes: Footnotes) -> Entry:
    what = quantity.what
    if what == "loss":
        what = next((name for name in AT_WEIGHTS if arm.values(name, quantity.name)), "sharpness")
    value = arm.value(what, quantity.name)
    if value is None:
        return Entry("n/a", note=notes(arm.reason(what, quantity.name)))
    if quantity.error and value.sd is None:
        error = arm.value(what, quantity.error)
        return Entry(f"{number(value.mean)} ± {number(error.mean)}" if error else number(value.mean))
    return _entry(value, "%" if quantity.percent else "")


def _entry(value: Value, unit: str) -> Entry:
    scale = 100.0 if unit else 1.0
    text = f"{value.mean * scale:.1f}" if unit else number(value.mean)
    if value.sd is not None:
        text += f" ± {value.sd * scale:.1f}" if unit else f" ± {number(value.sd)}"
        text += f" ({value.runs})"
    return Entry(text + (" %" if unit else ""))


def number(value: float) -> str:
    """Write a number with three figures, so that it fits a column."""
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, 2 - size)}f}" if -4 <= size <= 5 else f"{value:.2e}"


def _remarks(results: Results, shown: Sequence[Quantity]) -> tuple[str, ...]:
    remarks = [q.meaning for q in shown if q.meaning]
    if rests := _rests_on(results):
        remarks.append(rests)
    if "gradients" in results.what:
        remarks.append(PUBLISHED_PAIRS)
    if "attention" in results.what:
        remarks.append(PUBLISHED_ENTROPY)
    runs = max((len(arm.cases) for arm in results.arms), default=0)
    remarks.append("± over runs: their standard deviation, their number in brackets" if runs > 1 else "one run each")
    return tuple(remarks)


def _rests_on(results: Results) -> str:
    """Say at which weights, over what and in which radius, as far as something that was asked for depends on it."""
    s, decides = results.settings, {key for name in results.what for key in WHAT[name].settings}
    parts = []
    if "weights" in decides:
        parts.append(
            f"at the weights {'of the best validation epoch' if s.weights == 'best' else 'after the last epoch'}"
        )
    runs = [run for arm in results.arms for run in arm.runs.values()]
    counts = sorted({n for run in runs if (n := chosen(run, s.molecules)) is not None})
    if "molecules" in decides and counts:
        several = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        parts.append(f"over {several} training {' or '.join(dict.fromkeys(run.holds for run in runs))} of each split")
    if "radius" in decides:
        parts.append(f"radius {s.radius:g}")
    return "; ".join(parts)


def pairs(results: Results) -> Grid | None:
    """The table of what was measured between two runs; None where nothing was."""
    if not results.pairs:
        return None
    columns = [Column("from", right=False), Column("to", right=False), Column("split", right=False)]
    columns += [Column("barrier"), Column("distance")]
    rows = []
    remarks = ["barrier: largest loss above the chord between two optimizers' weights; distance: ‖θ_A − θ_B‖"]
    for measured in results.pairs:
        one = measured.inspection
        ends = results.label(one.case), results.label(one.other.case) if one.other else ""
        values = [number(one.scalars[n]) if n in one.scalars else "n/a" for n in ("barrier", "distance")]
        rows.append(tuple(map(Entry, (*ends, one.case.block, *values))))
        if "n/a" in values:
            remarks.append(f"{' to '.join(ends)}: n/a: {one.missing.get('barrier', one.missing.get('all', ''))}")
    return Grid(tuple(columns), tuple(rows), title="Paths", remarks=tuple(dict.fromkeys(remarks)))


# ---------------------------------------------------------------------------------------------- forms


def terminal(results: Results) -> list[RenderableType]:
    """Return what to print: the table with its footnotes and remarks, the paths, and what failed."""
    from rich.text import Text

    from samcmp.report.terminal import Screen, footnotes

    made, notes = grid(results)
    parts: list[Any] = [Screen(made), *footnotes(notes)]
    parts += [Text(), *(Text(text, style="dim") for text in made.remarks)]
    if between := pairs(results):
        parts += [Text(), Text(between.title, style="bold"), Screen(between), *map(Text, between.remarks)]
    parts += [Text(f"failed: {text}", style="yellow") for text in results.failed]
    return parts


def markdown(results: Results) -> str:
    """Return the table and the paths as Markdown, ending in a line break."""
    from samcmp.report.markdown import bullets, footnotes, grid_lines

    made, notes = grid(results)
    lines = [*grid_lines(made), *footnotes(notes), *bullets(made.remarks)]
    if between := pairs(results):
        lines += ["", f"**{between.title}**", "", *grid_lines(between), *bullets(between.remarks)]
    return "\n".join(lines) + "\n"


def _every(results: Results) -> Iterator[Measured]:
    for arm in results.arms:
        for measured in arm.measured.values():
            yield from measured
    yield from results.pairs


def rows(results: Results) -> list[dict[str, Any]]:
    """A row for each scalar of each run; one that is missing has its reason."""
    made = []
    for measured in _every(results):
        one = measured.inspection
        case = one.case
        other = one.other.case.arm if one.other else ""
        head = {name: printable(str(getattr(case, name))) for name in ("dataset", "model", "arm", "optimizer", "block")}
        head |= {"other": printable(other), "what": one.what}
        values: list[tuple[str, float | None, str]] = [(name, value, "") for name, value in one.scalars.items()]
        values += [(name, None, printable(why)) for name, why in one.missing.items()]
        for name, value, why in values:
            ends = {"train_key": one.train_key, "key": one.key}
            made.append({**head, "name": name, "value": value, "missing": why, **ends})
    return made


COLUMNS = (
    "dataset", "model", "arm", "optimizer", "block", "other", "what", "name", "value", "missing", "train_key", "key",
)  # fmt: skip


def to_csv(results: Results) -> str:
    """The rows of :func:`rows`."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows(results))
    return file.getvalue()


def to_json_text(results: Results) -> str:
    """Everything that was measured, arrays as lists; a number that is not finite is null."""
    made = [
        {**to_json(one.inspection), "arrays": {name: _listed(values.tolist()) for name, values in one.arrays.items()}}
        for one in _every(results)
    ]
    text = {
        "schema": SCHEMA, "what": list(results.what), "settings": to_json(asdict(results.settings)),
        "failed": list(results.failed), "inspections": made,
    }  # fmt: skip
    return printable_json(json.dumps(text, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def _listed(value: Any) -> Any:
    if isinstance(value, list):
        return [_listed(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_parquet(results: Results, path: Path) -> None:
    """Write the rows of :func:`rows`."""
    from samcmp.report import flat

    flat.frame(rows(results)).to_parquet(path, index=False)


def to_latex(results: Results) -> str:
    """The tables as floats that need booktabs."""
    from samcmp.report import latex

    made, footnotes = grid(results)
    return latex.document([made, *filter(None, [pairs(results)])], footnotes)


def to_html(results: Results) -> str:
    """One page with the tables and every figure of what was measured."""
    from samcmp.inspection import page

    return page.render(results, *grid(results), pairs(results))


def render(results: Results, form: str) -> str:
    """Return results as text: markdown, latex, html, csv or json. Raises UsageError for another format."""
    forms: dict[str, Callable[[Results], str]] = {
        "markdown": markdown, "latex": to_latex, "html": to_html, "csv": to_csv, "json": to_json_text,
    }  # fmt: skip
    if form not in forms:
        raise unknown("format", form, forms, where="--format")
    return forms[form](results)
