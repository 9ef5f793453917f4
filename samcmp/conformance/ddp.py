"""Two gloo ranks under DistributedDataParallel: replicas stay identical, and no_sync is honoured."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from samcmp.conformance.report import Broken, NotApplicable
from samcmp.conformance.trial import STEPS, Build, Closure, Subject, adam, batch, same

SECONDS = 120


def replicas_stay_identical(subject: Subject) -> None:
    problem = ranks_agree({"optimizer": subject.build})["optimizer"]
    if problem:
        raise Broken(problem)


def ranks_agree(builds: Mapping[str, Build]) -> dict[str, str]:
    """Train each optimizer on two ranks with different halves of the batches: name -> "" or what went wrong."""
    if "fork" not in multiprocessing.get_all_start_methods():
        raise NotApplicable("this system cannot fork a second rank")
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise NotApplicable("this torch has no gloo")
    context = multiprocessing.get_context("fork")
    answers, answering = context.Pipe(duplex=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [context.Process(target=_rank, args=(rank, port, builds, answering)) for rank in range(2)]
    for process in ranks:
        process.start()
    problems: dict[str, str] = dict.fromkeys(builds, f"two ranks gave no answer in {SECONDS} s")
    if answers.poll(SECONDS):
        problems = answers.recv()
    for process in ranks:
        process.join(timeout=10)
        if process.is_alive():
            process.kill()
    return problems


def _rank(rank: int, port: int, builds: Mapping[str, Build], answering: Any) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # gloo talks there
        os.dup2(nowhere, stream)
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    problems = {}
    for name, build in builds.items():
        try:
            problems[name] = _trial(rank, build)
        except Exception as error:
            problems[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    if rank == 0:
        answering.send(problems)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _trial(rank: int, build: Build) -> str:
    run = Subject(build).run(adam)
    replica = nn.parallel.DistributedDataParallel(run.model, find_unused_parameters=True)
    if hasattr(run.optimizer, "no_sync"):
        run.optimizer.no_sync = replica.no_sync
    run.closure = Closure(replica, run.optimizer)
    synced: list[bool] = []
    run.closure.watch = lambda: synced.append(bool(replica.require_backward_grad_sync))
    for t in range(STEPS):
        synced.clear()
        x, y = batch(t)
        half = slice(rank * 8, rank * 8 + 8)
        run.closure.x, run.closure.y = x[half], y[half]
        run.optimizer.step(run.closure)
        if not synced[-1]:
            return "the gradient that updates the weights was not synchronised"
        alone = hasattr(run.optimizer, "no_sync") and not run.optimizer.syncs_clean
        if len(synced) == 2 and synced[0] == alone:
            return f"the clean pass ran {'outside' if alone else 'inside'} no_sync"
    mine = run.weights()
    other = [w.clone() for w in mine]
    for w in other:
        torch.distributed.broadcast(w, src=0)
    apart = torch.tensor(0 if same(mine, other) else 1)
    torch.distributed.all_reduce(apart)
    return "" if int(apart) == 0 else "the replicas of two ranks drift apart"
