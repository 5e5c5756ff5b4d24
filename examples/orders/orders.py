"""Orders as events: three groups read each of them, and a nightly job settles the day and mends what was missed."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import create_engine, text

from taskq import Event, Reject, TaskQ, Window, cron
from taskq.contrib.sqlalchemy import create_tables, once

NIGHTLY = os.environ.get("ORDERS_CRON", "0 1 * * *")
"""When the day is settled: at one in the morning; the example's own run asks for every two seconds."""

app = TaskQ("orders")
app.topic("orders", retention="30d")
engine = create_engine(os.environ.get("ORDERS_DATABASE", "sqlite:///orders.db"), connect_args={"timeout": 30})


@app.subscriber("orders", group="stock", start="earliest")
def take_from_stock(event: Event) -> None:
    """Reserve what was ordered, once for each order."""
    if event.payload["product"] == "new" and not in_catalogue("new"):
        raise Reject("not in the catalogue yet")
    reserve(event.payload)


@app.subscriber("orders", group="notification", start="earliest", ordered=True)
def tell_customer(event: Event) -> None:
    """One mail for each order; those of one customer (the event's key) in the order that they came."""
    with engine.begin() as shop:
        if once(shop):
            shop.execute(
                text("INSERT INTO mail (customer, number) VALUES (:customer, :number)"),
                {"customer": event.payload["customer"], "number": event.payload["number"]},
            )


@app.subscriber("orders", group="analytics", start="earliest")
async def count(event: Event) -> None:
    """What counts does not have to be exact to the last order: no transaction, no mark."""
    product = event.payload["product"]
    with engine.begin() as shop:
        shop.execute(text("UPDATE product SET seen = seen + 1 WHERE name = :name"), {"name": product})


@app.batch_job(cron(NIGHTLY, tz="Europe/Paris"), source="orders", window="since_last")
def settle_day(window: Window) -> dict[str, int]:
    """Add up what was ordered since the last run, and send on what the stock group has missed."""
    totals: dict[str, int] = window.state or {"orders": 0, "cents": 0, "missed": 0}
    for page in window.pages():
        missed = [event.payload for event in page if not is_reserved(event.payload["number"])]
        for order in missed:
            reserve_again.options(task_id=f"reserve-{order['number']}").delay(order)
        totals["orders"] += len(page)
        totals["cents"] += sum(event.payload["cents"] for event in page)
        totals["missed"] += len(missed)
        page.commit(totals)  # after a crash the job goes on behind this page, with these totals
    with engine.begin() as shop:  # the same window always writes the same row
        shop.execute(
            text("INSERT INTO settlement VALUES (:until, :orders, :cents, :missed) ON CONFLICT (until) DO NOTHING"),
            {"until": window.end.isoformat(), **totals},
        )
    return totals


@app.task(retry_backoff=0.5)
def reserve_again(order: dict[str, Any]) -> None:
    """Reserve an order that the stock group has missed."""
    reserve(order)


def reserve(order: dict[str, Any]) -> None:
    with engine.begin() as shop:
        shop.execute(text("INSERT INTO reserved (number) VALUES (:number) ON CONFLICT DO NOTHING"), order)


def is_reserved(number: int) -> bool:
    with engine.connect() as shop:
        return bool(shop.execute(text("SELECT 1 FROM reserved WHERE number = :number"), {"number": number}).scalar())


def in_catalogue(name: str) -> bool:
    with engine.connect() as shop:
        return bool(shop.execute(text("SELECT 1 FROM product WHERE name = :name"), {"name": name}).scalar())


def create_shop() -> None:
    """The tables of the example; the product ``new`` is not in the catalogue yet."""
    create_tables(engine)
    with engine.begin() as shop:
        shop.execute(text("CREATE TABLE product (name TEXT PRIMARY KEY, seen INTEGER NOT NULL)"))
        shop.execute(text("CREATE TABLE reserved (number INTEGER PRIMARY KEY)"))
        shop.execute(text("CREATE TABLE mail (customer INTEGER, number INTEGER)"))
        shop.execute(
            text("CREATE TABLE settlement (until TEXT PRIMARY KEY, orders INTEGER, cents INTEGER, missed INTEGER)")
        )
        shop.execute(text("INSERT INTO product VALUES ('tea', 0), ('cup', 0)"))
