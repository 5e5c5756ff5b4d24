"""Tasks, as a user defines and sends them; checked, never run."""

from collections.abc import Coroutine
from typing import Any, assert_type

from taskq import (
    AsyncTask,
    Batch,
    BatchItem,
    Context,
    Result,
    Task,
    TaskFailedError,
    TaskQ,
    TaskState,
    cron,
    crontab,
    every,
    task,
)

app = TaskQ("shop")


@app.task
def bare(order_id: int, note: str = "") -> str:
    return f"{order_id}{note}"


@app.task(queue="emails", max_retries=5, time_limit="30s", autoretry_for=(OSError,))
def with_settings(order_id: int, *, urgent: bool = False) -> float:
    return 1.0


@app.task
async def fetch(url: str) -> int:
    return len(url)


@app.task(bind=True, max_retries=None)
def bound(self: Context, order_id: int) -> list[str]:
    if self.attempt > 1:
        self.retry(countdown=3)
    return [self.id]


@app.task(bind=True)
async def abound(self: Context, order_id: int) -> bool:
    return self.cancelled


@task
def on_the_default_app(x: int) -> int:
    return x


@app.task(batch=Batch(size=10), queue="rows")
def collected(items: list[BatchItem]) -> list[int]:
    return [item.args[0] for item in items]


@app.task(batch=Batch(size=10))
async def acollected(items: list[BatchItem]) -> None: ...


assert_type(collected, Task[..., Any])
assert_type(collected.delay("any", thing=1), Result[Any])
assert_type(acollected, AsyncTask[..., Any])
assert_type(bare(1), str)
assert_type(bare.delay(1, note="x"), Result[str])
assert_type(bare.delay(1).get(timeout=5), str)
assert_type(bare.delay(1).status, TaskState)
assert_type(bare.delay(1).traceback, str | None)
assert_type(bare.options(countdown=60, priority=9).delay(1), Result[str])
assert_type(bare.delay_many([(1,), (2, "x")]), list[Result[str]])
assert_type(bare.apply_async((1,), {"note": "x"}, countdown=3), Result[str])
assert_type(with_settings.delay(1, urgent=True), Result[float])
call: Coroutine[Any, Any, int] = fetch("u")
assert_type(fetch.delay("u"), Result[int])
assert_type(bound.delay(7), Result[list[str]])
assert_type(abound.delay(7), Result[bool])
assert_type(on_the_default_app.delay(1).get(), int)
assert_type(app.result("id"), Result[Any])
assert_type(app.send_task("shop.bare", (1,)), Result[Any])

is_task: Task[..., str] = bare
is_async: AsyncTask[..., int] = fetch


async def program() -> None:
    result = await fetch.adelay("u")
    assert_type(result, Result[int])
    assert_type(await result, int)
    assert_type(await result.aget(timeout=5), int)
    assert_type(await fetch("u"), int)
    assert_type(await bare.options(queue="slow").adelay(1), Result[str])
    assert_type(await bare.adelay_many([(1,)]), list[Result[str]])


def waits(flag: bool) -> None:
    result = with_settings.delay(1)
    assert_type(result.get(), float)
    assert_type(result.get(3, propagate=True), float)
    assert_type(result.get(propagate=False), float | TaskFailedError)
    assert_type(result.get(propagate=flag, allow_inside_task=True), float | TaskFailedError)
    answer = result.get(propagate=False)
    if isinstance(answer, TaskFailedError):
        print(answer.traceback)
    else:
        assert_type(answer, float)


async def awaits() -> None:
    assert_type(await fetch.delay("u").aget(timeout="3s"), int)
    assert_type(await fetch.delay("u").aget(propagate=False), int | TaskFailedError)
    assert_type(await fetch.delay("u").astatus(), TaskState)


@app.periodic(cron("0 2 * * *"))
@app.task
def nightly(day: int = 0) -> str:
    return f"{day}"


@app.periodic(every("5m"), overlap="skip")
@app.task(queue="polls")
async def poll(source: str = "eu") -> int:
    return len(source)


@app.periodic(crontab(minute=0, hour="*/3"), args=(1,))
@app.periodic(every(30), name="often")
@app.task(bind=True)
def bound_periodic(self: Context, order_id: int = 0) -> bool:
    return self.cancelled


@app.periodic(every(1))
def made_a_task(count: int = 1) -> float:
    return float(count)


@app.periodic(every(1))
async def made_an_async_task(count: int = 1) -> bytes:
    return bytes(count)


assert_type(nightly.delay(3), Result[str])
assert_type(nightly(3), str)
assert_type(poll.delay("us"), Result[int])
assert_type(poll.options(countdown=3).delay(source="us"), Result[int])
assert_type(bound_periodic.delay(order_id=1), Result[bool])
assert_type(made_a_task.delay(count=2).get(), float)
assert_type(made_an_async_task.delay(), Result[bytes])
