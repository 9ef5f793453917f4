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
    from samcmp.data.molecules import Molecules
    from samcmp.data.split import Split
    from samcmp.graphs.batch import GraphBatch
    from samcmp.graphs.graphset import GraphSet
    from samcmp.training.checkpoints import Weights
    from samcmp.training.loop import Trainer
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
    molecules: Molecules
    split: Split
    graphs: GraphSet  # targets standardised
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
        model: nn.Module = backbones.build(self.config, len(self.molecules.tasks))
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

    def train_batches(self, epoch: int) -> Iterator[GraphBatch]:
        """The training batches of an epoch, in the order that is the same for every optimizer."""
        import torch

        from samcmp.training.loop import stream

        generator = torch.Generator().manual_seed(stream(self.case.seed, f"batches-{epoch}"))
        return self.graphs.batches(self.train_positions, self.case.protocol.batch_size, generator=generator)

    def batches(self, positions: torch.Tensor) -> Iterator[GraphBatch]:
        """Batches in fixed order, none dropped, for evaluation."""
        return self.graphs.batches(positions, self.case.protocol.batch_size)


def base_optimizer(case: Case, model: nn.Module) -> torch.optim.Optimizer:
    """The base optimizer of the protocol over all trained parameters, fused where torch offers it."""
    import torch

    protocol, rate = case.training, case.learning_rate * case.protocol.peak_lr
    parameters = [p for p in model.parameters() if p.requires_grad]
    decay = protocol.weight_decay
    if protocol.base == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay, fused=True)
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


def load_molecules(case: Case, options: Options) -> Molecules:
    from samcmp.data import molecules

    found = molecules.load(options.datasets.find(case.dataset), source=options.source, identity=case.data)
    subset = case.protocol.subset
    return found if subset is None else molecules.subset(found, subset, seed=0)


def make_split(molecules: Molecules, case: Case, options: Options) -> Split:
    """Split the molecules of ``case``. Raises DataError where a split file is no longer that of the case."""
    from samcmp.data import splits

    file = options.split_file if case.split == "file" else None
    return splits.make(molecules, case.split, seed=case.split_seed, fold=case.fold, file=file, sha256=case.split_file)


def failed(case: Case, options: Options, *, key: str, status: Status, reason: str) -> Record:
    """Return the Record of a case whose process did not live to make it."""
    from samcmp import machine

    dataset_hash = split_hash = ""
    with contextlib.suppress(SamcmpError):  # data that cannot be read: then nothing is known of it
        molecules = load_molecules(case, options)
        dataset_hash = molecules.dataset_hash
        split_hash = make_split(molecules, case, options).hash
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
    """Read, split and featurise the data of ``case``, and make its model's configuration.

    Raises SamcmpError for what the user can mend: data, names, device, initial weights that were replaced meanwhile.
    """
    import torch

    from samcmp import backbones
    from samcmp.graphs.graphset import GraphSet
    from samcmp.training import tasks

    modules.hold(options.code)
    device = resolve_device(options.device)
    torch.set_num_threads(case.protocol.threads)
    molecules = load_molecules(case, options)
    split = make_split(molecules, case, options)
    config = config_of(case)
    graphs = GraphSet.load_or_build(
        molecules, config.columns, prepare=backbones.prepare_of(config), progress=progress, device=device
    )
    positions = [graphs.positions(torch.from_numpy(rows)) for rows in (split.train, split.valid, split.test)]
    standardizer = None
    if molecules.kind == "regression":
        y = molecules.y[positions[0].numpy()]
        standardizer = tasks.Standardizer.fit(y)
        graphs = graphs.with_targets(torch.from_numpy(standardizer.apply(molecules.y)))
    task = tasks.Task(molecules.kind, molecules.metric, molecules.tasks)
    return Setup(
        case=case,
        options=options,
        molecules=molecules,
        split=split,
        graphs=graphs,
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


def _weights(case: Case, options: Options) -> Weights | None:
    from samcmp.training import checkpoints

    file = options.init_from
    return None if file is None else checkpoints.read(file, sha256=case.protocol.init_from or "")
