"""A Comparison as LaTeX: a table for ``\\input`` into any document that loads booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from samcmp.analysis.comparison import Comparison
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
    """Return the tables and the verdicts as LaTeX, ending in a line break."""
    layout = table(comparison)
    lines = [_NEEDS]
    if layout.recommendation:
        lines += [rf"\paragraph{{{escape(layout.recommendation)}}}", rf"{{\footnotesize {escape(layout.rule)}}}", ""]
    lines += [*_OPEN, *_tabular(layout.main)]
    for i, text in enumerate(layout.footnotes, start=1):
        lines += [rf"\par\smallskip\raggedright\textsuperscript{{{i}}}~{escape(text)}"]
    lines += [r"\end{table}"]
    for headline, sentences in layout.verdicts:
        lines += ["", rf"\paragraph{{{escape(headline)}}}", r"\begin{itemize}"]
        lines += [rf"\item {{}}{escape(sentence)}" for sentence in sentences]
        lines += [r"\end{itemize}"]
    for grid in layout.extras:
        lines += ["", *_floating(grid)]
    notes = [*layout.main.remarks, *layout.remarks, *(f"split {split}" for split in layout.splits)]
    if notes:
        lines += ["", r"\begin{itemize}\footnotesize"]
        lines += [*(rf"\item {{}}{escape(note)}" for note in notes), r"\end{itemize}"]
    return "\n".join(lines) + "\n"


def document(grids: Sequence[Grid]) -> str:
    """Return a floating table for each grid, its title the caption and its remarks below, ending in a line break."""
    return "\n\n".join([_NEEDS, *("\n".join(_floating(grid)) for grid in grids)]) + "\n"


def _floating(grid: Grid) -> list[str]:
    caption = [rf"\caption{{{escape(grid.title)}}}"] if grid.title else []
    remarks = [rf"\par\smallskip\raggedright {escape(remark)}" for remark in grid.remarks]
    return [*_OPEN, *caption, *_tabular(grid), *remarks, r"\end{table}"]


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
