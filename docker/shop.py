"""The app of docker-compose.yml: something of everything, so that every panel has something to show."""

from __future__ import annotations

import random
import time

from taskq import TaskQ, every

app = TaskQ("shop")


@app.task(queue="payments", max_retries=2, retry_backoff=1)
def charge(order: int) -> str:
    """A bank that is away one time in ten."""
    time.sleep(random.uniform(0.01, 0.2))
    if random.random() < 0.1:
        raise ConnectionError("the bank is away")
    return f"charged order {order}"


@app.task(queue="emails")
async def send_receipt(order: int) -> None:
    """Something short."""


@app.periodic(every(5))
@app.task
def new_orders() -> None:
    """Ten orders every five seconds."""
    for order in range(10):
        charge.delay(order)
        send_receipt.options(countdown=3).delay(order)
