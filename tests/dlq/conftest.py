"""Dead letters as a worker would leave them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from taskq.broker import scripts
from taskq.broker.keys import Keys
from taskq.broker.link.sync import SyncBroker
from taskq.broker.scripts import settling
from taskq.client.dlq.letter import Evidence, buried
from taskq.values.message import WIRE_VERSION, Message, Meta, encode

Bury = Callable[..., str]


@pytest.fixture
def bury(namespace: str, redis_client: Any, app: Any) -> Bury:
    """Have a worker's settle write dead letters: ``bury("task-id", error="no money")``; answers the last entry id."""
    keys = Keys(namespace)

    def add(
        *task_ids: str,
        task: str = "shop.pay",
        queue: str = "default",
        error_type: str = "ValueError",
        error: str = "no money",
        traceback: str = "",
        args: tuple[Any, ...] = (1,),
        meta: Meta | None = None,
    ) -> str:
        redis_client.sadd(keys.queues, queue)
        evidence = Evidence(
            error_type=error_type,
            error=error,
            traceback=traceback,
            reason="failed",
            attempts=4,
            worker="host:1:abc",
            died_at=round(datetime.now(UTC).timestamp() * 1000),
        )
        letters = [
            buried(encode(Message(WIRE_VERSION, name, task, list(args), {}, meta)), task, evidence)
            for name in task_ids or ("one",)
        ]
        return write(app.sync_broker, keys, queue, letters)

    return add


def write(broker: SyncBroker, keys: Keys, queue: str, letters: list[settling.DeadLetter]) -> str:
    """Dead letters through the settle script, as deliveries of a worker of this moment."""
    of = keys.queue(queue)
    streams = scripts.streams_of(of, [])
    consumer = b"bury"
    broker.run(scripts.register(of, consumer, 60_000, streams))
    for letter in letters:
        broker.execute("XADD", streams[0], "*", "m", letter.message)
    rows = broker.execute("XREADGROUP", "GROUP", "taskq", consumer, "COUNT", len(letters), "STREAMS", streams[0], ">")[
        0
    ][1]
    items = [settling.Settle(1, entry, "", letter) for (entry, _), letter in zip(rows, letters, strict=True)]
    assert broker.run(settling.settle(of, streams, consumer, 0, items))[0] == 1
    broker.run(scripts.recover(of, streams, consumer, 0))
    return str(broker.execute("XREVRANGE", of.dead, "+", "-", "COUNT", 1)[0][0].decode())
