"""``samcmp predict``: what trained models say of new molecules, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samcmp import child
from samcmp.cli import common, options
from samcmp.cli.options import DATA
from samcmp.errors import DataError, SamcmpError, UsageError
from samcmp.printable import counted

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from samcmp.data.table import Table
    from samcmp.training.prediction import Predictions

PROBLEM = "problem"
TABBED, PARQUET = (".tsv", ".tab"), (".parquet", ".pq")


def predict(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL...", help="Model files, or folders of them; several are an ensemble."),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="FILE",
            help="A table of your own: CSV, TSV or Parquet, also packed.",
            rich_help_panel=DATA,
        ),
    ],
    smiles_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Your table's column with the SMILES.",
            show_default="as in training",
            rich_help_panel=DATA,
        ),
    ] = None,
    output: options.Output = None,
    model_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where the class of a model of your own is: file.py or package.module."),
    ] = None,
    batch_size: Annotated[int, options.count("--batch-size", "Molecules at a time.")] = 256,
    device: options.Device = "auto",
) -> None:
    """Predict with models that `samcmp train --save` or `samcmp compare --save-best` wrote.

    The table's rows come back in their order with a column predicted_TARGET for each target: values in the units of
    the training labels, or probabilities. Of several models it is their mean, and spread_TARGET is their standard
    deviation. A row whose SMILES cannot be read has no prediction, and its reason in the column "problem". --output
    writes CSV, .tsv or .parquet.

    Examples:

      samcmp predict best.safetensors --data new.csv --output out.csv

      samcmp predict best/ --data new.parquet --output out.parquet
    """
    common.check_writable(output, "--output")
    _check_ending(output)
    frame, found = predicted(
        models, data, smiles_column=smiles_column, model_file=model_file, batch_size=batch_size, device=device
    )
    _write(frame, output)
    _summary(found, n=len(frame), output=output)


def predicted(
    models: Sequence[Path],
    data: Path,
    *,
    smiles_column: str | None,
    model_file: str | None,
    batch_size: int,
    device: str,
) -> tuple[Any, Predictions]:
    """Return the table as a frame with what is predicted beside it, and what is known of that. Raises SamcmpError."""
    from samcmp.data import table

    where = common.pick_device(device)
    paths = model_files(models)
    said = _described(paths)
    content = table.read(data)
    column = smiles_column or said[0].smiles_column
    smiles = content.text(content.column(column, option="--smiles-column"))
    _refuse_taken(content, said[0].targets, said[0].classes, several=len(paths) > 1)
    try:
        with common.progress_bars() as progress:
            found = _predicted(
                paths, smiles, (where, batch_size, model_file), apart=":" in said[0].model, progress=progress
            )
    except DataError as error:
        error.where = error.where or content.where
        raise
    return _frame(content, found), found


def model_files(given: Sequence[Path]) -> list[Path]:
    """Return the files that are named, and those of folders. Raises UsageError where there is none."""
    paths: list[Path] = []
    for path in given:
        if not path.is_dir():
            paths.append(path)
            continue
        inside = sorted(path.glob("*.safetensors"))
        if not inside:
            raise UsageError("holds no .safetensors file", where=str(path), remedy="Name the model files.")
        paths += inside
    if not paths:
        raise UsageError("no model is named", remedy="Name model files, or folders of them.")
    return list(dict.fromkeys(paths))


def _described(paths: Sequence[Path]) -> Any:
    from samcmp.training import prediction

    return prediction.describe(paths)


def _refuse_taken(content: Table, targets: Sequence[str], classes: Sequence[str], *, several: bool) -> None:
    named = [f"predicted_{targets[0]}"] if classes else []
    for title in [*named, *_titles(targets, classes, several=several), PROBLEM]:
        if title in content.header:
            raise DataError(
                f"has a column {title!r} already", where=content.where, remedy="Rename it: predictions go there."
            )


def _titles(targets: Sequence[str], classes: Sequence[str], *, several: bool) -> list[str]:
    """Name the columns of numbers: of targets, or of the probabilities of one target's classes."""
    names = [f"{targets[0]}_{name}" for name in classes] or targets
    whats = ("probability" if classes else "predicted", *(["spread"] if several else []))
    return [f"{what}_{name}" for name in names for what in whats]


