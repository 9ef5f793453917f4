"""Records on disk: one JSON file each under its content key, predictions beside it.

A file appears under its name whole or not at all (written aside, synced, renamed), so a killed run loses at most
itself, no lock is needed, and two stores are merged by copying files.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from samcmp.errors import StoreError
from samcmp.records import SCHEMA, Record, from_json, to_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}


class Store:
    """A folder of Records.

    Args:
        folder: created on the first :meth:`add`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.damaged: list[tuple[Path, str]] = []  # files that could not be read, and why

    def _path(self, key: str, kind: str = "records", suffix: str = ".json") -> Path:
        if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
            raise ValueError(f"a content key is 64 hexadecimal digits, got {key!r}")
        return self.folder / kind / key[:2] / f"{key}{suffix}"

    def check_writable(self) -> None:
        """Raise StoreError now, before hours of work, if a Record could not be written."""
        probe = self.folder / "records" / ".probe"
        write_atomically(probe, b"samcmp\n")
        probe.unlink(missing_ok=True)

    def add(self, record: Record) -> Path:
        """Write ``record``; a Record with the same key is replaced. Raises StoreError (full or read-only disk)."""
        path = self._path(record.key)
        data = json.dumps(to_json(record), ensure_ascii=False, allow_nan=False, indent=1).encode()
        from_json(Record, data)  # what could not be read back must not be written: a bug is better found now
        write_atomically(path, data)
        return path

    def add_predictions(
        self,
        key: str,
        *,
        rows: NDArray[np.int64],
        truth: NDArray[np.float64],
        prediction: NDArray[np.float64],
    ) -> Path:
        """Keep a run's test predictions: rows (n,), truth and prediction (n, T), original units or probabilities."""
        import io

        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(buffer, rows=rows, truth=truth, prediction=prediction.astype(np.float32))
        path = self._path(key, "predictions", ".npz")
        write_atomically(path, buffer.getvalue())
        return path

    def predictions(self, key: str) -> dict[str, NDArray[np.generic]] | None:
        """Return the arrays of :meth:`add_predictions`, or None where there are none."""
        import numpy as np

        path = self._path(key, "predictions", ".npz")
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in ("rows", "truth", "prediction")}

    def get(self, key: str) -> Record | None:
        """Return the Record with this key, or None where there is none or its file is damaged."""
        path = self._path(key)
        return self._read(path) if path.is_file() else None

    def records(self) -> list[Record]:
        """Return every readable Record, in the order of keys; the others are listed in :attr:`damaged`."""
        return [record for path in self._files() if (record := self._read(path)) is not None]

    def _files(self) -> Iterator[Path]:
        root = self.folder / "records"
        if not root.is_dir():
            return
        for shelf in sorted(os.scandir(root), key=lambda entry: entry.name):
            if shelf.is_dir():
                for entry in sorted(os.scandir(shelf.path), key=lambda entry: entry.name):
                    if entry.name.endswith(".json"):
                        yield Path(entry.path)

    def _read(self, path: Path) -> Record | None:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"cannot read it: {error.strerror}", where=str(path)) from None
        try:
            record = from_json(Record, data)
        except ValueError as error:
            self._refuse_newer(path, _schema(data))
            self.damaged.append((path, str(error)))
            return None
        self._refuse_newer(path, record.schema)
        return record

    def _refuse_newer(self, path: Path, schema: int) -> None:
        if schema > SCHEMA:
            raise StoreError(
                f"written by a newer samcmp (record schema {schema}, this version reads up to {SCHEMA})",
                where=str(path),
                remedy="Upgrade samcmp, or name another store with --store DIR.",
            )


def _schema(data: bytes) -> int:
    try:
        return int(json.loads(data)["schema"])
    except (ValueError, KeyError, TypeError):
        return 0


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds all of it or what it held before. Raises StoreError, naming the cause."""
    with writing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path`` that takes its place when the block ends well.

    Raises StoreError (full or read-only disk), naming the cause and the remedy.
    """
    temporary: Path | None = None
    try:
        path = Path(os.path.realpath(path))  # a link keeps pointing where it did
        if path.exists() and not path.is_file():
            # a device or pipe is written into: renaming would put a file in its place
            with tempfile.TemporaryDirectory() as folder:
                aside = Path(folder) / "text"
                yield aside
                path.write_bytes(aside.read_bytes())
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> StoreError:
    if error.errno in _FULL:
        remedy = "The disk is full: free some space and run the same command again; finished runs are kept."
    elif error.errno in _CLOSED:
        remedy = "The folder is not writable: name another with --store DIR (or --output FILE)."
    else:
        remedy = "Name another place with --store DIR (or --output FILE); finished runs are kept."
    return StoreError(f"cannot write: {error.strerror}", where=str(path), remedy=remedy)
