"""The figure of attention: one molecule's map for each optimizer, with the entropy of all test molecules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from samcmp.inspection import published
from samcmp.inspection.results import Results
from samcmp.inspection.series import Cell, Series, caption, finished, shown
from samcmp.report.canvas import Drawn, Options, panels, tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MAPS = ("map", "map_initial")
ATOMS = 45  # of a molecule whose elements are written at the axes


def attention(results: Results, options: Options) -> Drawn:
    """One molecule's attention in the last layer, an optimizer a panel, and at the initial weights (figure 10)."""
    what = shown(results, "attention", "map")
    wanted: list[tuple[Cell, Series | None]] = []
    for cell in what.cells:
        wanted += [(cell, None), *((cell, arm) for arm in cell.series)]
    figure, axes = panels(len(wanted), height=3.5, options=options, width=3.3)
    maps = [run.arrays[name] for cell in what.cells for arm in cell.series for run in arm.runs[:1] for name in MAPS]
    scale: dict[str, Any] = {"vmin": 0.0, "vmax": max(float(np.asarray(one, dtype=np.float64).max()) for one in maps)}
    mesh = None
    for (cell, arm), one in zip(wanted, axes, strict=True):
        of, name, ending = (arm, "map", "") if arm else (cell.series[0], "map_initial", "_initial")
        run = of.runs[0]
        mesh = one.pcolormesh(run.arrays[name], cmap="cividis", edgecolors="face", linewidth=0.1, **scale)
        _atoms(one, list(map(str, run.arrays["symbols"])), size=0.55 * options.font_size)
        title = what.title(cell, arm.label if arm else "initial weights")
        one.set_title(f"{tick(title)}\n{_entropy(of, ending)}")
    if mesh is not None:
        _colour_bar(figure, mesh, axes)
    run = what.cells[0].series[0].runs[0]
    row, atoms, molecules = int(run.arrays["map_row"][0]), len(run.arrays["symbols"]), len(run.arrays["entropy"])
    return finished(figure, caption(
        what, f"map: the last layer's attention A, mean over heads, of the test molecule of row {row} ({atoms} atoms) "
        f"in the run {run.inspection.case.block}; from the atom of the row to that of the column",
        f"H: entropy of A's rows in nats, mean over atoms, heads, layers and the {molecules} test molecules, then over "
        "runs; beside it over ln n, of molecules with two atoms or more", published.ENTROPY, weights=True,
    ), options)  # fmt: skip


def _entropy(arm: Series, ending: str) -> str:
    values, share = arm.scalars(f"entropy{ending}"), arm.scalars(f"entropy_share{ending}")
    return f"H = {values.mean():.3f}, {share.mean():.3f} ln n" if len(values) and len(share) else "H: n/a"


def _atoms(axes: Axes, symbols: Sequence[str], *, size: float) -> None:
    axes.set_aspect("equal")
    axes.invert_yaxis()
    if len(symbols) <= ATOMS:
        middle = np.arange(len(symbols)) + 0.5
        axes.set_xticks(middle, symbols, fontsize=size)
        axes.set_yticks(middle, symbols, fontsize=size)
        axes.tick_params(length=0, pad=1.5)
    else:
        axes.set_xlabel("atom")
        axes.set_ylabel("atom")


def _colour_bar(figure: Figure, mesh: Any, axes: Sequence[Axes]) -> None:
    bar = figure.colorbar(mesh, ax=list(axes), shrink=0.8, pad=0.02, aspect=30)
    bar.set_label("attention")
    bar.outline.set_visible(False)
