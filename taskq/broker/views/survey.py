"""All queues at one moment, for views: one script per queue, all in one round trip, however many there are."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from taskq.broker import calls, scripts
from taskq.broker.keys import Keys, QueueKeys
from taskq.broker.link.replies import is_wrongtype
from taskq.broker.views.inspect import Command, Execute, Pipeline, QueueStats, run_steps
from taskq.broker.views.totals import HISTORY_MINUTES, minutes_of, per_second
from taskq.errors import BrokerError


@dataclass(frozen=True, slots=True)
class QueueView:
    """One queue, and how fast it is served."""

    stats: QueueStats
    at: float
    """Epoch seconds on Redis's clock."""
    service_rate: float
    """Deliveries that left the queue per second, over the last one to two minutes."""

    @property
    def drain_seconds(self) -> float:
        """Seconds until the backlog is gone if nothing more arrives; infinite where nothing is served."""
        if not self.stats.backlog:
            return 0.0
        return self.stats.backlog / self.service_rate if self.service_rate else float("inf")


def read_names(pipeline: Pipeline, keys: Keys) -> tuple[float, list[str]]:
    """Redis's clock in epoch seconds, and every queue that was ever used in this namespace."""
    time, names = pipeline([("TIME",), ("SMEMBERS", keys.queues)])
    for reply in (time, names):
        if isinstance(reply, BrokerError) and not is_wrongtype(reply):
            raise reply
    found = names if isinstance(names, list) else []
    return int(time[0]) + int(time[1]) / 1e6, sorted(name.decode(errors="replace") for name in found)


def read_queues(pipeline: Pipeline, queues: Sequence[QueueKeys]) -> list[QueueView]:
    """Each of *queues*, in this order; one round trip. A queue whose keys hold something else is left out.

    Raises:
        BrokerError: Redis could not be reached.
    """
    return run_steps(read_steps(queues), pipeline)


def read_steps(queues: Sequence[QueueKeys]) -> Generator[Sequence[Command], list[Any], list[QueueView]]:
    """:func:`read_queues` in steps; see :func:`taskq.broker.views.inspect.run_steps`."""
    calls = [count(keys) for keys in queues]
    # the first carries the text, so that the server knows it for the others
    replies = yield [call.command("EVAL" if n == 0 else "EVALSHA") for n, call in enumerate(calls)]
    return [
        view_of(keys.queue, reply)
        for keys, reply in zip(queues, replies, strict=True)
        if not isinstance(reply, BrokerError)
    ]


def read_queue(execute: Execute, keys: QueueKeys) -> QueueView:
    """One queue.

    Raises:
        BrokerError: Redis could not be reached, or refused.
    """
    return view_of(keys.queue, execute(*count(keys).command("EVAL")))


def count(keys: QueueKeys) -> calls.Call:
    """The script that counts a queue at one moment; :func:`view_of` reads its reply."""
    return scripts.stats(keys, HISTORY_MINUTES)


def view_of(queue: str, reply: list[Any]) -> QueueView:
    """What the reply to :func:`count` says of *queue*."""
    now_ms, lag, pending, delayed, dead, born, workers, paused, *history, parked = reply
    stats = QueueStats(
        queue=queue,
        lag=max(lag, 0),
        pending=pending,
        delayed=delayed,
        dead=dead,
        oldest_age=max(now_ms - born, 0) / 1000 if born else None,
        workers=workers,
        paused=bool(paused),
        parked=parked,
    )
    return QueueView(stats, now_ms / 1000, per_second(minutes_of(history), now_ms / 1000))
