"""GROVER's training step against the plain formulation of the same equations.

    python -m tests.bench.bench_grover [--large]

Step: forward, logistic loss on both heads, backward, Adam, on six batches of 32 molecules of BBBP that are ready in
memory. Process CPU seconds on one thread, the two formulations in turn within one run, with the same random depths.
The peer is ``tests/backbones/grover_twin.py``: one network at a time, padded neighbour tables, molecule by molecule,
with the padding row as released; its tables are ready too. ``--large`` adds hidden 800 (two minutes). There the
matrix products take nearly all of the time, and the line below each row says what ratio they alone would give.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.bench.products import Products, products
from tests.places import MIRROR

BATCH, BATCHES = 32, 6
CASES: dict[str, tuple[dict[str, Any], int]] = {
    "grover, as released (100, depth 3)": ({"hidden": 100, "depth": 3}, 12),
    "hidden 128, depth 6, PReLU": ({"hidden": 128, "depth": 6, "activation": "prelu"}, 8),
    "hidden 128, depth 6, PReLU, dropout 0.1": (
        {"hidden": 128, "depth": 6, "activation": "prelu", "dropout": 0.1},
        8,
    ),
}
LARGE: dict[str, tuple[dict[str, Any], int]] = {
    "grover-base (800, depth 6, dropout 0.1)": (
        {"hidden": 800, "depth": 6, "activation": "prelu", "dropout": 0.1},
        3,
    ),
    "grover-base without dropout": ({"hidden": 800, "depth": 6, "activation": "prelu"}, 3),
}


def batches() -> list[Any]:
    """Return the first batches of BBBP in an order drawn with a fixed seed."""
    import torch

    from samcmp.backbones.grover import Config
    from samcmp.data import cards, molecules
    from samcmp.graphs.graphset import GraphSet

    sample = molecules.load(cards.find("bbbp"), source=MIRROR if MIRROR.is_dir() else None)
    graphs = GraphSet.load_or_build(sample, Config().columns)
    order = torch.randperm(len(graphs), generator=torch.Generator().manual_seed(0))
    return [graphs.batch(order[k * BATCH : (k + 1) * BATCH]) for k in range(BATCHES)]


def steps_of(settings: dict[str, Any], ready: Sequence[Any]) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """Return the two formulations' training steps from equal weights; each takes the number of the step."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as bce

    from samcmp.backbones.grover import Config, Model
    from tests.backbones.grover_twin import Tables, Twin

    torch.manual_seed(0)
    model = Model(Config(**settings), 1)
    state = {k: v.detach().clone().requires_grad_() for k, v in model.state_dict().items()}
    twin = Twin(Config(**settings, padding_row=True), state)
    tables = [Tables.of(batch) for batch in ready]
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    plain_adam = torch.optim.Adam(list(state.values()), lr=1e-4)

    def fast(k: int) -> None:
        batch = ready[k % BATCHES]
        torch.manual_seed(k)
        adam.zero_grad()
        model.loss(batch, bce).backward()
        adam.step()

    def plain(k: int) -> None:
        batch = ready[k % BATCHES]
        torch.manual_seed(k)
        plain_adam.zero_grad()
        p, q = twin.heads(batch, tables[k % BATCHES], depths=model.draw_depths())
        (bce(p, batch.y) + bce(q, batch.y) + 0.1 * (p - q).square().mean()).backward()
        plain_adam.step()

    return fast, plain


def measured(settings: dict[str, Any], ready: Sequence[Any], *, steps: int) -> tuple[float, float, Products]:
    """Return CPU seconds a step of the two formulations, medians after a warm-up of two, and our products."""
    from statistics import median

    times: tuple[list[float], list[float]] = ([], [])
    formulations = steps_of(settings, ready)
    for k in range(steps + 2):
        for seconds, step in zip(times, formulations, strict=True):
            start = time.process_time()
            step(k)
            seconds.append(time.process_time() - start)
    fast, _ = formulations
    return median(times[0][2:]), median(times[1][2:]), products(lambda: fast(0))


def main(arguments: Sequence[str] = ()) -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also hidden 800")
    chosen = parser.parse_args(list(arguments))
    torch.set_num_threads(1)
    ready = batches()
    print(f"{'GROVER, batch 32, CPU s a step':<42}{'ours':>9}{'plain':>9}{'ratio':>7}")
    for name, (settings, steps) in {**CASES, **(LARGE if chosen.large else {})}.items():
        ours, plain, of_all = measured(settings, ready, steps=steps)
        print(f"{name:<42}{ours:>9.3f}{plain:>9.3f}{plain / ours:>7.2f}", flush=True)
        if name in LARGE:
            print(f"  {of_all}; alone {plain / ours / of_all.share:.2f}", flush=True)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
