"""Several stores made one, or read as one. Equal results are one result; two different ones are told, never chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samcmp import files
from samcmp.errors import Damaged, StoreError
from samcmp.experiment.store import REMEDY, Store
from samcmp.records import Json, Record, to_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WHEN_AND_WHERE = ("created", "seconds", "machine")  # of a Record that do not belong to its result


def result_of(record: Record) -> dict[str, Json]:
    """What a Record says of its result: all but when, where and in what time it came about."""
    said: dict[str, Json] = to_json(record)
    for name in _WHEN_AND_WHERE:
        del said[name]
    said["history"] = [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in said["history"]]
    return said


def differing(one: Store, other: Store, records: tuple[Record, Record]) -> list[str]:
    """Name what two Records of one key say differently, or their predictions; nothing where they are equal."""
    key = records[0].key
    names = []
    if _timeless(records[0]) != _timeless(records[1]):
        a, b = map(result_of, records)
        names = [name for name in a if a[name] != b[name]]
    if not names and _bytes(one, key) != _bytes(other, key):
        names.append("predictions")
    return names


def _timeless(record: Record) -> Record:
    epochs = tuple(replace(epoch, seconds=0.0) for epoch in record.history)
    return replace(record, created="", seconds=0.0, machine={}, history=epochs)


def _bytes(store: Store, key: str) -> bytes | None:
    path = store.path(key, "predictions", ".npz")
    return path.read_bytes() if path.is_file() else None


@dataclass(frozen=True, slots=True)
class Conflict:
    """One key with two results."""

    key: str
    what: str  # for people
    folders: tuple[str, str]
    differs: tuple[str, ...]  # fields of the Record, or predictions


@dataclass(slots=True)
class Merged:
    """What became of the results of several stores."""

    copied: int = 0
    there: int = 0  # already, and equal
    measured_twice: int = 0  # profiles: the first one stays
    conflicts: list[Conflict] = field(default_factory=list)
    damaged: list[tuple[Path, str]] = field(default_factory=list)


def merge(sources: Sequence[Store], into: Store) -> Merged:
    """Copy every sound result of ``sources`` that ``into`` lacks, predictions first. Nothing is overwritten.

    Raises StoreError for a store of a newer samcmp, WriteError.
    """
    done = Merged()
    into.check_writable()
    for source in sources:
        for record in source.each():
            there = into.get(record.key)
            if there is None and not into.path(record.key).exists():
                _copy(source, into, record, done)
            elif there is not None:
                _compare(source, into, (record, there), done)
        done.damaged += source.damaged
    done.damaged += into.damaged
    return done


def _copy(source: Store, into: Store, record: Record, done: Merged) -> None:
    try:
        source.predictions(record.key)
    except Damaged:  # noted by the store: a result without its evidence is none
        return
    predictions = _bytes(source, record.key)
    if predictions is not None:
        files.write(into.path(record.key, "predictions", ".npz"), predictions, remedy=REMEDY)
    files.write(into.path(record.key), source.path(record.key).read_bytes(), remedy=REMEDY)
    done.copied += 1


def _compare(source: Store, into: Store, records: tuple[Record, Record], done: Merged) -> None:
    if records[0].case.kind == "profile":
        done.measured_twice += records[0] != records[1]
        done.there += records[0] == records[1]
        return
    differs = differing(source, into, records)
    if differs:
        done.conflicts.append(_conflict(source, into, records, differs))
    else:
        done.there += 1


def _conflict(one: Store, other: Store, records: tuple[Record, Record], differs: Sequence[str]) -> Conflict:
    case = records[0].case
    statuses = {record.status for record in records}
    said = f" ({records[0].status} there, {records[1].status} here)" if len(statuses) > 1 else ""
    what = f"{case.dataset} {case.model} {case.arm} {case.block}{said}"
    return Conflict(records[0].key, what, (str(one.folder), str(other.folder)), tuple(differs))


class Stores:
    """Several stores, read as if they were merged.

    :meth:`records` raises StoreError where two of them have different results under one key.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = tuple(stores)
        self.damaged: list[tuple[Path, str]] = []
        for store in self.stores:
            store.damaged = self.damaged
        self.measured_twice = 0  # profiles, of which the first store's are taken
        self._of: dict[str, Store] = {}

    @property
    def folder(self) -> str:
        return ", ".join(str(store.folder) for store in self.stores)

    def records(self) -> list[Record]:
        """Return the Records of all stores, in the order of keys."""
        found: dict[str, Record] = {}
        for store, record in self._each():
            first = found.get(record.key)
            if first is None:
                found[record.key], self._of[record.key] = record, store
            elif record.case.kind == "profile":
                self.measured_twice += record != first
            elif differs := differing(self._of[record.key], store, (first, record)):
                conflict = _conflict(self._of[record.key], store, (first, record), differs)
                raise StoreError(
                    f"have different results of {conflict.what}: {', '.join(differs)} (key {record.key[:16]})",
                    where=" and ".join(conflict.folders),
                    remedy="Report on one of them. `samcmp merge` names every such result.",
                )
        return [found[key] for key in sorted(found)]

    def _each(self) -> Iterator[tuple[Store, Record]]:
        for store in self.stores:
            for record in store.each():
                yield store, record

    def predictions(self, key: str) -> Mapping[str, NDArray[np.generic]] | None:
        """Return the predictions that belong to the Record of :meth:`records`. Raises Damaged."""
        store: Any = self._of.get(key)
        return None if store is None else store.predictions(key)
