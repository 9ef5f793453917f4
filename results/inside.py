"""Inspections of this folder as a page, docs/inside.md: ``make results`` writes it.

A campaign is a folder ``inside-*``: ``inspections.csv``, as `samcmp inspect --format csv` prints it, and
``inside.toml`` with its title, commands, commit, machine, what to know and what a reader should conclude. A number of
these sentences is written ``{sam[gradients.pairs_next]:.0%}`` and comes from the data. Its pictures are
docs/images/NAME-KIND.svg: those of single numbers are drawn from ``inspections.csv``, the others show arrays that are
not kept here, as ``python results/inside.py STORE NAME`` drew them, which exports all from a store that
`samcmp inspect` has filled.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samcmp.errors import UsageError
from samcmp.experiment.store import Store
from samcmp.inspection import WHAT, Inspection, Measured, Settings, Trained, drawing, render
from samcmp.inspection.kept import Kept
from samcmp.inspection.render import number
from samcmp.inspection.results import of_all, of_store
from samcmp.records import Case, Protocol
from samcmp.report import canvas, markdown
from samcmp.report.canvas import Options
from samcmp.report.grid import Column, Entry, Grid

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "inside.md"
SHOWN = re.compile(r"(<!-- inside: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
KINDS = ("pairs", "changes", "norms", "conjectures", "landscape", "sharpness", "attention")
OF_NUMBERS = ("pairs", "sharpness")  # drawn from inspections.csv
Value = str  # of a run; empty: there is none


class Number(float):
    """A number of a sentence, which prints a share as 61 %."""

    def __format__(self, form: str) -> str:
        return super().__format__(form).replace("%", " %")


# what the paper says, and the scalars that are ours: measurement, name, in percent
ROWS: tuple[tuple[str, str, str, str, bool], ...] = (
    ("perturbation gradient and previous updating gradient agree (3c): SAM 67.45 %, GraphSAM 72.46 %",
     "(a) cos(g, previous ω) ≥ 0", "gradients", "pairs_next", True),
    ("", "(a) first third", "gradients", "pairs_next_first", True),
    ("", "(a) last third", "gradients", "pairs_next_last", True),
    ("", "(b) cos(ε̂, g) ≥ 0, all perturbed steps", "gradients", "pairs_direction", True),
    ("", "(b) approximated steps alone", "gradients", "pairs_direction_approximated", True),
    ("‖ω‖ is about 100 times the perturbation gradient's length (9)", "median ‖g‖", "gradients", "norm_g", False),
    ("", "median ‖ε̂‖", "gradients", "norm_epsilon", False),
    ("", "median ‖ω‖", "gradients", "norm_omega", False),
    ("how gradients change (3a, 8)", "median change of g/‖g‖", "gradients", "unit_change_g", False),
    ("", "median change of ε̂/‖ε̂‖", "gradients", "unit_change_epsilon", False),
    ("", "median change of ω/‖ω‖", "gradients", "unit_change_omega", False),
    ("conjecture 1: L(θ+ε̂) ≥ L(θ+ε̂ˢ)", "share of approximated steps", "gradients", "c1_share", True),
    ("conjecture 2: the gap goes with ‖ε̂−ε̂ˢ‖", "mean Spearman within an epoch", "gradients", "c2_spearman", False),
    ("SAM and GraphSAM end in flatter places (2)", "rise along random directions", "landscape", "rise", False),
    ("", "m-sharpness at 0.05", "sharpness", "m_sharpness", False),
    ("", "adaptive sharpness", "sharpness", "adaptive_sharpness", False),
    ("", "largest Hessian eigenvalue", "sharpness", "lambda_max", False),
    ("", "‖∇L‖ at the weights", "sharpness", "gradient_norm", False),
    ("entropy of attention (10): Adam 2.4130, SAM 2.8382, GraphSAM 2.7239", "entropy, nats", "attention", "entropy",
     False),
    ("", "at the initial weights", "attention", "entropy_initial", False),
)  # fmt: skip


def campaigns() -> list[Path]:
    return sorted(path.parent for path in HERE.glob("inside-*/inside.toml"))


def page() -> str:
    """Return docs/inside.md as the campaigns now make it."""
    text = PAGE.read_text(encoding="utf-8")
    return SHOWN.sub(lambda found: found[1] + shown(found[2]) + found[3], text)


def shown(name: str) -> str:
    """Return a campaign: what was run, the paper beside ours, what follows, and the pictures with their captions."""
    about = read_about(name)
    note, conclusion = (about[text].format(**numbers(name)) for text in ("note", "conclusion"))
    lines = [*_wrapped(f"{about['machine']}; commit {about['commit']}. {note}"), "```sh", *about["commands"], "```"]
    lines += ["", *markdown.grid_lines(beside(name)), "", *_wrapped(conclusion)]
    drawn = [kind for kind in KINDS if picture_of(name, kind).exists()]
    others = ", ".join(kind for kind in drawn if kind not in OF_NUMBERS)
    lines += _wrapped(
        f"The pictures of {' and '.join(OF_NUMBERS)} are drawn from the numbers in `results/{name}`. Those of {others} "
        "show what was measured at every step, point or atom, which is not kept there: they are as that run drew them."
    )
    for kind in drawn:
        lines += [f"![{about['title']}: {kind}](images/{picture_of(name, kind).name})", ""]
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    """Return paragraphs in lines of this width, a blank one behind each."""
    return [line for part in text.strip().split("\n\n") for line in (*textwrap.wrap(part, 120), "")]


def numbers(name: str) -> dict[str, dict[str, Number]]:
    """Return what sentences may name, by optimizer: ``measurement.name`` of its one run, and ratios of lengths."""
    found: dict[str, dict[str, Number]] = {}
    for (arm, what, scalar), (value,) in read(name).items():
        if value:
            found.setdefault(arm, {})[f"{what}.{scalar}"] = Number(value)
    for of in found.values():
        for other in ("g", "epsilon"):
            if length := of[f"gradients.norm_{other}"]:
                of[f"omega/{other}"] = Number(of["gradients.norm_omega"] / length)
    return found


def beside(name: str) -> Grid:
    """What the paper says beside what was measured, a column an optimizer, runs side by side."""
    values = read(name)
    arms = list(dict.fromkeys(arm for arm, _, _ in values))
    columns = [Column("the paper", right=False), Column("measured", right=False), *map(Column, arms)]
    rows = []
    for paper, ours, what, scalar, percent in ROWS:
        cells = [values.get((arm, what, scalar), []) for arm in arms]
        if any(cells):
            rows.append((Entry(paper), Entry(ours), *(Entry(_cell(cell, percent)) for cell in cells)))
    return Grid(tuple(columns), tuple(rows))


def _cell(runs: list[Value], percent: bool) -> str:
    if not runs:
        return "not measured"
    return ", ".join(
        ("–" if not value else f"{100 * float(value):.1f} %" if percent else number(float(value))) for value in runs
    )


def read(name: str) -> dict[tuple[str, str, str], list[Value]]:
    """Return the runs' values by optimizer, measurement and name."""
    found: dict[tuple[str, str, str], list[Value]] = {}
    for row in read_rows(name):
        found.setdefault((row["arm"], row["what"], row["name"]), []).append(row["value"])
    return found


