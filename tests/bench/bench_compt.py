"""CoMPT's training step against the plain dense formulation of the same equations.

    python -m tests.bench.bench_compt [--steps 20] [--peer-steps 1]

Step: forward, masked logistic loss, backward, fused Adam; BBBP setting (d 256, 4 layers, batch 32), read-out padded to
90 positions as released. Process CPU seconds on one thread, best of the steps; memory is the growth of the process'
peak over its size before the first step. The peer is ``tests/backbones/compt_twin.py``, with padded inputs ready.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.places import MIRROR

ROOT = Path(__file__).resolve().parents[2]
LENGTH, BATCH = 90, 32
KINDS = {"padded": "read-out padded to 90", "clean": "clean read-out", "twin": "plain dense formulation"}


def batches(count: int) -> list[Any]:
    """Return batches of BBBP's molecules of fewer than 100 atoms, in an order drawn with a fixed seed."""
    import torch

    from samcmp.backbones import compt
    from samcmp.data import cards, molecules
    from samcmp.graphs.graphset import GraphSet

    sample = molecules.load(cards.find("bbbp"), source=MIRROR if MIRROR.is_dir() else None)
    graphs = GraphSet.load_or_build(sample, compt.Config().columns, prepare=compt.prepare)
    order = torch.randperm(len(graphs), generator=torch.Generator().manual_seed(0))
    order = order[graphs.atom_counts[order] <= LENGTH]
    return [graphs.batch(order[k * BATCH : (k + 1) * BATCH]) for k in range(count)]


def step_of(kind: str, count: int) -> Callable[[int], None]:
    """Return the training step of one formulation over prepared inputs."""
    import torch

    from samcmp.backbones.compt import Config, Model
    from tests.backbones import compt_twin
    from tests.backbones.compt_cases import masked_bce

    torch.manual_seed(0)
    config = replace(Config(), padded_readout=None if kind == "clean" else LENGTH, released_parameters=kind == "twin")
    model = Model(config, 1)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    ready = batches(count)
    dense = [compt_twin.unpack(batch, LENGTH) for batch in ready] if kind == "twin" else []

    def step(k: int) -> None:
        adam.zero_grad(set_to_none=True)
        out = compt_twin.forward(model, dense[k]) if dense else model(ready[k])
        masked_bce(out, ready[k].y).backward()  # type: ignore[no-untyped-call]
        adam.step()

    return step


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(kind: str, steps: int) -> dict[str, float]:
    """Return mean and best CPU seconds a step, and the growth of the peak memory."""
    import psutil
    import torch

    torch.set_num_threads(1)
    step = step_of(kind, steps)
    before = psutil.Process().memory_info().rss
    seconds = []
    if kind != "twin":
        step(0)
    for k in range(steps):
        began = time.process_time()
        step(k)
        seconds.append(time.process_time() - began)
    return {"mean": sum(seconds) / len(seconds), "best": min(seconds), "bytes": peak_bytes() - before}


def in_own_process(kind: str, steps: int) -> dict[str, float]:
    """Measure in a process of its own, so that one formulation's peak memory does not hide the other's."""
    command = [sys.executable, "-m", "tests.bench.bench_compt", "--one", kind, "--steps", str(steps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peer-steps", type=int, default=1)
    parser.add_argument("--one", choices=list(KINDS))
    chosen = parser.parse_args(arguments)
    if chosen.one:
        print(json.dumps(measure(chosen.one, chosen.steps)))
        return
    found = {
        k: in_own_process(k, chosen.peer_steps if k == "twin" else chosen.steps) for k in ("padded", "twin", "clean")
    }
    twin = found["twin"]
    heads = "".join(f"{head:>8}" for head in ("CPU s", "peer", "ratio", "MB", "peer", "ratio"))
    print(f"{'CoMPT step, BBBP, batch 32, peer: ' + KINDS['twin']:60}{heads}")
    for kind in ("padded", "clean"):
        mine = found[kind]
        print(
            f"{KINDS[kind]:60}{mine['mean']:8.3f}{twin['mean']:8.2f}{twin['mean'] / mine['mean']:7.1f}x"
            f"{mine['bytes'] / 1e6:8.0f}{twin['bytes'] / 1e6:8.0f}{mine['bytes'] / twin['bytes']:8.3f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
