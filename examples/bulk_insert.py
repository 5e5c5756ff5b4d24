"""One row per call, one statement per batch: calls that a worker collects, with an outcome for each. See docs/batch.md.

Run it: python examples/bulk_insert.py

Three tries of the same 1,000 customers meet a table that takes each number once.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile

from surroundings import worker_for

from taskq import Batch, BatchItem, Reject, TaskQ

app = TaskQ("bulk_insert")
DATABASE = os.environ.setdefault("SHOP_DATABASE", f"{tempfile.mkdtemp()}/shop.db")


@app.task(batch=Batch(size=500, wait="200ms"))
def insert_customers(items: list[BatchItem]) -> dict[str, str]:
    rows = []
    for item in items:
        number, name = item.args
        if not name:
            item.fail(Reject("a customer without a name"))  # this call alone becomes a dead letter
        else:
            rows.append((number, name))
    with sqlite3.connect(DATABASE, timeout=30) as connection:
        # a batch may run again, as any task may: a row that is there already is not inserted twice
        connection.executemany("INSERT INTO customer (number, name) VALUES (?, ?) ON CONFLICT DO NOTHING", rows)
        connection.execute("INSERT INTO log (size) VALUES (?)", (len(items),))
    return {item.id: "stored" for item in items if item.error is None}


def main() -> None:
    with sqlite3.connect(DATABASE) as connection:
        connection.execute("CREATE TABLE customer (number INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        connection.execute("CREATE TABLE log (size INTEGER)")
    with worker_for(app, "bulk_insert:app"):
        results = []
        for _ in range(3):
            results += insert_customers.delay_many([(number, f"customer {number}") for number in range(1000)])
        nameless = insert_customers.delay(1000, "")
        print("outcomes:", {result.get(timeout=30) for result in results})
        print("nameless:", repr(nameless.get(timeout=30, propagate=False)))
    with sqlite3.connect(DATABASE) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM customer").fetchone()
        ((calls, most),) = connection.execute("SELECT count(*), max(size) FROM log")
        print(f"rows: {rows}")
        print(f"3001 calls in few invocations: {calls < 100}, of {most} at most")


if __name__ == "__main__":
    main()
