"""A Comparison as LaTeX: a table for ``\\input`` into any document that loads booktabs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from samcmp.analysis.comparison import Cell, Comparison
from samcmp.analysis.names import columns_of
from samcmp.analysis.sentences import form_of, metric_name
from samcmp.report.grid import Entry, Grid
from samcmp.report.table import table

# everything that means something to TeX, and the signs that the tables use
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # the straight quote needs an encoding that is not assumed
    "`": r"\textasciigrave{}",
    "−": r"$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "●": r"$\bullet$",
    "·": r"$\cdot$",
    "ρ": r"$\rho$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "–": "--",
    "—": "---",
    "’": "'",
}

_NEEDS = r"% needs \usepackage{booktabs}"
_OPEN = (r"\begin{table}", r"\centering\footnotesize", r"\setlength{\tabcolsep}{4pt}")


def escape(text: str) -> str:
    """Make any text mean itself in LaTeX; characters that pdfTeX's standard fonts lack are spelled by code point."""
    return "".join(_character(c) for c in " ".join(text.split()))


def _character(c: str) -> str:
    if c in _SPECIAL:
        return _SPECIAL[c]
    if " " <= c <= "~" or "\u00c0" <= c <= "\u017f":
        return c
    return f"[U+{ord(c):04X}]"


def render(comparison: Comparison) -> str:
    """Return the tables and the verdicts as LaTeX, ending in a line break.

    First the table that a paper prints, optimizers by datasets; then all that is known, each table with its label;
    last, apart from them, notes on the machine and hashes of the splits.
    """
    layout = table(comparison)
    lines = [_NEEDS]
    if layout.recommendation:
        lines += [rf"\paragraph{{{escape(layout.recommendation)}}}", rf"{{\footnotesize {escape(layout.rule)}}}", ""]
    if comparison.cells:
        lines += [*_paper(comparison), ""]
    main = dataclasses.replace(layout.main, title="Accuracy, speed and memory of every optimizer", remarks=())
    lines += _floating(main, "tab:samcmp-all", layout.footnotes)
    for headline, sentences in layout.verdicts:
        lines += ["", rf"\paragraph{{{escape(headline)}}}", r"\begin{itemize}"]
        lines += [rf"\item {{}}{escape(sentence)}" for sentence in sentences]
        lines += [r"\end{itemize}"]
    for i, grid in enumerate(layout.extras, start=1):
        lines += ["", *_floating(grid, f"tab:samcmp-extra-{i}")]
    notes = [*layout.main.remarks, *layout.remarks, *(f"split {split}" for split in layout.splits)]
    lines += ["", "% what it rests on: machine, notes, hashes of the splits", *_items(notes)] if notes else []
    return "\n".join(lines) + "\n"


def _items(notes: Sequence[str]) -> list[str]:
    items = [rf"\item {{}}{escape(note)}" for note in notes]
    return [r"\begin{itemize}\footnotesize", *items, r"\end{itemize}"] if items else []


def document(grids: Sequence[Grid]) -> str:
    """Return a floating table for each grid, its title the caption and its remarks below, ending in a line break."""
    return "\n\n".join([_NEEDS, *("\n".join(_floating(grid)) for grid in grids)]) + "\n"


def _floating(grid: Grid, label: str = "", footnotes: Sequence[str] = ()) -> list[str]:
    caption = [rf"\caption{{{escape(grid.title)}}}"] if grid.title else []
    named = [rf"\label{{{label}}}"] if label else []
    below = [rf"\textsuperscript{{{i}}}~{escape(text)}" for i, text in enumerate(footnotes, start=1)]
    below += [f" {escape(remark)}" for remark in grid.remarks]
    remarks = [rf"\par\smallskip\raggedright{text}" for text in below]
    return [*_OPEN, *caption, *named, *_tabular(grid), *remarks, r"\end{table}"]


# ---------------------------------------------------------------------------------------------- optimizers by datasets


MARKS = {"better": "$^{+}$", "worse": "$^{-}$", "equivalent": r"$^{\approx}$", "non-inferior": r"$^{\circ}$"}


def _paper(comparison: Comparison) -> list[str]:
    """The table of a paper: a line an optimizer, a column a dataset and model, the word against the base as a mark."""
    cells = comparison.cells
    names = list(dict.fromkeys(row.label for cell in cells for row in cell.rows))
    bases = ", ".join(dict.fromkeys(row.label for cell in cells for row in cell.rows if row.role == "base"))
    several = len({cell.model for cell in cells}) > 1
    heads, models = zip(*map(columns_of, cells), strict=True) if cells else ((), ())
    lines = [*_OPEN, rf"\caption{{{_paper_caption(comparison, bases, several=several)}}}", r"\label{tab:samcmp}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(cells)}}}", r"\toprule"]
    lines.append(" & ".join(["optimizer", *map(escape, heads)]) + r" \\")
    if several:
        lines.append(" & ".join(["", *map(escape, models)]) + r" \\")
    lines.append(" & ".join(["", *(escape(metric_name(cell)) for cell in cells)]) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join([f"{{}}{escape(name)}", *(_score(cell, name) for cell in cells)]) + r" \\" for name in names]
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]


def _paper_caption(comparison: Comparison, bases: str, *, several: bool) -> str:
    counts = sorted({row.score.n for cell in comparison.cells for row in cell.rows if row.score})
    runs = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0] if counts else 0)
    of = "" if several or not comparison.cells else f" of {columns_of(comparison.cells[0])[1]}"
    margins = dict.fromkeys(cell.margin_text for cell in comparison.cells if cell.margin is not None)
    said = escape(
        f"Test score{of} at the best validation epoch, mean ± SD over {runs} runs (fewer: in brackets); bold: best. "
        f"Against {bases or 'the base'}, paired by split, adjusted for all comparisons of a column:"
    )
    words = ", ".join(f"{mark} {word}" for word, mark in MARKS.items())
    margin = f" (margin {escape('; '.join(margins))})" if margins else ""
    return f"{said} {words}{margin}; no mark: inconclusive or not tested."


def _score(cell: Cell, name: str) -> str:
    row = next((row for row in cell.rows if row.label == name), None)
    if row is None:
        return "--"
    if row.score is None:
        return "n/a"
    form = form_of(cell)
    spread = "" if row.score.sd is None else rf" $\pm$ {row.score.sd:{form}}"
    text = f"{row.score.mean:{form}}"
    word = next((v.word for v in cell.verdicts if v.arm == row.arm and v.role == "base"), "")
    fewer = f" ({row.score.n})" if row.score.n < max(r.score.n for r in cell.rows if r.score) else ""
    return (rf"\textbf{{{text}}}" if "accuracy" in row.best else text) + spread + fewer + MARKS.get(word, "")


def _tabular(grid: Grid) -> list[str]:
    lines = [rf"\begin{{tabular}}{{{''.join('r' if column.right else 'l' for column in grid.columns)}}}", r"\toprule"]
    lines += [" & ".join(escape(column.title) for column in grid.columns) + r" \\", r"\midrule"]
    for i, row in enumerate(grid.rows):
        if i in grid.starts and i:
            lines.append(r"\midrule")
        # a row that begins with [ would be read as the argument of \\
        lines.append(r"{}" + " & ".join(_cell(entry) for entry in row) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _cell(entry: Entry) -> str:
    text = escape(entry.text)
    if entry.bold and text:
        text = rf"\textbf{{{text}}}"
    return text + (rf"\textsuperscript{{{entry.note}}}" if entry.note is not None else "")
