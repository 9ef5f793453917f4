"""Ray: cases run on the nodes of a cluster, or of this machine; no shared folder is needed.

Only the command writes the store. It hands out at most two cases a slot, so its memory does not grow with the plan; a
case that a node or a worker process takes along is run again. What speaks with Ray is a process of its own.
"""

from __future__ import annotations

import importlib.util
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from samcmp import machine
from samcmp.child import Child, Died
from samcmp.engines import Node, Pool, Setting, handshake, order, ray_driver, undetachable
from samcmp.engines.ray_cluster import Machine, Need, resources
from samcmp.engines.ray_driver import Delivered, Lines, Lost, Measured, News
from samcmp.engines.work import Began, Finished, Said, Work
from samcmp.errors import ConfigError, SamcmpError, UsageError
from samcmp.experiment.kinds import Kind
from samcmp.experiment.where import RayTable
from samcmp.records import Case, Record, from_json
from samcmp.training.setup import failed, foreign

if TYPE_CHECKING:
    from samcmp.engines.work import Listen
    from samcmp.training.setup import Options

PROBE_SECONDS = 3.0  # for the address to answer: Ray itself waits for minutes
CONNECT_SECONDS = 150.0  # to join a cluster and hear from its nodes
LOOK_SECONDS = 0.2  # between two looks for cases that others have let go
LAST_SECONDS = 20.0  # for the process that speaks with Ray to end by itself
A_SLOT = 2  # cases in flight: the next one waits beside the one that runs


