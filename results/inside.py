"""Inspections of this folder as a page, docs/inside.md: ``make results`` writes it.

A campaign is a folder ``inside-*``: ``inspections.csv``, as `samcmp inspect --format csv` prints it, and
``inside.toml`` with its title, commands, commit, machine, what to know and what a reader should conclude. Its pictures
are docs/images/NAME-KIND.svg. ``python results/inside.py STORE NAME`` exports both from a store that `samcmp inspect`
has filled.
"""

from __future__ import annotations

import csv
import re
import sys
import tomllib
from pathlib import Path

from samcmp.errors import UsageError
from samcmp.experiment.store import Store
from samcmp.inspection import drawing, render
from samcmp.inspection.kept import Kept
from samcmp.inspection.render import number
from samcmp.inspection.results import of_store
from samcmp.report import canvas, markdown
from samcmp.report.canvas import Options
from samcmp.report.grid import Column, Entry, Grid

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "inside.md"
SHOWN = re.compile(r"(<!-- inside: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
KINDS = ("pairs", "changes", "norms", "conjectures", "landscape", "sharpness", "attention")
Value = str  # of a run; empty: there is none

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
    about = tomllib.loads((HERE / name / "inside.toml").read_text(encoding="utf-8"))
    lines = [f"{about['machine']}; commit {about['commit']}. {about['note']}", "", "```sh", *about["commands"], "```"]
    lines += ["", *markdown.grid_lines(beside(name)), "", about["conclusion"].strip()]
    for kind in KINDS:
        picture = picture_of(name, kind)
        if picture.exists():
            lines += ["", f"![{about['title']}: {kind}](images/{picture.name})"]
    return "\n".join(lines) + "\n"


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
    with (HERE / name / "inspections.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["arm"], row["what"], row["name"]), []).append(row["value"])
    return found


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
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
