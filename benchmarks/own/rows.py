"""Tasks that insert rows into PostgreSQL: one by one, and in batches."""

import os
import threading
from typing import Any

import psycopg
import tally

from taskq import Batch, BatchItem, TaskQ

app = TaskQ("bench", broker_url=tally.REDIS_URL, task_ignore_result=True)
_local = threading.local()


def connection() -> psycopg.Connection[Any]:
    """This thread's own; each statement is its own transaction."""
    if not hasattr(_local, "connection"):
        _local.connection = psycopg.connect(os.environ["BENCH_POSTGRES"], autocommit=True)
    return _local.connection  # type: ignore[no-any-return]


@app.task(name="insert_row")
def insert_row(data: str) -> None:
    tally.start()
    connection().execute("INSERT INTO rows (data) VALUES (%s)", (data,))
    tally.end()


@app.task(name="insert_rows", batch=Batch(size=500, wait="200ms"))
def insert_rows(items: list[BatchItem]) -> None:
    for _ in items:
        tally.start()
    data = [item.args[0] for item in items]
    connection().execute("INSERT INTO rows (data) SELECT * FROM unnest(%s::text[])", (data,))
    for _ in items:
        tally.end()
