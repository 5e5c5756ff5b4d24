"""Dramatiq's tasks for the benchmarks."""

import time
from typing import Any

import dramatiq
import tally
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(url=tally.REDIS_URL)
if tally.RESULTS:
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    broker.add_middleware(Results(backend=RedisBackend(url=tally.REDIS_URL)))
dramatiq.set_broker(broker)
OPTIONS: dict[str, Any] = {"store_results": True} if tally.RESULTS else {}


def kept(value: int) -> int | None:
    """Without a result backend, Dramatiq warns of each value that is returned."""
    return value if tally.RESULTS else None


@dramatiq.actor(**OPTIONS)
def noop() -> int | None:
    return kept(tally.hit())


@dramatiq.actor(**OPTIONS)
def payload(data: str) -> int | None:
    return kept(tally.hit())


@dramatiq.actor(**OPTIONS)
def stamp(sent: int) -> int | None:
    return kept(tally.stamp(sent))


@dramatiq.actor(**OPTIONS)
def sleep50() -> int | None:
    tally.start()
    time.sleep(0.05)
    return kept(tally.end())


TASKS = {"noop": noop, "payload": payload, "stamp": stamp, "sleep50": sleep50}


def send(task: str, *args: Any) -> None:
    TASKS[task].send(*args)
