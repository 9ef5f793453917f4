"""How much time there is, and which part of a plan to run in it: whole blocks, spread over the cells.

A comparison is paired, so a block (a split with its seeds) is useful only with every optimizer in it, and a second
block of one cell tells less than the first block of another. So blocks are taken in turn: the first of every cell,
then the second of every cell, until the time is used up. What is in the store already costs nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from samcmp.experiment import cost
from samcmp.experiment.plan import Plan
from samcmp.experiment.store import Store
from samcmp.records import Case

Block = Mapping[str, Case]


def fit(planned: Plan, kept: Store, *, seconds: float) -> tuple[Plan, str]:
    """Return the part of ``planned`` that fits into ``seconds`` of training, and a sentence that says what it is."""
    rates = cost.rates(kept.briefs())
    cells = _cells(planned)
    chosen: dict[str, Case] = {}
    left = seconds
    taken: dict[tuple[str, str], int] = defaultdict(int)
    for cell, block in _in_turn(cells):
        if taken[cell] < 0:
            continue
        price = _price(block, kept, rates=rates)
        if price is None or price > left:
            taken[cell] = -1 - taken[cell]  # later blocks of the cell wait for this one
            continue
        left -= price
        taken[cell] += 1
        chosen.update(block)
    counts = {cell: taken[cell] if taken[cell] >= 0 else -1 - taken[cell] for cell in cells}
    ordered = {key: case for key, case in planned.train.items() if key in chosen}
    return replace(planned, train=ordered), _sentence(cells, counts, spare=left)


def _cells(planned: Plan) -> dict[tuple[str, str], list[dict[str, Case]]]:
    cells: dict[tuple[str, str], dict[str, dict[str, Case]]] = defaultdict(lambda: defaultdict(dict))
    for key, case in planned.train.items():
        cells[case.dataset, case.model][case.block][key] = case
    return {cell: list(blocks.values()) for cell, blocks in cells.items()}


def _in_turn(cells: Mapping[tuple[str, str], list[dict[str, Case]]]) -> Iterator[tuple[tuple[str, str], Block]]:
    for turn in range(max((len(blocks) for blocks in cells.values()), default=0)):
        for cell, blocks in cells.items():
            if turn < len(blocks):
                yield cell, blocks[turn]


def _price(block: Block, kept: Store, *, rates: cost.Rates) -> float | None:
    """Seconds that the block's missing runs will take, or None where nothing tells."""
    total = 0.0
    for key, case in block.items():
        if kept.brief(key) is not None:
            continue
        seconds = cost.seconds_of(case, rates)
        if seconds is None:
            return None
        total += seconds
    return total


def _sentence(
    cells: Mapping[tuple[str, str], list[dict[str, Case]]], counts: Mapping[tuple[str, str], int], *, spare: float
) -> str:
    parts = [
        f"{dataset} {model}: {counts[dataset, model]} of {len(blocks)}" for (dataset, model), blocks in cells.items()
    ]
    full = all(counts[cell] == len(blocks) for cell, blocks in cells.items())
    head = "The whole plan fits the budget" if full else "Within the budget, splits taken in turn over the cells"
    rest = "" if full else " Run the same command again to add more; finished runs are kept."
    return f"{head} ({'; '.join(parts)}; about {spare:.0f} s to spare).{rest}"
