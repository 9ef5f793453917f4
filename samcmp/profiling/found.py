"""What a profile session is asked for and what it finds: nouns shared by its passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from samcmp.profiling.contenders import Arm
from samcmp.profiling.rounds import Session
from samcmp.records import Energy, Memory
from samcmp.training.setup import Setup


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a session should do beyond graphs/s and memory."""

    seconds: float = 240.0
    detail: bool = False
    trace: str | None = None
    energy: bool = True
    memory: bool = True
    wait_seconds: float | None = None  # for another samcmp on the device; None: as long as it takes
    draw: int = 0  # of the orders of rounds: another one in each process


@dataclass(slots=True)
class Found:
    """Everything a session found, before it becomes Records."""

    setup: Setup
    arms: list[Arm]
    clock: str
    steps: int = 0
    graphs_per_step: float = 0.0
    atoms_per_step: float = 0.0
    session: Session | None = None
    memory: dict[str, Memory] = field(default_factory=dict)
    energy: dict[str, Energy] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    loader_seconds: float | None = None  # per step
    pipeline_seconds: dict[str, float] = field(default_factory=dict)  # per step
    shares: dict[str, dict[str, Any]] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    apart: str | None = None  # why the optimizers were not in memory side by side
    interrupted: bool = False
    parameters: int | None = None
