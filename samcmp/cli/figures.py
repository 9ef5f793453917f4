"""The figures that ``compare`` and ``report`` draw: their options, checked before anything runs, and their files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from samcmp.cli import common, completion
from samcmp.cli.options import number, one_of
from samcmp.errors import UsageError, unknown
from samcmp.report.canvas import AGAINST, FORMATS, SCALES

if TYPE_CHECKING:
    from samcmp.analysis.comparison import Comparison
    from samcmp.records import Record
    from samcmp.report.canvas import Against, Drawn, Scale

PANEL = "Figures"
FIGURES = {  # and what each is drawn of
    "front": "accuracy and speed of the base optimizer and of others; `samcmp compare` gives both",
    "differences": "the accuracy of the base optimizer (or of sam) and of another on the same splits",
    "curves": "training runs; `samcmp compare` or `samcmp train` gives them",
    "profiles": "the same optimizers on two datasets or models or more",
    "sweep": "an optimizer with several values of a setting; `samcmp compare --set graphsam.rho=0.05,0.005` gives them",
    "tuning": "the trials of a tuned comparison; `samcmp compare --tune 8` gives them",
    "sensitivity": "the trials of a tuned comparison; `samcmp compare --tune 8` gives them",
    "anytime": "training runs of the base optimizer and of others",
}
INCHES = {"": 1.0, "in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}
_LENGTH = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?(in|cm|mm|pt|)")


def inches(text: object) -> float:
    """Read a width. Raises UsageError."""
    found = _LENGTH.fullmatch(str(text).strip())
    if found is None or not 1.5 <= float(found[1]) * INCHES[found[2]] <= 40.0:
        raise UsageError(
            f"expected 1.5 to 40 inches, got {str(text)!r}", where="--width", remedy="For example: 84mm, 3.3in, 240pt."
        )
    return float(found[1]) * INCHES[found[2]]


against = one_of("--against", *AGAINST, kind="reference")
scale = one_of("--x", *SCALES, kind="scale")
points = number("--font-size", least=4, most=30)
Width = Annotated[
    float | None,
    typer.Option(
        "--width", metavar="84mm", parser=inches, help="Of a whole figure: in, cm, mm or pt.",
        show_default="as its panels need", rich_help_panel=PANEL,
    ),
]  # fmt: skip
FontSize = Annotated[
    float,
    typer.Option(
        "--font-size", metavar="POINTS", parser=points, help="Of a figure's text.",
        rich_help_panel=PANEL,
    ),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FigureOptions:
    """Which figures, and how they look."""

    figure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=FILE",
            help=f"Draw {', '.join(FIGURES)} into an svg, png or pdf, its caption beside it. Repeat for several.",
            rich_help_panel=PANEL,
            autocompletion=completion.among(*(f"{kind}=" for kind in FIGURES)),
        ),
    ] = None
    width: Width = None
    font_size: FontSize = 9.0
    against: Annotated[
        str,
        typer.Option(
            metavar="ROLE",
            parser=against,
            help="What differences are from: base or sam.",
            rich_help_panel=PANEL,
            autocompletion=completion.among(*AGAINST),
        ),
    ] = "base"
    x: Annotated[
        str,
        typer.Option(
            "--x",
            metavar="SCALE",
            parser=scale,
            help="What curves are drawn by: epochs, passes or time.",
            rich_help_panel=PANEL,
            autocompletion=completion.among(*SCALES),
        ),
    ] = "epochs"
    unit: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Of RMSE and MAE on a figure's axes.",
            show_default="as the dataset's card says",
            rich_help_panel=PANEL,
        ),
    ] = ""


def check(figures: FigureOptions) -> list[tuple[str, Path]]:
    """Return the figures asked for and their files, before anything is run or read. Raises UsageError."""
    for text in figures.figure or ():
        kind, _, file = text.partition("=")
        if kind == "pareto":
            raise UsageError(
                "this figure is called front now, and shows gains over the base with paired intervals",
                where=f"--figure {text}",
                remedy=f"Use --figure front={file or 'front.svg'}",
            )
    return read(figures.figure or (), FIGURES)


def read(texts: Iterable[str], kinds: Iterable[str]) -> list[tuple[str, Path]]:
    """Read figures written KIND=FILE. Raises UsageError for another kind and for a file that cannot be written."""
    wanted = []
    for text in texts:
        kind, _, file = text.partition("=")
        if kind not in kinds:
            raise unknown("figure", kind, kinds, where="--figure")
        path = Path(file)
        if not file or path.suffix.lower().lstrip(".") not in FORMATS:
            raise UsageError(
                f"expected KIND=FILE with a file that ends in {', '.join('.' + f for f in FORMATS)}, got {text!r}",
                where="--figure",
                remedy=f"For example: --figure {kind}={kind}.svg",
            )
        common.check_writable(path, "--figure")
        wanted.append((kind, path))
    return wanted


def draw(
    wanted: Sequence[tuple[str, Path]], figures: FigureOptions, comparison: Comparison, records: Sequence[Record]
) -> list[tuple[Path, Drawn]]:
    """Draw the figures. Raises UsageError where the results do not hold what one shows."""
    if not wanted:
        return []
    from samcmp.report import figures as drawings
    from samcmp.report.canvas import Options

    options = Options(
        figures.width, figures.font_size, cast("Against", figures.against), cast("Scale", figures.x), figures.unit
    )
    drawn = []
    for kind, path in wanted:
        try:
            drawn.append((path, drawings.draw(kind, comparison, records, options)))
        except UsageError as error:
            remedy = f"This figure needs {FIGURES[kind]}."
            raise UsageError(error.what, where=f"--figure {kind}={path}", remedy=remedy) from None
    return drawn


def save(drawn: Sequence[tuple[Path, Drawn]]) -> None:
    """Write the figures, each with its caption beside it."""
    from samcmp import files
    from samcmp.report import canvas

    for path, one in drawn:
        with files.writing(path) as temporary:
            canvas.save(one.figure, temporary, form=path.suffix.lower().lstrip("."), caption=one.caption)
        caption = path.with_suffix(".caption.txt")
        files.write(caption, f"{one.caption}\n".encode())
        common.stderr().print(f"wrote {path} and {caption.name}", markup=False)
