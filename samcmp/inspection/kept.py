"""Inspections on disk, beside a store's Records: ``inspections/ab/KEY.json`` with its arrays in ``KEY.npz``.

Inspected runs have their weights in ``weights/ab/TRAINKEY.best|last.safetensors`` and what they came to beside them.

A JSON file is written last: where it is, what it describes is there, too.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from samcmp import files
from samcmp.errors import DataError, StoreError, in_one_line
from samcmp.inspection import SCHEMA, Inspection, Measured, Trained
from samcmp.records import from_json, is_key, parse_json, to_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from samcmp.experiment.store import Store

REMEDY = "Make room, or name another store with --store DIR; what is finished is kept."
OWNER = "samcmp-run"  # metadata of last weights: the run that they are of
Noun = TypeVar("Noun", Inspection, Trained)


class Kept:
    """The inspections and weights of a store; what is damaged there is noted in its ``damaged`` and is not there.

    Reading raises StoreError for what a newer samcmp wrote.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def path(self, key: str) -> Path:
        """Return where an inspection is kept, or will be."""
        return self.store.path(key, "inspections")

    def weights_path(self, train_key: str, which: str) -> Path:
        """Return where the weights of a run are kept; ``which``: best or last."""
        return self.store.path(train_key, "weights", f".{which}.safetensors")

    # ---- inspections

    def every_key(self) -> list[str]:
        """Return the keys of all inspections, sorted."""
        found = (self.store.folder / "inspections").glob("??/*.json")
        return sorted(path.stem for path in found if is_key(path.stem))

    def has(self, key: str) -> bool:
        """Whether an inspection is there and whole, arrays included."""
        return self.inspection(key) is not None and self._is_whole(self._arrays_path(key))

    def inspection(self, key: str) -> Inspection | None:
        """Return an inspection without its arrays, or None where it is not there, damaged or another's."""
        found = self._read(Inspection, self.path(key))
        return found if found is None or found.key == key else None

    def get(self, key: str) -> Measured | None:
        """Return an inspection with its arrays, or None where it is not there or damaged."""
        import numpy as np

        found, path = self.inspection(key), self._arrays_path(key)
        if found is None or not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as archive:
                return Measured(found, {name: archive[name] for name in archive.files})
        except Exception as error:  # zip, zlib, numpy and the system each have their own for a damaged file
            self.store.damaged.append((path, in_one_line(error) or "cut short"))
            return None

    def add(self, inspection: Inspection, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Write one, its arrays first. Raises WriteError."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **dict(arrays))
        files.write(self._arrays_path(inspection.key), buffer.getvalue(), remedy=REMEDY)
        self._write(inspection, self.path(inspection.key))

    def _is_whole(self, path: Path) -> bool:
        """Whether arrays can be read; the sums of an archive are checked without numpy."""
        if not path.is_file():
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, zlib.error) as error:
            broken = in_one_line(error) or "cut short"
        if broken is not None:
            self.store.damaged.append((path, broken))
        return broken is None

    def _arrays_path(self, key: str) -> Path:
        return self.store.path(key, "inspections", ".npz")

    # ---- runs and their weights

    def trained(self, train_key: str) -> Trained | None:
        """Return what an inspected run came to, or None where it is not there, damaged or another's."""
        found = self._read(Trained, self.store.path(train_key, "weights"))
        return found if found is None or found.train_key == train_key else None

    def add_trained(self, trained: Trained) -> None:
        """Write what a run came to; its weights are there already. Raises WriteError."""
        self._write(trained, self.store.path(trained.train_key, "weights"))

    def add_last(self, train_key: str, state: Mapping[str, Tensor]) -> None:
        """Write the weights after the last epoch. Raises WriteError."""
        from safetensors.torch import save

        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
        data = save(tensors, metadata={OWNER: train_key})
        files.write(self.weights_path(train_key, "last"), data, remedy=REMEDY)

    def weights(self, train_key: str, which: str) -> dict[str, Tensor] | None:
        """Return the weights of a run, or None where they are not there, damaged or another's."""
        path = self.weights_path(train_key, which)
        if not path.is_file():
            return None
        try:
            return _best(path, train_key) if which == "best" else _last(path, train_key)
        except (DataError, ValueError) as error:
            self.store.damaged.append((path, error.what if isinstance(error, DataError) else str(error)))
            return None

    # ---- JSON

    def _read(self, kind: type[Noun], path: Path) -> Noun | None:
        if not path.is_file():
            return None
        try:
            data = path.read_bytes()
            schema = parse_json(data).get("schema")
            if isinstance(schema, int) and schema > SCHEMA:
                raise StoreError(
                    f"written by a newer samcmp (schema {schema}, this version reads up to {SCHEMA})",
                    where=str(path), remedy="Upgrade samcmp, or name another store with --store DIR.",
                )  # fmt: skip
            return from_json(kind, data)
        except OSError as error:
            self.store.damaged.append((path, f"cannot be read: {error.strerror}"))
        except (ValueError, AttributeError) as error:
            self.store.damaged.append((path, in_one_line(error)))
        return None

    def _write(self, noun: Inspection | Trained, path: Path) -> None:
        text = json.dumps(to_json(noun), ensure_ascii=False, allow_nan=False, indent=1)
        data = text.encode(errors="replace")
        from_json(type(noun), data)  # what could not be read back must not be written
        files.write(path, data, remedy=REMEDY)


def _best(path: Path, train_key: str) -> dict[str, Tensor]:
    from samcmp.training import modelfile

    description, tensors = modelfile.read(path)
    if description.record != train_key:
        raise ValueError(f"holds the weights of the run {description.record[:16]}")
    return tensors


def _last(path: Path, train_key: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            owner = (file.metadata() or {}).get(OWNER)
            if owner != train_key:
                raise ValueError(f"holds the weights of the run {str(owner)[:16]}")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
    except (SafetensorError, OSError, RuntimeError, MemoryError) as error:
        raise ValueError(in_one_line(error)) from None
