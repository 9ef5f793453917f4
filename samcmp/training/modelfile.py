"""A trained model as one file that says what it is: safetensors, with everything that a prediction needs as metadata.

Nothing in the file is ever run. What it was made by is told by content: the hash of the code of its model and of the
features, so that another version of samcmp that computes the same reads it, and one that does not says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from samcmp import __version__, backbones, files, modules
from samcmp.errors import DataError, UsageError, in_one_line
from samcmp.records import Holds, Json, content_key, from_json, parse_json, to_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from samcmp.records import Accuracy
    from samcmp.training.setup import Setup

FORMAT = 1  # raised when a reader of the old form would misread the new one
KEY = "samcmp"  # of the metadata
LARGEST_HEADER = 16 << 20  # bytes; a model of ten thousand tensors has a header of one MiB
AGAIN = "Train it again: samcmp train --save FILE, or samcmp compare --save-best DIR."


@dataclass(frozen=True, slots=True)
class Description:
    """What a model file says of itself."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    format: int
    samcmp: str  # version
    record: str  # key of the run
    model: str
    model_settings: Mapping[str, Json]
    code: str  # SHA-256 of the code of the model and of the features
    own_code: str  # of a user's own model: SHA-256 of its files; else empty
    columns: Mapping[str, Json]  # features that the model reads; empty of images
    kind: Literal["classification", "multiclass", "regression"]
    metric: str
    targets: tuple[str, ...]
    mean: tuple[float, ...] | None  # of the training labels, of regression
    std: tuple[float, ...] | None
    strict: bool  # whether the molecules it was trained on had possible valences
    dataset: str
    dataset_hash: str
    smiles_column: str
    split: str
    split_hash: str
    arm: str
    test: float
    valid: float
    best_epoch: int  # 0-based
    batch_size: int
    versions: Mapping[str, str] = field(default_factory=dict)
    holds: Holds = "molecules"  # what is predicted
    classes: tuple[str, ...] = ()  # of a multiclass task, by number
    pixel_mean: tuple[float, ...] = ()  # of each channel of training images, on the scale 0 to 1
    pixel_std: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """How many numbers the model gives for a sample: one a target, or one a class."""
        return len(self.classes) or len(self.targets)


def describe(setup: Setup, *, key: str, accuracy: Accuracy, versions: Mapping[str, str]) -> Description:
    """Say what the model of a run is."""
    from samcmp.images.imageset import ImageSet

    case, standard, dataset = setup.case, setup.standardizer, setup.dataset
    images = dataset if isinstance(dataset, ImageSet) else None
    fold = "" if case.fold is None else f"/fold{case.fold}"
    return Description(
        format=FORMAT,
        samcmp=__version__,
        record=key,
        model=case.model,
        model_settings=case.model_settings,
        code=code_of(case.model),
        own_code=case.code.get(case.model, ""),
        columns=_columns(setup.config),
        kind=setup.samples.kind,
        metric=setup.task.metric,
        targets=setup.task.names,
        mean=None if standard is None else tuple(standard.mean.tolist()),
        std=None if standard is None else tuple(standard.std.tolist()),
        strict=not setup.samples.frozen,
        dataset=case.dataset,
        dataset_hash=setup.samples.dataset_hash,
        smiles_column=setup.options.datasets.find(case.dataset).smiles_column,
        split=f"{case.dataset}/{case.split}/{case.split_seed}{fold}",
        split_hash=setup.split.hash,
        arm=case.arm,
        test=accuracy.test,
        valid=accuracy.valid,
        best_epoch=accuracy.best_epoch,
        batch_size=case.protocol.batch_size,
        versions=versions,
        holds=setup.samples.holds,
        classes=setup.task.classes,
        pixel_mean=() if images is None else tuple(images.mean.flatten().tolist()),
        pixel_std=() if images is None else tuple(images.std.flatten().tolist()),
    )


def _columns(config: Any) -> Mapping[str, Json]:
    columns = getattr(config, "columns", None)
    return {} if columns is None else to_json(asdict(columns))


def code_of(model: str) -> str:
    """SHA-256 of the code of ours that turns a molecule, or an image, into this model's prediction."""
    features = {
        "molecules": ("samcmp.graphs.featurize", "samcmp.graphs.columns"),
        "images": ("samcmp.images.imageset",),
    }
    entry = backbones.entry(model)
    roots = (entry.module, *features[entry.reads])
    return content_key(modules.closure(roots))


def write(path: Path, state: Mapping[str, Tensor], description: Description) -> None:
    """Write a model whole or not at all. Raises WriteError."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}  # no shared memory
    text = json.dumps(to_json(description), allow_nan=False)
    files.write(path, save(tensors, metadata={KEY: text}))


def read(path: Path) -> tuple[Description, dict[str, Tensor]]:
    """Read a model file. Raises DataError for what is none, is damaged, or is of a version that computes otherwise."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = _bytes(path)
    description = _described(data, path)
    try:
        tensors: dict[str, Tensor] = load(data)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        raise _damaged(path, in_one_line(error)) from None
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if bad:
        raise _damaged(path, f"tensor {bad[0][:60]!r} holds numbers that are not finite")
    return description, tensors


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        why = "is a folder" if path.is_dir() else error.strerror
        raise DataError(f"cannot be read: {why}", where=str(path), remedy="Name a model file.") from None


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"is a damaged model file: {why[:200]}", where=str(path), remedy=f"Copy it again. {AGAIN}")


