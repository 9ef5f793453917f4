"""The paper's numbers: complete, flagged, and set beside ours with honesty."""

from __future__ import annotations

import csv
import itertools
import math

import pytest
from scipy import stats

from samcmp import optim
from samcmp.analysis import published
from samcmp.analysis.build import compare
from samcmp.analysis.comparison import PublishedComparison
from samcmp.analysis.paired import standard_error
from samcmp.analysis.published_comparison import with_published
from samcmp.experiment import config, plan, suites
from samcmp.experiment.suites import SuiteTable
from samcmp.records import Accuracy, Case, Protocol, Record
from samcmp.report.extras import extras
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
        "not-algorithm-1", "test-cut-short", "dead-initialisation", "descriptors-unstated", "host-overhead",
        "implausible-throughput", "unverified-setting", "no-code",
    }  # fmt: skip
    assert {flag.name for cell_ in published.load() for flag in cell_.flags} == known


def test_flags_are_on_the_cells_they_are_about() -> None:
    assert flags("bbbp", "gcn", "adam") == {"scaffold-split"}
    assert flags("lipophilicity", "mpnn", "adam") == {"freesolv-scale"}
    assert flags("tox21", "mpnn", "adam") == {"mixed-source"}
    assert flags("esol", "mpnn", "adam") == set()
    assert flags("bbbp", "compt", "adam") == {"same-split", "other-schedule", "test-cut-short"}
    every = {"dead-initialisation", "descriptors-unstated"}
    assert flags("bbbp", "grover", "graphsam") == {*every, "loss-weighted", "not-algorithm-1"}
    assert flags("bace", "compt", "adam") >= {"no-code"}
    speed = published.find_speed("lipophilicity", "grover", "sam")
    assert speed is not None
    assert "implausible-throughput" in {flag.name for flag in speed.flags if flag.about == "speed"}


@pytest.mark.parametrize(
    ("optimizer", "settings", "table", "value"),
    [
        ("sam", {}, 8, 0.957),
        ("sam", {"rho": 0.05}, 8, 0.957),
        ("sam", {"rho": 0.005}, 8, 0.952),
        ("sam", {"rho": 0.001}, 8, 0.953),
        ("sam", {"rho_schedule": "step"}, 1, 0.962),
        ("sam", {"rho_schedule": "step", "gamma": 0.5, "period": 1}, 1, 0.962),
        ("graphsam", {}, 1, 0.961),
        ("graphsam", {"rho_schedule": "step", "beta": 0.99}, 1, 0.961),
        ("graphsam", {"rho_schedule": "constant"}, 8, 0.933),
        ("graphsam", {"rho_schedule": "constant", "rho": 0.005}, 8, 0.949),
        ("graphsam", {"rho_schedule": "constant", "rho": 0.001}, 8, 0.964),
        ("graphsam", {"beta": 0.9}, 3, 0.958),
        ("graphsam", {"gamma": 0.2}, 9, 0.959),
        ("looksam", {"rho": 0.0001, "alpha": 0.2, "k": 8}, 2, 0.952),
    ],
)
def test_an_arm_finds_the_cell_of_its_settings(
    optimizer: str, settings: dict[str, object], table: int, value: float
) -> None:
    found = published.find("bbbp", "compt", optimizer, settings=settings)
    assert found is not None
    assert (found.table, found.value) == (table, value)


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("sam", {"rho": 0.7}),
        ("sam", {"rho": 0.005, "k": 2}),
        ("sam", {"adaptive": True}),
        ("sam", {"rho_schedule": "step", "gamma": 0.1}),
        ("sam", {"rho_schedule": "step", "rho": 0.005}),
        ("sam", {"rho_schedule": "step", "period": 3}),
        ("sam", {"rho_schedule": "compounded"}),
        ("graphsam", {"beta": 0.9, "gamma": 0.2}),
        ("graphsam", {"norm": "tensor"}),
        ("graphsam", {"period": 3}),
        ("ae-sam", {"delta": 0.5}),
    ],
)
def test_an_arm_of_other_settings_than_the_papers_finds_no_cell(optimizer: str, settings: dict[str, object]) -> None:
    assert published.find("bbbp", "compt", optimizer, settings=settings) is None


