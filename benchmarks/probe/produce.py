"""The producer: runs in a queue's own environment, sends with the queue's own ``app.py``, prints one JSON line.

The module named by ``--app`` (``app.py``) has ``send(task, *args)``; where the queue offers it, ``send_many(task,
calls)``; ``asend(task, *args)`` for concurrent senders; ``call(task)`` to send and wait for the result; ``open()`` and
``close()``. ``send`` and ``send_many`` are either both ordinary or both async.
"""

import argparse
import asyncio
import importlib
import inspect
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

app: Any
"""The module that sends."""

SINGLES = 20
"""Single sends between two looks at the clock."""


async def settled(value: Any) -> Any:
    """*value*, awaited where it needs to be."""
    return await value if inspect.isawaitable(value) else value


def bulk(task: str, args: tuple[str, ...]) -> Callable[[int], Any]:
    """A function that sends so many calls at once, by the queue's own call for that, else concurrently."""
    many = getattr(app, "send_many", None)
    if many is not None:
        return lambda count: many(task, [args] * count)
    if inspect.iscoroutinefunction(app.send):

        async def gathered(count: int) -> None:
            await asyncio.gather(*(app.send(task, *args) for _ in range(count)))

        return gathered

    def one_by_one(count: int) -> None:
        for _ in range(count):
            app.send(task, *args)

    return one_by_one


async def fill(given: argparse.Namespace) -> dict[str, float]:
    """Send ``--count`` calls, as fast as the queue can."""
    args = ("x" * given.payload,) if given.payload else ()
    send, left = bulk(given.task, args), given.count
    while left > 0:
        page = min(given.page, left)
        await settled(send(page))
        left -= page
    return {"count": given.count}


async def timed(given: argparse.Namespace, step: Callable[[], Any], per_step: int) -> dict[str, float]:
    """Repeat *step* for ``--seconds``."""
    await settled(step())  # connections up, scripts loaded
    count, begin, cpu = 0, time.perf_counter(), time.process_time()
    while (took := time.perf_counter() - begin) < given.seconds:
        value = step()
        if value is not None:
            await settled(value)
        count += per_step
    return {"rate": count / took, "cpu_us": 1e6 * (time.process_time() - cpu) / count}


async def single(given: argparse.Namespace) -> dict[str, float]:
    """One call after the other."""
    send, task = app.send, given.task
    if inspect.iscoroutinefunction(send):

        async def each() -> None:
            for _ in range(SINGLES):
                await send(task)

        return await timed(given, each, SINGLES)

    def every() -> None:
        for _ in range(SINGLES):
            send(task)

    return await timed(given, every, SINGLES)


async def many(given: argparse.Namespace) -> dict[str, float]:
    """Pages of ``--page`` calls."""
    send = bulk(given.task, ())
    return await timed(given, lambda: send(given.page), given.page)


async def concurrent(given: argparse.Namespace) -> dict[str, float]:
    """``--page`` coroutines that each send one call after the other."""
    send: Callable[..., Awaitable[Any]] = getattr(app, "asend", app.send)
    await send(given.task)
    stop = time.perf_counter() + given.seconds

    async def sender() -> int:
        count = 0
        while time.perf_counter() < stop:
            await send(given.task)
            count += 1
        return count

    begin, cpu = time.perf_counter(), time.process_time()
    count = sum(await asyncio.gather(*(sender() for _ in range(given.page))))
    took = time.perf_counter() - begin
    return {"rate": count / took, "cpu_us": 1e6 * (time.process_time() - cpu) / count}


async def paced(given: argparse.Namespace) -> dict[str, float]:
    """``--count`` calls of ``stamp``, one each ``--interval`` seconds."""
    begin = time.perf_counter()
    for number in range(given.count):
        wait = begin + number * given.interval - time.perf_counter()
        if wait > 0:
            if inspect.iscoroutinefunction(app.send):
                await asyncio.sleep(wait)
            else:
                time.sleep(wait)  # noqa: ASYNC251 - nothing else runs on this loop
        await settled(app.send(given.task, time.monotonic_ns()))
    return {"count": given.count}


async def round_trip(given: argparse.Namespace) -> dict[str, float]:
    """Send and wait for the result, one call after the other."""
    return await timed(given, lambda: app.call(given.task), 1)


OPERATIONS = {
    "fill": fill,
    "single": single,
    "bulk": many,
    "concurrent": concurrent,
    "paced": paced,
    "round_trip": round_trip,
}


async def main() -> None:
    """Parse the command line, run one operation, print what it measured."""
    global app
    parser = argparse.ArgumentParser()
    parser.add_argument("operation", choices=OPERATIONS)
    parser.add_argument("--task", default="noop")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--page", type=int, default=1000)
    parser.add_argument("--payload", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--interval", type=float, default=0.01)
    parser.add_argument("--app", default="app", help="the module that sends")
    given = parser.parse_args()
    app = importlib.import_module(given.app)
    if hasattr(app, "open"):
        await settled(app.open())
    measured = await OPERATIONS[given.operation](given)
    if hasattr(app, "close"):
        await settled(app.close())
    print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
