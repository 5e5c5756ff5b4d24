"""What is measured. Each module here makes the trials of one measure: taskq, the bare loops, the rivals."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmarks.bench import Bench, Trial
from benchmarks.measures import (
    dead_letters,
    enqueue,
    idle,
    inserts,
    latency,
    memory,
    metrics,
    publishing,
    round_trip,
    throughput,
    waiting,
    window,
)

MEASURES: dict[str, Callable[[Bench], Iterable[Trial]]] = {
    "throughput": throughput.trials,
    "enqueue": enqueue.trials,
    "latency": latency.trials,
    "waiting": waiting.trials,
    "round_trip": round_trip.trials,
    "memory": memory.trials,
    "idle": idle.trials,
    "inserts": inserts.trials,
    "metrics": metrics.trials,
    "window": window.trials,
    "dead_letters": dead_letters.trials,
    "publishing": publishing.trials,
}
