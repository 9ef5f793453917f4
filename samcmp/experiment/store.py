"""Records on disk: one JSON file each under its content key, predictions beside it.

A file appears under its name whole or not at all, so a killed run loses at most itself, no lock is needed, and two
stores are merged by copying files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samcmp import files
from samcmp.errors import Damaged, StoreError, WriteError, in_one_line
from samcmp.machine import Kind, kind_of
from samcmp.records import SCHEMA, Case, Record, Status, from_json, is_key, parse_json, to_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samcmp.experiment.run import Predictions

REMEDY = "Make room, or name another store with --store DIR; finished runs are kept."


@dataclass(frozen=True, slots=True)
class Brief:
    """What planning needs of a Record: thousands fit where a hundred Records do."""

    case: Case
    status: Status
    epoch_seconds: float | None  # of a training run, evaluation included
    graphs_per_second: float | None = None  # of a profile
    train_size: float | None = None
    ran_on: Kind | None = None

    @classmethod
    def of(cls, record: Record) -> Brief:
        epochs, speed = len(record.history), record.throughput
        seconds = record.seconds / epochs if epochs else None
        if speed is None:
            return cls(record.case, record.status, seconds, ran_on=_ran_on(record))
        size = speed.details.get("train_size")
        known = size if isinstance(size, (int, float)) else None
        return cls(record.case, record.status, seconds, speed.graphs_per_second, known)


def _ran_on(record: Record) -> Kind | None:
    kind = kind_of(record.machine, record.case.device)
    return None if kind is None else _kinds.setdefault(kind, kind)


_kinds: dict[Kind, Kind] = {}  # each once
State = tuple[int, int, int]


class Store:
    """A folder of Records.

    Args:
        folder: created on the first :meth:`add`. Raises StoreError where something else has its name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise StoreError(
                "is a file, and a store is a folder", where=str(folder), remedy="Name another place with --store DIR."
            )
        self.damaged: list[tuple[Path, str]] = []  # files that could not be read, and why
        self._briefs: dict[str, tuple[State | None, Brief]] = {}  # of files that have been read, as they were then

    def path(self, key: str, kind: str = "records", suffix: str = ".json") -> Path:
        """Return where a Record is kept, or its predictions. Raises ValueError for what is no key."""
        if not is_key(key):
            raise ValueError(f"a content key is 64 hexadecimal digits, got {key!r}")
        return self.folder / kind / key[:2] / f"{key}{suffix}"

    def check_writable(self) -> None:
        """Raise WriteError now, before hours of work, if a Record could not be written."""
        probe = self.folder / "records" / ".probe"
        try:
            files.write(probe, b"samcmp\n", remedy=REMEDY)
        except WriteError as error:
            raise WriteError(error.what, where=str(self.folder), remedy=error.remedy) from None
        probe.unlink(missing_ok=True)

    def add(self, record: Record, predictions: Predictions | None = None) -> Path:
        """Write ``record``; a Record with the same key is replaced. Raises WriteError.

        A run's test predictions are written first: where its Record is, they are.
        """
        if predictions is not None:
            self.add_predictions(
                record.key, rows=predictions.rows, truth=predictions.truth, prediction=predictions.prediction
            )
        path = self.path(record.key)
        text = json.dumps(to_json(record), ensure_ascii=False, allow_nan=False, indent=1)
        data = text.encode(errors="replace")  # half a character of a foreign message cannot be stored
        from_json(Record, data)  # what could not be read back must not be written: a bug is better found now
        files.write(path, data, remedy=REMEDY)
        return path

    def add_predictions(
        self,
        key: str,
        *,
        rows: NDArray[np.int64],
        truth: NDArray[np.float64],
        prediction: NDArray[np.float64],
    ) -> Path:
        """Keep a run's test predictions: rows (n,), truth and prediction (n, T), original units or probabilities.

        Of a multiclass task the truth is the number of the class, (n, 1), and a prediction (n, C) probabilities.
        """
        path = self.path(key, "predictions", ".npz")
        files.write(path, packed(rows, truth, prediction), remedy=REMEDY)
        return path

    def predictions(self, key: str) -> dict[str, NDArray[np.generic]] | None:
        """Return the arrays of :meth:`add_predictions`, or None where there are none.

        Raises :class:`Damaged` where the file is there and does not hold them.
        """
        path = self.path(key, "predictions", ".npz")
        if not os.path.lexists(path):
            return None
        try:
            if not path.is_file():
                raise ValueError(_kind(path))
            return unpacked(path.read_bytes())
        except Exception as error:
            why = in_one_line(error) or "cut short"
            self.damaged.append((path, why))
            raise Damaged(f"predictions of {key[:16]} are damaged: {why}") from None

    def get(self, key: str) -> Record | None:
        """Return the Record with this key, or None where there is none or its file is damaged.

        Raises StoreError where what has its name is no file: the Record could not be written there either.
        """
        path = self.path(key)
        if path.exists() and not path.is_file():
            raise StoreError(_kind(path), where=str(path), remedy="Remove it; a record belongs there.")
        return self._read(path) if path.is_file() else None

    def state(self, key: str) -> State | None:
        """Return what changes when the Record with this key is written again; None where there is none."""
        return _state(self.path(key))

    def brief(self, key: str) -> Brief | None:
        """Return in brief what :meth:`get` returns. A file that was read before and is as it was is not read again."""
        state, known = self.state(key), self._briefs.get(key)
        if known is not None and state is not None and known[0] == state:
            return known[1]
        record = self.get(key)
        return None if record is None else Brief.of(record)

    def briefs(self) -> Iterator[Brief]:
        """Yield in brief what :meth:`records` returns, each file read once in the life of this object."""
        for path in self._files():
            known = self._briefs.get(path.stem)
            if known is not None and known[0] == _state(path):
                yield known[1]
            elif (record := self._read(path)) is not None:
                yield Brief.of(record)

    def records(self) -> list[Record]:
        """Return every readable Record, in the order of keys; the others are listed in :attr:`damaged`."""
        return list(self.each())

    def each(self) -> Iterator[Record]:
        """Yield what :meth:`records` returns, one after the other."""
        for path in self._files():
            if (record := self._read(path)) is not None:
                yield record

    def _files(self) -> Iterator[Path]:
        root = self.folder / "records"
        if not root.is_dir():
            return
        for shelf in sorted(_listed(root)):
            if shelf.is_dir():
                yield from sorted(path for path in _listed(shelf) if path.suffix == ".json")

    def _read(self, path: Path) -> Record | None:
        """Read one file; what is wrong with it is noted in :attr:`damaged`. Raises StoreError for a newer version's."""
        if not path.is_file():  # opening a pipe or a device could wait for ever
            self.damaged.append((path, _kind(path)))
            return None
        state = _state(path)  # before it is read: what is written meanwhile is read again
        try:
            data = path.read_bytes()
        except OSError as error:
            self.damaged.append((path, f"cannot be read: {error.strerror}"))
            return None
        try:
            record = from_json(Record, data)
        except ValueError as error:
            self._refuse_newer(path, _schema(data))
            self.damaged.append((path, str(error)))
            return None
        self._refuse_newer(path, record.schema)
        if record.key != path.stem:  # a copy beside the original would count twice
            self.damaged.append((path, f"holds the record {record.key[:16]}, which its name does not say"))
            return None
        self._briefs[record.key] = state, Brief.of(record)
        return record

    def _refuse_newer(self, path: Path, schema: int) -> None:
        if schema > SCHEMA:
            raise StoreError(
                f"written by a newer samcmp (record schema {schema}, this version reads up to {SCHEMA})",
                where=str(path),
                remedy="Upgrade samcmp, or name another store with --store DIR.",
            )


