"""A cluster of Ray: joining it, what its nodes are, and the one function that is sent to them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from samcmp import machine
from samcmp.errors import SamcmpError, in_one_line
from samcmp.printable import counted

MAILBOX = "samcmp-mailbox"  # the actor that keeps what workers say, in the name space of the command alone
HANDSHAKE_SECONDS = 60.0  # for a node to say what it is: it may be busy with the work of others


@dataclass(frozen=True, slots=True)
class Need:
    """What is asked of a cluster."""

    address: str | None  # None: a cluster of this machine alone
    cpus: int  # a case
    gpus: int
    device: str
    where: str  # the option, for errors
    cores: int = 1  # of this machine, where it is the cluster


@dataclass(frozen=True, slots=True)
class Machine:
    """A node as Ray lists it."""

    id: str
    name: str
    cpus: int
    gpus: int
    slots: int
    description: bytes = b""  # what it says of itself, see samcmp.engines.handshake.here
    silent: str = ""  # why there is none


def connect(need: Need) -> None:
    """Join a cluster, or start one of this machine. Raises SamcmpError."""
    import ray

    more: dict[str, Any] = {} if need.address else {"num_cpus": need.cores, "include_dashboard": False}
    try:
        ray.init(address=need.address or "local", log_to_driver=False, logging_level="ERROR", **more)
    except (RuntimeError, ConnectionError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise unconnected(error, need, ray=ray.__version__) from None


def unconnected(error: BaseException, need: Need, *, ray: str) -> SamcmpError:
    """Build the error for a cluster that cannot be joined. Ray says why in the error or in what it came from."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and len(causes) < 10:
        causes.append(cause)
    text = " ".join(map(in_one_line, causes))
    if "AuthenticationError" in text or "InvalidAuthToken" in text:
        return SamcmpError(
            "the cluster asks for a token, and this command has none or another one",
            where=need.where,
            remedy="Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, as they are on its head.",
        )
    if "Version mismatch" in text:
        theirs = dict(re.findall(r"(Ray|Python): ([\w.+]+)", text.partition("This process")[0]))
        ours = {"Ray": ray, "Python": machine.versions()["python"]}
        different = [f"{name} {theirs[name]}, this machine {ours[name]}" for name in ours if name in theirs]
        return SamcmpError(
            f"the cluster runs {'; '.join(different) or 'another version'}",
            where=need.where,
            remedy="Install the same on both.",
        )
    return SamcmpError(
        f"Ray does not connect: {in_one_line(error)[:300]}",
        where=need.where,
        remedy="`ray status` on this machine must show the cluster; its message says what is wrong.",
    )


def look(need: Need) -> list[Machine]:
    """List the nodes with what each says of itself. Raises SamcmpError."""
    import ray

    nodes = [_machine(facts, need) for facts in ray.nodes() if facts["Alive"]]
    nodes = [*_distinct(sorted(nodes, key=lambda node: (node.name, node.id)))]
    able = [node for node in nodes if node.slots]
    if not able:
        offers = "; ".join(f"{node.name} has {resources(node.cpus, node.gpus)}" for node in nodes)
        raise SamcmpError(
            f"no node offers {resources(need.cpus, need.gpus)}",
            where=need.where,
            remedy=f"Ask for less with cpus and gpus of a table [run.NAME], or add nodes: {offers}.",
        )
    waiting = {
        node.id: call(fresh=need.gpus > 0)
        .options(num_cpus=0, num_gpus=need.gpus, label_selector=one_of({node.id}))
        .remote("describe", node.name, node.slots, need.device)
        for node in able
    }
    ray.wait(list(waiting.values()), num_returns=len(waiting), timeout=HANDSHAKE_SECONDS)
    described = [_described(node, waiting.get(node.id), need) for node in nodes]
    if all(node.silent for node in described):
        raise SamcmpError(
            f"no node answered within {HANDSHAKE_SECONDS:.0f} s: others use "
            f"{'their GPUs' if need.gpus else 'them'}, or they cannot start a process",
            where=need.where,
            remedy="`ray status` says what is in use.",
        )
    return described


