"""Hand-written loops over redis-py and bare sockets, without any queue: the limit of what a queue can reach.

``bare.py OPERATION COUNT`` with the environment of a task (``tally.py``). The task loops run the same task body as
every queue's worker, and leave what they measured in the tally; the other operations print one JSON line.
"""

import asyncio
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import hiredis
import redis
import redis.asyncio
import tally

try:
    import msgpack

    CODEC = f"msgpack {'.'.join(map(str, msgpack.version))}"
    pack, unpack = msgpack.packb, msgpack.unpackb
except ImportError:
    import msgspec

    CODEC = f"msgspec.msgpack {msgspec.__version__}"
    pack, unpack = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode

STREAM, GROUP, CONSUMER, BATCH = "bench", "group", "consumer", 100
GROUPS = ("stock", "notification", "analytics")
RESULT_TTL = 3600
MESSAGE = {"id": "0123456789abcdef0123456789abcdef", "task": "app.noop", "args": [], "kwargs": {}}
TASKS: dict[str, Callable[..., Any]] = {"app.noop": tally.hit}
CODECS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "json": (json.dumps, json.loads),
    "msgpack": (pack, unpack),
}

client: Any = redis.Redis.from_url(tally.REDIS_URL)


def say(**measured: Any) -> None:
    """Print what was measured."""
    print(json.dumps(measured), flush=True)


def fill(count: int, codec: str) -> None:
    """*count* messages into the stream, and a group that reads them from the start."""
    data = CODECS[codec][0](MESSAGE)
    while count > 0:
        pipeline = client.pipeline(transaction=False)
        for _ in range(min(1000, count)):
            pipeline.xadd(STREAM, {"d": data})
        pipeline.execute()
        count -= 1000
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    say(codec=CODEC if codec == "msgpack" else "json")


def loop(count: int, codec: str) -> None:
    """Read a hundred, decode, call; one pipeline acknowledges and deletes the hundred."""
    decode = CODECS[codec][1]
    while count > 0:
        entries = []
        for entry, fields in client.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=BATCH)[0][1]:
            message = decode(fields[b"d"])
            TASKS[message["task"]](*message["args"], **message["kwargs"])
            entries.append(entry)
        pipeline = client.pipeline(transaction=False)
        pipeline.xack(STREAM, GROUP, *entries)
        pipeline.xdel(STREAM, *entries)
        pipeline.execute()
        count -= len(entries)


def fill_groups(count: int) -> None:
    """As :func:`fill`, and every group of :data:`GROUPS` reads all of it."""
    fill(count, "msgpack")
    for group in GROUPS:
        client.xgroup_create(STREAM, group, id="0")


def loop_groups(count: int) -> None:
    """As :func:`loop` for three groups in turn; what was read stays in the stream."""
    left = dict.fromkeys(GROUPS, count)
    while any(left.values()):
        for group in GROUPS:
            entries = []
            for entry, fields in client.xreadgroup(group, CONSUMER, {STREAM: ">"}, count=BATCH)[0][1]:
                message = unpack(fields[b"d"])
                TASKS[message["task"]](*message["args"], **message["kwargs"])
                entries.append(entry)
            client.xack(STREAM, group, *entries)
            left[group] -= len(entries)


def loop_results(count: int) -> None:
    """As :func:`loop`, and the pipeline also stores each result under the message's id, for an hour."""
    while count > 0:
        entries = []
        pipeline = client.pipeline(transaction=False)
        for entry, fields in client.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=BATCH)[0][1]:
            message = unpack(fields[b"d"])
            value = TASKS[message["task"]](*message["args"], **message["kwargs"])
            entries.append(entry)
            # the id of the entry stands in for one of the message's own: the key must differ per message
            pipeline.set(b"result:" + entry, pack(["SUCCESS", value]), ex=RESULT_TTL)
        pipeline.xack(STREAM, GROUP, *entries)
        pipeline.xdel(STREAM, *entries)
        pipeline.execute()
        count -= len(entries)


async def hit() -> int:
    """The no-op as a coroutine."""
    return tally.hit()


