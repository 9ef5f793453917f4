"""What the Python interface returns: pandas frames, figures, text and HTML of comparisons, runs and measurements."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

from samcmp.api import notebook
from samcmp.api.arguments import in_python

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.console import RenderableType

    from samcmp.analysis.comparison import Comparison, Recommendation
    from samcmp.experiment.store import Store
    from samcmp.inspection.results import Results
    from samcmp.records import Record
    from samcmp.report.canvas import Against, Scale

WIDTH = 120  # columns of a table as text


class Result:
    """A comparison. Its ``repr`` is the table that the command line prints; a notebook shows it as HTML.

    Attributes:
        comparison: everything that is shown, as plain data; see :mod:`samcmp.analysis.comparison`.
        records: of every run and every speed that it rests on.
    """

    def __init__(self, comparison: Comparison, records: Sequence[Record]) -> None:
        self.comparison = comparison
        self.records = tuple(records)

    @property
    def recommendation(self) -> Recommendation | None:
        """What to use: ``.arm`` (None: nothing can be said) and ``.text``, by the rule ``comparison.rule``."""
        return self.comparison.recommendation

    @cached_property
    def runs(self) -> pandas.DataFrame:
        """One row a training run, trials of a tuned comparison and failures included."""
        from samcmp.report import flat

        return flat.frame(flat.run_rows(self.comparison, self.records))

    @cached_property
    def arms(self) -> pandas.DataFrame:
        """One row an optimizer (with its settings) and cell: what ``--format csv`` holds."""
        from samcmp.report import flat

        return flat.frame(flat.rows(self.comparison))

    @cached_property
    def speeds(self) -> pandas.DataFrame:
        """One row an optimizer and cell whose steps were measured: speed, ratios, memory, energy."""
        from samcmp.report import flat

        return flat.frame(flat.speed_rows(self.comparison))

    @cached_property
    def verdicts(self) -> pandas.DataFrame:
        """One row a comparison of one optimizer with one reference in one cell."""
        from samcmp.report import flat

        return flat.frame(flat.verdict_rows(self.comparison))

    def figure(
        self, kind: str = "front", *, against: str = "base", x: str = "epochs",
        width: float | str | None = None,
        font_size: float = 9.0, unit: str = "",
    ) -> Figure:  # fmt: skip
        """Draw a figure, as ``samcmp report --figure`` does; a notebook shows it, ``savefig`` writes it.

        Args:
            kind: front, differences, curves, profiles, sweep, tuning, sensitivity or anytime.
            against: what differences are from: base or sam.
            x: what curves are drawn by: epochs, passes or time.
            width: of the whole figure, in inches or as "84mm"; as its panels need where it is left out.
            font_size: 4 to 30 points.
            unit: of RMSE and MAE on the axes; as the dataset's card says where it is left out.

        Raises:
            UsageError: there is no such figure, or the results do not hold what it shows.
        """
        from samcmp.cli import figures as drawing
        from samcmp.report import figures
        from samcmp.report.canvas import Options

        with in_python():
            drawing.against(against)
            drawing.scale(x)
            inches = None if width is None else drawing.inches(width)
            options = Options(inches, drawing.points(font_size), cast("Against", against), cast("Scale", x), unit)
            drawn = figures.draw(kind, self.comparison, self.records, options)
        notebook.show_figures()
        return drawn.figure

    def render(self, form: str) -> str:
        """Return the report as text: markdown, latex, html (a whole page), csv or json. Raises UsageError."""
        from samcmp import report

        with in_python():
            return report.render(self.comparison, form, records=self.records)

    def table(self) -> str:
        """Return what the command line prints."""
        from samcmp.report import terminal

        return text_of([terminal.render(self.comparison)])

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return notebook.comparison_html(self.comparison)


class Trained:
    """One training run.

    Attributes:
        record: everything that is known of it; see :class:`samcmp.records.Record`.
    """

    def __init__(self, record: Record, kept: Store) -> None:
        self.record = record
        self._kept = kept

    @property
    def score(self) -> float | None:
        """The test metric at the best validation epoch; None for a failed run, whose ``record.reason`` says why."""
        return self.record.accuracy.test if self.record.accuracy else None

    @cached_property
    def history(self) -> pandas.DataFrame:
        """One row an epoch: losses, scores, learning rate, seconds (without evaluation), gradient evaluations."""
        import pandas

        from samcmp.records import to_json

        frame = pandas.DataFrame([to_json(epoch) for epoch in self.record.history])
        frame.index.name = "epoch"
        return frame.reset_index()

    @cached_property
    def predictions(self) -> pandas.DataFrame:
        """One row a test sample: its row in the dataset, truth and prediction of each task.

        Regression is in original units, classification in probabilities; of a multiclass task truth and prediction
        are names of classes, and each class has its probability. Empty for a failed run.
        """
        import pandas

        arrays = self._kept.predictions(self.record.key)
        if arrays is None or self.record.accuracy is None:
            return pandas.DataFrame({"row": []})
        columns = {"row": arrays["rows"]}
        if self.record.accuracy.per_class:
            task, classes = next(iter(self.record.accuracy.per_task)), [*self.record.accuracy.per_class]
            frame = pandas.DataFrame(columns)
            for what, numbers in (("true", arrays["truth"][:, 0]), ("predicted", arrays["prediction"].argmax(axis=1))):
                frame[f"{what}_{task}"] = pandas.Series(numbers).map(dict(enumerate(classes)))
            for i, name in enumerate(classes):
                frame[f"probability_{name}"] = arrays["prediction"][:, i]
            return frame
        for i, task in enumerate(self.record.accuracy.per_task):
            columns |= {f"true_{task}": arrays["truth"][:, i], f"predicted_{task}": arrays["prediction"][:, i]}
        return pandas.DataFrame(columns)

    def table(self) -> str:
        """Return what the command line prints."""
        from samcmp.cli import train

        return text_of(train.summary(self.record, self._kept))

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return notebook.text_html(self.table())


class Profiled:
    """Speeds that were measured side by side, a session a batch size.

    Attributes:
        records: one an optimizer and batch size; see :class:`samcmp.records.Record`.
    """

    def __init__(self, sessions: Sequence[Sequence[Record]]) -> None:
        self.sessions = tuple(map(tuple, sessions))
        self.records = tuple(record for session in self.sessions for record in session)

    @cached_property
    def speeds(self) -> pandas.DataFrame:
        """One row an optimizer and batch size: graphs a second, ratios with 95 % limits, memory (bytes), energy (J)."""
        from samcmp.report import flat, profile

        flattened = []
        for row in profile.rows(self.records):
            ratios = {key: value for key, value in row.items() if isinstance(value, dict)}
            flattened.append({key: value for key, value in row.items() if key not in ratios})
            for peer, ratio in ratios.items():
                flattened[-1] |= {f"{peer}_{what}": value for what, value in ratio.items()}
        return flat.frame(flattened)

    def table(self) -> str:
        """Return what the command line prints."""
        from samcmp.report import profile

        return text_of([part for session in self.sessions for part in profile.screen(session)])

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return notebook.text_html(self.table())


class Inspected:
    """What happened inside trainings. Its ``repr`` is the table that the command line prints.

    Attributes:
        results: everything that was measured, arrays included; see :mod:`samcmp.inspection.results`.
    """

    def __init__(self, results: Results) -> None:
        self.results = results

    @cached_property
    def numbers(self) -> pandas.DataFrame:
        """One row a number of a run: what ``--format csv`` holds. One that is missing has its reason."""
        from samcmp.inspection import render
        from samcmp.report import flat

        return flat.frame(render.rows(self.results))

    @cached_property
    def steps(self) -> pandas.DataFrame:
        """One row a step of a run that was watched (``what="gradients"``); NaN where something was not seen.

        ``norm_``, ``change_`` and ``unit_change_`` of ``g``, ``epsilon`` and ``omega``: the length of SAM's true
        gradient, of the displacement, of the updating gradient, and how far each is from the next step's.
        """
        import pandas

        frames = []
        for arm in self.results.arms:
            for one in arm.measured.get("gradients", ()):
                of = {"dataset": arm.dataset, "model": arm.model, "arm": arm.arm, "block": one.inspection.case.block}
                frames += [pandas.DataFrame({**of, **one.arrays})] if one.arrays else []
        if not frames:
            return pandas.DataFrame({"step": []})
        return pandas.concat(frames).rename_axis("step").reset_index().astype({"epoch": int, "approximated": bool})

    def figure(self, kind: str, *, width: float | str | None = None, font_size: float = 9.0) -> Figure:
        """Draw a figure, as ``samcmp inspect --figure`` does; a notebook shows it, ``savefig`` writes it.

        Args:
            kind: changes, norms, pairs, conjectures, landscape, surface, path, sharpness, generalisation or attention.
            width: of the whole figure, in inches or as "84mm"; as its panels need where it is left out.
            font_size: 4 to 30 points.

        Raises:
            UsageError: there is no such figure, or what it shows was not measured.
        """
        from samcmp.cli import figures as drawing
        from samcmp.inspection.drawing import check, draw
        from samcmp.report.canvas import Options

        with in_python():
            inches = None if width is None else drawing.inches(width)
            check(kind, where="figure", what=self.results.what, runs=sum(len(arm.runs) for arm in self.results.arms))
            drawn = draw(kind, self.results, Options(inches, drawing.points(font_size)))
        notebook.show_figures()
        return drawn.figure

    def render(self, form: str) -> str:
        """Return what was measured as text: markdown, latex, html (a page), csv or json (all). Raises UsageError."""
        from samcmp.inspection import render

        with in_python():
            return render.render(self.results, form)

    def table(self) -> str:
        """Return what the command line prints."""
        from samcmp.inspection import render

        return text_of(render.terminal(self.results))

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return notebook.inspected_html(self.results)


def text_of(parts: Sequence[RenderableType]) -> str:
    """Render as the terminal would, without colours."""
    from samcmp.cli.console import SafeConsole

    text = io.StringIO()
    console = SafeConsole(file=text, width=WIDTH, force_terminal=False, force_jupyter=False)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())