@pytest.mark.parametrize(
    ("optimizer", "settings", "graphs_per_second"),
    [
        ("sam", {}, 112),
        ("sam", {"rho": 0.005, "rho_schedule": "step"}, 112),
        ("graphsam", {"beta": 0.9}, 174),
        ("sam", {"adaptive": True}, None),
        ("sam-k", {"k": 4}, None),
        ("rst", {"p": 0.1}, None),
    ],
)
def test_the_papers_speed_is_that_of_every_radius_and_of_no_other_cost(
    optimizer: str, settings: dict[str, object], graphs_per_second: float | None
) -> None:
    found = published.find_speed("bbbp", "compt", optimizer, settings=settings)
    assert (found and found.graphs_per_second) == graphs_per_second


def test_the_papers_sam_on_compt_is_the_scheduled_one_and_on_grover_not_known() -> None:
    for dataset in ("bbbp", "tox21", "sider", "clintox", "esol", "lipo"):
        scheduled = published.find(dataset, "compt", "sam", settings={"rho_schedule": "step"}, table=1)
        of_table_8 = published.find(dataset, "compt", "sam", settings={"rho_schedule": "step"}, table=8)
        assert scheduled is not None
        assert of_table_8 is not None
        assert (scheduled.table, of_table_8.table, scheduled.value) == (1, 8, of_table_8.value)
    of_grover = {
        published.find("bbbp", "grover", "sam", settings=settings) for settings in ({}, {"rho_schedule": "step"})
    }
    assert {cell_ and cell_.value for cell_ in of_grover} == {0.926}


@pytest.mark.parametrize("name", ["lipo", "lipophilicity", "lipo@compt"])
def test_lipophilicity_is_found_by_each_of_its_names(name: str) -> None:
    found = published.find(name, "compt", "graphsam")
    assert found is not None
    assert (found.dataset, found.value) == ("lipo", 0.608)


def planned(name: str, suite: SuiteTable) -> list[Case]:
    """One Case of every dataset, model and arm that a suite plans."""
    protocol = {"init_from": "0" * 64} if suite.needs_init_from else {}
    made = plan.build(config.read(config.Request(suite=name, repeats=1, protocol=protocol), suites.read()))
    return list({(c.dataset, c.model, c.arm): c for c in made.train.values()}.values())


def test_every_published_cell_is_reached_by_the_suite_of_its_table() -> None:
    reached: set[published.Published] = set()
    for name, suite in suites.read().suites.items():
        if suite.table is None:
            continue
        for case in planned(name, suite):
            found = published.find(
                case.dataset, case.model, case.optimizer, settings=case.optimizer_settings, table=suite.table,
                pretrained=case.protocol.init_from is not None,
            )  # fmt: skip
            if found is not None and found.table == suite.table:
                reached.add(found)
    assert reached == set(published.load())
    assert len(published.load()) == 274


def test_accuracies_of_images_are_shares_as_ours_are() -> None:
    found = published.find("cifar10", "resnet18", "graphsam")
    assert found is not None
    assert (found.table, found.metric, found.value) == (11, "accuracy", pytest.approx(0.9586))


def of_images(optimizer: str, test: float, seed: int) -> Record:
    protocol = Protocol(epochs=200, batch_size=128, base="sgd", schedule="cosine")
    accuracy = Accuracy("accuracy", test, test, 3, {"class": test}, 1, 1, 900, 45_000, 5_000, 10_000)
    case = Case("train", "cifar10", "resnet18", optimizer, protocol, split="fixed", seed=seed)
    return Record(f"{optimizer}{seed}", case, "ok", dataset_hash="d", split_hash="s", accuracy=accuracy, holds="images")


def test_accuracies_on_images_stand_beside_table_11_with_all_its_digits() -> None:
    records = [
        of_images(optimizer, test + 0.001 * seed * seed, seed)
        for optimizer, test in (("sgd", 0.953), ("graphsam", 0.94))
        for seed in range(3)
    ]
    compared = with_published(compare(records), 11)
    found = {row.arm: (row.table, row.paper, row.agreement) for row in compared.published}
    assert found == {"sgd": (11, 0.9541, "agree"), "graphsam": (11, 0.9586, "disagree")}
    assert compared.claims == ()  # of molecules
    assert {"0.9541", "0.9586"} <= {entry.text for grid in extras(compared) for row in grid.rows for entry in row}


def ours(level: float, *, protocol: Protocol | None = None, dataset: str = "bbbp") -> list[Record]:
    return [
        run(level + 0.01 * (block - 2), arm, block, dataset=dataset, model="grover", protocol=protocol)
        for arm in ("adam", "sam")
        for block in range(5)
    ]


def of(records: list[Record], arm: str = "adam") -> PublishedComparison:
    return next(row for row in with_published(compare(records)).published if row.arm == arm)


