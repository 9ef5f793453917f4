"""Every LaTeX layout goes through LaTeX: no error, nothing unknown, nothing wider than a page. Skipped without one."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from samcmp.analysis.build import compare
from samcmp.analysis.published_comparison import with_published
from samcmp.records import Record
from samcmp.report import latex, profile
from tests.analysis.test_tuned_comparison import tuned
from tests.report.made import ARMS, cell, run

LATEX = shutil.which("pdflatex") or shutil.which("tectonic")
HOSTILE = "x_1 & 50% $\\alpha$ #1 {y} ~z^ <a> \"q\" 'é' 中 \\input{gone} [0] a|b"
PAGE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs}
\begin{document}
\input{table}
\end{document}
"""
pytestmark = pytest.mark.skipif(LATEX is None, reason="no pdflatex and no tectonic on this machine")


def compiled(text: str, folder: Path) -> str:
    """Compile a page around the text and return what LaTeX had to say."""
    assert LATEX is not None
    (folder / "table.tex").write_text(text, encoding="utf-8")
    (folder / "page.tex").write_text(PAGE, encoding="utf-8")
    words = ["-interaction=nonstopmode", "-halt-on-error"] if LATEX.endswith("pdflatex") else ["--keep-logs"]
    done = subprocess.run([LATEX, *words, "page.tex"], cwd=folder, capture_output=True, timeout=120, check=False)
    said = (folder / "page.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, said[-2000:]
    assert (folder / "page.pdf").read_bytes().startswith(b"%PDF")
    return said


def widest(said: str) -> float:
    """Return by how many points something is wider than the text."""
    return max((float(width) for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt", said)), default=0.0)


def many() -> list[Record]:
    arms = {**ARMS, "some/where/my_sam.py:MySAM": (0.0, 2.0, 2.0)}
    made: list[Record] = []
    for k, dataset in enumerate(("tox21", "bbbp", "esol", "sider", "clintox", "lipo")):
        made += cell(dataset=dataset, model="grover", arms=arms, metric="rmse" if k % 3 == 2 else "roc-auc", seed=k)
    return [*made, run(0.0, "looksam", 0, dataset="bbbp", model="grover", status="out-of-memory", reason=HOSTILE)]


def test_a_wide_comparison_with_the_paper_s_numbers_fits_the_page(tmp_path: Path) -> None:
    said = compiled(latex.render(with_published(compare(many()))), tmp_path)
    assert "undefined" not in said
    assert "Float too large" not in said
    assert widest(said) < 3.0


def test_a_tuned_comparison_compiles(tmp_path: Path) -> None:
    records = tuned(lambda case: (0.9 + 0.001 * case.split_seed, 0.9))
    assert widest(compiled(latex.render(compare(records)), tmp_path)) < 3.0


def test_names_cannot_break_it(tmp_path: Path) -> None:
    records = [
        dataclasses.replace(r, case=dataclasses.replace(r.case, model=f"m {HOSTILE}"), notes=(HOSTILE,))
        for r in cell(dataset=HOSTILE)
    ]
    compiled(latex.render(compare(records, suite=HOSTILE)), tmp_path)


def test_speeds_compile_and_fit(tmp_path: Path) -> None:
    records = [r for r in cell() if r.case.kind == "profile"]
    assert widest(compiled(profile.render([records, records], form="latex"), tmp_path)) < 3.0
