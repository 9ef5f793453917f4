"""Reading datasets, splitting and scoring, each beside the public tool that does the same.

Run ``python -m tests.bench datasets``. Figures are process CPU time on one thread, the best of several rounds in turn.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable

import numpy as np

from samcmp.data import cards, fetch, molecules, splits, table
from samcmp.errors import SamcmpError
from samcmp.training import tasks

ROUNDS = 7
Row = tuple[str, str, str, str]


def fastest(jobs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """CPU seconds of each job, the best of ROUNDS, the jobs taking turns."""
    best = dict.fromkeys(jobs, math.inf)
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            gc.collect()
            start = time.process_time()
            job()
            best[name] = min(best[name], time.process_time() - start)
    return best


def row(name: str, ours: float, peer: str, theirs: float) -> Row:
    return name, f"{1e3 * ours:.2f} ms", f"{peer}: {1e3 * theirs:.2f} ms", f"{theirs / ours:.1f}x"


def reading() -> list[Row]:
    import pandas as pd

    card = cards.find("tox21")
    try:
        path = fetch.ensure(card)
    except SamcmpError as error:
        print(f"tox21 is not at hand ({error.what}); demo-large instead", file=sys.stderr)
        card = cards.find("demo-large")
        path = fetch.ensure(card)
    took = fastest(
        {
            "whole": lambda: molecules.load(card),
            "table": lambda: table.read(path),
            "pandas": lambda: pd.read_csv(path),
        }
    )
    found = molecules.load(card)
    took |= fastest({"split": lambda: splits.make(found, "random", seed=0)})
    return [
        row(f"{card.name}: parse the CSV", took["table"], "pandas.read_csv", took["pandas"]),
        row(
            f"{card.name}: parse, check SHA-256, labels, dataset hash", took["whole"], "pandas.read_csv", took["pandas"]
        ),
        (f"{card.name}: random split with its hash", f"{1e3 * took['split']:.2f} ms", "no peer", "-"),
    ]


def scoring() -> list[Row]:
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError:
        return [("ROC-AUC of 784 x 12", "-", "n/a (scikit-learn is missing)", "-")]
    draw = np.random.default_rng(0)
    y = (draw.random((784, 12)) < 0.1).astype(float)
    y[draw.random(y.shape) < 0.17] = np.nan
    prediction = draw.random(y.shape)

    def peer() -> float:
        values = []
        for t in range(y.shape[1]):
            known = ~np.isnan(y[:, t])
            values.append(roc_auc_score(y[known, t], prediction[known, t]))
        return float(np.mean(values))

    took = fastest({"own": lambda: tasks.score("roc-auc", y, prediction), "peer": peer})
    assert abs(tasks.score("roc-auc", y, prediction).mean - peer()) < 1e-12
    return [
        row("ROC-AUC of 784 molecules x 12 tasks, labels missing", took["own"], "scikit-learn, a loop", took["peer"])
    ]


def main() -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    shown = Table("what", "samcmp", "peer", "ratio", title="Datasets and metrics")
    for one in (*reading(), *scoring()):
        shown.add_row(*one)
    Console().print(shown)


if __name__ == "__main__":
    main()
