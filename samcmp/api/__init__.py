"""The Python interface: what the command line does, with its plans, its store and its verdicts, as functions.

Arguments are named as the options are; None means: as the suite says. A run that the command line made is found here,
and the other way round. Wrong input raises a :class:`samcmp.errors.SamcmpError` that says what, where and the remedy.
Progress goes to standard error; ``progress=False`` silences it. KeyboardInterrupt keeps the runs that are finished.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samcmp.api.arguments import (
    Names,
    PathLike,
    Settings,
    checked,
    group,
    in_python,
    names,
    one,
    path,
    spelled,
    table,
)  # fmt: skip
from samcmp.api.catalogues import datasets, models, optimizers
from samcmp.api.results import Inspected, Profiled, Result, Trained
from samcmp.errors import UsageError

if TYPE_CHECKING:
    import pandas

    from samcmp.experiment.store import Store

__all__ = ["compare", "datasets", "inspect", "models", "optimizers", "predict", "profile", "train"]


def compare(
    dataset: Names | None = None,
    model: Names | None = None,
    optimizers: Names | None = None,
    *,
    suite: str | None = None,
    data: PathLike | pandas.DataFrame | None = None,
    target: Names | None = None,
    smiles_column: str = "smiles",
    task: str | None = None,
    cards: PathLike | Sequence[PathLike] | None = None,
    source: str | None = None,
    subset: int | None = None,
    settings: Settings | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    init_from: PathLike | None = None,
    config: PathLike | None = None,
    split: str | None = None,
    split_file: PathLike | None = None,
    split_column: str | None = None,
    folds: int | None = None,
    repeats: int | None = None,
    seed: int | None = None,
    tune: int | None = None,
    equal: str | None = None,
    equal_cost: bool = False,
    device: str = "auto",
    on: str | None = None,
    jobs: int | None = None,
    timeout: float | None = None,
    profile_seconds: float | None = None,
    budget: str | None = None,
    retry_failed: bool = False,
    margin: float | None = None,
    published: bool = False,
    save_best: PathLike | None = None,
    store: PathLike | None = None,
    progress: bool = True,
) -> Result:
    """Train every optimizer on the same splits, weights, batches and dropout, measure them side by side, and compare.

    What the store has is not run again. The options of ``samcmp compare --help`` have the same names and ranges.

    Args:
        dataset: one name or several of ``samcmp.datasets()``.
        model: one name or several of ``samcmp.models()``, or ``"file.py:Class"``.
        optimizers: one name or several of ``samcmp.optimizers()``, or ``"file.py:Class"``.
        data: a table of your own as a dataset: a path, or a frame. A frame is known by its content.
        target: the table's target columns.
        cards: folders with dataset cards of your own.
        source: a folder, bundle or URL to take dataset files from (``--from``).
        settings: of optimizers and models, ``{"graphsam.rho": 0.05}``; several values are a sweep (``--set``).
        tune: trials an optimizer and split, chosen by validation.
        on: where to run: ``"ray:HOST:PORT"``, ``"slurm"``, or a table [run.NAME] of benchmarks.toml; here if left out.
        jobs: training runs side by side; as many as cores where it is left out, one a GPU.
        timeout: seconds a training run may take.
        profile_seconds: time to measure throughput, a dataset and model.
        budget: ``"90min"``: run the most informative part that fits.
        save_best: a folder for each split's best model, for :func:`predict`.
        store: the folder where results are kept; ``$SAMCMP_STORE``, else ``.samcmp``.

    Returns:
        The comparison. A failed run is in it with its reason, as on the command line.

    Raises:
        SamcmpError: what is asked for does not fit together, or a file cannot be read or written.
    """
    from samcmp.cli import compare as command
    from samcmp.cli import options, planning
    from samcmp.cli.place import PlaceOptions
    from samcmp.times import seconds_of

    with in_python(progress=progress, data=data):
        given = spelled(
            subset=subset, data=data, smiles_column=smiles_column, target=target, task=task, cards=cards,
            source=source, config=config, settings=settings, init_from=init_from, threads=threads, epochs=epochs,
            batch_size=batch_size, split=split, split_file=split_file, split_column=split_column, tune=tune,
            equal=equal, equal_cost=equal_cost, folds=folds, repeats=repeats, seed=seed, on=on, jobs=jobs,
            timeout=timeout, profile_seconds=profile_seconds, margin=margin,
        )  # fmt: skip
        read = checked(command.compare, given)
        chosen = planning.Chosen(
            suite, names(dataset, "dataset"), names(model, "model"), names(optimizers, "optimizers"),
            read["folds"], read["repeats"], read["seed"], read["profile_seconds"],
        )  # fmt: skip
        kept, place = _store(store), group(PlaceOptions, read)
        with planning.compare(
            chosen,
            kept,
            settings=group(options.SettingOptions, read),
            training=group(options.TrainingOptions, read),
            splitting=group(options.SplitOptions, read),
            data=group(options.DataOptions, read),
            tuning=group(options.TuningOptions, read),
            device=device,
            place=place,
        ) as job:
            winners = command.winners_of(job, kept, path(save_best))
            missing = planning.to_do(job.planned, kept, equal=read["equal"], retry=retry_failed)
            done = command.carry_out(
                job, kept, winners=winners, missing=missing, equal=read["equal"], place=place,
                timeout=read["timeout"], budget=None if budget is None else seconds_of(budget), retry=retry_failed,
                plain=False,
            )  # fmt: skip
            planned = done or job.planned
        records, comparison = planning.compared(
            planned, kept, margin=read["margin"], equal=read["equal"], published=published
        )
    return Result(comparison, records)


def train(
    dataset: str = "demo",
    model: str = "gcn",
    optimizer: str = "graphsam",
    *,
    data: PathLike | pandas.DataFrame | None = None,
    target: Names | None = None,
    smiles_column: str = "smiles",
    task: str | None = None,
    cards: PathLike | Sequence[PathLike] | None = None,
    source: str | None = None,
    subset: int | None = None,
    settings: Settings | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    init_from: PathLike | None = None,
    config: PathLike | None = None,
    split: str | None = None,
    split_file: PathLike | None = None,
    split_column: str | None = None,
    fold: int | None = None,
    seed: int = 0,
    device: str = "auto",
    save: PathLike | None = None,
    save_split: PathLike | None = None,
    store: PathLike | None = None,
    progress: bool = True,
) -> Trained:
    """Train one model with one optimizer, now, and keep the Record in the store.

    Args:
        data: a table of your own as a dataset, instead of ``dataset``: a path, or a frame.
        fold: of ``split="cv5"``, or which split of a file with several.
        save: a file for the model of the best epoch, for :func:`predict`.
        save_split: a file for the split's row numbers.

    Returns:
        The run; see :func:`compare` for the other arguments. A failed run has no score, and a reason.

    Raises:
        SamcmpError: what is asked for does not fit together, or a file cannot be read or written.
    """
    from samcmp.cli import common, options, planning
    from samcmp.cli import train as command

    with in_python(progress=progress, data=data):
        given = spelled(
            subset=subset, data=data, smiles_column=smiles_column, target=target, task=task, cards=cards, source=source,
            config=config, settings=settings, init_from=init_from, threads=threads, epochs=epochs,
            batch_size=batch_size, split=split, split_file=split_file, split_column=split_column, fold=fold, seed=seed,
        )  # fmt: skip
        read = checked(command.train, given)
        common.refuse_overwriting({**_read(given), "--save": save, "--save-split": save_split})
        common.check_writable(path(save), "--save")
        common.check_writable(path(save_split), "--save-split")
        key, case, job = planning.train(
            one(dataset, "dataset"), one(model, "model"), one(optimizer, "optimizer"),
            settings=group(options.SettingOptions, read),
            training=group(options.TrainingOptions, read),
            splitting=group(options.SplitOptions, read),
            data=group(options.DataOptions, read),
            fold=read["fold"], seed=read["seed"], device=device,
        )  # fmt: skip
        kept = _store(store)
        how = job.sources.options(job.device, job.planned.code, save=path(save))
        record = command.run(key, case, kept, how=how, save_split=path(save_split))
    return Trained(record, kept)


def profile(
    dataset: str = "demo",
    model: str = "gcn",
    optimizers: Names | None = None,
    *,
    budget: str = "4min",
    processes: int = 1,
    batch_size: int | Sequence[int] | None = None,
    detail: bool = False,
    trace: PathLike | None = None,
    data: PathLike | pandas.DataFrame | None = None,
    target: Names | None = None,
    smiles_column: str = "smiles",
    task: str | None = None,
    cards: PathLike | Sequence[PathLike] | None = None,
    source: str | None = None,
    subset: int | None = None,
    settings: Settings | None = None,
    threads: int | None = None,
    init_from: PathLike | None = None,
    config: PathLike | None = None,
    seed: int = 0,
    device: str = "auto",
    store: PathLike | None = None,
    progress: bool = True,
) -> Profiled:
    """Measure graphs a second, memory and energy of each optimizer: interleaved, same batches, one device.

    Args:
        optimizers: one name or several; all where they are left out.
        budget: the time that the measuring may take: ``"90s"``, ``"5min"``.
        processes: fresh ones that share the time; ratios then cover their spread.
        batch_size: molecules a step; several give a curve.
        detail: loading, forward, backward and optimizer apart.
        trace: a file for a timeline.

    Returns:
        The speeds; see :func:`compare` for the other arguments.

    Raises:
        SamcmpError: what is asked for does not fit together, or a file cannot be read or written.
    """
    from samcmp.cli import common, options, planning
    from samcmp.cli import profile as command
    from samcmp.times import seconds_of

    with in_python(progress=progress, data=data):
        given = spelled(
            subset=subset, data=data, smiles_column=smiles_column, target=target, task=task, cards=cards, source=source,
            config=config, settings=settings, init_from=init_from, threads=threads, seed=seed, processes=processes,
        )  # fmt: skip
        read = checked(command.profile, given)
        seconds = seconds_of(budget)
        several = [batch_size] if batch_size is None or isinstance(batch_size, int) else batch_size
        sizes = command.batch_sizes(None if several == [None] else ",".join(map(str, several)))
        common.refuse_overwriting({**_read(given), "--trace": trace})
        common.check_writable(path(trace), "--trace")
        planned = planning.profile(
            one(dataset, "dataset"), one(model, "model"), names(optimizers, "optimizers"),
            sizes=sizes, seconds=seconds, settings=group(options.SettingOptions, read), seed=read["seed"],
            data=group(options.DataOptions, read), device=device,
        )  # fmt: skip
        sessions = command.run(
            planned, _store(store), seconds=seconds, processes=read["processes"], detail=detail, trace=path(trace)
        )
    return Profiled(sessions)


def inspect(
    dataset: Names | None = None,
    model: Names | None = None,
    optimizers: Names | None = None,
    *,
    what: Names | None = None,
    weights: str = "best",
    molecules: int | str = 256,
    every: int = 1,
    directions: int = 5,
    points: int = 21,
    direction: str = "filter",
    radius: float = 0.05,
    row: int | None = None,
    data: PathLike | pandas.DataFrame | None = None,
    target: Names | None = None,
    smiles_column: str = "smiles",
    task: str | None = None,
    cards: PathLike | Sequence[PathLike] | None = None,
    source: str | None = None,
    subset: int | None = None,
    settings: Settings | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    init_from: PathLike | None = None,
    config: PathLike | None = None,
    split: str | None = None,
    split_file: PathLike | None = None,
    split_column: str | None = None,
    repeats: int = 1,
    seed: int = 0,
    device: str = "auto",
    store: PathLike | None = None,
    progress: bool = True,
) -> Inspected:
    """Look inside the training: gradients and where they point, how flat the weights are where it ends, attention.

    Every run is bit for bit the one that :func:`compare` makes. What the store has is not measured again. Without
    arguments: built-in molecules, gcn, adam, sam and graphsam, one split, 10 epochs.

    Args:
        what: of ``gradients``, ``landscape``, ``surface``, ``path``, ``sharpness`` and ``attention``; gradients,
            landscape, sharpness, and attention where a model has it, if left out.
        weights: ``"best"``, of the epoch that the test score rests on, or ``"last"``.
        molecules: training molecules for the loss at weights, or ``"all"``.
        every: true gradients at the steps t with t mod ``every`` in {0, 1}.
        directions: of the landscape.
        points: along a direction or a path; an odd number.
        direction: ``"filter"``, normalised as Li et al. (2018), or ``"gaussian"``.
        radius: of the sharpness, in the norm of all weights, the same for every optimizer.
        row: of the molecule whose attention is drawn; one of median size if left out.
        repeats: random splits, each with its own seeds.

    Returns:
        What was measured; see :func:`compare` for the other arguments. What failed is in it with its reason.

    Raises:
        SamcmpError: what is asked for does not fit together, or a file cannot be read or written.
    """
    from samcmp.cli import inspect as command
    from samcmp.cli import inspecting, options
    from samcmp.inspection import units
    from samcmp.inspection.kept import Kept

    with in_python(progress=progress, data=data):
        given = spelled(
            what=None if what is None else names(what, "what"), weights=weights, molecules=str(molecules), every=every,
            directions=directions, points=points, direction=direction, radius=radius, row=row,
            subset=subset, data=data, smiles_column=smiles_column, target=target, task=task, cards=cards, source=source,
            config=config, settings=settings, init_from=init_from, threads=threads, epochs=epochs,
            batch_size=batch_size, split=split, split_file=split_file, split_column=split_column, repeats=repeats,
            seed=seed,
        )  # fmt: skip
        read = checked(command.inspect, given)
        measuring = group(command.InspectOptions, read)
        asked = measuring.settings()
        job, chosen = command.planned(
            names(dataset, "dataset"), names(model, "model"), names(optimizers, "optimizers"),
            repeats=read["repeats"], seed=read["seed"], measuring=measuring,
            settings=group(options.SettingOptions, read),
            training=group(options.TrainingOptions, read),
            splitting=group(options.SplitOptions, read),
            data=group(options.DataOptions, read), device=device,
        )  # fmt: skip
        kept = Kept(_store(store))
        every_unit = units.units(job.planned.train, chosen, asked)
        results = inspecting.run(job, every_unit, kept, what=chosen, settings=asked)
    return Inspected(results)


def predict(
    models: PathLike | Sequence[PathLike],
    data: PathLike | pandas.DataFrame,
    *,
    smiles_column: str | None = None,
    model_file: str | None = None,
    batch_size: int = 256,
    device: str = "auto",
    progress: bool = True,
) -> pandas.DataFrame:
    """Predict with models that ``train(save=)`` or ``compare(save_best=)`` wrote.

    Args:
        models: model files, or folders of them; several are an ensemble.
        data: a table: a path, or a frame.
        smiles_column: its column with the SMILES; as in training where it is left out.
        model_file: where the class of a model of your own is: ``"file.py"`` or ``"package.module"``.
        batch_size: molecules at a time.

    Returns:
        The table's rows in their order, with a column ``predicted_TARGET`` for each target: values in the units of
        the training labels, or probabilities. Of several models it is their mean, and ``spread_TARGET`` is their
        standard deviation. ``problem`` says why a row has no prediction, and is empty where it has one.

    Raises:
        SamcmpError: a model file or the table cannot be read, or they do not fit together.
    """
    from samcmp.cli import predict as command

    with in_python(progress=progress, data=data):
        place = table(data)
        if place is None:
            raise UsageError("expected a path or a pandas frame, got None", where="data=")
        read = checked(command.predict, {"batch_size": batch_size})
        files = [models] if isinstance(models, (str, os.PathLike)) else models
        found = command.predicted(
            [Path(file) for file in files], place, smiles_column=smiles_column, model_file=model_file,
            batch_size=read["batch_size"], device=device,
        )  # fmt: skip
        made: pandas.DataFrame = found[0]
    if isinstance(data, (str, os.PathLike)):
        return made
    new = made[[name for name in made.columns if name not in data.columns]]
    return data.join(new.set_axis(data.index))


def _read(given: Mapping[str, Path | None]) -> dict[str, Path | None]:
    """The files that a call reads, by their options."""
    files = ("data", "config", "init_from", "split_file")
    return {f"--{name.replace('_', '-')}": given.get(name) for name in files}


def _store(folder: PathLike | None) -> Store:
    from samcmp.cli import common
    from samcmp.experiment.store import Store

    return Store(common.store_folder(path(folder)))
