"""``compare --save-best``: the model of each split's winner, the run with the best validation score there.

While the comparison runs, of every split only the best model so far is on the disk. A winner that the store has a
Record of and nobody a model is trained again: on a CPU that gives the same model, and it is said if it does not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from samcmp import files
from samcmp.cli import common
from samcmp.errors import SamcmpError
from samcmp.printable import counted
from samcmp.records import Case, Record, content_key
from samcmp.training.tasks import better

if TYPE_CHECKING:
    from samcmp.experiment.plan import Plan
    from samcmp.experiment.store import Store
    from samcmp.training.setup import Options


class Winners:
    """The best run of every split of a plan, and the folder for their models.

    Raises UsageError where there can be no such folder.
    """

    def __init__(self, planned: Plan, kept: Store, folder: Path) -> None:
        common.check_folder(folder, "--save-best")
        self.planned, self.kept, self.folder = planned, kept, folder
        self.waiting = folder / ".runs"  # models of runs that may win, under their keys
        self.best: dict[str, Record] = {}  # name -> Record
        for key in planned.train:
            record = kept.get(key)
            if record is not None:
                self.offer(record)

    def offer(self, record: Record) -> None:
        """Take note of a finished run; the model of one that lost is removed."""
        if record.key not in self.planned.train:
            return
        name = name_of(record.case)
        best = self.best.get(name)
        if record.accuracy is None or record.status != "ok":
            loser: Record | None = record
        elif best is None or best.key == record.key or _wins(record, best):
            self.best[name], loser = record, best
        else:
            loser = record
        if loser is not None and (name not in self.best or loser.key != self.best[name].key):
            (self.waiting / f"{loser.key}.safetensors").unlink(missing_ok=True)

    def missing(self) -> dict[str, Case]:
        """The winners so far that no model is there of, by key."""
        return {
            record.key: self.planned.train[record.key]
            for name, record in self.best.items()
            if not (self.waiting / f"{record.key}.safetensors").is_file() and not self._is_there(name, record)
        }

    def _is_there(self, name: str, record: Record) -> bool:
        from samcmp.training import modelfile

        try:
            return modelfile.read(self.folder / name)[0].record == record.key
        except SamcmpError:
            return False

    def announced(self) -> str:
        """Say in a dry run what will be trained again."""
        n = len(self.missing())
        of_store = f"; of {counted(n, 'winner')} in the store no model was kept: trained again" if n else ""
        return f"Models of each split's best run by validation go to {self.folder}{of_store}."

    def save(self, options: Options, *, jobs: int, timeout: float | None) -> None:
        """Put every winner's model into the folder, trained again where it has to be. Raises WriteError."""
        again = self.missing()
        if again:
            said = f"{counted(len(again), 'winner')} trained again: of runs in the store no model was kept"
            common.stderr().print(said, markup=False, soft_wrap=True)
            common.fetch_all({case.dataset for case in again.values()}, options)
            self._train(again, replace(options, keep=self.waiting), jobs=jobs, timeout=timeout)
        with files.refusals(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, record in self.best.items():
                waiting = self.waiting / f"{record.key}.safetensors"
                if waiting.is_file():
                    os.replace(waiting, self.folder / name)
            with contextlib.suppress(OSError):  # what another comparison waits for stays
                self.waiting.rmdir()
        there = {name: record for name, record in self.best.items() if (self.folder / name).is_file()}
        console = common.stderr()
        console.print(f"{counted(len(there), 'model')} in {self.folder}, each split's best by validation:",
                      markup=False, soft_wrap=True)  # fmt: skip
        for name, record in there.items():
            console.print(f"  {name}  {record.case.arm}, {_score(record)}", markup=False, soft_wrap=True)
        others = [path.name for path in self.folder.glob("*.safetensors") if path.name not in self.best]
        if others:
            console.print(
                f"{self.folder} holds {counted(len(others), 'other model')}, too: predict with the files above, or "
                "name another folder; of a whole folder it takes the mean", markup=False, soft_wrap=True,
            )  # fmt: skip

    def _train(self, cases: Mapping[str, Case], options: Options, *, jobs: int, timeout: float | None) -> None:
        from samcmp.engines import Work, local

        for result in local.train(Work(cases), options, listen=lambda event: None, jobs=jobs, timeout=timeout):
            record, before = result.record, self.best[name_of(result.record.case)]
            if record.accuracy is None:
                what = f"{record.status}: {record.reason}"
            elif before.accuracy is not None and record.accuracy.test != before.accuracy.test:
                what = (
                    f"now test {common.score(record.accuracy.test)}, in the store {common.score(before.accuracy.test)}"
                )
            else:
                continue
            common.stderr().print(f"{record.case.arm} {record.case.block}: {what}", markup=False, soft_wrap=True)


def name_of(case: Case) -> str:
    """Name the file of a split's winner: what its runs share, told apart by its hash; fit for any file system."""
    shared = replace(
        case, optimizer="", optimizer_settings={}, own={}, trial=0, search="", drawn={},
        code={source: digest for source, digest in case.code.items() if source == case.model},
    )  # fmt: skip
    model = case.model.rpartition(":")[2]
    text = f"{case.dataset}-{model}-{case.block}".replace("/", "-")
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in text)
    return f"{safe[:80]}-{content_key(shared)[:8]}.safetensors"


def _wins(new: Record, old: Record) -> bool:
    if new.accuracy is None or old.accuracy is None:
        return old.accuracy is None
    return better(new.accuracy.metric, new.accuracy.valid, old.accuracy.valid)


def _score(record: Record) -> str:
    found = record.accuracy
    return "" if found is None else f"valid {found.metric} {common.score(found.valid)}, test {common.score(found.test)}"