def test_close_numbers_agree_and_distant_ones_do_not() -> None:
    assert of(ours(0.92)).agreement == "agree"
    assert of(ours(0.70)).agreement == "disagree"


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (ours(0.92, protocol=Protocol(subset=200)), "subset of 200"),
        (ours(0.92, protocol=Protocol(epochs=2)), "trained 2 epochs"),
        (ours(0.92, protocol=Protocol(base="sgd")), "over sgd"),
        ([r for r in ours(0.92) if r.case.seed == 0], "single run"),
    ],
)
def test_another_experiment_is_not_compared_and_says_why(records: list[Record], why: str) -> None:
    found = of(records, "sam")
    assert found.agreement == "n.a."
    assert why in found.why


def test_throughput_is_compared_as_a_ratio_to_sam() -> None:
    records = cell(dataset="bbbp", model="grover", level=0.92)
    found = of(records, "graphsam")
    assert found.paper_speed_to_sam == pytest.approx(272 / 201)
    assert found.our_speed_to_sam is not None
    assert "host-overhead" in found.flags


def test_a_dataset_the_paper_does_not_have_is_left_out() -> None:
    assert with_published(compare(cell(dataset="demo"))).published == ()


def test_a_table_can_be_asked_for() -> None:
    rows = with_published(compare(cell(dataset="bbbp", model="grover", level=0.92)), table=2).published
    assert {row.table for row in rows} == {2}
    assert {row.paper_sd for row in rows} == {None}


def test_flags_file_is_utf8_and_complete() -> None:
    path = ROOT / "samcmp" / "analysis" / "published_flags.csv"
    lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert all(line["why"] and line["about"] in {"accuracy", "speed"} for line in lines)


@pytest.mark.parametrize("name", [name for name, suite in suites.read().suites.items() if name.startswith("paper-")])
def test_every_suite_of_the_paper_runs_the_papers_sam_and_the_one_of_its_authors(name: str) -> None:
    sam = [case for case in planned(name, suites.read().suites[name]) if case.optimizer == "sam"]
    defaults = optim.entry("sam").settings
    schedules = {(s["rho"], s["rho_schedule"]) for case in sam if (s := {**defaults, **case.optimizer_settings})}
    assert schedules >= {(0.05, "constant"), (0.05, "step")}


def test_figure_6_goes_from_an_anchor_an_epoch_to_a_single_one() -> None:
    cases = planned("paper-figure6", suites.read().suites["paper-figure6"])
    default = optim.entry("graphsam-k").settings["K"]
    periods = {case.optimizer_settings.get("K", default) for case in cases if case.optimizer == "graphsam-k"}
    assert min(periods) == 1
    assert max(periods) >= max(case.protocol.epochs for case in cases)


def test_an_arm_without_a_cell_in_the_suites_table_is_compared_with_the_table_that_has_one() -> None:
    records = [run(0.95 + 0.01 * block, "sam", block, dataset="bbbp", model="compt") for block in range(3)]
    (found,) = with_published(compare(records), table=1).published
    assert (found.table, found.paper) == (8, 0.957)


CORRELATIONS = (0.0, 0.25, 0.5, 0.75, 0.9)


def significant(correlation: float, *, test_over_train: float) -> int:
    """Count the cells of table 1 where GraphSAM and Adam differ at 5 %, from the printed means and deviations."""
    count = 0
    for model, dataset in itertools.product(("grover", "compt"), ("bbbp", "tox21", "sider", "clintox", "esol", "lipo")):
        graphsam, adam = (published.find(dataset, model, name, table=1) for name in ("graphsam", "adam"))
        assert graphsam is not None
        assert adam is not None
        assert graphsam.sd is not None
        assert adam.sd is not None
        sd = math.sqrt(graphsam.sd**2 + adam.sd**2 - 2 * correlation * graphsam.sd * adam.sd)
        t = (graphsam.value - adam.value) / standard_error(sd, published.REPEATS, test_over_train=test_over_train)
        count += bool(2 * stats.t.sf(abs(t), published.REPEATS - 1) < 0.05)
    return count


@pytest.mark.parametrize(
    ("name", "test_over_train"),
    [
        ("random splits (test/train 0.1/0.8)", 0.1 / 0.8),
        ("5-fold cross-validation (0.2/0.7)", 0.2 / 0.7),
        ("naive t", 0.0),
    ],
)
def test_docs_say_how_many_of_the_papers_cells_are_significant(name: str, test_over_train: float) -> None:
    lines = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith("|") and name in line)
    printed = [int(text) for text in line.split("|")[2:-1]]
    assert printed == [significant(r, test_over_train=test_over_train) for r in CORRELATIONS]
