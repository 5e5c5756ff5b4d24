"""The ``breakdown`` command: where the time of one task goes, in Python and in Redis.

Every phase is the real function, called alone on real messages; what a whole run costs beyond their sum is the event
loop, sockets and the kernel. Redis's part is its own accounting (``commandstats``) of the scripts that carry it.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import hiredis

from benchmarks import contenders, machine, source
from benchmarks.bench import Bench, say
from benchmarks.figures import short
from benchmarks.measures.throughput import contender_trial
from benchmarks.server import Server
from benchmarks.sizes import FULL, SMOKE
from taskq import TaskQ
from taskq.broker import calls, scripts
from taskq.broker.link.wire import pack
from taskq.broker.producer import Outgoing, pages, plan
from taskq.broker.scripts.settling import settle
from taskq.client.task import prepare
from taskq.values.delivery import Delivery
from taskq.worker.admission.intake import Intake
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.settling import settles
from taskq.worker.running.executors import finish
from taskq.worker.running.executors.coroutines import CoroutineExecutor
from taskq.worker.running.executors.threads import ThreadExecutor
from taskq.worker.running.limits import TimeLimits
from taskq.worker.running.runner import Runner

BATCH = 500
"""Entries of one exchange, as under load."""
ROUNDS = 40
SINGLES = 2000


class Phase(NamedTuple):
    """One row of the table."""

    side: str
    """``enqueue`` or ``worker``."""
    phase: str
    what: str
    python_us: float | None = None
    redis_us: float | None = None


class Bed:
    """An app, its tasks and one queue of a worker, on a live Redis.

    Args:
        server: the Redis.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.app = TaskQ("breakdown", broker_url=server.url)
        self.plain: Any = self.app.task(name="plain", ignore_result=True)(lambda: 1)
        self.stored: Any = self.app.task(name="stored")(lambda: 1)

        async def nothing() -> int:
            return 1

        self.coroutine: Any = self.app.task(name="coroutine", ignore_result=True)(nothing)
        self.keys = self.app.keys.queue("default")
        self.link = QueueLink(self.keys, b"host:1:01234567")
        self.runner = Runner(self.app.config)

    def outgoing(self, task: Any) -> Outgoing:
        """One prepared message."""
        return prepare(self.app, task.name, (), {}, task._plan)[0]

    def rows(self, task: Any, count: int) -> list[tuple[bytes, list[tuple[bytes, list[bytes]]]]]:
        """What a fetch of *count* messages answers."""
        entries = [(b"1700000000000-%d" % number, [b"m", self.outgoing(task).data]) for number in range(count)]
        return [(self.link.streams[-1], entries)]

    def deliveries(self, task: Any, count: int) -> list[Delivery]:
        """Deliveries that nobody has run."""
        self.link.held.clear()
        return Intake(self.app, self.runner, None, None).take(self.link, self.rows(task, count))  # type: ignore[arg-type]


def run(*, smoke: bool = False) -> dict[str, Any]:
    """Measure every phase, and a whole run to hold against their sum."""
    with tempfile.TemporaryDirectory(prefix="taskq-benchmarks-") as scratch, Server(Path(scratch) / "redis") as server:
        speed, code = machine.speed(), source.digest()
        bed = Bed(server)
        phases = [*enqueue_phases(bed), *worker_phases(bed)]
        bed.app.close()
        return {
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": machine.describe(server.version),
            "machine_speed": short((speed + machine.speed()) / 2),
            "phases": [phase._asdict() for phase in phases],
            "whole": whole_runs(server, Path(scratch), smoke),
            "source": source.during(code),
        }


