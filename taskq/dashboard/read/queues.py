"""Queues: their counts, and how fast they move."""

from __future__ import annotations

from dataclasses import dataclass

from taskq.broker.views import survey
from taskq.broker.views.inspect import QueueStats
from taskq.broker.views.totals import Minute, Sums, minutes_of, read_history
from taskq.client.app import TaskQ

NOTHING = Sums()


@dataclass(frozen=True, slots=True)
class QueueSample:
    """A queue at one moment, and how fast it has moved since the one before."""

    stats: QueueStats
    at: float
    """Epoch seconds on Redis's clock."""
    minutes: dict[int, Sums]
    """The last and the present minute, by epoch minute."""
    rate: float = 0.0
    """Deliveries that ended, per second, smoothed."""
    failures: float = 0.0
    retries: float = 0.0
    arrivals: float = 0.0
    """New messages per second: what ended, and what was added to lag, pending and delayed."""
    wait: float | None = None
    """Mean seconds from birth to start, of those that ended lately."""

    @property
    def drain(self) -> float | None:
        """Seconds until the queue is empty if it goes on like this; None: never, or it is empty."""
        falling = self.rate - self.arrivals
        if not self.stats.backlog or falling <= 0:
            return None
        return self.stats.backlog / falling


def sample(app: TaskQ, queue: str, before: QueueSample | None) -> QueueSample:
    """Look at *queue* now; one command.

    Raises:
        BrokerError: Redis could not be asked.
    """
    reply = app.sync_broker.run(survey.count(app.keys.queue(queue)))
    view = survey.view_of(queue, reply)
    minutes = {minute.start // 60: minute.sums for minute in minutes_of(reply[8:10])}
    minutes = {start: sums for start, sums in minutes.items() if start >= int(view.at) // 60 - 1}
    new = QueueSample(view.stats, view.at, minutes)
    return _begun(new) if before is None else _moved(before, new)


def history(app: TaskQ, queues: list[str]) -> list[Minute]:
    """The last two hours of all *queues* together, minute by minute.

    Raises:
        BrokerError: Redis could not be asked.
    """
    total: dict[int, Sums] = {}
    by_queue = read_history(app.sync_broker.pipeline, [app.keys.queue(name) for name in queues])
    for minutes in by_queue.values():
        for minute in minutes:
            total[minute.start] = _plus(total.get(minute.start, NOTHING), minute.sums)
    return [Minute(start, sums) for start, sums in sorted(total.items())]


_SMOOTHING = 4.0
"""Seconds: workers report every two, so a rate over one second would jump."""


def _begun(new: QueueSample) -> QueueSample:
    """*new* with the rates of the last one to two minutes, to begin with."""
    total, seconds = NOTHING, 60 + new.at % 60
    for sums in new.minutes.values():
        total = _plus(total, sums)
    wait = total.wait_ms / total.waits / 1000 if total.waits else None
    rates = (total.ended / seconds, total.failed / seconds, total.retried / seconds)
    return QueueSample(new.stats, new.at, new.minutes, *rates, arrivals=rates[0], wait=wait)


def _moved(before: QueueSample, new: QueueSample) -> QueueSample:
    """*new* with its rates: the sums that were added since *before*, smoothed."""
    seconds = max(new.at - before.at, 0.001)
    added = NOTHING
    for start, sums in new.minutes.items():
        added = _plus(added, _minus(sums, before.minutes.get(start, NOTHING)))
    weight = min(seconds / _SMOOTHING, 1.0)
    left = added.ended - added.retried  # a retry comes back as delayed
    grown = _content(new.stats) - _content(before.stats)
    return QueueSample(
        new.stats,
        new.at,
        new.minutes,
        rate=_towards(before.rate, added.ended / seconds, weight),
        failures=_towards(before.failures, added.failed / seconds, weight),
        retries=_towards(before.retries, added.retried / seconds, weight),
        arrivals=max(_towards(before.arrivals, (left + grown) / seconds, weight), 0.0),
        wait=added.wait_ms / added.waits / 1000 if added.waits else _kept_wait(before, added),
    )


def _kept_wait(before: QueueSample, added: Sums) -> float | None:
    """Between two reports of the workers the last wait holds; with nothing at all it fades."""
    return before.wait if before.rate > 0.05 or added.ended else None


def _content(stats: QueueStats) -> int:
    return stats.backlog + stats.delayed


def _towards(old: float, new: float, weight: float) -> float:
    value = old + (new - old) * weight
    return value if abs(value) > 0.001 else 0.0


def _plus(one: Sums, other: Sums) -> Sums:
    return Sums(*(a + b for a, b in zip(one, other, strict=True)))


def _minus(one: Sums, other: Sums) -> Sums:
    return Sums(*(max(a - b, 0) for a, b in zip(one, other, strict=True)))