def packed(rows: NDArray[np.int64], truth: NDArray[np.float64], prediction: NDArray[np.float64]) -> bytes:
    """Write test predictions as npz; equal arrays give equal bytes."""
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, rows=rows, truth=truth, prediction=prediction.astype(np.float32))
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, NDArray[np.generic]]:
    """Read what :func:`packed` wrote. Raises ValueError for anything else."""
    import io

    import numpy as np

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("rows", "truth", "prediction")}
    except Exception as error:  # zip, zlib and numpy each have their own for damaged bytes
        raise ValueError(in_one_line(error) or "cut short") from None
    if unfit := _misfit(**arrays):
        raise ValueError(unfit)
    return arrays


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise StoreError(
            f"cannot be read: {error.strerror}", where=str(folder), remedy="Check its permissions, or name another."
        ) from None


def _state(path: Path) -> State | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def _kind(path: Path) -> str:
    """Say what a path that is not a file is."""
    if not path.exists():
        return "is a link to nothing" if path.is_symlink() else "is not there"
    return "is a folder" if path.is_dir() else "is a pipe, a socket or a device"


def _misfit(rows: NDArray[np.generic], truth: NDArray[np.generic], prediction: NDArray[np.generic]) -> str | None:
    """Say why these are no predictions: see :meth:`Store.add_predictions`; a truth may be missing."""
    import numpy as np

    kinds = tuple(array.dtype.kind for array in (rows, truth, prediction))
    if kinds not in {("i", "f", "f"), ("u", "f", "f")}:
        return f"arrays of the types {', '.join(map(str, (rows.dtype, truth.dtype, prediction.dtype)))}"
    alike = truth.shape == prediction.shape or (truth.ndim == 2 and truth.shape == (len(prediction), 1))  # of classes
    if rows.ndim != 1 or prediction.ndim != 2 or not alike or len(rows) != len(truth):
        return f"arrays of the shapes {rows.shape}, {truth.shape}, {prediction.shape}"
    return None if np.isfinite(prediction).all() else "predictions that are not finite"


def _schema(data: bytes) -> int:
    try:
        return int(parse_json(data)["schema"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return 0
