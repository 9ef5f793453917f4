"""A stand-in for torch.cuda: streams of work with a clock, events, and an allocator that counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class FakeCuda:
    """Launching costs the host a little; the device works behind it; another stream runs beside the timed one."""

    host: float = 0.0  # seconds
    device_free: float = 0.0  # when the current stream will have finished
    side_free: float = 0.0  # when another stream will have finished
    launch_seconds: float = 1e-5
    synchronisations: int = 0
    allocated: int = 0
    peak: int = 0
    reserved: int = 0
    calls: list[str] = field(default_factory=list)
    num_ooms: int = 0
    event_seconds: float = 0.0  # of the host, for an event

    def now(self) -> int:
        return round(self.host * 1e9)

    def launch(self, seconds: float) -> None:
        self.host += self.launch_seconds
        self.device_free = max(self.device_free, self.host) + seconds

    def launch_aside(self, seconds: float) -> None:
        self.host += self.launch_seconds
        self.side_free = max(self.side_free, self.host) + seconds

    # ---- what samcmp calls

    def synchronize(self, device: Any = None) -> None:
        self.synchronisations += 1
        self.calls.append("synchronize")
        self.host = max(self.host, self.device_free, self.side_free)

    def current_stream(self, device: Any = None) -> str:
        return "current"

    def Event(self, *, enable_timing: bool) -> FakeEvent:
        assert enable_timing
        return FakeEvent(self)

    def empty_cache(self) -> None:
        self.calls.append("empty_cache")
        self.reserved = self.allocated

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        self.calls.append("reset_peak")
        self.peak = self.allocated

    def memory_stats(self, device: Any = None) -> dict[str, int]:
        return {
            "allocated_bytes.all.current": self.allocated,
            "allocated_bytes.all.peak": self.peak,
            "reserved_bytes.all.peak": max(self.reserved, self.peak),
            "num_alloc_retries": 0,
            "num_ooms": self.num_ooms,
        }

    def allocate(self, count: int) -> None:
        self.allocated += count
        self.peak = max(self.peak, self.allocated)


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.at = 0.0

    def record(self, stream: str) -> None:
        assert stream == "current"
        self.cuda.host += self.cuda.event_seconds
        self.at = max(self.cuda.device_free, self.cuda.host)

    def elapsed_time(self, other: FakeEvent) -> float:
        return (other.at - self.at) * 1e3
