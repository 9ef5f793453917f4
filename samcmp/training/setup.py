"""A case made ready: its data on the device, and factories for equal models and optimizers."""

from __future__ import annotations

import contextlib
import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samcmp import modules
from samcmp.data.catalogue import Catalogue
from samcmp.errors import DeviceError, SamcmpError
from samcmp.records import Case, Record, Status

if TYPE_CHECKING:
    import torch
    from torch import nn

    from samcmp.data.fetch import Progress
    from samcmp.data.images import Images
    from samcmp.data.molecules import Molecules
    from samcmp.data.samples import Samples
    from samcmp.data.split import Split
    from samcmp.graphs.graphset import GraphSet
    from samcmp.images.imageset import ImageSet
    from samcmp.training.checkpoints import Weights
    from samcmp.training.loop import Batch, Trainer
    from samcmp.training.tasks import Criterion, Standardizer, Task


@dataclass(frozen=True, slots=True)
class Options:
    """Where things are and where to run; nothing here changes a result."""

    device: str = "cpu"  # cpu or cuda[:index]
    datasets: Catalogue = field(default_factory=Catalogue)
    code: Mapping[str, str] = field(default_factory=dict)  # that the keys were made of: see samcmp.modules.hold
    source: str | None = None  # of dataset files, instead of their URLs
    split_file: Path | None = None
    init_from: Path | None = None
    save: Path | None = None  # file for the model of the best epoch
    keep: Path | None = None  # folder for the model of every run, under its key


@dataclass(slots=True)
class Setup:
    """A case made ready: data on the device, and factories for equal models and optimizers."""

    case: Case
    options: Options
    samples: Molecules | Images
    split: Split
    dataset: GraphSet | ImageSet  # targets standardised
    task: Task
    criterion: Criterion
    standardizer: Standardizer | None
    config: Any
    weights: Weights | None  # initial ones, of a file
    device: torch.device
    train_positions: torch.Tensor
    valid_positions: torch.Tensor
    test_positions: torch.Tensor

    def new_model(self) -> nn.Module:
        """Build the model with the case's initial weights: equal at every call, whatever ran before."""
        import torch

        from samcmp import backbones
        from samcmp.training.loop import stream

        torch.manual_seed(stream(self.case.seed, "weights"))
        model: nn.Module = backbones.build(self.config, self.task.outputs)
        if self.weights is not None:
            from samcmp.training import checkpoints

            checkpoints.load_into(model, self.weights)
        return model.to(self.device)

    def new_trainer(
        self, case: Case | None = None, *, steps_per_epoch: int | None = None, epochs: int | None = None
    ) -> Trainer:
        """Build a new model with its optimizer, ready for the first step.

        Args:
            case: another optimizer or protocol for the same model and data.
            steps_per_epoch, epochs: that the optimizer is told, where they are not those of the case.
        """
        from samcmp import optim
        from samcmp.optim.base import SharpnessAware
        from samcmp.optim.batchnorm import clean_statistics
        from samcmp.training.loop import Trainer, learning_rate, stream

        case = case or self.case
        protocol = case.training
        model = self.new_model().train()
        recipe = optim.build(
            case.optimizer,
            base_optimizer(case, model),
            steps_per_epoch=steps_per_epoch or self.steps_per_epoch,
            epochs=epochs or protocol.epochs,
            seed=stream(case.seed, "optimizer"),
            settings=case.settings,
        )
        if isinstance(recipe.optimizer, SharpnessAware):
            clean_statistics(model, recipe.optimizer)
        modules.hold(self.options.code)  # again, now that all code of a user's is imported
        rate = learning_rate(
            recipe.schedule or protocol.schedule,
            protocol=protocol,
            train_size=len(self.train_positions),
            dataset=case.dataset,
        )
        factor = case.learning_rate
        return Trainer(
            model,
            recipe,
            criterion=self.criterion,
            loss_power=protocol.loss_power,
            lr_schedule=lambda t: factor * rate(t),
            dropout_seed=stream(case.seed, "dropout"),
        )

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train_positions) / self.case.protocol.batch_size)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """The training batches of an epoch, in the order and with the augmentation that every optimizer has."""
        from samcmp.images.imageset import ImageSet

        dataset = self.dataset
        if isinstance(dataset, ImageSet) and self.case.protocol.augment:
            dataset = dataset.augmented(self._generator(f"augmentation-{epoch}"))
        return dataset.batches(
            self.train_positions, self.case.protocol.batch_size, generator=self._generator(f"batches-{epoch}")
        )

    def _generator(self, purpose: str) -> torch.Generator:
        import torch

        from samcmp.training.loop import stream

        return torch.Generator().manual_seed(stream(self.case.seed, purpose))

    def batches(self, positions: torch.Tensor) -> Iterator[Batch]:
        """Batches in fixed order, none dropped or augmented, for evaluation."""
        return self.dataset.batches(positions, self.case.protocol.batch_size)


def base_optimizer(case: Case, model: nn.Module) -> torch.optim.Optimizer:
    """The base optimizer of the protocol over all trained parameters, fused where torch offers it."""
    import torch

    protocol, rate = case.training, case.learning_rate * case.protocol.peak_lr
    parameters = [p for p in model.parameters() if p.requires_grad]
    decay = protocol.weight_decay
    if protocol.base == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=protocol.momentum, weight_decay=decay, fused=True)
    kind = torch.optim.AdamW if protocol.base == "adamw" else torch.optim.Adam
    return kind(parameters, lr=rate, weight_decay=decay, fused=True)


