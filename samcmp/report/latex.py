"""A Comparison as LaTeX: a table for ``\\input`` into any document that loads booktabs."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence

from samcmp.analysis.comparison import Cell, Comparison
from samcmp.analysis.names import columns_of
from samcmp.analysis.sentences import form_of, metric_name
from samcmp.report.grid import GAP, Column, Entry, Grid
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
    "ε": r"$\varepsilon$",
    "ε̂": r"$\hat{\varepsilon}$",
    "θ": r"$\theta$",
    "λ": r"$\lambda$",
    "ω": r"$\omega$",
    "∇": r"$\nabla$",
    "‖": r"$\|$",
    "≥": r"$\geq$",
    "–": "--",
    "—": "---",
    "’": "'",
}

_NEEDS = r"% needs \usepackage{booktabs}"
WIDTH = 78  # characters of a table in the measure of an article, at this size
LONGEST = 55  # characters of a column that is not broken over lines
LINE = 95  # characters of running text
HEIGHT = 44  # lines on a page
MARGIN = 4  # lines of a caption, or of a head and rules
_OPEN = (r"\begin{table}", r"\centering\footnotesize", r"\setlength{\tabcolsep}{4pt}")


def escape(text: str) -> str:
    """Make any text mean itself in LaTeX; characters that pdfTeX's standard fonts lack are spelled by code point."""
    return "".join(_character(c) for c in re.findall("ε̂|.", " ".join(text.split())))


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


def document(grids: Sequence[Grid], footnotes: Sequence[str] = ()) -> str:
    """Return a floating table for each grid, its title the caption and its remarks below, ending in a line break.

    Args:
        footnotes: of the first one.
    """
    floats = [_floating(grid, footnotes=() if i else footnotes) for i, grid in enumerate(grids)]
    return "\n\n".join([_NEEDS, *map("\n".join, floats)]) + "\n"


def _floating(grid: Grid, label: str = "", footnotes: Sequence[str] = ()) -> list[str]:
    """Write a grid as floats, none higher than a page; what does not fit below the last one stands after it."""
    below = [rf"\textsuperscript{{{i}}}~{escape(text)}" for i, text in enumerate(footnotes, start=1)]
    below += [escape(remark) for remark in grid.remarks]
    lines: list[str] = []
    floats = _floats(grid)
    for k, (tabulars, height) in enumerate(floats):
        caption = f"{grid.title} (continued)" if k else grid.title
        lines += [*_OPEN, *[rf"\caption{{{escape(caption)}}}"] * bool(grid.title)]
        lines += [rf"\label{{{label}}}"] * (bool(label) and k == 0) + tabulars
        last, fits = k == len(floats) - 1, height + sum(len(text) // LINE + 1 for text in below) <= HEIGHT
        if last and fits:
            lines += [rf"\par\smallskip\raggedright {text}" for text in below]
        lines.append(r"\end{table}")
        if last and not fits:
            lines += ["", *(rf"{{\footnotesize {text}\par}}" for text in below)]
    return lines


def _floats(grid: Grid) -> list[tuple[list[str], int]]:
    """Group a grid's tabulars into floats, each with its lines of print; a long one ends before a group of rows."""
    widths = [max([len(c.title), *(len(row[i].text) for row in grid.rows)]) for i, c in enumerate(grid.columns)]
    heights = [max(len(entry.text) // LONGEST + 1 for entry in row) for row in grid.rows]
    starts = [k for k in range(1, len(grid.rows)) if k in grid.starts or not grid.starts]
    chunks = [0]
    for k, end in itertools.pairwise([*starts, len(grid.rows)]):
        if sum(heights[chunks[-1] : end]) > HEIGHT - MARGIN:
            chunks.append(k)
    floats: list[tuple[list[str], int]] = []
    for first, end in itertools.pairwise([*chunks, len(grid.rows)]):
        for part in grid.parts(widths, WIDTH):
            height = sum(heights[first:end]) + MARGIN
            tabular = _tabular(grid, part, widths, range(first, end))
            if floats and floats[-1][1] + height <= HEIGHT:
                floats[-1] = ([*floats[-1][0], r"\par\medskip", *tabular], floats[-1][1] + height)
            else:
                floats.append((tabular, height))
    return floats


# ---------------------------------------------------------------------------------------------- optimizers by datasets


MARKS = {"better": "$^{+}$", "worse": "$^{-}$", "equivalent": r"$^{\approx}$", "non-inferior": r"$^{\circ}$"}


def _paper(comparison: Comparison) -> list[str]:
    """The table of a paper: a line an optimizer, a column a dataset and model, the word against the base as a mark."""
    cells = comparison.cells
    names = list(dict.fromkeys(row.label for cell in cells for row in cell.rows))
    bases = ", ".join(dict.fromkeys(row.label for cell in cells for row in cell.rows if row.role == "base"))
    several = len({cell.model for cell in cells}) > 1
    lines = [*_OPEN, rf"\caption{{{_paper_caption(comparison, bases, several=several)}}}", r"\label{tab:samcmp}"]
    room = WIDTH - max(map(len, names), default=0)
    widest = max(max(len(part) for part in (*columns_of(cell), "0.000 ± 0.000=")) for cell in cells)
    beside = max(1, room // (widest + GAP))
    for i in range(0, len(cells), beside):
        lines += [r"\par\medskip"] * bool(i)
        lines += _paper_part(cells[i : i + beside], names, several=several)
    return [*lines, r"\end{table}"]


def _paper_part(cells: Sequence[Cell], names: Sequence[str], *, several: bool) -> list[str]:
    """The columns of a paper's table that stand beside each other."""
    heads, models = zip(*map(columns_of, cells), strict=True)
    lines = [rf"\begin{{tabular}}{{l{'r' * len(cells)}}}", r"\toprule"]
    lines.append(" & ".join(["optimizer", *map(escape, heads)]) + r" \\")
    if several:
        lines.append(" & ".join(["", *map(escape, models)]) + r" \\")
    lines.append(" & ".join(["", *(escape(metric_name(cell)) for cell in cells)]) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join([f"{{}}{escape(name)}", *(_score(cell, name) for cell in cells)]) + r" \\" for name in names]
    return [*lines, r"\bottomrule", r"\end{tabular}"]


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


def _tabular(grid: Grid, part: Sequence[int], widths: Sequence[int], rows: range) -> list[str]:
    lines = [rf"\begin{{tabular}}{{{''.join(_align(grid.columns[i], widths[i]) for i in part)}}}", r"\toprule"]
    lines += [" & ".join(escape(grid.columns[i].title) for i in part) + r" \\", r"\midrule"]
    for k in rows:
        if k in grid.starts and k != rows[0]:
            lines.append(r"\midrule")
        # a row that begins with [ would be read as the argument of \\
        lines.append(r"{}" + " & ".join(_cell(grid.rows[k][i]) for i in part) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _align(column: Column, width: int) -> str:
    """Sentences are broken over lines; numbers and names are not."""
    if column.right:
        return "r"
    return r"p{0.7\linewidth}" if width > LONGEST else "l"


def _cell(entry: Entry) -> str:
    text = escape(entry.text)
    if entry.bold and text:
        text = rf"\textbf{{{text}}}"
    return text + (rf"\textsuperscript{{{entry.note}}}" if entry.note is not None else "")