def _predicted(
    paths: Sequence[Path], smiles: Sequence[str], how: tuple[str, int, str | None], *, apart: bool, progress: Any
) -> Predictions:
    """Predict here, or in a process of its own where the model's class is a user's: it may end it."""
    if not apart:
        return _predict(paths, smiles, how, progress)
    worker = child.Child(_apart, paths, smiles, how, parental=True)
    try:
        while isinstance(said := worker.receive(), tuple):
            if progress is not None:
                progress(*said)
        return said  # type: ignore[no-any-return]
    except child.Died as death:
        raise SamcmpError(
            death.reason, where=str(paths[0]), remedy="The model's own code failed: correct it."
        ) from None
    finally:
        worker.end()


def _apart(pipe: Connection, paths: Sequence[Path], smiles: Sequence[str], how: tuple[str, int, str | None]) -> None:
    pipe.send(_predict(paths, smiles, how, lambda *said: pipe.send(said)))


def _predict(
    paths: Sequence[Path], smiles: Sequence[str], how: tuple[str, int, str | None], progress: Any
) -> Predictions:
    from samcmp.training import prediction

    device, batch_size, model_file = how
    return prediction.predict(
        paths, smiles, device=device, batch_size=batch_size, model_file=model_file, progress=progress
    )


def _frame(content: Table, found: Predictions) -> Any:
    """The table as it was read, and beside it what is predicted."""
    import pandas as pd

    frame = content.frame.copy()
    frame.columns = pd.Index(content.header)
    parts = [found.mean, *([] if found.spread is None else [found.spread])]
    values = [part[:, t] for t in range(found.mean.shape[1]) for part in parts]
    titles = _titles(found.targets, found.classes, several=found.spread is not None)
    made = pd.DataFrame(dict(zip(titles, values, strict=True)), index=frame.index)
    if found.classes:
        likeliest = [None if row in found.problems else found.classes[p.argmax()] for row, p in enumerate(found.mean)]
        made.insert(0, f"predicted_{found.targets[0]}", likeliest)
    doubts = {row: f"{why}; read without the check, as in the training data" for row, why in found.doubts.items()}
    said = {**doubts, **found.problems}
    made[PROBLEM] = [said.get(row, "") for row in range(len(frame))]
    return pd.concat([frame, made], axis=1)


def _check_ending(output: Path | None) -> None:
    """Refuse a name that says another format than would be in the file. Raises UsageError."""
    if output is not None and output.suffix.lower() not in {"", ".csv", ".txt", *TABBED, *PARQUET}:
        raise UsageError(
            f"{output.suffix} is no format of predictions",
            where=f"--output {output}",
            remedy="Let the name end in .csv, .tsv or .parquet.",
        )


def _write(frame: Any, output: Path | None) -> None:
    from samcmp import files
    from samcmp.printable import csv_cell

    suffix = "" if output is None else output.suffix.lower()
    if output is not None and suffix in PARQUET:
        with files.writing(output) as temporary:
            frame.to_parquet(temporary, index=False)
        return
    safe = frame.map(csv_cell).rename(columns=csv_cell)
    text = safe.to_csv(index=False, sep="\t" if suffix in TABBED else ",", lineterminator="\n")
    if output is None:
        typer.echo(text, nl=False)
    else:
        files.write(output, text.encode())


def _summary(found: Predictions, *, n: int, output: Path | None) -> None:
    console = common.stderr()
    what = "probabilities" if found.kind != "regression" else "values in the units of the training labels"
    of = counted(len(found.descriptions), "model")
    place = "" if output is None else f", in {output}"
    console.print(f"{counted(n - len(found.problems), 'row')} of {n:,} predicted by {of}: {what}{place}",
                  markup=False, soft_wrap=True)  # fmt: skip
    if found.problems:
        row, why = next(iter(found.problems.items()))
        console.print(
            f"{counted(len(found.problems), 'row')} without a prediction; the first is row {row}: {why}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    for note in _versions(found):
        console.print(note, markup=False, soft_wrap=True)


def _versions(found: Predictions) -> list[str]:
    """Say where the packages that make features and sums are not those of the training."""
    from samcmp import modules

    notes = []
    for package in ("rdkit", "torch"):
        trained = {said.versions.get(package) for said in found.descriptions} - {None}
        here = modules.version(package)
        if trained and trained != {here}:
            notes.append(f"{package} is {here} here, the training had {', '.join(sorted(map(str, trained)))}")
    return notes