def foreign(case: Case) -> bool:
    """Tell whether code runs in ``case`` that is not this project's: it may end or change the process that runs it."""
    from samcmp import backbones, optim

    return backbones.is_foreign(case.model) or optim.is_foreign(case.optimizer)


def resolve_device(name: str) -> torch.device:
    """Turn ``cpu``, ``cuda`` or ``cuda:1`` into a device that is there. Raises DeviceError, never falls back."""
    import torch

    if name == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        why = "this torch is a CPU build" if torch.version.cuda is None else "no CUDA device or driver was found"
        raise DeviceError(
            f"CUDA was asked for, but {why}",
            where=f"--device {name}",
            remedy="Use --device cpu, or install a CUDA build of torch; `samcmp doctor` says what is missing.",
        )
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        raise DeviceError(
            f"there is no CUDA device {index}: {count} visible", where=f"--device {name}",
            remedy=f"Use cuda:0 to cuda:{count - 1}.",
        )  # fmt: skip
    return torch.device("cuda", index)


def load_samples(case: Case, options: Options) -> Molecules | Images:
    """Read the dataset of ``case``, or the part of it that the protocol's subset is. Raises SamcmpError."""
    from samcmp.data import images, molecules

    card, n = options.datasets.find(case.dataset), case.protocol.subset
    if card.kind == "images":
        pictures = images.load(card, source=options.source, identity=case.data)
        return pictures if n is None else images.subset(pictures, n, seed=0)
    found = molecules.load(card, source=options.source, identity=case.data)
    return found if n is None else molecules.subset(found, n, seed=0)


def make_split(samples: Samples, case: Case, options: Options) -> Split:
    """Split the samples of ``case``. Raises DataError where a split file is no longer that of the case."""
    from samcmp.data import splits

    file = options.split_file if case.split == "file" else None
    return splits.make(samples, case.split, seed=case.split_seed, fold=case.fold, file=file, sha256=case.split_file)


def failed(case: Case, options: Options, *, key: str, status: Status, reason: str) -> Record:
    """Return the Record of a case whose process did not live to make it."""
    from samcmp import machine

    dataset_hash = split_hash = ""
    with contextlib.suppress(SamcmpError):  # data that cannot be read: then nothing is known of it
        samples = load_samples(case, options)
        dataset_hash = samples.dataset_hash
        split_hash = make_split(samples, case, options).hash
    return Record(
        key=key,
        case=case,
        status=status,
        reason=reason,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=machine.metadata(),
        versions=machine.versions(),
        dataset_hash=dataset_hash,
        split_hash=split_hash,
    )


def config_of(case: Case) -> Any:
    """Make the model's configuration. Raises UsageError for a setting that the model does not take."""
    from samcmp import backbones

    return backbones.build_config(
        case.model, dataset=case.dataset.partition("@")[0], settings=dict(case.model_settings)
    )


def assemble(case: Case, options: Options, *, progress: Progress | None = None) -> Setup:
    """Read, split and featurise or normalise the data of ``case``, and make its model's configuration.

    Raises SamcmpError for what the user can mend: data, names, device, initial weights that were replaced meanwhile.
    """
    import torch

    from samcmp.graphs.graphset import GraphSet
    from samcmp.training import tasks

    modules.hold(options.code)
    device = resolve_device(options.device)
    torch.set_num_threads(case.protocol.threads)
    samples = load_samples(case, options)
    split = make_split(samples, case, options)
    config = config_of(case)
    dataset = _on_device(samples, split, config, device, progress)
    positions = [dataset.positions(torch.from_numpy(rows)) for rows in (split.train, split.valid, split.test)]
    standardizer = None
    if samples.kind == "regression" and isinstance(dataset, GraphSet):
        y = samples.y[positions[0].numpy()]
        standardizer = tasks.Standardizer.fit(y)
        dataset = dataset.with_targets(torch.from_numpy(standardizer.apply(samples.y)))
    task = tasks.Task(samples.kind, samples.metric, samples.tasks, samples.classes)
    return Setup(
        case=case,
        options=options,
        samples=samples,
        split=split,
        dataset=dataset,
        task=task,
        criterion=task.criterion,
        standardizer=standardizer,
        config=config,
        weights=_weights(case, options),
        device=device,
        train_positions=positions[0],
        valid_positions=positions[1],
        test_positions=positions[2],
    )


def _on_device(
    samples: Molecules | Images, split: Split, config: Any, device: torch.device, progress: Progress | None
) -> GraphSet | ImageSet:
    """Return the set whose batches appear on ``device``: featurised molecules, or normalised images."""
    import numpy as np

    from samcmp import backbones
    from samcmp.data.images import Images
    from samcmp.graphs.graphset import GraphSet
    from samcmp.images.imageset import ImageSet

    if isinstance(samples, Images):
        train = np.searchsorted(samples.rows, split.train)
        return ImageSet.of(samples.pixels, samples.y, samples.rows, train=train).to(device)
    return GraphSet.load_or_build(
        samples, config.columns, prepare=backbones.prepare_of(config), progress=progress, device=device
    )


def _weights(case: Case, options: Options) -> Weights | None:
    from samcmp.training import checkpoints

    file = options.init_from
    return None if file is None else checkpoints.read(file, sha256=case.protocol.init_from or "")
