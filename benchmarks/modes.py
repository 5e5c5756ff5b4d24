"""What each way to have an effect happen once costs: one worker in this process, no-op tasks without results.

Every figure is the median of several turns; a turn goes through all modes, so that what slows the machine slows all.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, text

from benchmarks import machine
from benchmarks.bench import say
from benchmarks.server import Server
from taskq import TaskQ, current_task
from taskq.contrib.sqlalchemy import OutboxRelay, create_tables, once, outbox
from taskq.worker.worker import Worker, WorkerOptions

PAGE = Path(__file__).parents[1] / "docs" / "idempotency.md"
BEGIN, END = "<!-- written by python -m benchmarks modes -->", "<!-- end -->"
SLOTS = 8


@dataclass(frozen=True)
class Mode:
    """One row of the table."""

    name: str
    sample: Callable[[], tuple[float, float]]
    """Microseconds and Redis commands per task."""
    note: str = ""


class Modes:
    """All modes, against one Redis and some databases.

    Args:
        server: the Redis.
        count: tasks per sample; a tenth of it with a database.
        engines: name -> database.
    """

    def __init__(self, server: Server, count: int, engines: dict[str, Engine]) -> None:
        self._server = server
        self._count = count
        self._engines = engines

    def all(self) -> list[Mode]:
        """In the order of the table."""
        found = [
            Mode("`at_least_once`", lambda: self._queue(_nothing)),
            Mode("`at_most_once`", lambda: self._queue(_nothing, delivery="at_most_once")),
            Mode("`idempotency_key=`", lambda: self._queue(_nothing, keyed=True)),
            Mode("`ctx.tx`, one SET", lambda: self._queue(_set)),
            Mode("`ctx.newer`", lambda: self._queue(_newer)),
        ]
        for name, engine in self._engines.items():
            found += [
                Mode(f"a transaction on {name}", lambda engine=engine: self._sql(engine, False), "one slot"),  # type: ignore[misc]
                Mode(f"the same with `once`, {name}", lambda engine=engine: self._sql(engine, True), "one slot"),  # type: ignore[misc]
            ]
        found.append(Mode("`.delay()`", self._delay, "per message sent"))
        for name, engine in self._engines.items():
            found += [
                Mode(f"`outbox.delay`, {name}", lambda engine=engine: self._write(engine), "per message written"),  # type: ignore[misc]
                Mode(f"the relay, {name}", lambda engine=engine: self._relay(engine), "per message published"),  # type: ignore[misc]
            ]
        return found

    def _app(self) -> TaskQ:
        self._server.fresh()
        return TaskQ("modes", broker_url=self._server.url)

    def _queue(
        self, body: Callable[[], None], *, keyed: bool = False, delivery: str = "at_least_once"
    ) -> tuple[float, float]:
        app = self._app()
        task: Any = app.task(name="work", ignore_result=True, delivery=delivery)(body)
        if keyed:
            with app.batch():
                for n in range(self._count):
                    task.options(idempotency_key=str(n)).delay()
        else:
            task.delay_many([()] * self._count)
        return self._drain(app, SLOTS, self._count)

    def _sql(self, engine: Engine, with_once: bool) -> tuple[float, float]:
        app, count = self._app(), self._count // 10

        def body() -> None:
            with engine.begin() as connection:
                if not with_once or once(connection):
                    connection.execute(text("UPDATE balance SET amount = amount + 1"))

        task: Any = app.task(name="work", ignore_result=True)(body)
        task.delay_many([()] * count)
        return self._drain(app, 1, count)

    def _drain(self, app: TaskQ, slots: int, count: int) -> tuple[float, float]:
        """Run a worker until the queue is empty."""
        commands = self._server.commands()
        took = asyncio.run(_burst(app, slots))
        commands = self._server.commands() - commands
        app.close()
        return took / count * 1e6, commands / count

    def _delay(self) -> tuple[float, float]:
        app, count = self._app(), self._count // 10
        task: Any = app.task(name="work", ignore_result=True)(_nothing)
        commands, begin = self._server.commands(), time.perf_counter()
        for _ in range(count):
            task.delay()
        took = time.perf_counter() - begin
        commands = self._server.commands() - commands
        app.close()
        return took / count * 1e6, commands / count

    def _write(self, engine: Engine) -> tuple[float, float]:
        """In one transaction: what the message adds to a transaction that there is anyway."""
        app, count = self._app(), self._count // 10
        task: Any = app.task(name="work", ignore_result=True)(_nothing)
        with engine.begin() as connection:
            begin = time.perf_counter()
            for _ in range(count):
                outbox.delay(connection, task)
            took = time.perf_counter() - begin
        app.close()
        return took / count * 1e6, 0.0

    def _relay(self, engine: Engine) -> tuple[float, float]:
        """What :meth:`_write` has left."""
        app = self._app()
        with engine.connect() as connection:
            count = connection.execute(text("SELECT COUNT(*) FROM taskq_outbox")).scalar_one()
        relay = OutboxRelay(engine, app)
        commands, begin = self._server.commands(), time.perf_counter()
        while relay.run_once():
            pass
        took = time.perf_counter() - begin
        commands = self._server.commands() - commands
        app.close()
        return took / count * 1e6, commands / count


async def _burst(app: TaskQ, slots: int) -> float:
    worker = Worker(app, WorkerOptions(burst=True, pool="threads", concurrency=slots))
    run = asyncio.create_task(worker.run())
    await worker.started.wait()
    begin = time.perf_counter()
    await run
    return time.perf_counter() - begin


def _nothing() -> None:
    pass


def _set() -> None:
    current_task().tx.execute("SET", "effect", 1)


def _newer() -> None:
    current_task().newer("key", time.time_ns() // 1000)


def measure(count: int, turns: int, databases: Sequence[str]) -> str:
    """The table.

    Args:
        count: tasks per sample.
        turns: samples per mode.
        databases: SQLAlchemy URLs besides SQLite.
    """
    with tempfile.TemporaryDirectory() as scratch, Server(Path(scratch, "redis")) as server:
        engines = {"SQLite": sqlalchemy.create_engine(f"sqlite:///{scratch}/effects.sqlite")}
        engines |= {_title(url): sqlalchemy.create_engine(url) for url in databases}
        for engine in engines.values():
            _prepare(engine)
        modes = Modes(server, count, engines).all()
        samples: dict[str, list[tuple[float, float]]] = {mode.name: [] for mode in modes}
        modes[0].sample()  # the first one of a process also pays for its imports
        for _ in range(turns):
            for mode in modes:
                samples[mode.name].append(mode.sample())
        for engine in engines.values():
            engine.dispose()
        return _table(modes, samples, turns, server.version)


def _title(url: str) -> str:
    return "PostgreSQL" if url.startswith("postgresql") else url.partition(":")[0]


def _prepare(engine: Engine) -> None:
    create_tables(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS balance"))
        connection.execute(text("CREATE TABLE balance (amount BIGINT NOT NULL)"))
        connection.execute(text("INSERT INTO balance VALUES (0)"))


def _table(modes: list[Mode], samples: dict[str, list[tuple[float, float]]], turns: int, redis_version: str) -> str:
    host = machine.describe(redis_version)
    lines = ["| mode | µs | least to most | Redis commands | |", "|---|---:|---:|---:|---|"]
    for mode in modes:
        times = [micros for micros, _ in samples[mode.name]]
        commands = statistics.median(commands for _, commands in samples[mode.name])
        spread = f"{min(times):.0f} to {max(times):.0f}"
        lines.append(f"| {mode.name} | {statistics.median(times):.0f} | {spread} | {commands:.2f} | {mode.note} |")
    about = (
        f"Median of {turns} turns per task (or as the last column says), no-op tasks without results, one worker "
        f"process with {SLOTS} slots, everything on one host: {host['processor']}, {host['cores']} cores, "
        f"Redis {redis_version}, Python {host['versions']['python']}. Commands are those that Redis executes, "
        "inside scripts too."
    )
    return "\n".join([*lines, "", about])


def run(count: int, turns: int, databases: Sequence[str], write: bool) -> None:
    """Measure, print, and write the table into ``docs/idempotency.md``."""
    table = measure(count, turns, databases)
    say(table)
    if write:
        page = PAGE.read_text()
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}")
        say(f"wrote {PAGE.name}")
