"""Named arrays in one file: memory-mapped when read, written at once or not at all, made by one process only.

The format is safetensors: a short header and the bytes. Nothing in such a file can run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samcmp import files
from samcmp.errors import WriteError
from samcmp.printable import printable

Named = dict[str, NDArray[Any]]
_CHECKSUM = "sha256"  # in the header
_say = logging.getLogger("samcmp")


def path_for(folder: Path, name: str, *, decides: Any) -> Path:
    """Return the file for everything that ``decides`` its content (JSON); ``name`` only helps a reader of the folder.

    Whatever ``name`` holds, the file lies in ``folder``.
    """
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return folder / f"{plain or 'data'}-{key}.safetensors"


def load_or_make(path: Path, make: Callable[[], Named]) -> Named:
    """Return the arrays of ``path``, or make them and leave the file behind.

    Of several processes one makes the file and the others wait for it. A damaged file is made anew, and that is said.
    Where the folder cannot be written the arrays are made every time, which is said.
    """
    found = read(path)
    if found is not None:
        return found
    try:
        with files.alone(path):
            found = read(path, complain=True)
            if found is None:
                found = make()
                write(path, found)
    except WriteError as error:
        _say.warning("%s: %s; its content is made anew in every run", error.where, error.what)
    return make() if found is None else found


def read(path: Path, *, complain: bool = False) -> Named | None:
    """Return the arrays of ``path`` as private memory maps; None where there is no file or it is damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stream:
            arrays = {name: stream.get_tensor(name).numpy() for name in stream.keys()}  # noqa: SIM118
            checksum = (stream.metadata() or {}).get(_CHECKSUM)
        if checksum == _checksum(arrays):
            return arrays
        why = "its checksum is wrong"
    except (SafetensorError, OSError, KeyError, IndexError, TypeError, ValueError) as error:
        why = printable(str(error))
    if complain:
        _say.warning("The cache file %s is damaged (%s); it is made anew.", path, why)
    return None


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays: a reader sees all of them or nothing. Raises WriteError."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    files.write(path, save(contiguous, metadata={_CHECKSUM: _checksum(contiguous)}))


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of the names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
