"""What a user's code over ``taskq.contrib`` looks like to a type checker."""

from typing import assert_type

from sqlalchemy.orm import Session

from taskq import Context, Result, TaskQ
from taskq.contrib import dbapi
from taskq.contrib.sqlalchemy import Once, once, outbox

app = TaskQ("typing")
orders = app.topic("orders", retention="7d")


@app.task
def send_receipt(order: int, *, copy: bool = False) -> str:
    return f"{order}{copy}"


@app.task(bind=True)
async def follow(self: Context, customer: int, version: int) -> None:
    assert_type(self.newer("k", version), bool)
    assert_type(await self.anewer("k", version, expires="7d"), bool)


def shop(session: Session, connection: dbapi.DBAPIConnection) -> None:
    assert_type(once(session), Once)
    with once(session, "step") as first:
        assert_type(first, bool)
    assert_type(outbox.delay(session, send_receipt, 42, copy=True), Result[str])
    assert_type(outbox.delay(session, send_receipt.options(countdown=60), 42), Result[str])
    assert_type(outbox.delay(session, follow, 7, version=3), Result[None])
    assert_type(outbox.delay_many(session, send_receipt, [(1,), (2,)]), list[Result[str]])
    assert_type(dbapi.outbox.delay(connection, send_receipt, 42), Result[str])
    assert_type(outbox.publish_many(session, orders, [1, 2], key=str), int)
    outbox.publish(session, orders, {"id": 7}, key="customer-7")
    dbapi.outbox.publish(connection, orders, {"id": 7})
    assert_type(send_receipt.options(idempotency_key="order-7").delay(7), Result[str])
