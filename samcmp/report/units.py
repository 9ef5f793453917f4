"""Units of the scores on a figure's axes: of RMSE and MAE, which are in the units of the labels."""

from __future__ import annotations

from samcmp.analysis.comparison import Cell
from samcmp.errors import SamcmpError
from samcmp.printable import printable
from samcmp.records import METRICS


def metric_in(cell: Cell, unit: str = "") -> str:
    """Name the metric of a cell with its unit: ``unit``, or what the dataset's card says, if it is of these data."""
    name = METRICS.get(cell.metric, cell.metric)
    shown = "" if cell.higher_is_better else printable(unit) or _of_card(cell)
    return f"{name} ({shown})".replace("$", r"\$") if shown else name


def _of_card(cell: Cell) -> str:
    from samcmp.data import cards

    try:
        card = cards.find(cell.dataset)
    except SamcmpError:  # a user's own table
        return ""
    return card.unit if card.dataset_hash == cell.dataset_hash else ""
