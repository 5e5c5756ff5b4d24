"""Fills Redis with what a curve needs; run in taskq's environment, beside its ``app.py``."""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any

from app import app, noop  # type: ignore[import-not-found]

from taskq.broker import scripts
from taskq.broker.keys import GROUP

PAGE = 1000
HOLD_MS = 3_600_000
HOLDER = b"holder"


def delayed(given: argparse.Namespace) -> None:
    """``--count`` delayed messages, due ``--seconds`` from now."""
    later = noop.options(eta=datetime.now(UTC) + timedelta(seconds=given.seconds))
    for start in range(0, given.count, 10 * PAGE):
        with app.batch():
            for _ in range(min(10 * PAGE, given.count - start)):
                later.delay()


def keyed(given: argparse.Namespace) -> None:
    """``--count`` messages, each with one of ``--keys`` ordering keys in turn."""
    calls = [noop.options(ordering_key=f"key-{number}") for number in range(given.keys)]
    for start in range(0, given.count, 10 * PAGE):
        with app.batch():
            for number in range(start, min(start + 10 * PAGE, given.count)):
                calls[number % given.keys].delay()


def pending(given: argparse.Namespace) -> None:
    """Deliver ``--count`` of the queued messages to a worker that holds a lease, and nothing else."""
    keys = app.keys.queue(app.config.task_default_queue)
    streams = scripts.streams_of(keys, [])
    broker: Any = app.sync_broker
    broker.run(scripts.register(keys, HOLDER, HOLD_MS, streams))
    left = given.count
    while left > 0:
        for stream in streams:
            reply = broker.execute(
                "XREADGROUP", "GROUP", GROUP, HOLDER, "COUNT", min(left, PAGE), "STREAMS", stream, ">"
            )
            left -= len(reply[0][1]) if reply else 0


OPERATIONS = {"delayed": delayed, "keyed": keyed, "pending": pending}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("operation", choices=OPERATIONS)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--keys", type=int, default=1)
    arguments = parser.parse_args()
    OPERATIONS[arguments.operation](arguments)
    app.close()
