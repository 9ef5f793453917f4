"""The paper's claims: each holds, falls and stays open with runs made for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from samcmp.analysis.build import compare
from samcmp.analysis.claims import CLAIMS
from samcmp.analysis.comparison import Claim
from samcmp.analysis.published_comparison import with_published
from samcmp.experiment import suites
from samcmp.records import Protocol, Record
from tests.report.made import cell, run

Arm = tuple[str, tuple[tuple[str, object], ...]]
BLOCKS = 6
HARD = np.random.default_rng(1).normal(0.0, 0.02, BLOCKS)  # splits, the same for all arms
CHANCE = np.array([1.0, -1.0, 0.5, -0.5, 1.0, -1.0])


def arm(optimizer: str, **settings: object) -> Arm:
    return optimizer, tuple(settings.items())


def records(
    effects: Mapping[Arm, float], *, chance: float = 0.001, spread: float = 0.0, model: str = "grover"
) -> list[Record]:
    """Runs on BBBP whose arms differ by the effect, by chance, and (the last arm) by its spread."""
    made = []
    for i, ((optimizer, settings), effect) in enumerate(effects.items()):
        wide = spread if i == len(effects) - 1 else 0.0
        for block in range(BLOCKS):
            noise = (i + 1) * chance * CHANCE[block - i] + wide * (-1) ** block
            score = float(0.9 + effect + HARD[block] + noise)
            made.append(run(score, optimizer, block, dataset="bbbp", model=model, settings=dict(settings)))
    return made


def claims(found: list[Record], text: str) -> list[Claim]:
    return [claim for claim in with_published(compare(found)).claims if claim.text.startswith(text)]


ADAM, SAM, GRAPHSAM, ONE, AE = (arm(name) for name in ("adam", "sam", "graphsam", "sam-one", "ae-sam"))
STEP, BETA, GAMMA = arm("sam", rho_schedule="step"), arm("graphsam", beta=0.9), arm("graphsam", gamma=0.1)
FIXED = arm("graphsam", rho=0.001, rho_schedule="constant")
K1, K5 = arm("graphsam-k", K=1), arm("graphsam-k", K=5)

PAIRS = [  # the claim, the arm that it praises, the one it is held against
    ("GraphSAM is more accurate than Adam", GRAPHSAM, ADAM),
    ("SAM is more accurate than Adam", SAM, ADAM),
    ("SAM-One is the worst", SAM, ONE),
    ("a shrinking rho is better than a fixed one, in SAM", STEP, SAM),
    ("a shrinking rho is better than a fixed one, in GraphSAM", GRAPHSAM, FIXED),
    ("beta 0.99", GRAPHSAM, BETA),
    ("gamma 0.5", GRAPHSAM, GAMMA),
    ("anchoring in every epoch", K1, K5),
]


@pytest.mark.parametrize(("text", "praised", "other"), PAIRS)
@pytest.mark.parametrize(
    ("gain", "chance", "outcome"),
    [(0.03, 0.001, "holds"), (-0.03, 0.001, "does not hold"), (0.0, 0.0005, "does not hold"),
     (0.02, 0.03, "cannot be told")],
)  # fmt: skip
def test_better_is_held_against_the_paired_interval(
    text: str, praised: Arm, other: Arm, gain: float, chance: float, outcome: str
) -> None:
    effects = {ADAM: 0.0, other: 0.0, praised: gain}
    (found,) = [
        claim
        for claim in claims(records(effects, chance=chance), text)
        if claim.text.startswith(text) or text[0].islower()
    ]
    assert (found.outcome, found.cell) == (outcome, "bbbp / grover")
    assert "over" in found.evidence
    assert f"{BLOCKS} splits" in found.evidence


@pytest.mark.parametrize(
    ("gain", "chance", "outcome"),
    [
        (0.0, 0.0005, "holds"),
        (-0.005, 0.0002, "holds"),
        (0.05, 0.03, "cannot be told"),
        (-0.04, 0.001, "does not hold"),
    ],
)
def test_as_accurate_is_held_against_the_margin(gain: float, chance: float, outcome: str) -> None:
    (found,) = claims(records({ADAM: 0.0, SAM: 0.0, GRAPHSAM: gain}, chance=chance), "GraphSAM is as accurate")
    assert found.outcome == outcome


@pytest.mark.parametrize(("seconds", "outcome"), [(1.0, "holds"), (3.0, "does not hold"), (1.96, "cannot be told")])
def test_faster_is_held_against_the_interval_of_the_ratio(seconds: float, outcome: str) -> None:
    arms = {"adam": (0.0, 1.0, 1.0), "sam": (0.0, 2.0, 1.96), "graphsam": (0.0, 1.0, seconds)}
    (found,) = claims(cell(dataset="bbbp", model="grover", arms=arms), "GraphSAM is faster")
    assert found.outcome == outcome
    assert "×" in found.evidence


def test_the_speed_of_a_step_is_judged_however_many_epochs_were_trained() -> None:
    arms = {"adam": (0.0, 1.0, 1.0), "sam": (0.0, 2.0, 1.96), "graphsam": (0.0, 1.0, 1.0)}
    made = [
        replace(r, case=replace(r.case, protocol=replace(r.case.protocol, epochs=1)))
        for r in cell(dataset="bbbp", model="grover", arms=arms)
    ]
    assert [claim.outcome for claim in claims(made, "GraphSAM is faster")] == ["holds"]
    assert {claim.outcome for claim in claims(made, "GraphSAM is as accurate")} == {"cannot be told"}


@pytest.mark.parametrize(("spread", "outcome"), [(0.2, "holds"), (0.0, "cannot be told")])
def test_stability_is_a_paired_test_of_deviations(spread: float, outcome: str) -> None:
    (found,) = claims(records({ADAM: 0.0, SAM: 0.0, AE: 0.0}, spread=spread), "AE-SAM is less stable")
    assert found.outcome == outcome
    assert "SD" in found.evidence


def test_a_steadier_ae_sam_refutes_it() -> None:
    (found,) = claims(records({ADAM: 0.0, AE: 0.0, SAM: 0.0}, spread=0.2), "AE-SAM is less stable")
    assert found.outcome == "does not hold"


def test_on_compt_sam_is_the_one_with_the_scheduler() -> None:
    found = claims(
        records({ADAM: 0.0, SAM: 0.0, STEP: -0.05, GRAPHSAM: -0.05}, model="compt"), "GraphSAM is as accurate"
    )
    assert [claim.outcome for claim in found] == ["holds"]


def test_a_setting_is_held_against_every_other_value_and_nothing_else() -> None:
    effects = {ADAM: 0.0, GRAPHSAM: 0.03, BETA: 0.0, arm("graphsam", beta=0.999): 0.0, GAMMA: 0.06, FIXED: 0.06}
    (found,) = claims(records(effects, chance=0.001), "beta 0.99")
    assert (found.outcome, found.evidence.count("over")) == ("holds", 2)


def test_what_was_not_run_names_the_suite_that_runs_it() -> None:
    found = with_published(compare(records({ADAM: 0.0, SAM: 0.0}))).claims
    open_ = {claim.text: claim.evidence for claim in found if claim.cell is None}
    assert len(open_) == len(CLAIMS) - 1  # SAM against Adam can be judged
    named = {evidence.rpartition(" ")[2] for evidence in open_.values()}
    assert named <= suites.read().suites.keys()


def test_another_experiment_settles_nothing() -> None:
    made = [
        run(0.9 + 0.05 * (name == "sam"), name, block, dataset="bbbp", model="grover", protocol=Protocol(epochs=2))
        for name in ("adam", "sam")
        for block in range(5)
    ]
    (found,) = [c for c in claims(made, "SAM is more accurate than Adam") if c.cell]
    assert (found.outcome, "trained 2 epochs" in found.evidence) == ("cannot be told", True)


@pytest.mark.parametrize(
    ("settings", "judged"), [({"molecule_features": "rdkit2d"}, True), ({"hidden": 8}, False)], ids=str
)
def test_what_the_paper_leaves_open_of_a_model_is_no_other_experiment(
    settings: dict[str, object], judged: bool
) -> None:
    made = [
        dataclasses.replace(record, case=dataclasses.replace(record.case, model_settings=settings))
        for record in records({ADAM: 0.0, SAM: 0.03})
    ]
    compared = with_published(compare(made))
    (claim,) = [claim for claim in compared.claims if claim.text.startswith("SAM is more accurate") and claim.cell]
    assert (claim.outcome == "holds", "changes the model" in claim.evidence) == (judged, not judged)
    assert {row.agreement == "n.a." for row in compared.published} == {not judged}
    told = ", ".join(f"{key}={value}" for key, value in settings.items())
    assert f"grover: {told}" in compared.cells[0].notes, "a changed model is told"


def test_a_dataset_the_paper_does_not_have_has_no_claims() -> None:
    assert with_published(compare(cell(dataset="demo"))).claims == ()
