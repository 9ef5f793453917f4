"""A store looked after: what is in it, how large it is, and taking results out of it.

Only what is recognised is ever removed: a Record under its own key, its predictions, inspections, and what a killed
process has left. No lock is held: a file is renamed aside and looked at again before it goes, so that what another
process has written meanwhile stays.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from samcmp.experiment import claims
from samcmp.experiment.store import Store
from samcmp.records import Record, is_key

INSPECTED = re.compile(r"[0-9a-f]{64}(\.json|\.npz|\.best\.safetensors|\.last\.safetensors)")
FOLDERS = {"records", "predictions", "inspections", "weights"}
LEFT_BEHIND = re.compile(r"\.samcmp-[0-9a-f]{12}\.part")
SETTLED_SECONDS = 86400.0  # no run takes so long between its two files


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was when it was looked at."""

    path: Path
    stat: os.stat_result

    @property
    def bytes(self) -> int:
        return self.stat.st_size

    @property
    def state(self) -> tuple[int, int, int]:
        return (self.stat.st_ino, self.stat.st_mtime_ns, self.stat.st_size)


@dataclass(frozen=True, slots=True)
class Entry:
    """A result and its files."""

    record: Record
    file: File
    predictions: File | None

    @property
    def bytes(self) -> int:
        return self.file.bytes + (self.predictions.bytes if self.predictions else 0)

    @property
    def made(self) -> datetime.datetime:
        """When the result was made; where its Record does not say so, when its file was written."""
        try:
            when = datetime.datetime.fromisoformat(self.record.created)
        except ValueError:
            when = datetime.datetime.fromtimestamp(self.file.stat.st_mtime, datetime.UTC)
        return when if when.tzinfo else when.replace(tzinfo=datetime.UTC)


@dataclass(slots=True)
class Contents:
    """Everything in a store's folder."""

    entries: list[Entry] = field(default_factory=list)
    inspections: list[File] = field(default_factory=list)  # of samcmp inspect, weights included
    leftovers: list[File] = field(default_factory=list)  # of processes that were killed
    others: list[File] = field(default_factory=list)  # not recognised, damaged files included

    @property
    def bytes(self) -> int:
        files = (*self.inspections, *self.leftovers, *self.others)
        return sum(entry.bytes for entry in self.entries) + sum(file.bytes for file in files)


def survey(store: Store) -> Contents:
    """Look at every file below the store's folder. Raises StoreError where a newer samcmp wrote some of it."""
    found = Contents()
    if not store.folder.is_dir():
        return found
    files = {path: File(path, path.lstat()) for path in _walk(store.folder)}
    records = {record.key: record for record in store.records()}
    for key, record in records.items():
        own = files.pop(store.path(key), None)
        if own is None or own.path.is_symlink():  # removed meanwhile, or kept elsewhere
            continue
        predictions = files.pop(store.path(key, "predictions", ".npz"), None)
        found.entries.append(Entry(record, own, predictions))
    for file in files.values():
        if _left_behind(file, store):
            found.leftovers.append(file)
        elif _is_inspected(file, store):
            found.inspections.append(file)
        elif not _in_use(file, store):
            found.others.append(file)
    return found


def _walk(folder: Path) -> Iterable[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if os.path.lexists(path):
                yield path


def _is_inspected(file: File, store: Store) -> bool:
    """Whether samcmp inspect wrote this: an inspection, or the weights of a run that it looked into."""
    parts = file.path.relative_to(store.folder).parts
    if len(parts) != 3 or parts[0] not in {"inspections", "weights"} or file.path.is_symlink():
        return False
    return INSPECTED.fullmatch(parts[2]) is not None and parts[2].startswith(parts[1])


def _left_behind(file: File, store: Store) -> bool:
    """Whether a killed process left this: a claim, half a file, or predictions whose Record was never written."""
    parts = file.path.relative_to(store.folder).parts
    if parts[0] == "claims" and len(parts) == 2 and parts[1].endswith((claims.ENDING, claims.GUARD)):
        owner = claims.read(file.path)
        return _is_settled(file) or (owner is not None and owner.has_ended)
    if len(parts) != 3 or parts[0] not in FOLDERS or file.path.is_symlink():
        return False
    shelf, name = parts[1:]
    orphan = parts[0] == "predictions" and name.endswith(".npz") and is_key(name[:-4])
    whole = orphan and name.startswith(shelf) and not store.path(name[:-4]).exists()
    return (whole or LEFT_BEHIND.fullmatch(name) is not None) and _is_settled(file)


def _in_use(file: File, store: Store) -> bool:
    """Whether this is what processes at work know each other by, and engines their jobs."""
    return file.path.relative_to(store.folder).parts[0] in {"claims", "run"} and not file.path.is_symlink()


def _is_settled(file: File) -> bool:
    now = datetime.datetime.now(datetime.UTC).timestamp()
    return now - file.stat.st_mtime > SETTLED_SECONDS


def remove(entries: Iterable[Entry], *, skipped: Callable[[Path], None] = lambda path: None) -> int:
    """Remove results with their predictions; return how many went. What has changed meanwhile stays, and is named."""
    gone = 0
    for entry in entries:
        predictions = entry.predictions
        if predictions and predictions.stat.st_mtime > entry.file.stat.st_mtime and not _is_settled(predictions):
            skipped(entry.file.path)  # the run is being done again: its new Record is about to come
        elif not remove_file(entry.file):
            skipped(entry.file.path)
        else:
            gone += 1
            if predictions is not None:
                remove_file(predictions)
    return gone


def remove_file(file: File) -> bool:
    """Remove a file if it still is what it was when it was looked at."""
    aside = file.path.with_name(f".samcmp-{os.urandom(6).hex()}.part")
    try:
        os.rename(file.path, aside)
    except FileNotFoundError:
        return False
    seen = File(aside, aside.lstat())
    same = seen.state == file.state
    if not same:
        with contextlib.suppress(FileExistsError):
            os.link(aside, file.path)  # unlike a rename, it replaces nothing that came meanwhile
    aside.unlink(missing_ok=True)
    return same
