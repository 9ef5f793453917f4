"""Inspections made up for the tests of figures: drawn numbers, no measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from samcmp.analysis.names import short_names
from samcmp.inspection import WHAT, Inspection, Measured, Settings
from samcmp.inspection.results import Arm, Results
from samcmp.inspection.work import of_record
from tests.report.made import run

EPOCHS, STEPS = 6, 12


def gradients(rng: np.random.Generator, optimizer: str) -> tuple[dict[str, float], dict[str, Any], dict[str, str]]:
    count = EPOCHS * STEPS
    arrays: dict[str, Any] = {"epoch": np.arange(count) // STEPS, "approximated": np.ones(count), "rho": np.ones(count)}
    for name in ("g", "epsilon", "omega"):
        moved = 0.0 if (optimizer, name) == ("adam", "epsilon") else 1.0
        arrays[f"norm_{name}"] = moved * rng.lognormal(size=count)
        arrays[f"change_{name}"] = moved * rng.lognormal(size=count)
        arrays[f"unit_change_{name}"] = np.full(count, np.nan) if not moved else rng.uniform(0, 2, count)
    arrays["loss"], arrays["distance"] = rng.uniform(0.4, 0.6, count), rng.uniform(0, 0.05, count)
    arrays["sam_loss"] = arrays["loss"] + rng.normal(0, 0.01, count)
    scalars = {f"pairs_next{part}": rng.uniform(0.5, 0.7) for part in ("", "_first", "_middle", "_last")}
    missing = {"c1_share": "no step is perturbed"}
    if optimizer != "adam":
        scalars |= {f"pairs_direction{part}": rng.uniform(0.5, 1.0) for part in ("", "_first", "_middle", "_last")}
        scalars |= {"c1_share": 0.4, "c1_difference": -0.01, "c2_spearman": 0.3}
        missing = {}
    return scalars, arrays, missing


def at_weights(rng: np.random.Generator, what: str) -> tuple[dict[str, float], dict[str, Any], dict[str, str]]:
    x = np.linspace(-1, 1, 9)
    if what == "landscape":
        return {"loss": 0.4}, {"x": x, "losses": 0.4 + rng.uniform(0.2, 2, (5, 1)) * x**2}, {}
    if what == "surface":
        return {"loss": 0.4}, {"x": x, "losses": 0.4 + rng.uniform(1, 8) * (x[:, None] ** 2 + x**2 + x)}, {}
    if what == "path":
        a = np.linspace(-0.5, 1.5, 9)
        arrays = {"alpha": a, "losses": 0.4 + rng.uniform(0, 1) * a * (1 - a), "scores": 0.8 + 0.1 * rng.random(9)}
        return {"barrier": 0.1, "distance": 3.0}, arrays, {}
    if what == "sharpness":
        names = ("m_sharpness", "adaptive_sharpness", "lambda_max", "trace", "trace_error")
        return {name: float(rng.lognormal()) for name in names}, {}, {"lambda_min": "not converged"}
    n = 12
    rows = rng.dirichlet(np.ones(n), n)
    arrays = {
        "map": rows, "map_initial": np.full((n, n), 1 / n), "map_row": np.array([7]), "symbols": np.array(["C"] * n),
        "entropy": rng.random(20),
    }  # fmt: skip
    scalars = {"entropy": 2.1, "entropy_share": 0.8, "entropy_initial": 2.4, "entropy_share_initial": 0.9}
    return scalars, arrays, {}


def measured(
    what: str, optimizer: str, block: int, rng: np.random.Generator, *, other: str = "", **more: Any
) -> Measured:
    trained = of_record(run(0.8 + 0.01 * rng.random(), optimizer, block, **more))
    end = of_record(run(0.8, other, block, **more)) if other else None
    scalars, arrays, missing = gradients(rng, optimizer) if what == "gradients" else at_weights(rng, what)
    settings = WHAT[what].of(Settings())
    return Measured(Inspection(f"{what}{optimizer}{block}", what, settings, trained, end, scalars, missing), arrays)


def results(
    what: str,
    *,
    optimizers: tuple[str, ...] = ("adam", "sam", "graphsam"),
    runs: int = 2,
    models: tuple[str, ...] = ("gcn",),
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Results:
    """Results of one measurement; ``settings`` are those of the last optimizer."""
    rng = np.random.default_rng(0)
    arms, pairs = [], []
    for model in models:
        for k, optimizer in enumerate(optimizers):
            own = dict(settings or {}) if k == len(optimizers) - 1 else {}
            found = [measured(what, optimizer, b, rng, model=model, settings=own, **more) for b in range(runs)]
            if WHAT[what].pair:
                pairs += [
                    measured(what, optimizer, b, rng, other=end, model=model, **more)
                    for end in optimizers[k + 1 :] for b in range(runs)
                ]  # fmt: skip
            case = found[0].inspection.case
            trained = {one.inspection.train_key: one.inspection.run for one in found}
            cases = tuple(one.inspection.case for one in found)
            by_what = {} if WHAT[what].pair else {what: tuple(found)}
            arms.append(Arm(case.dataset, model, case.arm, case.arm, optimizer, cases, trained, by_what))
    names = short_names(arm.arm for arm in arms)
    arms = [
        Arm(a.dataset, a.model, a.arm, names[a.arm], a.optimizer, a.cases, a.runs, a.measured) for a in arms
    ]  # fmt: skip
    return Results(tuple(arms), tuple(pairs), (what,), Settings(), "roc-auc")
