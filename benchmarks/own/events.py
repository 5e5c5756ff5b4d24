"""A topic with three groups of subscribers, and how the benchmarks publish to it."""

from collections.abc import Sequence
from typing import Any

import tally

from taskq import Event, TaskQ

app = TaskQ("bench", broker_url=tally.REDIS_URL)
app.topic("orders")
ORDER = {"order": 123456, "customer": "c-977", "amount": 1250}


@app.subscriber("orders", group="stock")
def stock(event: Event) -> None:
    tally.hit()


@app.subscriber("orders", group="notification")
def notification(event: Event) -> None:
    tally.hit()


@app.subscriber("orders", group="analytics")
def analytics(event: Event) -> None:
    tally.hit()


def send(task: str, *args: Any) -> None:
    app.publish("orders", ORDER)


def send_many(task: str, calls: Sequence[Sequence[Any]]) -> None:
    app.publish_many("orders", [ORDER] * len(calls))
