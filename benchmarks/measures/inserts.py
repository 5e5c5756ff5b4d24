"""Rows inserted into PostgreSQL per second: a task for each row, and a batch task that inserts what it collects.

Both on the same server and with the same worker command; each task, and each batch, is one statement and one
transaction. The server does not sync to disk, which flatters the tasks that commit row by row.
"""

from __future__ import annotations

import atexit
import dataclasses
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache

from benchmarks.bench import Bench, Trial
from benchmarks.contenders import ROOT, Contender, Setup
from benchmarks.figures import Sample
from benchmarks.measures.throughput import command_line
from taskq import TaskQ

TASKS = {"one by one": ("insert_row", 2_000), "batch": ("insert_rows", 20_000)}
"""The task of each row, and the rows per second to expect."""
PAYLOAD = "x" * 100


def trials(bench: Bench) -> Iterator[Trial]:
    """taskq alone: a rival has no such tasks here."""
    for contender in bench.contenders:
        for setup in contender.setups_for("inserts"):
            for name in TASKS:
                yield insert_trial(bench, contender, setup, name)


def insert_trial(bench: Bench, contender: Contender, setup: Setup, name: str) -> Trial:
    """One of the two tasks."""
    task, rate = TASKS[name]
    count = max(int(rate * bench.sizes.throughput_seconds), 100)

    def prepare() -> None:
        bench.server.fresh()
        app = TaskQ("bench", broker_url=bench.server.url)
        app.task(name=task)(lambda data: None).delay_many([(PAYLOAD,)] * count)
        app.close()
        bench.server.save(bench.snapshot(f"inserts/{task}"))

    def take() -> Sample:
        import psycopg

        address = postgres()
        bench.server.fresh(bench.snapshot(f"inserts/{task}"))
        with psycopg.connect(address, autocommit=True) as database:
            database.execute("DROP TABLE IF EXISTS rows")
            database.execute("CREATE TABLE rows (id bigserial PRIMARY KEY, data text NOT NULL)")
            with bench.workers(contender, dataclasses.replace(setup, env={"BENCH_POSTGRES": address})) as workers:
                sample = workers.drain(count)
            (rows,) = database.execute("SELECT count(*) FROM rows").fetchone() or (0,)
        if rows != count:
            raise RuntimeError(f"{count} rows were sent, {rows} are in the table")
        return sample

    return Trial(f"{contender.name}/{name}", command_line(setup), take, prepare, {"count": count})


@cache
def postgres() -> str:
    """A server of this run's own, started when first needed; how psycopg connects to it."""
    sys.path.append(str(ROOT / "tests"))  # the tests know how to start one
    from support.postgres import postgres_server

    running = ExitStack()
    atexit.register(running.close)
    url = running.enter_context(postgres_server())
    return url.replace("postgresql+psycopg", "postgresql") + "/postgres"
