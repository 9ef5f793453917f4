"""The training runs of a plan that are still to be done, as an engine takes them, and what it says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from samcmp.experiment.sharing import Shared, sentence
from samcmp.records import Case, Record

if TYPE_CHECKING:
    from samcmp.experiment.claims import Claims
    from samcmp.experiment.kinds import Kind
    from samcmp.experiment.run import Predictions, Progress
    from samcmp.experiment.store import Store


@dataclass(frozen=True, slots=True)
class Finished:
    """A case that has ended, whatever way."""

    record: Record
    predictions: Predictions | None
    stored: bool = False  # by whoever ran it


@dataclass(frozen=True, slots=True)
class Began:
    """A worker has imported what it needs and begins with its case."""

    case: Case
    place: str = ""  # of the worker, where there are several: a node, a card


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence for the user: news is printed as a line of its own, the rest is shown for a moment."""

    text: str
    news: bool = False


if TYPE_CHECKING:
    Event: TypeAlias = Began | Progress | Said
    Listen: TypeAlias = Callable[[Event], None]


class Work:
    """Training runs by key, taken one at a time; what another process on the store runs is waited for.

    Args:
        cases: what was missing in the store when this was made.
        store: where Records go; None: nowhere, they are the caller's.
        notes: of a user's optimizer, what its Records are to keep.
        claims: of this process in the store; None: nobody else is there.
        by_others: given each Record that another process has stored meanwhile.
        say: given who is waited for.
        kinds: of machines that take cases, where they may differ: all runs of a block then go to one kind.
    """

    def __init__(
        self,
        cases: Mapping[str, Case],
        store: Store | None = None,
        *,
        notes: Mapping[str, str] | None = None,
        claims: Claims | None = None,
        by_others: Callable[[Record], None] = lambda record: None,
        say: Callable[[str], None] = lambda text: None,
        kinds: Iterable[Kind] = (),
    ) -> None:
        self.cases = dict(cases)
        self._kinds = tuple(kinds)
        self._kind_of: dict[Block, Kind] = {}  # block -> the kind that its runs go to
        if store is not None and len(self._kinds) > 1:
            for brief in store.briefs():
                if brief.case.kind == "train" and brief.status == "ok" and brief.ran_on is not None:
                    mine = next((kind for kind in self._kinds if kind.fits(brief.ran_on)), None)
                    if mine is not None:
                        self._kind_of.setdefault(_block(brief.case), mine)
        self.store = store
        self.notes = dict(notes or {})
        self._by_others = by_others
        self._before = {} if store is None else {key: store.state(key) for key in self.cases}
        self._shared: Shared[Case] = Shared(
            self.cases,
            None if store is None else claims,
            done=lambda key, _: self._record(key) is not None,
            by_others=self._pass_on,
            say=lambda owners: say(sentence(owners, "run")),
        )

    def take(self, kind: Kind | None = None) -> tuple[str, Case] | None:
        """Return the next case to run on a machine of this kind; None: there is none now.

        Whoever takes a case ends it by :meth:`keep` or :meth:`give_back`.
        """
        if kind is None or len(self._kinds) < 2:
            return self._shared.take()
        taken = self._shared.take(lambda case: self._kind_of.get(_block(case), kind).fits(kind))
        if taken is not None:
            self._kind_of.setdefault(_block(taken[1]), kind)
        return taken

    def give_back(self, key: str) -> None:
        """Leave a case that was taken, and was not run, to others."""
        self._shared.give_back(key)

    @property
    def more(self) -> bool:
        """Whether :meth:`take` may still return a case, now or later."""
        return self._shared.more

    def keep(self, finished: Finished) -> Record:
        """Store a Record with the note of its optimizer; return it as it is stored. Raises WriteError."""
        record = finished.record
        note = self.notes.get(record.case.optimizer)
        if note is not None and note not in record.notes:
            record = replace(record, notes=(*record.notes, note))
        if self.store is not None and not finished.stored:
            self.store.add(record, finished.predictions)
        self._shared.end(record.key)
        return record

    def _record(self, key: str) -> Record | None:
        """What another process has stored since this was made. A failure is a result; a part of one is none."""
        if self.store is None or self.store.state(key) == self._before.get(key):
            return None
        record = self.store.get(key)
        return None if record is None or record.status == "partial" else record

    def _pass_on(self, key: str, _: Case) -> None:
        if (record := self._record(key)) is not None:
            self._by_others(record)


Block = tuple[str, str, str]


def _block(case: Case) -> Block:
    """What the arms of a comparison share: dataset, model, split and seed."""
    return case.data or case.dataset, case.model, case.block


def sessions(
    things: Sequence[Mapping[str, Case]],
    store: Store,
    *,
    retry: bool = False,
    claims: Claims | None = None,
    by_others: Callable[[Mapping[str, Case]], None] = lambda session: None,
    say: Callable[[str], None] = lambda text: None,
) -> Shared[Mapping[str, Case]]:
    """Make profile sessions something to be shared with other processes: each is measured whole, by one of them."""
    before = {key: store.state(key) for session in things for key in session}

    def done(key: str) -> bool:
        record = store.get(key)
        if record is None or record.status == "partial":
            return False
        return record.status == "ok" or not retry or store.state(key) != before[key]

    return Shared(
        {min(session): session for session in things},
        claims,
        done=lambda _, session: all(map(done, session)),
        by_others=lambda _, session: by_others(session),
        say=lambda owners: say(sentence(owners, "profile session")),
    )