def _machine(facts: Mapping[str, Any], need: Need) -> Machine:
    total = facts.get("Resources", {})
    cpus, gpus = int(total.get("CPU", 0)), int(total.get("GPU", 0))
    slots = min(cpus // need.cpus, gpus // need.gpus if need.gpus else cpus)
    return Machine(facts["NodeID"], facts["NodeManagerHostname"], cpus, gpus, slots)


def _distinct(nodes: Iterable[Machine]) -> Iterable[Machine]:
    """Name nodes of one host apart."""
    nodes = list(nodes)
    hosts = Counter(node.name for node in nodes)
    return (node if hosts[node.name] == 1 else replace(node, name=f"{node.name}/{node.id[:6]}") for node in nodes)


def resources(cpus: int, gpus: int) -> str:
    """Say how much: ``1 GPU and 4 CPUs``."""
    return f"{counted(gpus, 'GPU')} and {counted(cpus, 'CPU')}" if gpus else counted(cpus, "CPU")


def _described(node: Machine, ref: Any, need: Need) -> Machine:
    """Add what a node says of itself, or why it says nothing. Raises SamcmpError."""
    import ray

    if ref is None:
        return replace(node, silent=f"has {resources(node.cpus, node.gpus)}")
    try:
        answered = taken(ray.get(ref, timeout=0), [node])
        return replace(node, description=answered[0] or b"")
    except ray.exceptions.GetTimeoutError:
        ray.cancel(ref, force=True)
        return replace(node, silent=f"did not answer within {HANDSHAKE_SECONDS:.0f} s")
    except ray.exceptions.RayTaskError as error:
        raise broken(error, node.name) from None
    except ray.exceptions.RayError:
        return replace(node, silent="ended, or cannot start a process")


# ---------------------------------------------------------------------------------------------- what is sent there


@cache
def call(*, fresh: bool = False) -> Any:
    """The one function that Ray sends to nodes: it calls what is installed there, by name.

    Args:
        fresh: in a process that runs nothing else afterwards.
    """
    import ray

    def on_this_node(function: str, *arguments: Any) -> Any:
        import importlib

        worker = importlib.import_module("samcmp.engines.ray_worker")
        return worker.answer(function, *arguments)

    options = {"max_calls": 1} if fresh else {}
    return ray.remote(max_retries=0, **options)(on_this_node)


@cache
def prepared(nodes: frozenset[str], *, cpus: int, gpus: int, fresh: bool) -> Any:
    """Return :func:`call` for any of the nodes. Made once: to make it takes as long as to send a case."""
    return call(fresh=fresh).options(num_cpus=cpus, num_gpus=gpus, label_selector=one_of(nodes), name="samcmp")


def one_of(nodes: Iterable[str]) -> dict[str, str]:
    """Select nodes by Ray's identifiers, for the option label_selector."""
    return {"ray.io/node-id": f"in({','.join(sorted(nodes))})"}


def taken(answer: Any, machines: Iterable[Machine]) -> list[bytes | None]:
    """Return what a worker sent. Raises the SamcmpError that it met, with the name of its node."""
    outcome, parts = answer
    if outcome == "done":
        return list(parts)
    said = json.loads(parts[0])
    node = next((machine.name for machine in machines if machine.id == said["node"]), said["node"])
    where = said["where"] or ""
    named = where if where.startswith("node ") else f"node {node}: {where}".removesuffix(": ")
    raise SamcmpError(said["what"], where=named, remedy=said["remedy"])


def broken(error: Any, node: str) -> SamcmpError:
    """Build the error for a worker that could not run our code."""
    cause = error.cause if isinstance(error.cause, BaseException) else error
    where = f"node {node}" if node else "a node"
    if isinstance(cause, ModuleNotFoundError):
        return SamcmpError(
            f"cannot import {cause.name}",
            where=where,
            remedy='Install the same samcmp there, `pip install "samcmp[ray]"`, in the Python that starts Ray.',
        )
    return SamcmpError(
        f"{type(cause).__name__}: {in_one_line(cause)[:300]}",
        where=where,
        remedy="Install the same samcmp on all machines; the log of its worker, in session_latest/logs of Ray there, "
        "says more.",
    )
