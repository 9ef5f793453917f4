"""The training runs of a plan that are still to be done, as an engine takes them, and what it says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from samcmp.records import Case, Record

if TYPE_CHECKING:
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
    """Training runs by key, taken one at a time.

    Args:
        cases: what was missing in the store when this was made.
        store: where Records go; None: nowhere, they are the caller's.
        notes: of a user's optimizer, what its Records are to keep.
    """

    def __init__(
        self, cases: Mapping[str, Case], store: Store | None = None, *, notes: Mapping[str, str] | None = None
    ) -> None:
        self.cases = dict(cases)
        self.store = store
        self.notes = dict(notes or {})
        self._waiting = list(self.cases.items())[::-1]

    def take(self, kind: Kind | None = None) -> tuple[str, Case] | None:
        """Return the next case to run on a machine of this kind; None: there is none now.

        Whoever takes a case ends it by :meth:`keep` or :meth:`give_back`.
        """
        return self._waiting.pop() if self._waiting else None

    def give_back(self, key: str) -> None:
        """Leave a case that was taken, and was not run, to others."""
        self._waiting.append((key, self.cases[key]))

    @property
    def more(self) -> bool:
        """Whether :meth:`take` may still return a case, now or later."""
        return bool(self._waiting)

    def keep(self, finished: Finished) -> Record:
        """Store a Record with the note of its optimizer; return it as it is stored. Raises WriteError."""
        record = finished.record
        note = self.notes.get(record.case.optimizer)
        if note is not None and note not in record.notes:
            record = replace(record, notes=(*record.notes, note))
        if self.store is not None and not finished.stored:
            self.store.add(record, finished.predictions)
        return record

    def by_others(self) -> Iterator[Record]:
        """Yield the Records that other processes have stored since the last call."""
        yield from ()
