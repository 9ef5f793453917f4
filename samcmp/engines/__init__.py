"""Where Cases run: what every engine can do, and the engines by name. One file an engine, imported when asked for.

An engine decides nothing about results: it takes cases from a :class:`Work` and gives back what
:func:`samcmp.experiment.run.train` made of them, wherever that ran.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from samcmp.engines.work import Began, Finished, Said, Work
from samcmp.errors import UsageError
from samcmp.experiment.kinds import Kind
from samcmp.experiment.where import Where
from samcmp.records import Case, Record

if TYPE_CHECKING:
    from samcmp.engines.work import Listen
    from samcmp.experiment.store import Brief, Store
    from samcmp.training.setup import Options

__all__ = ["ENGINES", "Began", "Engine", "Finished", "Node", "Pool", "Said", "Setting", "Work", "make"]

ENGINES = {  # name -> module, class
    "local": ("samcmp.engines.local", "Local"),
    "ray": ("samcmp.engines.ray", "Ray"),
    "slurm": ("samcmp.engines.slurm", "Slurm"),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What an engine is made with."""

    where: Where = field(default_factory=Where)
    devices: tuple[str, ...] = ("cpu",)  # cpu, or cuda:i; of another machine cuda:0 of what its engine made visible
    store: Store | None = None
    jobs: int | None = None  # --jobs, of this machine
    history: Callable[[], Iterable[Record | Brief]] = lambda: ()  # earlier results, for samcmp.experiment.cost
    dry_run: bool = False  # nothing may be submitted or written

    @property
    def device(self) -> str:
        """The first, which sessions measure on."""
        return self.devices[0]


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that an engine offers, as :func:`samcmp.engines.handshake.here` describes it there."""

    name: str
    slots: int  # cases side by side
    kind: Kind
    fingerprint: str = ""  # of the device that a session would measure: see samcmp.experiment.kinds
    versions: Mapping[str, str] = field(default_factory=dict)
    left_out: str = ""  # why nothing runs there


@dataclass(frozen=True, slots=True)
class Pool:
    """The machines that a plan runs on."""

    nodes: tuple[Node, ...]
    limit: int | None = None  # of cases side by side, where there are more slots than may be used

    @property
    def used(self) -> tuple[Node, ...]:
        """The nodes that are not left out."""
        return tuple(node for node in self.nodes if not node.left_out)

    @property
    def slots(self) -> int:
        """Cases side by side on all of them, at least 1."""
        slots = sum(node.slots for node in self.used)
        return max(1, slots if self.limit is None else min(slots, self.limit))

    @property
    def kinds(self) -> Counter[Kind]:
        """The slots of each kind."""
        found: Counter[Kind] = Counter()
        for node in self.used:
            found[node.kind] += node.slots
        return found

    @property
    def fingerprint(self) -> str:
        """Of the machine that profile sessions run on: the first one."""
        return self.used[0].fingerprint if self.used else ""

    def of(self, kind: Kind, *, why: str) -> Pool:
        """Leave out the nodes of other kinds."""
        nodes = (n if n.left_out or n.kind.fits(kind) else replace(n, left_out=why) for n in self.nodes)
        return replace(self, nodes=tuple(nodes))


class Engine(Protocol):
    """What ``samcmp compare`` asks of an engine; it is made with a :class:`Setting`, which costs nothing.

    Every method may raise a SamcmpError for what the user can mend.
    """

    def look(self) -> Pool:
        """Reach the machines and say what they are, before anything runs. Called once, before the other methods."""

    def announce(self, cases: Mapping[str, Case], pool: Pool) -> Sequence[str]:
        """Say in lines for --dry-run how the cases would run, beyond nodes, kinds and time. Writes nothing."""

    def train(
        self, work: Work, options: Options, *, pool: Pool, listen: Listen, timeout: float | None
    ) -> Iterator[Finished]:
        """Run cases of ``work`` until it has no more; yield each as soon as it has ended, also where it failed.

        The caller stores what is yielded, unless it says it is stored. ``timeout``: seconds a case may take.
        """

    def profile(
        self, session: Mapping[str, Case], options: Options, *, pool: Pool, seconds: float, say: Callable[[str], None]
    ) -> list[Record]:
        """Measure a session as a whole on one machine of the pool that nothing else uses meanwhile."""

    def detach(
        self,
        work: Work,
        sessions: Sequence[Mapping[str, Case]],
        options: Options,
        *,
        pool: Pool,
        seconds: float,
        timeout: float | None,
    ) -> str:
        """Submit everything and return what to say of it. Raises UsageError where runs end with this process."""

    def close(self) -> None:
        """Let go of the machines and cancel what is ours and still runs. May be called twice."""


def make(setting: Setting) -> Engine:
    """Make the engine that is asked for; its module is imported now. Nothing is reached yet."""
    module, class_name = ENGINES[setting.where.engine]
    engine: Engine = getattr(importlib.import_module(module), class_name)(setting)
    return engine


def undetachable(name: str) -> UsageError:
    """Build the error for --detach where runs end with the command."""
    return UsageError(
        f"runs of the engine {name} end with this command", where="--detach", remedy="Leave it out, or use --on slurm."
    )
