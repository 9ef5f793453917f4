"""A user's own optimizer under trial: built as a training builds it, and what it breaks kept by content."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any

import torch

from samcmp import files, modules
from samcmp.conformance.optimizer import check_optimizer
from samcmp.conformance.trial import STEPS_PER_EPOCH, Build
from samcmp.errors import SamcmpError, UsageError, WriteError, in_one_line, place_of
from samcmp.optim import user

SLOW = ("a compiled model trains the same", "replicas of two ranks stay identical")  # seconds each
OF_TRAINING = {"anchor_every": STEPS_PER_EPOCH, "total_steps": 4 * STEPS_PER_EPOCH, "seed": 0}


def builds(source: str) -> tuple[Build, Build | None]:
    """Return what builds the class that ``source`` names, as it is and with rho = 0 where it takes rho.

    Raises UsageError where it cannot be built: no promise could be tried.
    """

    def build(base: torch.optim.Optimizer, **settings: Any) -> torch.optim.Optimizer:
        return user.build(source, base, settings=settings, of_training=OF_TRAINING)

    try:
        made = build(torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]))
    except SamcmpError:
        raise
    except Exception as error:
        raise UsageError(
            f"cannot be built: {type(error).__name__}: {in_one_line(error)}{place_of(error)}",
            where=source,
            remedy="Its first argument is the base optimizer; one called params gets the parameters, and "
            "base_optimizer after it the base's class.",
        ) from None
    takes_rho = "rho" in user.entry(source).settings or any("rho" in group for group in made.param_groups)
    return build, (lambda base: build(base, rho=0.0)) if takes_rho else None


def broken(source: str) -> list[str]:
    """Name the promises that a class breaks, the slow ones aside; tried once for each content of it and of ours."""
    code = modules.closure([source.rpartition(":")[0], "samcmp.conformance.optimizer", "samcmp.optim.user"])
    facts = [torch.__version__, source.rpartition(":")[2], *(f"{name} {digest}" for name, digest in code.items())]
    name = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]
    path = files.cache_folder() / "promises" / f"{name}.json"
    with suppress(OSError, ValueError, TypeError):
        return [str(promise) for promise in json.loads(path.read_bytes())["broken"]]
    build, rho_zero = builds(source)
    report = check_optimizer(build, rho_zero=rho_zero, leave_out=SLOW)
    names = [result.promise for result in report.broken]
    with suppress(WriteError):  # then it is tried again
        files.write(path, json.dumps({"broken": names}).encode())
    return names