class Ray:
    """A cluster of Ray as an engine. Raises ValueError for the settings of another one."""

    def __init__(self, setting: Setting) -> None:
        if not isinstance(setting.where.settings, RayTable):
            raise ValueError(f"settings of the engine {setting.where.engine}")
        self.setting = setting
        self.table = setting.where.settings
        self.child: Child | None = None

    def look(self) -> Pool:
        child = self._start()
        try:
            machines: list[Machine] = child.receive(seconds=CONNECT_SECONDS)
        except Died as death:
            child.end()  # it may wait for Ray, and hears nothing then
            self.child = None
            raise self._lost(death, "Ray did not connect") from None
        ours = machine.versions()
        nodes = [self._node(one) for one in machines]
        for node in nodes:
            if not node.left_out:
                handshake.check_versions(node.versions, node=node.name, ours=ours)
        return Pool(tuple(nodes))

    def announce(self, cases: Mapping[str, Case], pool: Pool) -> Sequence[str]:
        where = f"Ray at {self.table.address}" if self.table.address else "A Ray of this machine, which ends with it"
        a_case = resources(self.table.cpus, self._gpus)
        return [f"{where}: {a_case} a case, at most {A_SLOT * pool.slots} cases handed out at a time."]

    def train(
        self, work: Work, options: Options, *, pool: Pool, listen: Listen, timeout: float | None
    ) -> Iterator[Finished]:
        self._send("share", order.terms(work.cases.values(), options, timeout=timeout))
        names = {kind: frozenset(n.name for n in pool.used if n.kind == kind) for kind in pool.kinds}
        taken: dict[str, Kind] = {}
        try:
            while work.more or taken:
                beside = Counter(taken.values())
                for kind, slots in pool.kinds.items():
                    for _ in range(A_SLOT * slots - beside[kind]):
                        if (one := work.take(kind)) is None:
                            break
                        taken[one[0]] = kind
                        self._send("train", order.Order(*one), names[kind], foreign(one[1]))
                if not taken:
                    time.sleep(LOOK_SECONDS)
                    continue
                event = self._receive()
                if isinstance(event, (Delivered, Lost)):
                    del taken[event.key]
                    yield self._finished(event, work.cases[event.key], options, pool)
                else:
                    _tell(event, work.cases, listen)
        finally:
            if taken:
                self._send("cancel")
                for key in taken:
                    work.give_back(key)

    def profile(
        self, session: Mapping[str, Case], options: Options, *, pool: Pool, seconds: float, say: Callable[[str], None]
    ) -> list[Record]:
        node = pool.used[0]
        self._send("share", order.terms(session.values(), options))
        orders = [order.Order(*one) for one in session.items()]
        self._send("profile", orders, node.name, pool.fingerprint, seconds)
        interrupted = False
        while True:
            try:
                event = self._receive()
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                self._send("interrupt")
                continue
            if isinstance(event, Measured):
                return [
                    self._delivered(one, (data, None)).record for one, data in zip(orders, event.records, strict=True)
                ]
            if isinstance(event, Lost):
                if interrupted:
                    raise KeyboardInterrupt
                return [self._failed(event, one.key, one.case, options, pool) for one in orders]
            _tell(event, session, lambda said: say(said.text) if isinstance(said, Said) else None)

    def detach(self, *_: object, **__: object) -> str:
        raise undetachable("ray")

    def close(self) -> None:
        child, self.child = self.child, None
        if child is None:
            return
        try:
            with suppress(OSError):  # it has ended
                child.pipe.send(("close",))
            child.process.join(LAST_SECONDS)
        finally:
            child.end()

    # ------------------------------------------------------------------------------------------ the other process

    @property
    def _gpus(self) -> int:
        """GPUs of a case. Raises ConfigError where there is none for --device cuda."""
        on_gpu = self.setting.device != "cpu"
        gpus = int(on_gpu) if self.table.gpus is None else self.table.gpus
        if on_gpu and not gpus:
            raise ConfigError(
                "cases with --device cuda need a GPU, found 0", where=self.setting.where.at("gpus"),
                remedy="Leave it out, or use --device cpu.",
            )  # fmt: skip
        return gpus

    def _start(self) -> Child:
        where, address = self.setting.where.option, self.table.address
        gpus = self._gpus
        if importlib.util.find_spec("ray") is None:
            raise UsageError("Ray is not installed", where="--on ray", remedy='pip install "samcmp[ray]"')
        if address is not None:
            _probe(address, where)
            _refuse_outside(address, where)
        need = Need(address, self.table.cpus, gpus, self.setting.device, where, max(1, int(machine.usable_cores())))
        self.child = Child(ray_driver.serve, need)
        return self.child

    def _send(self, request: str, *arguments: Any) -> None:
        if self.child is None:
            raise RuntimeError("look comes first")
        with suppress(OSError):  # it has ended: what it left in the pipe says why
            self.child.pipe.send((request, *arguments))

    def _receive(self) -> Any:
        """Return the next event. Raises SamcmpError."""
        if self.child is None:
            raise RuntimeError("look comes first")
        try:
            return self.child.receive()
        except Died as death:
            raise self._lost(death, "the connection to Ray was lost") from None

    def _lost(self, death: Died, what: str) -> SamcmpError:
        return SamcmpError(
            f"{what}: {death.reason}",
            where=self.setting.where.option,
            remedy="See on this machine that `ray status` shows the cluster, and run the same command again: "
            "what has finished is kept.",
        )

    # ------------------------------------------------------------------------------------------ what came of it

    def _node(self, one: Machine) -> Node:
        if one.silent:
            return Node(one.name, one.slots, Kind(self.setting.device.partition(":")[0]), left_out=one.silent)
        try:
            return from_json(Node, one.description)
        except ValueError as error:
            raise SamcmpError(
                f"describes itself in a way that this version does not read: {error}", where=f"node {one.name}",
                remedy="Install the same samcmp on both.",
            ) from None  # fmt: skip

    def _finished(self, event: Delivered | Lost, case: Case, options: Options, pool: Pool) -> Finished:
        if isinstance(event, Lost):
            return Finished(self._failed(event, event.key, case, options, pool), None)
        return self._delivered(order.Order(event.key, case), event.delivery)

    def _delivered(self, one: order.Order, delivery: order.Delivery) -> Finished:
        """Read what came of an order. Raises SamcmpError for what is damaged or answers another one."""
        try:
            return order.delivered(one, delivery)
        except ValueError as error:
            raise SamcmpError(
                f"a delivery is damaged: {error}", where=self.setting.where.option,
                remedy="Run the same command again: what has finished is kept.",
            ) from None  # fmt: skip

    def _failed(self, event: Lost, key: str, case: Case, options: Options, pool: Pool) -> Record:
        """Make the Record of a case whose process did not live to make it, with what is known of its node."""
        record = failed(case, options, key=key, status=event.status, reason=event.reason)
        node = next((node for node in pool.nodes if node.name == event.node), None)
        facts = {} if node is None else {name: value for name, value in asdict(node.kind).items() if value}
        return replace(record, machine=facts, versions=record.versions if node is None else dict(node.versions))


def _probe(address: str, where: str) -> None:
    """Raise SamcmpError where nothing listens at an address."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        why = "timed out" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or str(error)
        raise SamcmpError(
            f"nothing answers there ({why})",
            where=where,
            remedy=f"Start it, `ray start --head --port={port}` on {host}, or correct the address.",
        ) from None


def _refuse_outside(address: str, where: str) -> None:
    """Raise SamcmpError where this machine is no node: Ray would look for its own part of the cluster for a minute."""
    import psutil

    if not any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"])):
        raise SamcmpError(
            "this machine is not a node of the cluster, and Ray takes work from its nodes only",
            where=where,
            remedy=f"Join it first, `ray start --address={address} --num-cpus=0` (it then runs no cases itself).",
        )


def _tell(event: Lines | News, cases: Mapping[str, Case], listen: Listen) -> None:
    """Pass on what workers or the process that speaks with Ray said, as what an engine says of cases."""
    from samcmp.experiment.run import Progress

    if isinstance(event, News):
        listen(Said(event.text, news=True))
        return
    for line in event.lines:
        case = cases.get(line["key"])
        if "say" in line:
            listen(Said(line["say"]))
        elif case is not None:
            if line.get("began"):
                listen(Began(case, place=line["node"]))
            if line["progress"] is not None:
                listen(Progress(case, **line["progress"]))
