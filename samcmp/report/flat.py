"""A Comparison as CSV (a row an arm), JSON and Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samcmp.analysis.comparison import Cell, Comparison, Row, Verdict
from samcmp.printable import csv_cell

if TYPE_CHECKING:
    import pandas

Value = str | int | float | bool | None


def rows(comparison: Comparison) -> list[dict[str, Value]]:
    """Return one flat row an arm and cell; a missing number is None with its reason in ``missing``."""
    return [_flat(cell, row) for cell in comparison.cells for row in cell.rows]


def _flat(cell: Cell, row: Row) -> dict[str, Value]:
    flat: dict[str, Value] = {
        "cell": cell.name,
        "dataset": cell.dataset,
        "dataset_hash": cell.dataset_hash,
        "model": cell.model,
        "split": cell.split,
        "device": cell.device,
        "optimizer": row.optimizer,
        "arm": row.arm,
        "metric": cell.metric,
        "higher_is_better": cell.higher_is_better,
        "mean": row.score.mean if row.score else None,
        "sd": row.score.sd if row.score else None,
        "runs": row.score.n if row.score else 0,
        "low": row.score.low if row.score else None,
        "high": row.score.high if row.score else None,
        "failed_runs": sum(len(hole.blocks) for hole in row.holes),
        "graphs_per_second": row.graphs_per_second,
        "speed_to_sam": row.speed_to["sam"].value if "sam" in row.speed_to else None,
        "speed_to_base": row.speed_to["base"].value if "base" in row.speed_to else None,
        "passes_per_step": row.passes_per_step,
        "peak_bytes": row.peak_bytes,
        "joules_per_graph": row.joules_per_graph,
        "efficiency": row.efficiency,
        "parameters": row.parameters,
        "front": row.front,
        "front_probability": row.front_probability,
        "times": row.times,
        "passes_to_base": row.passes_to_base,
        **_flat_tuning(row, cell),
        "recommended": cell.recommendation is not None and cell.recommendation.arm == row.arm,
        "recommendation": cell.recommendation.text if cell.recommendation else None,
    }
    for role in ("sam", "base", "cost"):
        verdict = next((v for v in cell.verdicts if v.arm == row.arm and v.role == role), None)
        flat.update(_flat_verdict(verdict, role))
    flat["missing"] = "; ".join(f"{column}: {reason}" for column, reason in row.missing.items()) or None
    flat["holes"] = "; ".join(f"{hole.status} ({len(hole.blocks)}): {hole.reason}" for hole in row.holes) or None
    return flat


def _flat_tuning(row: Row, cell: Cell) -> dict[str, Value]:
    """The settings as given beside the chosen ones; all None where nothing is tuned."""
    found = next((tuned for tuned in cell.tuning.rows if tuned.arm == row.arm), None) if cell.tuning else None
    return {
        "trials": max(found.trials.values()) if found else None,
        "untuned_mean": found.default.mean if found and found.default else None,
        "tuning_gain": found.gain.value if found and found.gain else None,
        "tuning_gain_low": found.gain.low if found and found.gain else None,
        "tuning_gain_high": found.gain.high if found and found.gain else None,
        "default_kept": found.default_kept if found else None,
        "tuning_cost": found.cost if found else None,
    }


def _flat_verdict(verdict: Verdict | None, role: str) -> dict[str, Value]:
    names = (
        "word", "within_margin", "mean", "low", "high", "adjusted_low", "adjusted_high", "margin", "p_holm",
        "blocks_needed", "claim",
    )  # fmt: skip
    return {f"against_{role}_{name}": getattr(verdict, name) if verdict else None for name in names}


def to_csv(comparison: Comparison) -> str:
    """Return RFC 4180 CSV: a header and a row an arm. A missing value is an empty field."""
    cells = [{key: csv_cell(value) for key, value in row.items()} for row in rows(comparison)]
    table = _frame(cells)
    return str(table.to_csv(index=False, lineterminator="\n")) if len(table) else ""


def to_parquet(comparison: Comparison, path: Path) -> None:
    """Write the rows of :func:`rows` to ``path`` as Parquet."""
    _frame(rows(comparison)).to_parquet(path, index=False)


def _frame(flat: Sequence[Mapping[str, object]]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(flat, dtype=object)  # a whole number beside a missing one stays whole