async def loop_async(count: int, codec: str) -> None:
    """As :func:`loop` on an event loop, one asyncio task per message."""
    decode = CODECS[codec][1]
    tasks, connection = {"app.noop": hit}, redis.asyncio.Redis.from_url(tally.REDIS_URL)
    while count > 0:
        entries, running = [], []
        for entry, fields in (await connection.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=BATCH))[0][1]:
            message = decode(fields[b"d"])
            running.append(asyncio.create_task(tasks[message["task"]](*message["args"], **message["kwargs"])))
            entries.append(entry)
        await asyncio.wait(running)
        pipeline = connection.pipeline(transaction=False)
        pipeline.xack(STREAM, GROUP, *entries)
        pipeline.xdel(STREAM, *entries)
        await pipeline.execute()
        count -= len(entries)
    await connection.aclose()


def on_uvloop(work: Coroutine[Any, Any, None]) -> None:
    """Run *work* on uvloop, as taskq's worker does where it is installed."""
    import uvloop

    uvloop.run(work)


def xadd_single(seconds: float) -> None:
    """One XADD after the other."""
    count, begin, cpu = 0, time.perf_counter(), time.process_time()
    while (took := time.perf_counter() - begin) < seconds:
        for _ in range(20):
            client.xadd(STREAM, {"d": json.dumps(MESSAGE)})
        count += 20
    say(rate=count / took, cpu_us=1e6 * (time.process_time() - cpu) / count)


def xadd_pipeline(seconds: float) -> None:
    """XADD in pipelines of a thousand."""
    count, begin, cpu = 0, time.perf_counter(), time.process_time()
    while (took := time.perf_counter() - begin) < seconds:
        pipeline = client.pipeline(transaction=False)
        for _ in range(1000):
            pipeline.xadd(STREAM, {"d": json.dumps(MESSAGE)})
        pipeline.execute()
        count += 1000
    say(rate=count / took, cpu_us=1e6 * (time.process_time() - cpu) / count)


class Wire:
    """A socket to Redis and nothing else."""

    def __init__(self) -> None:
        keywords = client.connection_pool.connection_kwargs
        self._socket = socket.create_connection((keywords["host"], keywords["port"]))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def call(self, *commands: tuple[Any, ...]) -> Any:
        """Send commands together; the last one's reply."""
        self._socket.sendall(b"".join(hiredis.pack_command(command) for command in commands))  # type: ignore[arg-type]
        reply: Any = None
        for _ in commands:
            while (reply := self._reader.gets()) is False:
                self._reader.feed(self._socket.recv(65536))
        return reply


def wake(count: int) -> None:
    """The floor of latency: XADD in one process, a blocked XREADGROUP in another, one message each 10 ms."""
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    readable, writable = os.pipe()
    if not os.fork():
        wire = Wire()
        for _ in range(count):
            reply = wire.call(
                ("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", "100", "BLOCK", "0", "STREAMS", STREAM, ">")
            )
            entry, fields = reply[0][1][0]
            os.write(writable, struct.pack("<q", time.monotonic_ns() - int(fields[1])))
            wire.call(("XACK", STREAM, GROUP, entry), ("XDEL", STREAM, entry))
        os._exit(0)
    wire = Wire()
    time.sleep(0.3)
    begin = time.perf_counter()
    for number in range(count):
        time.sleep(max(begin + number * 0.01 - time.perf_counter(), 0))
        wire.call(("XADD", STREAM, "*", "t", str(time.monotonic_ns())))
    data = b""
    while len(data) < 8 * count:
        data += os.read(readable, 8 * count)
    say(latencies_ms=[took / 1e6 for (took,) in struct.iter_unpack("<q", data)])


OPERATIONS: dict[str, Callable[[float], Any]] = {
    "fill_json": lambda count: fill(int(count), "json"),
    "fill_msgpack": lambda count: fill(int(count), "msgpack"),
    "fill_groups": lambda count: fill_groups(int(count)),
    "loop_groups": lambda count: loop_groups(int(count)),
    "loop_json": lambda count: loop(int(count), "json"),
    "loop_msgpack": lambda count: loop(int(count), "msgpack"),
    "loop_results": lambda count: loop_results(int(count)),
    "loop_asyncio": lambda count: asyncio.run(loop_async(int(count), "json")),
    "loop_uvloop": lambda count: on_uvloop(loop_async(int(count), "msgpack")),
    "xadd_single": xadd_single,
    "xadd_pipeline": xadd_pipeline,
    "wake": lambda count: wake(int(count)),
}

if __name__ == "__main__":
    OPERATIONS[sys.argv[1]](float(sys.argv[2]))
