"""Predict with models from files: molecules in, values in original units or probabilities out, rows kept in order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samcmp import backbones, modules
from samcmp.errors import DataError, UsageError
from samcmp.training import modelfile
from samcmp.training.modelfile import Description

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from samcmp.data.molecules import Molecules

Progress = Callable[[str, int, int | None], None]
CHUNK = 5_000  # molecules that are in memory as graphs at a time
BATCH_SIZE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What models say of N texts: the mean over the models, and their spread where there are several."""

    targets: tuple[str, ...]  # (T,)
    kind: str
    mean: NDArray[np.float64]  # (N, T) NaN where a text is no molecule; of classes (N, C) probabilities
    spread: NDArray[np.float64] | None  # of the same shape: sample standard deviation over the models
    problems: dict[int, str]  # place -> why there is no prediction
    doubts: dict[int, str]  # place -> why there should be none, of a molecule as the training data has them
    descriptions: tuple[Description, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Of a multiclass target the names of its classes, by column."""
        return self.descriptions[0].classes


@dataclass(frozen=True, slots=True)
class _Loaded:
    description: Description
    config: Any
    model: nn.Module


def describe(paths: Sequence[Path]) -> list[Description]:
    """Read what model files say of themselves. Raises DataError, also where they do not predict the same."""
    read = [modelfile.read(path)[0] for path in paths]
    _refuse_strangers(paths, read)
    return read


def predict(
    paths: Sequence[Path],
    smiles: Sequence[str],
    *,
    device: str = "cpu",
    batch_size: int = BATCH_SIZE,
    model_file: str | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Predict ``smiles`` with every model of ``paths``, in 32 bits.

    Args:
        model_file: where the class of a user's own model is: file.py or package.module. No other code is run.

    Raises DataError for a file that is no whole model file of this version, where models do not predict the same, or
    where no text is a molecule; UsageError where the code of a user's own model is not there or is not the same.
    """
    from samcmp.data.screen import screen
    from samcmp.training.setup import resolve_device

    where = resolve_device(device)
    loaded = [_load(path, where, model_file) for path in paths]
    descriptions = tuple(one.description for one in loaded)
    _refuse_strangers(paths, descriptions)
    strict = any(said.strict for said in descriptions)
    targets = descriptions[0].targets
    values = np.full((len(loaded), len(smiles), descriptions[0].outputs), np.nan)
    problems: dict[int, str] = {}
    doubts: dict[int, str] = {}
    for start in range(0, len(smiles), CHUNK):
        texts = tuple(smiles[start : start + CHUNK])
        impossible = {start + place: why for place, why in screen(texts, strict=True).problems.items()}
        unread = impossible.keys() if strict else {start + place for place in screen(texts, strict=False).problems}
        problems |= {place: why for place, why in impossible.items() if place in unread}
        doubts |= {place: why for place, why in impossible.items() if place not in unread}
        places = [start + i for i in range(len(texts)) if start + i not in problems]
        if places:
            values[:, places] = list(_of_chunk(loaded, [smiles[p] for p in places], places, where, batch_size))
        if progress is not None:
            progress("molecules", start + len(texts), len(smiles))
    if len(problems) == len(smiles):
        raise DataError("no row has a usable molecule", remedy=f"Row 0: {problems[0]}." if problems else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of rows without a prediction
        mean = values.mean(axis=0)
        spread = values.std(axis=0, ddof=1) if len(loaded) > 1 else None
    return Predictions(targets, descriptions[0].kind, mean, spread, problems, doubts, descriptions)


def _load(path: Path, device: torch.device, model_file: str | None) -> _Loaded:
    description, tensors = modelfile.read(path)
    name = _checked_name(path, description, model_file)
    config, model = modelfile.build(path, description, tensors, model=name)
    return _Loaded(description, config, model.to(device))


def _checked_name(path: Path, said: Description, model_file: str | None) -> str:
    """Name the model as it is found here; of a user's own only where it was pointed to, and only the same code."""
    if not backbones.is_user_model(said.model):
        if model_file is not None:
            raise UsageError(
                f"{path} is of the catalogue's model {said.model}", where="--model-file", remedy="Leave it out."
            )
        return said.model
    place, _, of_class = said.model.rpartition(":")
    if model_file is None:
        raise UsageError(
            f"its model is the class {of_class} of {place}, which is not of samcmp: it is run only where you name it",
            where=str(path),
            remedy=f"Look at that file, then add --model-file {place}.",
        )
    if modules.content_of(modules.closure([model_file])) != said.own_code:
        raise UsageError(
            f"is not the code of {of_class} that the model was trained with (SHA-256 {said.own_code[:16]})",
            where=f"--model-file {model_file}",
            remedy="Put it and what it imports beside it back as they were, or train again.",
        )
    return f"{model_file}:{of_class}"


def _refuse_strangers(paths: Sequence[Path], descriptions: Sequence[Description]) -> None:
    """Refuse models of other targets: a mean over them would mean nothing. Raises DataError."""
    first = descriptions[0]
    for path, said in zip(paths, descriptions, strict=True):
        if said.holds != "molecules":
            raise DataError(
                f"predicts {said.holds}, and a table holds molecules",
                where=str(path),
                remedy="Its test predictions are in the store; samcmp.training.modelfile.build gives the model itself.",
            )
        if (said.kind, said.targets, said.classes) != (first.kind, first.targets, first.classes):
            raise DataError(
                f"predicts {', '.join(said.targets)[:200]} ({said.kind}), and {paths[0]} predicts "
                f"{', '.join(first.targets)[:200]} ({first.kind})",
                where=str(path),
                remedy="An ensemble is of models of the same targets: predict with one kind at a time.",
            )


def _of_chunk(
    loaded: Sequence[_Loaded], smiles: Sequence[str], rows: Sequence[int], device: torch.device, batch_size: int
) -> Iterator[NDArray[np.float64]]:
    """Yield each model's predictions of some molecules, (n, T); models that read the same features share the graphs."""
    import torch

    from samcmp.graphs.graphset import GraphSet
    from samcmp.training import loop, tasks

    graphs: dict[Any, GraphSet] = {}
    for one in loaded:
        said, prepare = one.description, backbones.prepare_of(one.config)
        reads = repr(one.config.columns), prepare
        if reads not in graphs:
            made = _molecules(smiles, rows, said)
            graphs[reads] = GraphSet.load_or_build(
                made, one.config.columns, prepare=prepare, cache=False, device=device
            )
        link = tasks.Criterion(said.kind).link
        raw = loop.predict(one.model, graphs[reads].batches(torch.arange(len(smiles)), batch_size), link=link).numpy()
        if said.mean is not None and said.std is not None:
            raw = tasks.Standardizer(np.array(said.mean), np.array(said.std)).undo(raw)
        if raw.shape != (len(smiles), said.outputs) or not np.isfinite(raw).all():
            raise DataError(
                "its predictions are not finite numbers, one a molecule and target", where=f"the model {said.arm}"
            )
        yield raw


def _molecules(smiles: Sequence[str], rows: Sequence[int], said: Description) -> Molecules:
    from samcmp.data.molecules import Molecules

    y = np.full((len(smiles), len(said.targets)), np.nan)
    return Molecules(
        "data", np.array(rows), tuple(smiles), y, said.targets, said.kind, said.metric, "", classes=said.classes
    )
