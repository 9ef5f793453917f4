"""What a report costs: CPU seconds for 1,000 and 10,000 Records, and the statistics against their peers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from samcmp.experiment.store import Store
from samcmp.records import Record, content_key
from tests.report.made import cell

ARMS = {f"arm{i:02d}": (0.001 * i, 1.0 + 0.05 * i, 1.0 + 0.05 * i) for i in range(23)}
ARMS |= {"adam": (0.0, 1.0, 1.0), "sam": (0.01, 2.0, 1.96)}


def records(count: int) -> list[Record]:
    """``count`` Records, whole cells of 250: 25 arms, nine runs and a profile each."""
    made: list[Record] = []
    number = 0
    while len(made) < count:
        made += cell(dataset=f"data{number:02d}", arms=ARMS, blocks=9, seed=number, epochs=30)
        number += 1
    return made


def trials(count: int) -> list[Record]:
    """``count`` Records of which eight in nine are trials: 25 arms, five splits, nine trials each, a profile each."""
    made: list[Record] = []
    number = 0
    while len(made) < count:
        rng = np.random.default_rng(number)
        for record in cell(dataset=f"data{number:02d}", arms=ARMS, blocks=5, seed=number, epochs=30):
            made.append(record)
            if record.accuracy is not None:
                made += [_trial(record, trial, float(rng.normal(0.0, 0.01))) for trial in range(1, 9)]
        number += 1
    return made[:count]


def _trial(record: Record, trial: int, luck: float) -> Record:
    drawn = {"learning_rate": 1.0 + trial + luck, "rho": 0.01 * trial + luck, "weight_decay": 1e-5 * trial}
    case = replace(record.case, trial=trial, search="5f3a91c2", drawn=drawn)
    accuracy = record.accuracy and replace(record.accuracy, valid=record.accuracy.valid + luck)
    return replace(record, key=content_key(case), case=case, accuracy=accuracy)


def fill(folder: Path, made: list[Record]) -> None:
    """Write Records as a Store does, without a sync each."""
    import json

    from samcmp.records import to_json

    for record in made:
        path = folder / "records" / record.key[:2] / f"{record.key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(to_json(record), ensure_ascii=False, indent=1))


def seconds(what: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    what()
    return time.process_time() - start


def child_seconds(*arguments: str) -> float:
    """CPU seconds of a fresh Python process."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    from rich.console import Console

    from samcmp.analysis.build import compare
    from samcmp.report.terminal import write

    rows: list[tuple[str, str, str, str]] = []
    for count, bar, what, make in (
        (1_000, 1.0, "", records),
        (10_000, 5.0, "", records),
        (10_000, 5.0, ", 8 in 9 trials", trials),
    ):
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder), make(count))
            read: list[Record] = []
            took = seconds(lambda folder=folder, read=read: read.extend(Store(Path(folder)).records()))
            started = time.process_time()
            comparison = compare(read)
            compared = time.process_time() - started
            with open(os.devnull, "w") as nowhere:
                printed = seconds(lambda c=comparison, n=nowhere: write(c, Console(file=n, width=100)))
            rows.append((f"{count:,} Records{what}: read", f"{took:.2f} s CPU", "", ""))
            rows.append((f"{count:,} Records{what}: compare", f"{compared:.2f} s CPU", "", ""))
            rows.append((f"{count:,} Records{what}: print", f"{printed:.2f} s CPU", "", ""))
            whole = child_seconds("-m", "samcmp", "report", "--store", folder)
            rows.append((f"{count:,} Records{what}: samcmp report", f"{whole:.2f} s CPU", f"bar {bar} s", ""))
    rows.append(_bootstrap())
    for row in rows:
        print("{:<52}{:>16}  {:<28}{}".format(*row))


def _bootstrap() -> tuple[str, str, str, str]:
    from samcmp.analysis.auc import bootstrap_auc

    rng = np.random.default_rng(0)
    y = (rng.random(204) < 0.76).astype(float)
    a, b = rng.normal(size=(2, 204)) + y
    ours = seconds(lambda: bootstrap_auc(y, a, b))
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError:
        return "AUC bootstrap, 204 molecules, 10,000 draws", f"{ours:.2f} s CPU", "n/a (package missing)", ""

    def loop() -> None:
        for _ in range(100):
            drawn = rng.integers(0, 204, 204)
            roc_auc_score(y[drawn], a[drawn])
            roc_auc_score(y[drawn], b[drawn])

    theirs = 100 * seconds(loop)
    peer = f"scikit-learn in a loop {theirs:.0f} s"
    return "AUC bootstrap, 204 molecules, 10,000 draws", f"{ours:.2f} s CPU", peer, f"{theirs / ours:.0f}x"


if __name__ == "__main__":
    main()
