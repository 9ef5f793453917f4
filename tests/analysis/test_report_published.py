"""The paper's numbers: complete, flagged, and set beside ours with honesty."""

from __future__ import annotations

import csv

import pytest

from samcmp.analysis import published
from samcmp.analysis.beside import beside
from samcmp.analysis.build import compare
from samcmp.analysis.comparison import Beside
from samcmp.records import Protocol, Record
from tests.places import ROOT, SHARED
from tests.report.made import cell, run


def flags(*where: str, **more: object) -> set[str]:
    found = published.find(*where, **more)  # type: ignore[arg-type]
    assert found is not None
    return {flag.name for flag in found.flags}


@pytest.mark.skipif(not (SHARED / "published").is_dir(), reason="the paper's tables are not at hand")
def test_every_cell_of_the_papers_tables_ships() -> None:
    there = (SHARED / "published" / "graphsam_iclr2024.csv").read_text(encoding="utf-8")
    assert (ROOT / "samcmp" / "analysis" / "published.csv").read_text(encoding="utf-8") == there
    assert len(published.load()) == len(list(csv.DictReader(there.splitlines())))


def test_every_flag_that_is_known_is_on_some_cell() -> None:
    known = {
        "freesolv-scale", "scaffold-split", "mixed-source", "same-split", "loss-weighted", "other-schedule",
        "not-algorithm-1", "test-cut-short", "dead-initialisation", "host-overhead", "implausible-throughput",
        "unverified-setting", "no-code",
    }  # fmt: skip
    assert {flag.name for cell_ in published.load() for flag in cell_.flags} == known


def test_flags_are_on_the_cells_they_are_about() -> None:
    assert flags("bbbp", "gcn", "adam") == {"scaffold-split"}
    assert flags("lipophilicity", "mpnn", "adam") == {"freesolv-scale"}
    assert flags("tox21", "mpnn", "adam") == {"mixed-source"}
    assert flags("esol", "mpnn", "adam") == set()
    assert flags("bbbp", "compt", "adam") == {"same-split", "other-schedule", "test-cut-short"}
    assert flags("bbbp", "grover", "graphsam") == {"loss-weighted", "not-algorithm-1", "dead-initialisation"}
    assert flags("bace", "compt", "adam") >= {"no-code"}
    speed = published.find_speed("lipophilicity", "grover", "sam")
    assert speed is not None
    assert "implausible-throughput" in {flag.name for flag in speed.flags if flag.about == "speed"}


def test_an_arm_finds_the_cell_of_its_settings() -> None:
    swept = published.find("bbbp", "compt", "sam", settings={"rho": 0.005})
    assert swept is not None
    assert (swept.table, swept.value) == (8, 0.952)
    own = published.find("bbbp", "grover", "looksam", settings={"rho": 0.0001, "alpha": 0.2, "k": 8})
    assert own is not None
    assert own.value == 0.919
    assert published.find("bbbp", "compt", "sam", settings={"rho": 0.7}) is None
    assert published.find("bbbp", "compt", "sam", settings={"rho": 0.005, "k": 2}) is None


def ours(level: float, *, protocol: Protocol | None = None, dataset: str = "bbbp") -> list[Record]:
    return [
        run(level + 0.01 * (block - 2), arm, block, dataset=dataset, model="grover", protocol=protocol)
        for arm in ("adam", "sam")
        for block in range(5)
    ]


def of(records: list[Record], arm: str = "adam") -> Beside:
    return next(row for row in beside(compare(records)).published if row.arm == arm)


def test_close_numbers_agree_and_distant_ones_do_not() -> None:
    assert of(ours(0.92)).agreement == "agree"
    assert of(ours(0.70)).agreement == "disagree"


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (ours(0.92, protocol=Protocol(subset=200)), "subset of 200"),
        (ours(0.92, protocol=Protocol(epochs=2)), "trained 2 epochs"),
        ([r for r in ours(0.92) if r.case.seed == 0], "single run"),
    ],
)
def test_another_experiment_is_not_compared_and_says_why(records: list[Record], why: str) -> None:
    found = of(records)
    assert found.agreement == "n.a."
    assert why in found.why


def test_throughput_is_compared_as_a_ratio_to_sam() -> None:
    records = cell(dataset="bbbp", model="grover", level=0.92)
    found = of(records, "graphsam")
    assert found.paper_speed_to_sam == pytest.approx(272 / 201)
    assert found.our_speed_to_sam is not None
    assert "host-overhead" in found.flags


def test_a_dataset_the_paper_does_not_have_is_left_out() -> None:
    assert beside(compare(cell(dataset="demo"))).published == ()


def test_a_table_can_be_asked_for() -> None:
    rows = beside(compare(cell(dataset="bbbp", model="grover", level=0.92)), table=2).published
    assert {row.table for row in rows} == {2}
    assert {row.paper_sd for row in rows} == {None}


def test_flags_file_is_utf8_and_complete() -> None:
    path = ROOT / "samcmp" / "analysis" / "published_flags.csv"
    lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert all(line["why"] and line["about"] in {"accuracy", "speed"} for line in lines)
