"""Records share a cell, and a speed belongs to it, by content: names say nothing, and no two cells look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from samcmp.analysis.build import compare
from samcmp.analysis.comparison import Comparison
from samcmp.analysis.curves import curves
from samcmp.records import Protocol, Record, content_key
from samcmp.report.table import table
from tests.report import made


def of(records: Sequence[Record], dataset_hash: str, **case: Any) -> list[Record]:
    """The same Records, of other data or another split."""
    split_hash = case.pop("split_hash", None)
    changed = []
    for record in records:
        what = replace(record.case, **case)
        more = {} if split_hash is None else {"split_hash": split_hash}
        key = content_key([record.key, dataset_hash, what])
        changed.append(replace(record, key=key, case=what, dataset_hash=dataset_hash, **more))
    return changed


def slower(records: Sequence[Record], factor: float) -> list[Record]:
    return [
        replace(r, throughput=replace(r.throughput, graphs_per_second=r.throughput.graphs_per_second / factor))
        if r.throughput
        else r
        for r in records
    ]


def speeds(comparison: Comparison) -> list[float]:
    return [row.graphs_per_second or 0.0 for cell in comparison.cells for row in cell.rows if row.arm == "adam"]


def test_two_files_of_one_name_each_have_their_own_speed() -> None:
    records = made.cell()
    comparison = compare([*of(records, "a" * 64), *of(slower(records, 5.0), "b" * 64)])
    one, two = speeds(comparison)
    assert max(one, two) > 4.9 * min(one, two)


def test_a_subset_and_the_whole_each_have_their_own_speed() -> None:
    records = made.cell()
    small = of(slower(records, 5.0), "b" * 64, protocol=Protocol(subset=64))
    one, two = speeds(compare([*of(records, "a" * 64), *small]))
    assert max(one, two) > 4.9 * min(one, two)


def test_rows_of_a_split_file_have_their_own_speed_and_named_splits_share_one() -> None:
    records = made.cell()
    file = of(slower(records, 5.0), "a" * 64, split="file", split_hash="f" * 64)
    scaffold = [r for r in of(records, "a" * 64, split="scaffold", split_hash="c" * 64) if r.accuracy]
    by_split = {
        cell.split: row.graphs_per_second
        for cell in compare([*of(records, "a" * 64), *file, *scaffold]).cells
        for row in cell.rows
        if row.arm == "adam"
    }
    assert by_split["random"] == by_split["scaffold"]
    assert by_split["random"] > 4.9 * by_split["file"]


def test_two_split_files_are_two_cells_and_neither_replaces_the_other() -> None:
    records = [r for r in made.cell(blocks=1) if r.accuracy]
    files = [of(records, "a" * 64, split="file", split_hash=digit * 64, split_file=digit) for digit in "12"]
    comparison = compare([record for part in files for record in part])
    assert [len(cell.rows) for cell in comparison.cells] == [3, 3]
    assert len({cell.name for cell in comparison.cells}) == 2
    assert not any("left out" in note for cell in comparison.cells for note in cell.notes)


def test_one_data_set_scored_by_two_metrics_is_two_cells() -> None:
    rmse, mae = (made.cell(metric=metric) for metric in ("rmse", "mae"))
    comparison = compare([*rmse, *of(mae, rmse[0].dataset_hash)])
    assert sorted(cell.metric for cell in comparison.cells) == ["mae", "rmse"]


def test_a_run_that_failed_before_its_data_was_known_is_in_the_cell_of_its_case() -> None:
    records = of(made.cell(), "a" * 64, data="1")
    lost = replace(records[1], status="error", reason="died", accuracy=None, dataset_hash="", split_hash="")
    (cell,) = compare([lost, *records[2:], records[0]]).cells
    assert [hole.reason for row in cell.rows for hole in row.holes if row.arm == "adam"] == ["died"]


def test_curves_are_those_of_the_cells_own_runs() -> None:
    records = [*of(made.cell(seed=1), "a" * 64), *of(made.cell(seed=2), "b" * 64)]
    comparison = compare(records)
    drawn, left_out = curves(records, comparison)
    assert left_out == []
    assert {curve.cell for curve in drawn} == {cell.name for cell in comparison.cells}
    assert all(curve.runs == 5 for curve in drawn)


variants = st.fixed_dictionaries(
    {
        "dataset_hash": st.sampled_from(["a" * 64, "a" * 8 + "b" * 56, "c" * 64]),
        "split": st.sampled_from(["random", "scaffold", "file"]),
        "split_hash": st.sampled_from(["1" * 64, "1" * 8 + "2" * 56]),
        "device": st.sampled_from(["cpu", "cuda"]),
        "model_settings": st.sampled_from([{}, {"hidden": 8}]),
        "protocol": st.sampled_from([Protocol(), Protocol(epochs=3), Protocol(base="sgd")]),
        "metric": st.sampled_from(["rmse", "mae"]),
    }
)


@settings(deadline=None, max_examples=60)
@given(st.lists(variants, min_size=1, max_size=6))
def test_no_two_cells_look_alike_in_a_table(chosen: list[dict[str, Any]]) -> None:
    records = []
    for variant in chosen:
        more = dict(variant)
        records += of([made.run(0.5, "sam", metric=more.pop("metric"))], more.pop("dataset_hash"), **more)
    comparison = compare({record.key: record for record in records}.values())
    names = [cell.name for cell in comparison.cells]
    assert len(set(names)) == len(names)
    shown = [row[0].text for row in table(comparison).main.rows]
    assert len(set(shown)) == len(comparison.cells)
