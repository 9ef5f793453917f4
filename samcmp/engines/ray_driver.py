"""The process that speaks with Ray for ``--on ray``: it hands out cases, waits, and tries again what a node took along.

It is a process of its own because Ray ends the one that it is in where the head of a cluster is lost, and prints to
its standard output. Words, bytes and plain objects pass between it and the command; it ends when the command does.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from samcmp import machine
from samcmp.engines import order
from samcmp.engines.order import Order, Terms
from samcmp.errors import DeviceError, SamcmpError, in_one_line
from samcmp.records import Json, Status

HANDSHAKE_SECONDS = 60.0  # for a node to say what it is: it may be busy with the work of others
WAIT_SECONDS = 0.05  # for a result, before the command is listened to
DRAIN_SECONDS = 1.0  # between two looks at what workers say
NODES_SECONDS = 5.0  # between two looks at which nodes are left
LINES = 10_000  # that are kept of what workers say, where nobody reads it
NODE_LOSSES, CRASHES = 3, 1  # after which a case is tried again
CRASHED = "its worker process was killed, or ended by itself, twice (often: out of memory)"


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


@dataclass(frozen=True, slots=True)
class Delivered:
    """A case was run."""

    key: str
    delivery: order.Delivery


@dataclass(frozen=True, slots=True)
class Lost:
    """A case has ended without a Record."""

    key: str
    status: Status
    reason: str
    node: str  # empty where it is not known


@dataclass(frozen=True, slots=True)
class Measured:
    """A session was measured: its Records as JSON."""

    records: list[bytes]


@dataclass(frozen=True, slots=True)
class Lines:
    """What workers said."""

    lines: list[Json]


@dataclass(frozen=True, slots=True)
class News:
    """What the user should read."""

    text: str


@dataclass(slots=True)
class _Flight:
    """A case that was handed out, or a session."""

    key: str  # empty: a session
    name: str
    nodes: frozenset[str]  # by id, any of which will do
    call: tuple[Any, ...]  # of samcmp.engines.ray_worker
    cpus: int
    gpus: int
    fresh: bool = True  # a process that runs nothing else, before or after
    began: float | None = None
    node: str = ""
    losses: int = 0
    crashes: int = 0


def serve(pipe: Connection, need: Need) -> None:
    """Connect, send the nodes, and do what the command asks until it closes or is gone. Raises SamcmpError."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # Ray's own words: what matters of them is said again
        os.dup2(quiet, descriptor)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    connect(need)
    import ray

    try:
        machines = look(need)
        pipe.send(machines)
        _Driver(pipe, need, machines).run()
    except EOFError:  # the command is gone
        pass
    finally:
        ray.shutdown()


# ---------------------------------------------------------------------------------------------- a cluster


def connect(need: Need) -> None:
    """Join a cluster, or start one of this machine. Raises SamcmpError."""
    import ray

    more: dict[str, Any] = {} if need.address else {"num_cpus": need.cores, "include_dashboard": False}
    try:
        ray.init(address=need.address or "local", log_to_driver=False, logging_level="ERROR", **more)
    except ray.exceptions.AuthenticationError:
        raise SamcmpError(
            "the cluster refuses this command: it asks for a token, or for another one",
            where=need.where,
            remedy="Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the token of its head.",
        ) from None
    except (RuntimeError, ConnectionError, ValueError, OSError, ray.exceptions.RayError) as error:
        text = in_one_line(error)
        if "Version mismatch" in text:
            versions = dict(re.findall(r"(Ray|Python): ([\w.+]+)", text.partition("This process")[0]))
            here = {"Ray": ray.__version__, "Python": machine.versions()["python"]}
            said = [f"runs {name} {theirs}, this machine {here[name]}" for name, theirs in versions.items()
                    if theirs != here[name]]  # fmt: skip
            raise SamcmpError(
                f"the cluster {', '.join(said) or text}", where=need.where, remedy="Install the same on both."
            ) from None
        raise SamcmpError(
            f"Ray does not connect: {text[:300]}",
            where=need.where,
            remedy="`ray status` on this machine must show the cluster; the remedy is then in its own message.",
        ) from None


