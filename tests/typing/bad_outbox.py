"""Mistakes over ``taskq.contrib`` that a type checker finds."""

from sqlalchemy.orm import Session

from taskq import TaskQ
from taskq.contrib.sqlalchemy import outbox

app = TaskQ("typing")


@app.task
def send_receipt(order: int, *, copy: bool = False) -> str:
    return f"{order}{copy}"


def shop(session: Session) -> None:
    outbox.delay(session, send_receipt, "42")  # E: arg-type
    outbox.delay(session, send_receipt)  # E: call-arg
    outbox.delay(session, send_receipt.options(countdown=60), 42, cpoy=True)  # E: call-arg
    outbox.publish(session, "orders", {"id": 7})  # E: arg-type
    send_receipt.options(idempotency_key=7).delay(7)  # E: arg-type
