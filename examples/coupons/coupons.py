"""Every night, a coupon for each customer who has earned one: listed by a schedule, sent at the mail service's pace."""

from __future__ import annotations

import os
import time

from sqlalchemy import create_engine, text

from taskq import TaskQ, cron
from taskq.contrib.sqlalchemy import create_tables, once

NIGHTLY = os.environ.get("COUPONS_CRON", "0 2 * * *")
"""When coupons are handed out: at two in the morning; the example's own run asks for every second."""

app = TaskQ("coupons")
engine = create_engine(os.environ.get("COUPONS_DATABASE", "sqlite:///coupons.db"), connect_args={"timeout": 30})


@app.periodic(cron(NIGHTLY, tz="Asia/Seoul"), overlap="skip")
@app.task
def hand_out_coupons() -> int:
    """Enqueue a message for each customer who has earned a coupon and was not sent one."""
    with engine.begin() as shop:
        rows = shop.execute(
            text("SELECT id FROM customer WHERE points >= 100 AND id NOT IN (SELECT customer FROM listed)")
        )
        customers = [row.id for row in rows]
        if not customers:
            return 0
        # what has an id of its own is accepted once: after a crash in the middle this may all be done again
        with app.batch():
            for customer in customers:
                send_coupon.options(task_id=f"coupon-{customer}").delay(customer)
        shop.execute(text("INSERT INTO listed (customer) VALUES (:id)"), [{"id": customer} for customer in customers])
        return len(customers)


@app.task(rate_limit="50/s")
def send_coupon(customer: int) -> None:
    """Send one coupon: at most fifty a second, however many workers there are."""
    with engine.begin() as shop:
        if once(shop):
            shop.execute(
                text("INSERT INTO sent (customer, at) VALUES (:customer, :at)"),
                {"customer": customer, "at": time.time()},
            )


def create_shop(customers: int) -> None:
    """The tables of the example; every second customer has earned a coupon."""
    create_tables(engine)
    with engine.begin() as shop:
        shop.execute(text("CREATE TABLE customer (id INTEGER PRIMARY KEY, points INTEGER NOT NULL)"))
        shop.execute(text("CREATE TABLE listed (customer INTEGER PRIMARY KEY)"))
        shop.execute(text("CREATE TABLE sent (customer INTEGER, at REAL)"))
        shop.execute(
            text("INSERT INTO customer VALUES (:id, :points)"),
            [{"id": number, "points": 150 if number % 2 else 50} for number in range(customers)],
        )
