"""A Comparison as flat rows, an arm, a run, a speed or a verdict each: for CSV, Parquet and frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samcmp.analysis.comparison import Cell, Comparison, Row, Verdict
from samcmp.printable import csv_cell
from samcmp.records import Record, canonical_json

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
        "holds": cell.holds,
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


def run_rows(comparison: Comparison, records: Sequence[Record]) -> list[dict[str, Value]]:
    """Return one flat row a training run, trials and failures included; ``chosen`` are those that are compared."""
    from samcmp.analysis.grouping import groups
    from samcmp.analysis.tuned import chosen_groups

    cell_of = {
        record.key: group.key
        for group in groups(records)
        for record in [
            *(run for runs in group.runs.values() for run in runs.values()),
            *(run for trials in group.trials.values() for several in trials.values() for run in several),
        ]
    }
    chosen = {
        record.key
        for group in chosen_groups(records, comparison.settings)
        for runs in group.runs.values()
        for record in runs.values()
    }
    names = {cell.key: cell.name for cell in comparison.cells}
    told = [record for record in records if record.case.kind == "train" and cell_of.get(record.key) in names]
    told.sort(key=lambda r: (names[cell_of[r.key]], r.case.arm, r.case.block, r.case.trial))
    return [_run(record, names[cell_of[record.key]], chosen=record.key in chosen) for record in told]


def _run(record: Record, cell: str, *, chosen: bool) -> dict[str, Value]:
    case, score = record.case, record.accuracy
    return {
        "cell": cell,
        "dataset": case.dataset,
        "dataset_hash": record.dataset_hash or None,
        "model": case.model,
        "optimizer": case.optimizer,
        "arm": case.arm,
        "split": case.split,
        "split_seed": case.split_seed,
        "fold": case.fold,
        "seed": case.seed,
        "split_hash": record.split_hash or None,
        "device": case.device,
        "trial": case.trial,
        "chosen": chosen,
        "learning_rate_factor": case.learning_rate,
        "weight_decay": case.training.weight_decay,
        "settings": canonical_json(case.settings),
        "status": record.status,
        "reason": record.reason,
        "metric": score.metric if score else None,
        "test": score.test if score else None,
        "valid": score.valid if score else None,
        "best_epoch": score.best_epoch + 1 if score else None,
        "epochs": len(record.history),
        "gradient_evaluations": sum(epoch.passes for epoch in record.history),
        "training_seconds": sum(epoch.seconds for epoch in record.history) if record.history else None,
        "seconds": record.seconds,
        "train_size": score.train_size if score else None,
        "valid_size": score.valid_size if score else None,
        "test_size": score.test_size if score else None,
        "parameters": record.parameters,
        "created": record.created,
        "key": record.key,
    }


def speed_rows(comparison: Comparison) -> list[dict[str, Value]]:
    """Return one flat row an arm and cell whose speed, memory or energy was measured."""
    return [
        _speed(cell, row)
        for cell in comparison.cells
        for row in cell.rows
        if not (row.graphs_per_second is None and row.peak_bytes is None and row.joules_per_graph is None)
    ]


def _speed(cell: Cell, row: Row) -> dict[str, Value]:
    ratios: dict[str, Value] = {}
    for role in ("base", "sam"):
        ratio = row.speed_to.get(role)
        ratios |= {
            f"speed_to_{role}": ratio.value if ratio else None,
            f"speed_to_{role}_low": ratio.low if ratio else None,
            f"speed_to_{role}_high": ratio.high if ratio else None,
        }
    return {
        "cell": cell.name,
        "dataset": cell.dataset,
        "model": cell.model,
        "device": cell.device,
        "optimizer": row.optimizer,
        "arm": row.arm,
        "holds": cell.holds,
        "graphs_per_second": row.graphs_per_second,
        **ratios,
        "passes_per_step": row.passes_per_step,
        "efficiency": row.efficiency,
        "peak_bytes": row.peak_bytes,
        "joules_per_graph": row.joules_per_graph,
        "parameters": row.parameters,
        "rounds": len(row.block_seconds),
        "session": cell.speed_session or None,
        "missing": "; ".join(f"{column}: {reason}" for column, reason in row.missing.items()) or None,
    }


def verdict_rows(comparison: Comparison) -> list[dict[str, Value]]:
    """Return one flat row a verdict: an arm against a reference in a cell; intervals as two columns."""
    return [
        {"cell": cell.name, "dataset": cell.dataset, "model": cell.model, "metric": cell.metric, **_verdict(verdict)}
        for cell in comparison.cells
        for verdict in cell.verdicts
    ]


def _verdict(verdict: Verdict) -> dict[str, Value]:
    flat: dict[str, Value] = {}
    for field in dataclasses.fields(verdict):
        value = getattr(verdict, field.name)
        if field.name in _INTERVALS:
            flat[field.name] = value.value if value else None
            flat[f"{field.name}_low"] = value.low if value else None
            flat[f"{field.name}_high"] = value.high if value else None
        else:
            flat[field.name] = value
    return flat


_INTERVALS = ("probability_better", "speed", "time_ratio")


def to_csv(comparison: Comparison, runs_of: Sequence[Record] | None = None) -> str:
    """Return RFC 4180 CSV: a header and a row an arm, or a row a run of these Records. A missing value is empty."""
    flat = rows(comparison) if runs_of is None else run_rows(comparison, runs_of)
    cells = [{key: csv_cell(value) for key, value in row.items()} for row in flat]
    table = _frame(cells)
    return str(table.to_csv(index=False, lineterminator="\n")) if len(table) else ""


def to_parquet(comparison: Comparison, path: Path, runs_of: Sequence[Record] | None = None) -> None:
    """Write the rows of :func:`rows`, or of :func:`run_rows` of these Records, to ``path`` as Parquet."""
    _frame(rows(comparison) if runs_of is None else run_rows(comparison, runs_of)).to_parquet(path, index=False)


def _frame(flat: Sequence[Mapping[str, object]]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(flat, dtype=object)  # a whole number beside a missing one stays whole


def frame(flat: Sequence[Mapping[str, object]]) -> pandas.DataFrame:
    """Return rows as a frame whose columns have types that know missing values: Int64, Float64, boolean, string."""
    import pandas

    return pandas.DataFrame(flat).convert_dtypes()