def _described(data: bytes, path: Path) -> Description:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 10 or data[8:9] != b"{":
        raise DataError("is not a model file of samcmp", where=str(path), remedy=AGAIN)
    if length > min(LARGEST_HEADER, len(data) - 8):
        raise _damaged(path, f"its header claims {length:,} bytes, the file has {len(data):,}")
    try:
        header: Any = parse_json(data[8 : 8 + length])
        metadata = header.get("__metadata__") or {}
        text = metadata.get(KEY)
    except (ValueError, AttributeError, RecursionError) as error:
        raise _damaged(path, in_one_line(error)) from None
    if not isinstance(text, str):
        raise DataError(
            "holds weights, but does not say which model, targets and scale they belong to",
            where=str(path),
            remedy=f"--init-from takes such files. {AGAIN}",
        )
    try:
        said = parse_json(text)
        version, found = str(said.get("samcmp", "unknown")), said.get("format")
    except (ValueError, AttributeError, RecursionError) as error:
        raise _damaged(path, in_one_line(error)) from None
    if found != FORMAT:
        raise _of_another_version(path, version, f"model files of form {str(found)[:20]}, this one reads form {FORMAT}")
    try:
        description = from_json(Description, text)
        _check(description)
    except ValueError as error:
        raise _damaged(path, in_one_line(error)) from None
    if not backbones.is_user_model(description.model) and description.model not in backbones.names():
        raise _of_another_version(path, version, f"a model {description.model[:60]!r} that is not in this catalogue")
    if code_of(description.model) != description.code:
        raise _of_another_version(path, version, f"code of {description.model[:60]} or its features that is not this")
    return description


def _of_another_version(path: Path, version: str, what: str) -> DataError:
    ours = "also this version: its code has been edited since" if version == __version__ else f"this is {__version__}"
    return DataError(
        f"was written by samcmp {version[:20]} with {what} ({ours})",
        where=str(path),
        remedy=f"Predict with what wrote it: pip install samcmp=={version[:20]}. Or: {AGAIN}",
    )


def _check(said: Description) -> None:
    tasks = len(said.targets)
    if not tasks or len(set(said.targets)) < tasks:
        raise ValueError("targets without a name of their own")
    for scale in (said.mean, said.std):
        if (scale is None) != (said.kind != "regression") or (scale is not None and len(scale) != tasks):
            raise ValueError("mean and standard deviation do not fit the targets")
    if (said.kind == "multiclass") != (len(said.classes) > 1) or (said.classes and tasks != 1):
        raise ValueError("classes do not fit the kind of target")
    if said.holds == "images" and (len(said.pixel_mean), len(said.pixel_std)) != (3, 3):
        raise ValueError("mean and standard deviation of three channels are missing")
    if said.std is not None and not all(math.isfinite(value) and value > 0 for value in said.std):
        raise ValueError("a standard deviation that is none")


def build(path: Path, description: Description, tensors: Mapping[str, Tensor], *, model: str) -> tuple[Any, nn.Module]:
    """Build the model and give it its weights; ``model`` is its name here. Returns its configuration, too.

    Raises DataError where features, settings and tensors do not belong together.
    """
    import torch

    try:
        config = backbones.build_config(
            model, dataset=description.dataset.partition("@")[0], settings=description.model_settings
        )
        if _columns(config) != to_json(description.columns):
            raise _damaged(path, f"it reads the features {to_json(description.columns)}, its model has others")
        if not backbones.is_user_model(model):
            with torch.device("meta"):  # settings of any size cost nothing there
                _fit(path, backbones.build(config, description.outputs).state_dict(), tensors)
        made = backbones.build(config, description.outputs)
    except UsageError as error:
        if backbones.is_user_model(model):
            raise
        raise _damaged(path, f"{model}: {error.what}") from None
    except (RuntimeError, ValueError, TypeError, MemoryError, OverflowError) as error:
        raise _damaged(path, f"{model} cannot be built with its settings: {in_one_line(error)}") from None
    _fit(path, made.state_dict(), tensors)
    made.load_state_dict(dict(tensors))
    return config, made.eval()


def _fit(path: Path, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    missing, left = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or left:
        name = (missing or left)[0][:60]
        raise _damaged(path, f"tensor {name!r} is {'missing' if missing else 'not one of its model'}")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise _damaged(
                path, f"tensor {name!r} has the shape {tuple(tensors[name].shape)}, its model {tuple(tensor.shape)}"
            )
