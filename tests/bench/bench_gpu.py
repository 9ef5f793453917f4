"""Models and optimizers on a GPU: graphs/s, achieved TFLOP/s, and what each optimizer costs over its gradients.

    python -m tests.bench.bench_gpu [--only models|optimizers] [--models gcn compt] [--batch-sizes 32 256]

Models: a training step (forward, masked loss, backward, fused Adam) over batches that are resident on the device, in
turn with equal weights and seeds. TFLOP/s are the matrix products that torch's counter sees in those very steps,
over the time of the whole step; the share is of a large matrix product timed here in the same precision. "loss
differs" is the first step's loss against that of the eager float32 step: what a mode does to the numbers.

Optimizers: one profile session a model, all interleaved. The bound is what an optimizer's gradients must cost: the
time of its counted gradient evaluations, and of the base optimizer's own update.

With $SAMCMP_RESULTS naming a folder, the same figures are written to bench_gpu.json there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.gpu_models import MODES, Bench, Row, dataset, matrix_product, source

MODELS = ("gcn", "mpnn", "dmpnn", "cmpnn", "compt", "grover", "grover-base", "grover-large")
COSTED = ("grover-base", "compt")


def bench_models(chosen: Any, device: Any) -> list[Row]:
    import torch

    peaks = {n: matrix_product(p, bf16=b, device=device) for n, (p, b, c) in MODES.items() if not c}
    peaks |= {"compiled": peaks["eager"], "compiled, tf32": peaks["eager, tf32"]}
    print("a large matrix product, TFLOP/s: " + ", ".join(f"{n} {peaks[n]:.1f}" for n in peaks if "eager" in n))
    heads = f"{'graphs/s':>10}{'ms/step':>9}{'TFLOP/s':>9}{'of peak':>9}  {'loss differs':>12}  host-bound"
    print(f"{'model':<14}{'batch':>6}  {'mode':<16}{heads}")
    rows: list[Row] = []
    for name in chosen.models:
        for size in chosen.batch_sizes:
            bench = Bench(name, batch_size=size, device=device)
            flops, reference = bench.flops(), None
            for each, (_, _, compiled) in MODES.items():
                if compiled and chosen.compile == "none":
                    continue
                row: Row = {"model": name, "batch_size": size, "mode": each}
                try:
                    row |= bench.measure(each, steps=chosen.steps, compiler=chosen.compile)
                except Exception as error:  # a mode that a model or this machine does not have; the others go on
                    row["failure"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                    rows.append(row)
                    print(f"{name:<14}{size:>6}  {each:<16}n/a ({row['failure'][:90]})", flush=True)
                    continue
                reference = row["first_loss"] if each == "eager" else reference
                row["tflops"] = flops / row["seconds_per_step"] / 1e12
                row["share_of_peak"] = row["tflops"] / peaks[each]
                row["loss_difference"] = None if reference is None else abs(row["first_loss"] / reference - 1)
                rows.append(row)
                print(_line(row), flush=True)
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return rows


def _line(row: Row) -> str:
    bound = {True: "yes", False: "no", None: "n/a"}[row["host_bound"]]
    differs = "n/a" if row["loss_difference"] is None else f"{row['loss_difference']:.1e}"
    start = f"{row['model']:<14}{row['batch_size']:>6}  {row['mode']:<16}{row['graphs_per_second']:>10.0f}"
    used = f"{row['seconds_per_step'] * 1e3:>9.2f}{row['tflops']:>9.3f}{row['share_of_peak']:>9.1%}"
    return f"{start}{used}  {differs:>12}  {bound}"


def bench_optimizers(chosen: Any, device: Any) -> list[Row]:
    """Profile every optimizer on each model side by side; Adam is always among them, it is the reference."""
    from samcmp import optim
    from samcmp.experiment.config import unfit
    from samcmp.profiling.session import SessionOptions, profile
    from samcmp.records import Case, Protocol
    from samcmp.training.setup import Options

    names = list(
        dict.fromkeys(["adam", *(chosen.optimizers or (name for name in optim.names() if unfit(name, "adam") is None))])
    )
    where = "cuda:0" if device.type == "cuda" and device.index is None else str(device)
    options = Options(device=where, source=source())
    session = SessionOptions(chosen.budget, energy=False, memory=False)
    protocol = Protocol(epochs=30, batch_size=chosen.batch_sizes[0], subset=chosen.subset)
    rows: list[Row] = []
    for model in chosen.costed:
        cases = {
            f"{k:064x}": Case("profile", dataset(), model, name, protocol, device=device.type)
            for k, name in enumerate(names)
        }
        print(f"\n{model}, batch {protocol.batch_size}: time over the gradient-count bound")
        print(f"{'optimizer':<26}{'graphs/s':>10}{'passes':>8}{'efficiency':>12}{'over Adam':>11}")
        for record in profile(cases, options, session=session):
            row: Row = {"model": model, "optimizer": record.case.optimizer, "status": record.status}
            speed = record.throughput
            if speed is None:
                print(f"{record.case.optimizer:<26}n/a ({record.status}: {record.reason})")
                rows.append(row | {"failure": record.reason})
                continue
            ratio = speed.ratio_to.get("adam")
            row |= {
                "graphs_per_second": speed.graphs_per_second,
                "passes_per_step": speed.passes_per_step,
                "efficiency": speed.efficiency,
                "over_adam": None if ratio is None else list(ratio),
                "rounds": speed.rounds,
            }
            rows.append(row)
            print(
                f"{row['optimizer']:<26}{speed.graphs_per_second:>10.0f}{_number(speed.passes_per_step):>8}"
                f"{_number(speed.efficiency):>12}{'-' if ratio is None else _number(ratio[0]):>11}",
                flush=True,
            )
    return rows


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def parsed(arguments: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", choices=("models", "optimizers"))
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[32, 256])
    parser.add_argument("--steps", type=int, default=60, help="timed steps of a mode")
    parser.add_argument("--compile", default="inductor", help="a backend of torch.compile, or none")
    parser.add_argument("--costed", nargs="+", default=list(COSTED), help="models whose optimizers are measured")
    parser.add_argument("--optimizers", nargs="+", help="default: all")
    parser.add_argument("--budget", type=float, default=240.0, help="seconds of a session of optimizers")
    parser.add_argument("--subset", type=int, help="use this many molecules in a session")
    return parser.parse_args(list(arguments))


def main(arguments: Sequence[str] = ()) -> int:
    import torch

    chosen = parsed(arguments)
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured (this bench runs on a GPU, or with --device cpu on its code path)")
        return 0
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, molecules of {dataset()}", flush=True)
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "dataset": dataset()}
    if chosen.only != "optimizers":
        found["models"] = bench_models(chosen, device)
    if chosen.only != "models":
        found["optimizers"] = bench_optimizers(chosen, device)
    if folder := os.environ.get("SAMCMP_RESULTS"):
        path = Path(folder) / "bench_gpu.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