def look(need: Need) -> list[Machine]:
    """List the nodes with what each says of itself. Raises SamcmpError."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [_machine(facts, need) for facts in ray.nodes() if facts["Alive"]]
    nodes = [*_distinct(sorted(nodes, key=lambda node: (node.name, node.id)))]
    able = [node for node in nodes if node.slots]
    if not able:
        offers = "; ".join(f"{node.name} has {_resources(node.cpus, node.gpus)}" for node in nodes)
        raise SamcmpError(
            f"no node offers {_resources(need.cpus, need.gpus)}",
            where=need.where,
            remedy=f"Ask for less with cpus and gpus of a table [run.NAME], or add nodes: {offers}.",
        )
    waiting = {
        node.id: _call(fresh=need.gpus > 0)
        .options(
            num_cpus=0,
            num_gpus=need.gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        )
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
    resources = facts.get("Resources", {})
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    slots = min(cpus // need.cpus, gpus // need.gpus if need.gpus else cpus)
    return Machine(facts["NodeID"], facts["NodeManagerHostname"], cpus, gpus, slots)


def _distinct(nodes: Iterable[Machine]) -> Iterable[Machine]:
    """Name nodes of one host apart."""
    nodes = list(nodes)
    hosts = Counter(node.name for node in nodes)
    return (node if hosts[node.name] == 1 else replace(node, name=f"{node.name}/{node.id[:6]}") for node in nodes)


def _resources(cpus: int, gpus: int) -> str:
    named = [f"{gpus} GPU{'' if gpus == 1 else 's'}"] if gpus else []
    return " and ".join([*named, f"{cpus} CPU{'' if cpus == 1 else 's'}"])


def _described(node: Machine, ref: Any, need: Need) -> Machine:
    """Add what a node says of itself, or why it says nothing. Raises SamcmpError."""
    import ray

    if ref is None:
        return replace(node, silent=f"has {_resources(node.cpus, node.gpus)}")
    try:
        answered = _taken(ray.get(ref, timeout=0), need.where)
        return replace(node, description=answered[0] or b"")
    except ray.exceptions.GetTimeoutError:
        ray.cancel(ref, force=True)
        return replace(node, silent=f"did not answer within {HANDSHAKE_SECONDS:.0f} s")
    except ray.exceptions.RayTaskError as error:
        raise _broken(error, node.name) from None
    except ray.exceptions.RayError:
        return replace(node, silent="ended, or cannot start a process")


@cache
def _call(*, fresh: bool = False) -> Any:
    """The one function that Ray sends to nodes: it calls what is installed there, by name."""
    import ray

    def on_this_node(function: str, *arguments: Any) -> Any:
        import importlib

        worker = importlib.import_module("samcmp.engines.ray_worker")
        return worker.answer(function, *arguments)

    options = {"max_calls": 1} if fresh else {}
    return ray.remote(max_retries=0, **options)(on_this_node)


def _one_of(nodes: Iterable[str]) -> dict[str, str]:
    return {"ray.io/node-id": f"in({','.join(sorted(nodes))})"}


def _mailbox() -> Any:
    """Start the actor that keeps what workers say until it is read. It is beside this process and ends with it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    class Mailbox:
        def __init__(self, most: int) -> None:
            from collections import deque

            self.lines: Any = deque(maxlen=most)

        def put(self, line: bytes) -> None:
            self.lines.append(line)

        def drain(self) -> list[bytes]:
            lines = list(self.lines)
            self.lines.clear()
            return lines

    beside = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=beside)(Mailbox).remote(LINES)


def _taken(answer: Any, where: str) -> list[bytes | None]:
    """Return what a worker sent. Raises the SamcmpError that it met."""
    outcome, parts = answer
    if outcome == "done":
        return list(parts)
    said = json.loads(parts[0])
    raise SamcmpError(said["what"], where=said["where"] or where, remedy=said["remedy"])