def read_rows(name: str) -> list[dict[str, str]]:
    with (HERE / name / "inspections.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_about(name: str) -> dict[str, Any]:
    return tomllib.loads((HERE / name / "inside.toml").read_text(encoding="utf-8"))


def inspections(name: str) -> Iterator[Measured]:
    """Return the numbers of a campaign as inspections without arrays; its command says what they are of."""
    said = dict(re.findall(r"--(\w+) (\w+)", " ".join(read_about(name)["commands"])))
    protocol, settings = Protocol(epochs=int(said["epochs"])), Settings(molecules=int(said["molecules"]))
    for key, group in itertools.groupby(read_rows(name), key=lambda row: row["key"]):
        rows = list(group)
        first, what = rows[0], rows[0]["what"]
        case = Case("train", first["dataset"], first["model"], first["optimizer"], protocol)
        run = Trained(first["train_key"], case, "ok")
        scalars = {row["name"]: float(row["value"]) for row in rows if row["value"]}
        missing = {row["name"]: row["missing"] for row in rows if row["missing"]}
        yield Measured(Inspection(key, what, WHAT[what].of(settings), run, None, scalars, missing), {})


def pictures() -> dict[Path, str]:
    """Return the pictures that are drawn from ``inspections.csv``, as SVG."""
    made = {}
    for folder in campaigns():
        results = of_all(list(inspections(folder.name)))
        for kind in OF_NUMBERS:
            drawn, file = drawing.draw(kind, results, Options()), io.BytesIO()
            canvas.save(drawn.figure, file, form="svg", caption=drawn.caption)
            made[picture_of(folder.name, kind)] = file.getvalue().decode()
    return made


def picture_of(name: str, kind: str) -> Path:
    return DOCS / "images" / f"{name}-{kind}.svg"


def export(store: Path, name: str) -> None:
    """Write a store's inspections and their pictures into this folder and docs/images."""
    results = of_store(Kept(Store(store)))
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "inspections.csv").write_text(render.to_csv(results), encoding="utf-8")
    for kind in KINDS:
        try:
            drawn = drawing.draw(kind, results, Options())
        except UsageError as error:
            print(f"{kind}: {error.what}")
            continue
        canvas.save(drawn.figure, picture_of(name, kind), caption=drawn.caption)


def main(words: list[str]) -> int:
    if words:
        export(Path(words[0]), words[1])
    for path, text in {PAGE: page(), **pictures()}.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
