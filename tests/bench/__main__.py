"""``make bench``: every room's comparison with its named peers, one after the other.

``python -m tests.bench optim`` runs one; ``python -m tests.bench gpu`` those that need a GPU.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOMS = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def main(chosen: list[str]) -> int:
    wrong = [name for name in chosen if name not in ROOMS]
    if wrong:
        print(f"no bench {wrong[0]!r}; there are: {', '.join(ROOMS)}", file=sys.stderr)
        return 2
    for room in chosen or [name for name in ROOMS if name != "gpu"]:
        print(f"\n== {room} ==", flush=True)
        importlib.import_module(f"tests.bench.bench_{room}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