def _broken(error: Any, node: str) -> SamcmpError:
    """Build the error for a worker that could not run our code."""
    cause = error.cause if isinstance(error.cause, BaseException) else error
    where = f"node {node}" if node else "a node"
    if isinstance(cause, ModuleNotFoundError):
        return SamcmpError(
            f"cannot import {cause.name}",
            where=where,
            remedy='Install the same samcmp there, `pip install "samcmp[ray]"`, in the Python that starts Ray.',
        )
    return SamcmpError(f"{type(cause).__name__}: {in_one_line(cause)[:300]}", where=where,
                       remedy="The log of its worker, below /tmp/ray/session_latest/logs there, says more.")  # fmt: skip


# ---------------------------------------------------------------------------------------------- cases in flight


@dataclass(slots=True)
class _Driver:
    """Cases in flight, and the conversation with the command."""

    pipe: Connection
    need: Need
    machines: list[Machine]
    flights: dict[Any, _Flight] = field(default_factory=dict)  # by Ray's reference
    shared: Any = None
    timeout: float | None = None
    stored: dict[str, Any] = field(default_factory=dict)  # SHA-256 -> reference
    mailbox: Any = None
    draining: Any = None
    next_drain: float = 0.0
    next_look: float = 0.0
    closed: bool = False

    def run(self) -> None:
        import ray

        self.mailbox = _mailbox()
        while not self.closed:
            self._listen()
            if self.flights:
                for ref in ray.wait(list(self.flights), num_returns=1, timeout=WAIT_SECONDS)[0]:
                    self._ended(ref)
                self._look_after()
            self._drain()

    def _listen(self) -> None:
        """Do what the command asks."""
        idle = not self.flights
        while self.pipe.poll(WAIT_SECONDS if idle else 0):
            request, *arguments = self.pipe.recv()
            getattr(self, request)(*arguments)
            idle = False

    # what the command may ask

    def share(self, terms: Terms) -> None:
        """Take what the next cases have in common, and put their files where nodes can get them."""
        import numpy as np
        import ray

        for file in terms.files:
            if file.sha256 not in self.stored:
                self.stored[file.sha256] = ray.put(np.fromfile(Path(file.path), dtype=np.uint8))
        self.shared = ray.put([order.to_bytes(terms), {machine.id: machine.name for machine in self.machines}])
        self.timeout = terms.timeout

    def train(self, one: Order, nodes: frozenset[str], fresh: bool) -> None:
        """Hand out a case. ``fresh``: in a process that runs no other."""
        name = f"{one.case.dataset} {one.case.model} {one.case.arm} {one.case.block}"
        self._submit(
            _Flight(
                one.key,
                name,
                frozenset(machine.id for machine in self.machines if machine.name in nodes),
                ("train", order.to_bytes(one)),
                fresh=fresh or self.need.gpus > 0,  # a process that has used one GPU cannot change to another
                cpus=self.need.cpus,
                gpus=self.need.gpus,
            )
        )

    def profile(self, orders: Sequence[Order], node: str, fingerprint: str, seconds: float) -> None:
        """Measure a session on a node as a whole."""
        whole = next(machine for machine in self.machines if machine.name == node)
        call = ("profile", order.to_bytes(orders), fingerprint, seconds)
        self._submit(
            _Flight("", "the profile session", frozenset({whole.id}), call, cpus=whole.cpus, gpus=whole.gpus, node=node)
        )

    def _submit(self, flight: _Flight) -> None:
        function, *arguments = flight.call
        call = _call(fresh=flight.fresh).options(
            num_cpus=flight.cpus,
            num_gpus=flight.gpus,
            label_selector=_one_of(flight.nodes),
            name=f"samcmp {flight.key[:8] or 'session'}",
        )
        self.flights[call.remote(function, self.shared, self.stored, self.mailbox, *arguments)] = flight

    def interrupt(self) -> None:
        """Ask what runs to end well: a session then sends what it has measured."""
        import ray

        for ref in self.flights:
            ray.cancel(ref, force=False)

    def cancel(self) -> None:
        """End everything that is in flight."""
        import ray

        for ref in self.flights:
            ray.cancel(ref, force=True)
        self.flights.clear()

    def close(self) -> None:
        self.cancel()
        self.closed = True

    # ------------------------------------------------------------------------------------------ what happens

    def _ended(self, ref: Any) -> None:
        """Send what came of a case, or hand it out again. Raises SamcmpError for what the user can mend."""
        import ray

        flight = self.flights.pop(ref)
        try:
            parts = _taken(ray.get(ref), self.need.where)
        except ray.exceptions.RayTaskError as error:
            raise _broken(error, flight.node) from None
        except ray.exceptions.OutOfMemoryError:
            self.pipe.send(Lost(flight.key, "out-of-memory", "Ray ended it: its node had no memory left", flight.node))
        except ray.exceptions.TaskCancelledError:
            self.pipe.send(Lost(flight.key, "error", "was cancelled by someone else", flight.node))
        except ray.exceptions.WorkerCrashedError:
            flight.crashes += 1
            if flight.crashes > CRASHES:
                self.pipe.send(Lost(flight.key, "error", CRASHED, flight.node))
            else:
                self._again(flight, f"the worker process of {flight.name} has ended{_at(flight.node)}")
        except ray.exceptions.RayError as error:  # of a node: it has ended, or its results can no longer be had
            node = self._node_of(error) or flight.node
            flight.losses += 1
            if flight.losses > NODE_LOSSES:
                self.pipe.send(Lost(flight.key, "error", f"its node was lost {flight.losses} times", node))
            else:
                self._again(flight, f"{f'node {node}' if node else 'a node'} has ended with {flight.name}")
        else:
            self.pipe.send(Measured([part for part in parts if part]) if not flight.key else
                           Delivered(flight.key, (parts[0] or b"", parts[1])))  # fmt: skip

    def _again(self, flight: _Flight, what: str) -> None:
        flight.began, flight.node = None, ""
        self.pipe.send(News(f"{what}: it is run again"))
        self._submit(flight)

    def _node_of(self, error: BaseException) -> str:
        """Name the node that Ray's message is about."""
        return next((node.name for node in self.machines if node.id in str(error)), "")

    def _drain(self) -> None:
        """Take what workers said, once a second."""
        import ray

        if self.draining is None:
            if time.monotonic() >= self.next_drain:
                self.draining = self.mailbox.drain.remote()
            return
        if not ray.wait([self.draining], timeout=0)[0]:
            return
        lines = [json.loads(line) for line in ray.get(self.draining)]
        self.draining, self.next_drain = None, time.monotonic() + DRAIN_SECONDS
        by_key = {flight.key: flight for flight in self.flights.values()}
        for line in lines:
            flight = by_key.get(line["key"])
            if flight is not None and "began" in line:
                flight.began, flight.node = time.monotonic(), line["node"]
        if lines:
            self.pipe.send(Lines(lines))

    def _look_after(self) -> None:
        """End what takes too long, and everything where no node is left that could run it."""
        import ray

        now = time.monotonic()
        for ref, flight in list(self.flights.items()):
            if self.timeout is not None and flight.began is not None and now - flight.began > self.timeout:
                ray.cancel(ref, force=True)
                del self.flights[ref]
                self.pipe.send(Lost(flight.key, "timeout", f"took longer than {self.timeout:g} s", flight.node))
        if now < self.next_look or not self.flights:
            return
        self.next_look = now + NODES_SECONDS
        alive = {facts["NodeID"] for facts in ray.nodes() if facts["Alive"]}
        for flight in self.flights.values():
            if not flight.nodes & alive:
                lost = ", ".join(sorted(node.name for node in self.machines if node.id in flight.nodes))
                raise SamcmpError(
                    f"no node is left for {flight.name}: {lost} {'has' if len(flight.nodes) == 1 else 'have'} ended",
                    where=self.need.where,
                    remedy="Add nodes and run the same command again: what has finished is kept.",
                )


def _at(node: str) -> str:
    return f" on node {node}" if node else ""
