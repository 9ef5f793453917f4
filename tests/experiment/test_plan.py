"""Plans: equal blocks for every optimizer, keys that change with the result, settings and sweeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from samcmp.data.cards import DatasetCard
from samcmp.data.catalogue import Catalogue
from samcmp.errors import SamcmpError
from samcmp.experiment import suites
from samcmp.experiment.config import Request, read
from samcmp.experiment.keys import Inputs
from samcmp.experiment.plan import Plan, build
from samcmp.experiment.store import Store
from samcmp.records import Record


def a_plan(**request: Any) -> Plan:
    return build(read(Request(**request), suites.read()))


def test_every_optimizer_gets_the_same_splits_and_seeds() -> None:
    blocks: dict[str, set[str]] = {}
    for case in a_plan(optimizers=("adam", "sam", "graphsam"), repeats=4).train.values():
        blocks.setdefault(case.optimizer, set()).add(case.block)
    assert len(blocks["adam"]) == 4
    assert blocks["adam"] == blocks["sam"] == blocks["graphsam"]


def test_five_folds_and_repeats_make_each_test_set_once_a_repeat() -> None:
    cases = list(a_plan(optimizers=("adam",), folds=5, repeats=2).train.values())
    assert [(c.split, c.split_seed, c.fold) for c in cases] == [("cv5", r, k) for r in (0, 1) for k in range(5)]
    assert len({c.seed for c in cases}) == 10


def test_another_dataset_gets_the_papers_protocol_not_the_default_suites_short_one() -> None:
    case = next(iter(a_plan(datasets=("esol",)).train.values()))
    assert case.protocol.epochs == 30


def test_flags_override_the_suite() -> None:
    planned = a_plan(suite="smoke", protocol={"epochs": 1, "subset": 32}, models=("gcn",), optimizers=("adam",))
    case = next(iter(planned.train.values()))
    assert (case.model, case.protocol.epochs, case.protocol.subset) == ("gcn", 1, 32)


def test_an_option_that_was_not_given_leaves_the_suites_protocol_alone() -> None:
    not_given = {"epochs": None, "subset": None, "batch_size": None}
    case = next(iter(a_plan(suite="smoke", protocol=not_given).train.values()))
    assert (case.protocol.epochs, case.protocol.subset) == (2, 64)


def test_a_sweep_makes_an_arm_of_each_value() -> None:
    planned = a_plan(optimizers=("adam", "graphsam"), overrides=("graphsam.rho=0.05,0.005",), repeats=1)
    assert sorted(c.arm for c in planned.train.values()) == ["adam", "graphsam", "graphsam[rho=0.005]"]
    assert {c.peers for s in planned.sessions for c in s.values()} == {("adam", "graphsam", "graphsam[rho=0.005]")}


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"datasets": ("tox12",)}, "Did you mean 'tox21'"),
        ({"models": ("grovr",)}, "Did you mean 'grover'"),
        ({"optimizers": ("grahpsam",)}, "Did you mean 'graphsam'"),
        ({"suite": "paper-tabel2"}, "Did you mean 'paper-table2'"),
        ({"overrides": ("graphsam.roh=1",)}, "Did you mean 'rho'"),
        ({"overrides": ("looksam.k=5",), "optimizers": ("adam",)}, "not among the optimizers"),
        ({"overrides": ("graphsam.rho",)}, "OPTIMIZER.KEY=VALUE"),
        ({"overrides": ("graphsam.rho=inf",)}, "finite"),
        ({"overrides": ("graphsam.rho=wide",)}, "expected a number"),
        ({"split": "scafold"}, "Did you mean 'scaffold'"),
        ({"folds": 3}, "--repeats 3"),
        ({"split": "scaffold", "folds": 5}, "contradict"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(request_: dict[str, Any], says: str) -> None:
    with pytest.raises(SamcmpError) as caught:
        a_plan(**request_)
    assert says in str(caught.value)


def test_the_same_request_has_the_same_keys_and_another_seed_others() -> None:
    assert a_plan(repeats=2).keys == a_plan(repeats=2).keys
    assert not set(a_plan(repeats=1).train) & set(a_plan(repeats=1, seed=7).train)


def test_more_repeats_keep_the_keys_of_the_first_ones() -> None:
    assert set(a_plan(repeats=2).train) < set(a_plan(repeats=3).train)


def test_speed_is_keyed_by_machine_and_accuracy_is_not() -> None:
    here, there = (a_plan(inputs=Inputs(fingerprint=name)) for name in ("here", "there"))
    assert list(here.train) == list(there.train)
    assert not {k for s in here.sessions for k in s} & {k for s in there.sessions for k in s}


def test_a_changed_file_of_the_users_changes_the_keys() -> None:
    card = DatasetCard("mine", "Mine", "smiles", ("y",), "regression", "rmse", "mine.csv", data=Path("mine.csv"))
    one, two = (
        a_plan(datasets=("mine",), inputs=Inputs(Catalogue(own=[(card, digest)]))) for digest in ("1" * 64, "2" * 64)
    )
    assert not set(one.train) & set(two.train)


def test_what_is_stored_is_not_missing_and_failures_are_retried_only_when_asked(tmp_path: Path) -> None:
    planned, store = a_plan(repeats=1), Store(tmp_path)
    (ok, case), (bad, other), *rest = planned.train.items()
    store.add(Record(key=ok, case=case, status="ok"))
    store.add(Record(key=bad, case=other, status="diverged", reason="nan"))
    assert set(planned.missing_train(store)) == {key for key, _ in rest}
    assert set(planned.missing_train(store, retry=True)) == {bad, *(key for key, _ in rest)}


def test_a_budget_takes_whole_blocks_in_turn_over_the_cells(tmp_path: Path) -> None:
    from samcmp.experiment import budget
    from samcmp.records import Epoch

    planned = a_plan(datasets=("demo", "esol"), models=("gcn",), optimizers=("adam", "sam"), repeats=3)
    store = Store(tmp_path)
    for number, dataset in enumerate(("demo", "esol")):  # earlier runs: 30 epochs took 30 s
        case = next(c for c in planned.train.values() if c.dataset == dataset)
        earlier = dataclasses.replace(case, seed=99)
        epochs = (Epoch(0.1, 0.1, 0.1, 1e-3, 1.0, 1),) * 30
        store.add(Record(key=f"{number:064x}", case=earlier, status="ok", seconds=30.0, history=epochs))
    part, said = budget.fit(planned, store, seconds=190.0)
    taken = [(c.dataset, c.block, c.optimizer) for c in part.train.values()]
    assert len(taken) == 6, "three blocks of two runs of 30 s fit"
    assert len({(d, b) for d, b, _ in taken if d == "demo"}) == 2
    assert len({(d, b) for d, b, _ in taken if d == "esol"}) == 1
    assert "demo gcn: 2 of 3" in said
