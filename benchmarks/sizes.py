"""How much of everything one sample takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of one run."""

    name: str
    throughput_seconds: float
    """How long one throughput sample should take: the number of tasks is this times the expected rate."""
    produce_seconds: float
    latency_count: int
    waiting_count: int
    memory_count: int
    idle_seconds: float
    """Longer than a worker's own cycles (5 s for taskq), or it would seem to do nothing at all."""
    round_trip_seconds: float


FULL = Sizes("full", 2.0, 1.5, 500, 2000, 20_000, 12.0, 2.0)
QUICK = Sizes("quick", 0.5, 0.5, 100, 2000, 5_000, 11.0, 0.5)
"""Under a minute for taskq and the bare loops: is there a big change?"""
SMOKE = Sizes("smoke", 0.01, 0.05, 5, 50, 200, 0.2, 0.05)
"""Does everything work?"""
