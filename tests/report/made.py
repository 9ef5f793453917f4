"""Records made up for the tests of statistics and reports: drawn numbers, no measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from samcmp.records import Accuracy, Case, Epoch, Memory, Protocol, Record, Throughput, content_key

# arm: effect on the score, passes a step, seconds a block
ARMS: Mapping[str, tuple[float, float, float]] = {
    "adam": (0.0, 1.0, 1.0),
    "sam": (0.01, 2.0, 1.96),
    "graphsam": (0.009, 1.04, 1.12),
}
CREATED = "2026-01-01T00:00:00+00:00"
MACHINE = {"processor": "Imaginary 1", "usable_cores": 2, "load": 0.5}


def case(kind: str, dataset: str, model: str, optimizer: str, **more: Any) -> Case:
    return Case(kind, dataset, model, optimizer, **more)  # type: ignore[arg-type]


def run(
    score: float,
    optimizer: str = "adam",
    block: int = 0,
    *,
    dataset: str = "demo",
    model: str = "gcn",
    metric: str = "roc-auc",
    status: str = "ok",
    reason: str | None = None,
    split_hash: str | None = None,
    per_task: Mapping[str, float | None] | None = None,
    split_seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    protocol: Protocol | None = None,
    epochs: int = 3,
    created: str = CREATED,
    sizes: tuple[int, int, int] = (800, 100, 100),
) -> Record:
    """One training Record."""
    seed = block if split_seed is None else split_seed
    what = case(
        "train", dataset, model, optimizer, split_seed=seed, seed=block, optimizer_settings=settings or {},
        protocol=protocol or Protocol(),
    )  # fmt: skip
    tasks = per_task or {"label": score}
    accuracy = None
    if status == "ok":
        accuracy = Accuracy(metric, score, score, epochs - 1, tasks, len(tasks), len(tasks), 20, *sizes)
    bend = 0.9 if metric == "roc-auc" else 1.1  # scores get better by epoch and end at the last
    steps = -(-sizes[0] // what.protocol.batch_size)
    passes = round(steps * ARMS.get(optimizer, ARMS["adam"])[1])
    history = tuple(
        Epoch(0.7 / (e + 1), score * bend ** (epochs - 1 - e), score * bend ** (epochs - 1 - e), 1e-3, 1.0, passes)
        for e in range(epochs)
    )
    key = content_key([what, created])
    hashed = content_key([dataset, seed]) if split_hash is None else split_hash
    return Record(
        key, what, status, reason, created, 3.0, content_key(dataset), hashed, 1000, accuracy, history,
        machine=MACHINE, versions={"torch": "0"},
    )  # type: ignore[arg-type]  # fmt: skip


def profile(
    optimizer: str,
    seconds: Sequence[float],
    passes: float = 1.0,
    *,
    dataset: str = "demo",
    model: str = "gcn",
    peers: tuple[str, ...] = (),
    settings: Mapping[str, Any] | None = None,
    peak: int | None = 50 << 20,
    machine: Mapping[str, Any] = MACHINE,
    protocol: Protocol | None = None,
) -> Record:
    """One profile Record of blocks of 1,000 graphs."""
    what = case(
        "profile", dataset, model, optimizer, peers=peers, optimizer_settings=settings or {},
        protocol=protocol or Protocol(),
    )  # fmt: skip
    graphs = 1000
    speed = Throughput(
        graphs * len(seconds) / sum(seconds), passes, 30, len(seconds), tuple(seconds), graphs, "precision"
    )
    return Record(
        content_key(what), what, "ok", None, CREATED, 30.0, content_key(dataset), "", 1000, None, (), speed,
        Memory(peak, how="made up"), machine=machine, versions={"torch": "0"},
    )  # fmt: skip


def cell(
    *,
    dataset: str = "demo",
    model: str = "gcn",
    metric: str = "roc-auc",
    blocks: int = 5,
    arms: Mapping[str, tuple[float, float, float]] = ARMS,
    seed: int = 0,
    split_sd: float = 0.03,
    run_sd: float = 0.004,
    level: float = 0.85,
    speeds: bool = True,
    epochs: int = 3,
) -> list[Record]:
    """All Records of one cell: blocks share a split's difficulty, arms differ by their effect and by chance."""
    rng = np.random.default_rng(seed)
    lower = metric != "roc-auc"
    hard = rng.normal(0.0, split_sd, blocks)
    records = []
    for arm, (effect, _, _) in arms.items():
        noise = rng.normal(0.0, run_sd, blocks)
        for block in range(blocks):
            gain = effect + hard[block] + noise[block]
            score = level - gain if lower else level + gain
            records.append(run(float(score), arm, block, dataset=dataset, model=model, metric=metric, epochs=epochs))
    if speeds:
        drift = 1.0 + 0.02 * rng.standard_normal(12)
        for arm, (_, passes, seconds) in arms.items():
            times = seconds * drift * (1.0 + 0.003 * rng.standard_normal(12))
            records.append(
                profile(arm, [float(t) for t in times], passes, dataset=dataset, model=model, peers=tuple(arms))
            )
    return records