def enqueue_phases(bed: Bed) -> Iterator[Phase]:
    """From ``.delay()`` to Redis's answer."""
    task, messages = bed.plain, [bed.outgoing(bed.plain) for _ in range(1000)]
    single = [messages[0]]
    yield Phase(
        "enqueue",
        "check and encode",
        "signature check, id, msgspec, handle",
        best(lambda: task._prepare((), {}, task._plan)),
    )
    yield Phase(
        "enqueue", "pack", "script call to bytes, one message", best(lambda: pack(plan(single)(b"0" * 16, 1).command()))
    )
    in_bulk = best(lambda: [pack(plan(page)(b"0" * 16, 1).command()) for page in pages(messages)], 1000)
    yield Phase("enqueue", "pack, in bulk", "the same per message, 1,000 a call", in_bulk)
    ping = best(lambda: bed.app.sync_broker.execute("PING"))
    yield Phase("enqueue", "round trip", "a PING over the same connection: system calls and waiting", ping)
    whole = best(task.delay)
    usec = redis_cost(bed.server, lambda: [task.delay() for _ in range(SINGLES)], SINGLES)
    yield Phase("enqueue", "one `.delay()`", "the whole call", whole, usec)
    calls = [()] * 1000
    whole = best(lambda: task.delay_many(calls), 1000)
    usec = redis_cost(bed.server, lambda: [task.delay_many(calls) for _ in range(ROUNDS)], ROUNDS * 1000)
    yield Phase("enqueue", "`delay_many`", "per message, 1,000 a call", whole, usec)
    bed.server.client.flushall()


def worker_phases(bed: Bed) -> Iterator[Phase]:
    """From Redis's answer to the settle call."""
    reply = fetch_reply(bed.rows(bed.plain, BATCH))
    yield Phase("worker", "parse", "hiredis: reply to entries", best(lambda: parse(reply), BATCH))
    yield Phase("worker", "take", "decode, find the task, delivery", take_us(bed))
    yield Phase("worker", "run", "admit, context, function, outcome", call_us(bed, bed.plain))
    stored = call_us(bed, bed.stored)
    yield Phase("worker", "run, with a result", "the same, and the result packed", stored)
    threads, coroutines = asyncio.run(executor_us(bed, bed.plain)), asyncio.run(executor_us(bed, bed.coroutine))
    yield Phase("worker", "execute in a thread", "hand-over, run, hand back (run included)", threads)
    yield Phase("worker", "execute as a coroutine", "asyncio task, run, hand back (run included)", coroutines)
    for task, name in ((bed.plain, "settle and fetch"), (bed.stored, "settle and fetch, with results")):
        what = f"outcomes to bytes; in Redis: end {BATCH}, read {BATCH}"
        yield Phase("worker", name, what, settle_us(bed, task), settle_redis_us(bed, task))


