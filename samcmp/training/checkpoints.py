"""Initial weights from a file: a released GROVER checkpoint, safetensors, or what :func:`save` wrote.

Nothing that a file says is run: pickled checkpoints go through torch's restricted reader, which knows tensors, plain
containers, ``argparse.Namespace`` (the released checkpoints keep their arguments in one) and numpy arrays.

A model may offer ``never_read(name) -> bool``, which tells what of a released checkpoint it has no use for, and
``released_settings(arguments) -> {setting: value}``. Tensors whose names begin with ``head`` (or with one of the
model's ``task_parts``) belong to a task: they are taken when all of them fit and keep their initial values otherwise.
Everything else must be in the file.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samcmp import files
from samcmp.errors import DataError, changed

if TYPE_CHECKING:
    from torch import Tensor, nn

TASK_PARTS = ("head",)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What :func:`load_into` did, by tensor name."""

    loaded: tuple[str, ...]  # the model's names
    kept: tuple[str, ...]  # the model's names that keep their initial values
    unused: tuple[str, ...]  # the file's names that the model does not read


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of a file."""

    path: Path
    tensors: Mapping[str, Tensor]
    arguments: Mapping[str, Any]  # what a released checkpoint says it was trained with


def load_into(model: nn.Module, file: Weights | str | Path) -> Loaded:
    """Copy a file's tensors into ``model``: all but the heads must be there, the heads where they fit.

    Raises :class:`DataError`, naming tensors, when some are missing, left over or of another shape.
    """
    import torch

    file = file if isinstance(file, Weights) else read(file)
    own = model.state_dict()
    _check_arguments(model, file)
    of_task: tuple[str, ...] = tuple(getattr(model, "task_parts", TASK_PARTS))
    body = [name for name in own if not name.startswith(of_task)]
    heads = [name for name in own if name.startswith(of_task)]
    _refuse(file, "misses tensors that the model has", [name for name in body if name not in file.tensors])
    _check_shapes(own, body, file=file)
    fit = all(name in file.tensors and file.tensors[name].shape == own[name].shape for name in heads)
    loaded = body + (heads if fit else [])
    unused = [name for name in file.tensors if name not in loaded]
    never_read = getattr(model, "never_read", lambda name: False)
    without_place = [name for name in unused if not (name.startswith(of_task) or never_read(name))]
    _refuse(file, "has tensors that the model has no place for", without_place)
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(file.tensors[name])
    return Loaded(tuple(loaded), () if fit else tuple(heads), tuple(unused))


def save(model: nn.Module, path: str | Path) -> Path:
    """Write the model's tensors as safetensors, whole or not at all. Raises WriteError."""
    from safetensors.torch import save as to_bytes

    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    files.write(path, to_bytes(tensors))
    return path


def read(path: str | Path, *, sha256: str | None = None) -> Weights:
    """Return the tensors of a file, and the arguments that a released checkpoint carries, on the host.

    Raises :class:`DataError` for a file that is not there, is damaged, would have to run code to be read, or has not
    the ``sha256`` that is given.
    """
    path = Path(path)
    try:
        data = files.read(path)
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror or error}", where=str(path), remedy="Name a file with weights."
        ) from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise changed(path)
    # safetensors begins with the length of a JSON object, and then the object.
    content = _safetensors(data, path) if data[8:9] == b"{" else _pickled(data, path)
    arguments: Mapping[str, Any] = {}
    if not _is_tensors(content) and isinstance(content.get("state_dict"), Mapping):
        given = content.get("args")
        arguments = vars(given) if hasattr(given, "__dict__") else given if isinstance(given, Mapping) else {}
        content = content["state_dict"]
    if not _is_tensors(content) or not content:
        raise DataError(
            "holds no state dict",
            where=str(path),
            remedy="A file with weights is a dictionary of tensors, alone or under the key 'state_dict'.",
        )
    tensors = {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
    return Weights(path, tensors, arguments)


def _is_tensors(content: Any) -> bool:
    import torch

    return isinstance(content, Mapping) and all(isinstance(value, torch.Tensor) for value in content.values())


def _safetensors(data: bytes, path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: Mapping[str, Any] = load(data)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return tensors


def _pickled(data: bytes, path: Path) -> Mapping[str, Any]:
    import torch

    try:
        with torch.serialization.safe_globals(_harmless()):
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise _damaged(path, TypeError("it is no checkpoint")) from error
        raise DataError(
            f"cannot be read without running what it holds: {named[1]}",
            where=str(path),
            remedy="Re-save its tensors alone: safetensors.torch.save_file(state_dict, 'weights.safetensors').",
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, Mapping):
        raise _damaged(path, TypeError(f"it holds a {type(content).__name__}, not a dictionary"))
    return content


def _harmless() -> list[Any]:
    """Return the classes beside tensors and containers that released checkpoints hold, none of which runs code."""
    from argparse import Namespace

    import numpy as np

    kinds = {type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?", "u1")}
    rebuild: Any = np.empty(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    old = [(rebuild, "numpy.core.multiarray._reconstruct"), (scalar, "numpy.core.multiarray.scalar")]
    return [Namespace, np.ndarray, np.dtype, rebuild, scalar, *old, *kinds]


def _check_arguments(model: nn.Module, file: Weights) -> None:
    settings = getattr(model, "released_settings", None)
    config = getattr(model, "config", None)
    if settings is None or config is None or not file.arguments:
        return
    try:
        says: Mapping[str, Any] = settings(file.arguments)
    except (TypeError, ValueError) as error:
        raise _damaged(file.path, error) from error
    differ = {key: value for key, value in says.items() if getattr(config, key) != value}
    if differ:
        has = ", ".join(f"{key}={getattr(config, key)!r}" for key in differ)
        raise DataError(
            f"was trained with {', '.join(f'{k}={v!r}' for k, v in differ.items())}, the model has {has}",
            where=str(file.path),
            remedy="Give the model the checkpoint's settings, or take the catalogue's name for this size.",
        )


def _check_shapes(own: Mapping[str, Tensor], body: Iterable[str], *, file: Weights) -> None:
    wrong = [
        f"{name} {tuple(file.tensors[name].shape)} (the model: {tuple(own[name].shape)})"
        for name in body
        if file.tensors[name].shape != own[name].shape
    ]
    _refuse(file, "has tensors of another shape", wrong)


def _refuse(file: Weights, what: str, names: list[str]) -> None:
    if names:
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        raise DataError(
            f"{what}: {shown}",
            where=str(file.path),
            remedy="Build the model with the settings that the file was made with (size, blocks, activation, bias).",
        )


def _damaged(path: Path, error: Exception) -> DataError:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(
        f"is not a readable file of weights: {line}",
        where=str(path),
        remedy="Give a checkpoint that torch.save wrote or a .safetensors file, downloaded whole.",
    )
