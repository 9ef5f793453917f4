"""Units of the scores on a figure's axes: of RMSE and MAE, which are in the units of the labels."""

from __future__ import annotations

from samcmp.analysis.comparison import Cell
from samcmp.errors import SamcmpError
from samcmp.printable import printable
from samcmp.records import LOWER_IS_BETTER, METRICS


def metric_in(cell: Cell, unit: str = "") -> str:
    """Name the metric of a cell with its unit: ``unit``, or what the dataset's card says, if it is of these data."""
    return named(cell.metric, dataset=cell.dataset, dataset_hash=cell.dataset_hash, unit=unit)


def named(metric: str, *, dataset: str, dataset_hash: str, unit: str = "") -> str:
    """Name a metric of a dataset with its unit: ``unit``, or what the dataset's card says, if it is of these data."""
    name = METRICS.get(metric, metric)
    shown = (printable(unit) or _of_card(dataset, dataset_hash)) if metric in LOWER_IS_BETTER else ""
    return f"{name} ({shown})".replace("$", r"\$") if shown else name


def _of_card(dataset: str, dataset_hash: str) -> str:
    from samcmp.data import cards

    try:
        card = cards.find(dataset)
    except SamcmpError:  # a user's own table
        return ""
    return card.unit if card.dataset_hash == dataset_hash else ""