def best(work: Callable[[], object], per: int = 1, rounds: int | None = None) -> float:
    """Microseconds of *work* per item: the fastest of five series, as what disturbs only adds."""
    rounds = rounds or max(SINGLES // per, 5)
    work()
    series = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(rounds):
            work()
        series.append(time.perf_counter() - begin)
    return short(1e6 * min(series) / (rounds * per))


def fetch_reply(rows: Sequence[tuple[bytes, Sequence[tuple[bytes, Sequence[bytes]]]]]) -> bytes:
    """The bytes of the settle script's answer that carries *rows*."""
    entries = rows[0][1]
    parts = [b"*4\r\n:1\r\n*1\r\n*2\r\n:2\r\n*%d\r\n" % len(entries)]
    for entry, fields in entries:
        parts.append(b"*2\r\n$%d\r\n%b\r\n*%d\r\n" % (len(entry), entry, len(fields)))
        parts += [b"$%d\r\n%b\r\n" % (len(field), field) for field in fields]
    return b"".join([*parts, b":0\r\n*0\r\n"])


def parse(reply: bytes) -> Any:
    """What the connection does with a reply."""
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()


def take_us(bed: Bed) -> float:
    """``Intake.take`` per entry."""
    rows = bed.rows(bed.plain, BATCH)
    intake = Intake(bed.app, bed.runner, None, None)  # type: ignore[arg-type] # take() hands nothing over

    def work() -> None:
        bed.link.held.clear()
        intake.take(bed.link, rows)

    return best(work, BATCH)


def call_us(bed: Bed, task: Any) -> float:
    """``Runner.call`` per delivery."""
    deliveries, call = bed.deliveries(task, BATCH), bed.runner.call
    return best(lambda: [call(delivery) for delivery in deliveries], BATCH)


async def executor_us(bed: Bed, task: Any) -> float:
    """One executor from ``submit`` to the outcome, per delivery."""
    loop, count, series = asyncio.get_running_loop(), BATCH * 20, []
    kind = CoroutineExecutor if task.is_async else ThreadExecutor
    for _ in range(3):
        executor = kind(100 if task.is_async else 1, bed.runner, lambda: None, TimeLimits(loop))
        deliveries = bed.deliveries(task, count)
        bed.link.ended.clear()
        begin = time.perf_counter()
        executor.submit(deliveries)
        while len(bed.link.ended) < count:  # noqa: ASYNC110 - what is measured must not ring a bell for us
            await asyncio.sleep(0 if task.is_async else 0.0005)
        series.append(time.perf_counter() - begin)
        executor.close()
    return short(1e6 * min(series) / count)


def settle_us(bed: Bed, task: Any) -> float:
    """From outcomes to the bytes of the settle call, per delivery."""
    series = []
    for _ in range(25):
        bed.link.ended.clear()
        for delivery in bed.deliveries(task, BATCH):
            finish(delivery, bed.runner.call(delivery), 0.0)
        begin = time.perf_counter()
        pack(settle_call(bed, bed.link.take_ended(BATCH), BATCH).command())
        series.append(time.perf_counter() - begin)
    return short(1e6 * min(series) / BATCH)


def settle_call(bed: Bed, ended: list[Any], want: int) -> calls.Call:
    """The call that settles *ended* and fetches *want*."""
    return settle(bed.keys, bed.link.streams, bed.link.consumer, want, *settles(ended, bed.link.streams))


def settle_redis_us(bed: Bed, task: Any) -> float:
    """Redis's own time for settling and fetching, per task."""
    broker, intake = bed.app.sync_broker, Intake(bed.app, bed.runner, None, None)  # type: ignore[arg-type]
    bed.link.held.clear()
    bed.link.ended.clear()
    task.delay_many([()] * (BATCH * ROUNDS))
    broker.run(scripts.register(bed.keys, bed.link.consumer, 600_000, bed.link.streams))

    def work() -> None:
        for _ in range(ROUNDS + 1):
            ended = bed.link.take_ended(BATCH)
            _, rows, *_ = broker.run(settle_call(bed, ended, BATCH))
            bed.link.held.clear()
            fetched = [(bed.link.streams[number - 1], entries) for number, entries in rows]
            for delivery in intake.take(bed.link, fetched):
                finish(delivery, bed.runner.call(delivery), 0.0)

    usec = redis_cost(bed.server, work, BATCH * ROUNDS)
    bed.server.client.flushall()
    return usec


def redis_cost(server: Server, work: Callable[[], object], count: int) -> float:
    """Microseconds that Redis spent in scripts during *work*, the commands inside them included, per task."""
    server.client.config_resetstat()
    work()
    stats = server.info("commandstats").items()
    return short(sum(found["usec"] for name, found in stats if name.startswith("cmdstat_eval")) / count)


def whole_runs(server: Server, scratch: Path, smoke: bool) -> dict[str, Any]:
    """What a task costs in a real worker: wall, the worker's CPU, Redis's CPU."""
    taskq = contenders.own(scratch)
    bench = Bench(SMOKE if smoke else FULL, 1, server, scratch, [taskq])
    found = {}
    kinds = (("one", False), ("one", True), ("async", False))
    for name, results in kinds[:1] if smoke else kinds:
        trial = contender_trial(bench, taskq, taskq.setups[name], results)
        trial.prepare()
        sample = trial.take()
        say(f"  {trial.name}: {sample['us']:.2f} us a task")
        found[trial.name] = {key: short(sample[key]) for key in ("us", "cpu_us", "redis_us")}
    return found
