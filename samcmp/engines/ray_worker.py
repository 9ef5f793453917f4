"""What a node of Ray does for ``--on ray``: says what it is, trains, measures. Words and bytes in, bytes out.

Ray calls these functions by their names, so that nothing of this project is pickled. Files come by their SHA-256 from
Ray's object store and stay in this machine's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samcmp import files
from samcmp.engines import handshake, order
from samcmp.engines.order import SentFile
from samcmp.engines.ray_cluster import MAILBOX
from samcmp.engines.work import Finished
from samcmp.errors import DeviceError, SamcmpError
from samcmp.experiment import kinds
from samcmp.experiment.keys import Inputs

if TYPE_CHECKING:
    from samcmp.experiment.run import Progress
    from samcmp.training.setup import Options

Answer = tuple[str, list[bytes | None]]  # "done" and what came of it, or "refused" and the error as JSON
SECONDS_BETWEEN = 1.0  # of two lines that one process says of its runs


Shared = tuple[bytes, Mapping[str, str]]  # the terms of the plan as JSON, names of nodes by Ray's identifiers


def answer(function: str, *arguments: Any) -> Answer:
    """Call a function of this module. A SamcmpError comes back as JSON with Ray's identifier of the node."""
    try:
        return "done", _FUNCTIONS[function](*arguments)
    except SamcmpError as error:
        import ray

        here = ray.get_runtime_context().get_node_id()
        said = {"what": error.what, "where": error.where, "remedy": error.remedy, "node": here}
        return "refused", [json.dumps(said).encode()]


def describe(node: str, slots: int, device: str) -> list[bytes | None]:
    """Say what this node is."""
    return [order.to_bytes(handshake.here(node, slots=slots, device=device))]


def train(shared: Shared, stored: Mapping[str, Any], ordered: bytes) -> list[bytes | None]:
    """Run one case.

    Args:
        stored: SHA-256 -> where Ray's object store has the file.
        ordered: the :class:`order.Order` as JSON.

    Raises SamcmpError.
    """
    from samcmp.experiment import run

    one = order.order_from(ordered)
    ready = _ready(shared, stored)
    handshake.check_keys([one], ready.inputs, node=ready.node)
    running = _Running(one.key, ready.node, time.monotonic())
    speaker = _speaker()
    speaker.running = running
    try:
        record, predictions = run.train(one.case, ready.options, key=one.key, listen=running.listen)
    finally:
        speaker.running = None
    return list(order.delivery(Finished(record, predictions)))


@dataclass(slots=True)
class _Running:
    """The case that this process has, since when and how far."""

    key: str
    node: str
    began: float
    now: Progress | None = None

    def listen(self, now: Progress) -> None:
        self.now = now

    def line(self) -> bytes:
        now, self.now = self.now, None
        return _line(self.key, node=self.node, since=time.monotonic() - self.began, now=now)


class _Speaker(threading.Thread):
    """Tells the command what this process is at: when a case has begun, then once a second; of a short one nothing."""

    def __init__(self, mailbox: Any) -> None:
        super().__init__(daemon=True)
        self.mailbox = mailbox
        self.running: _Running | None = None

    def run(self) -> None:
        while True:
            time.sleep(0.1)
            if (running := self.running) is not None:
                self.mailbox.put.remote(running.line())
                time.sleep(SECONDS_BETWEEN - 0.1)


def _line(key: str, *, node: str, since: float, now: Progress | None) -> bytes:
    progress = None if now is None else {name: getattr(now, name) for name in PROGRESS}
    return json.dumps({"key": key, "node": node, "since": since, "progress": progress}).encode()


def _mailbox() -> Any:
    """The actor that takes lines for the command that submits."""
    import ray

    return ray.get_actor(MAILBOX)


_speaking: _Speaker | None = None


def _speaker() -> _Speaker:
    """Return the speaker of this process, which serves one command all its life."""
    global _speaking
    if _speaking is None:
        _speaking = _Speaker(_mailbox())
        _speaking.start()
    return _speaking


PROGRESS = ("epoch", "epochs", "train_loss", "valid_score", "metric", "graphs_per_second", "seconds")


def profile(
    shared: Shared, stored: Mapping[str, Any], ordered: bytes, fingerprint: str, seconds: float
) -> list[bytes | None]:
    """Measure a session on the device with this fingerprint, which Ray has given to it alone. Raises SamcmpError."""
    from samcmp.profiling.processes import measure
    from samcmp.profiling.results import SessionOptions

    signal.signal(signal.SIGINT, signal.default_int_handler)  # how ^C arrives; the session then keeps what it has
    orders = order.orders_from(ordered)
    ready = _ready(shared, stored)
    handshake.check_keys(orders, Inputs(ready.options.datasets, fingerprint=fingerprint), node=ready.node)
    mailbox = _mailbox()
    mailbox.put.remote(_line("", node=ready.node, since=0.0, now=None))
    records = measure(
        {one.key: one.case for one in orders},
        replace(ready.options, device=_device(ready.options.device, fingerprint, ready.node)),
        session=SessionOptions(seconds),
        say=lambda text: mailbox.put.remote(json.dumps({"key": "", "say": text}).encode()),
    )
    return [order.to_bytes(record) for record in records]


def _device(device: str, fingerprint: str, node: str) -> str:
    """Find the GPU that the keys of the session name among those that are visible here."""
    if device == "cpu":
        names = ["cpu"]
    else:
        from samcmp.profiling.nvml import visible_gpus

        names = [f"cuda:{index}" for index in range(len(visible_gpus()))]
    found = next((name for name in names if kinds.fingerprint(name) == fingerprint), None)
    if found is None:
        raise DeviceError(
            "is no longer the machine that the session was planned for", where=f"node {node}",
            remedy="Run the same command again: it plans for the nodes that are there now.",
        )  # fmt: skip
    return found


_FUNCTIONS: Mapping[str, Callable[..., list[bytes | None]]] = {"describe": describe, "train": train, "profile": profile}


# ---------------------------------------------------------------------------------------------- made ready


@dataclass(frozen=True, slots=True)
class _Ready:
    """Terms that this process has checked, with the files in place."""

    options: Options
    inputs: Inputs
    node: str


_last: tuple[bytes, _Ready] | None = None


def _ready(shared: Shared, stored: Mapping[str, Any]) -> _Ready:
    """Put the files of a plan in their places and check code and versions, once a process. Raises SamcmpError."""
    global _last
    terms, names = shared
    if _last is None or _last[0] != terms:
        import ray

        here = ray.get_runtime_context().get_node_id()
        node = names.get(here, here)
        read = order.terms_from(terms)
        folder = files.cache_folder() / "sent"
        code = [file for file in read.files if file.role == "code"]
        if code:
            content = json.dumps([(file.name, file.sha256) for file in code])
            home = folder / f"code-{hashlib.sha256(content.encode()).hexdigest()[:32]}"
            home.mkdir(parents=True, exist_ok=True)
            for file in code:
                _put(file, order.code_path(file, home), stored)
            os.chdir(home)  # the names of users' files in the Cases lead to them from here
        handshake.check_code(read, node=node)
        options = order.options(read, lambda file: _put(file, file.below(folder), stored))
        _last = terms, _Ready(options, Inputs(options.datasets), node)
    return _last[1]


def _put(file: SentFile, path: Path, stored: Mapping[str, Any]) -> Path:
    """Write a file where it is not there yet, or is not whole."""
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
        import ray

        files.write(path, ray.get(stored[file.sha256]).tobytes())
    return path
