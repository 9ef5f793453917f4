"""The process that speaks with Ray for ``--on ray``: it hands out cases, waits, and tries again what a node took along.

It is a process of its own because Ray ends the one that it is in where the head of a cluster is lost, and prints to
its standard output. Words, bytes and plain objects pass between it and the command; it ends when the command does.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from samcmp.engines import order
from samcmp.engines.order import Order, Terms
from samcmp.engines.ray_cluster import MAILBOX, Machine, Need, broken, connect, look, prepared, taken
from samcmp.errors import SamcmpError
from samcmp.records import Json, Status

WAIT_SECONDS = 0.05  # for a result, before the command is listened to
NEXT_SECONDS = 0.003  # for the command to send a case in place of one that has ended
DRAIN_SECONDS = 1.0  # between two looks at what workers say
PATIENCE_SECONDS = 20.0  # for anything to begin, before it is said that others are waited for
NODES_SECONDS = 5.0  # between two looks at which nodes are left
LINES = 10_000  # that are kept of what workers say, where nobody reads it
NODE_LOSSES, CRASHES = 3, 1  # after which a case is tried again
CRASHED = "its worker process was killed, or ended by itself, twice (often: out of memory)"


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
    return ray.remote(num_cpus=0, name=MAILBOX, scheduling_strategy=beside)(Mailbox).remote(LINES)


# ---------------------------------------------------------------------------------------------- cases in flight


@dataclass(slots=True)
class _Driver:
    """Cases in flight, and the conversation with the command."""

    pipe: Connection
    need: Need
    machines: list[Machine]
    flights: dict[Any, _Flight] = field(default_factory=dict)  # by Ray's reference
    shared: tuple[bytes, dict[str, str]] = (b"", {})  # terms, names of nodes
    timeout: float | None = None
    stored: dict[str, Any] = field(default_factory=dict)  # SHA-256 -> reference
    mailbox: Any = None
    draining: Any = None
    next_drain: float = 0.0
    last_sign: float = 0.0  # when something began or ended
    waited: bool = False  # and it was said
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
        patience = NEXT_SECONDS if self.flights else WAIT_SECONDS
        while self.pipe.poll(patience):
            request, *arguments = self.pipe.recv()
            getattr(self, request)(*arguments)
            patience = 0

    # what the command may ask

    def share(self, terms: Terms) -> None:
        """Take what the next cases have in common, and put their files where nodes can get them."""
        import numpy as np
        import ray

        for file in terms.files:
            if file.sha256 not in self.stored:
                self.stored[file.sha256] = ray.put(np.fromfile(Path(file.path), dtype=np.uint8))
        self.shared = order.to_bytes(terms), {machine.id: machine.name for machine in self.machines}
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
        asked = ("profile", order.to_bytes(orders), fingerprint, seconds)
        self._submit(
            _Flight(
                "", "the profile session", frozenset({whole.id}), asked, cpus=whole.cpus, gpus=whole.gpus, node=node
            )
        )

    def _submit(self, flight: _Flight) -> None:
        if not self.flights:
            self.last_sign = time.monotonic()
        function, *arguments = flight.call
        sent = prepared(flight.nodes, cpus=flight.cpus, gpus=flight.gpus, fresh=flight.fresh)
        self.flights[sent.remote(function, self.shared, self.stored, *arguments)] = flight

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
        self.last_sign = time.monotonic()
        try:
            parts = taken(ray.get(ref), self.machines)
        except ray.exceptions.RayTaskError as error:
            raise broken(error, flight.node) from None
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
            if flight is not None and "since" in line:
                line["began"] = flight.began is None
                flight.began, flight.node = time.monotonic() - line["since"], line["node"]
                self.last_sign, self.waited = time.monotonic(), False
        if lines:
            self.pipe.send(Lines(lines))

    def _look_after(self) -> None:
        """End what takes too long, and everything where no node is left that could run it."""
        import ray

        now = time.monotonic()
        if (
            not self.waited
            and now - self.last_sign > PATIENCE_SECONDS
            and all(flight.began is None for flight in self.flights.values())
        ):
            self.waited = True
            self.pipe.send(News("waiting for the work of others on the cluster: nothing of this command has begun"))
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
