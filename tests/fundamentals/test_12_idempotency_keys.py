"""An idempotency key: of the messages that say the same, one runs."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_async, run_burst, running_worker

from taskq import ConfigError, Context, TaskFailedError, TaskQ, TaskSkippedError, TaskState


def test_the_second_message_gets_the_result_of_the_first(app: TaskQ) -> None:
    ran: list[str] = []

    @app.task
    def charge(who: str) -> str:
        ran.append(who)
        return f"charged {who}"

    with running_worker(app):
        once = charge.options(idempotency_key="order-7")
        first = once.delay("first")
        assert first.get(timeout=30) == "charged first"
        second = once.delay("second")
        assert second.get(timeout=30) == "charged first"
        assert second.id != first.id
        assert second.status is TaskState.SUCCESS
        third = run_async(app, charge.options(idempotency_key="order-7").adelay("third"))
        assert third.get(timeout=30) == "charged first"
        assert charge.options(idempotency_key="order-8").delay("another").get(timeout=30) == "charged another"
        assert charge.delay("without a key").get(timeout=30) == "charged without a key"
    assert ran == ["first", "another", "without a key"]


def test_while_the_first_runs_the_second_is_skipped(app: TaskQ) -> None:
    go = threading.Event()

    @app.task
    def slow() -> str:
        go.wait(30)
        return "done"

    with running_worker(app):
        first = slow.options(idempotency_key="k").delay()
        second = slow.options(idempotency_key="k").delay()
        with pytest.raises(TaskSkippedError, match=first.id):
            second.get(timeout=30)
        assert second.status is TaskState.SKIPPED
        go.set()
        assert first.get(timeout=30) == "done"


def test_a_first_one_that_stores_no_result_leaves_none_to_the_second(app: TaskQ) -> None:
    ran: list[int] = []

    @app.task(ignore_result=True)
    def note(x: int) -> None:
        ran.append(x)

    with running_worker(app):
        once = note.options(idempotency_key="k")
        once.delay(1)
        eventually(lambda: ran == [1])
        once.delay(2)
        with pytest.raises(TaskSkippedError):
            note.options(idempotency_key="k", ignore_result=False).delay(3).get(timeout=30)
    assert ran == [1]


def test_a_final_failure_gives_the_key_free(app: TaskQ) -> None:
    answers = iter([ValueError("no"), "yes"])

    @app.task(max_retries=0)
    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with running_worker(app):
        once = ask.options(idempotency_key="k")
        first = once.delay()
        with pytest.raises(TaskFailedError, match="no"):
            first.get(timeout=30)
        second = once.delay()
        assert second.get(timeout=30) == "yes"
        assert app.dlq.replay([first.id]) == 1, "the replay comes too late: another message has done the work"
        assert first.get(timeout=30) == "yes"


def test_a_retry_keeps_the_key(app: TaskQ) -> None:
    started, go = threading.Event(), threading.Event()

    @app.task(bind=True, max_retries=1, retry_backoff=0.01)
    def flaky(self: Context) -> int:
        if self.attempt == 1:
            raise ValueError("once more")
        started.set()
        go.wait(30)
        return self.attempt

    with running_worker(app):
        once = flaky.options(idempotency_key="k")
        first = once.delay()
        assert started.wait(30)
        with pytest.raises(TaskSkippedError):
            once.delay().get(timeout=30)
        go.set()
        assert first.get(timeout=30) == 2
        assert once.delay().get(timeout=30) == 2


@pytest.mark.parametrize("why", ["revoked", "expired"])
def test_a_message_that_never_ran_gives_the_key_free(app: TaskQ, why: str) -> None:
    @app.task
    def ping() -> str:
        return "pong"

    first = ping.options(idempotency_key="k", expires=0.001 if why == "expired" else 60).delay()
    sent = time.time()
    if why == "revoked":
        first.revoke()
    else:
        eventually(lambda: time.time() > sent + 0.001)
    with running_worker(app):
        with pytest.raises(TaskFailedError, match=why):
            first.get(timeout=30)
        assert ping.options(idempotency_key="k").delay().get(timeout=30) == "pong"


def test_two_of_one_batch(app: TaskQ) -> None:
    ran: list[int] = []

    @app.task
    def note(x: int) -> None:
        ran.append(x)

    with app.batch():
        results = [note.options(idempotency_key=f"k{x % 5}").delay(x) for x in range(50)]
    run_burst(app)
    assert sorted(x % 5 for x in ran) == [0, 1, 2, 3, 4]
    states = [result.status for result in results]
    assert set(states) <= {TaskState.SUCCESS, TaskState.SKIPPED}
    assert states.count(TaskState.SUCCESS) >= 5


def test_each_task_has_keys_of_its_own(app: TaskQ) -> None:
    @app.task
    def charge() -> str:
        return "charged"

    @app.task
    async def ship() -> str:
        return "shipped"

    with running_worker(app):
        assert charge.options(idempotency_key="order-7").delay().get(timeout=30) == "charged"
        assert ship.options(idempotency_key="order-7").delay().get(timeout=30) == "shipped"
        assert ship.options(idempotency_key="order-7").delay().get(timeout=30) == "shipped"


def test_the_key_is_remembered_for_its_time(make_app: Any, redis_client: Any, namespace: str) -> None:
    app = make_app(idempotency_expires="1h")

    @app.task(name="ping")
    def ping() -> None: ...

    ping.options(idempotency_key="k").delay()
    run_burst(app)
    ttl = redis_client.pttl(f"{namespace}:{{default}}:claim:ping:k")
    assert 3_590_000 < ttl <= 3_600_000


def test_at_most_once_never_gives_it_free(app: TaskQ) -> None:
    ran: list[int] = []

    @app.task(delivery="at_most_once")
    def note(x: int) -> int:
        ran.append(x)
        if x == 1:
            raise ValueError("no")
        return x

    with running_worker(app):
        once = note.options(idempotency_key="k")
        with pytest.raises(TaskFailedError, match="no"):
            once.delay(1).get(timeout=30)
        with pytest.raises(TaskSkippedError):
            once.delay(2).get(timeout=30)
        assert note.options(idempotency_key="l").delay(3).get(timeout=30) == 3
    assert ran == [1, 3]


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", 7])
def test_a_key_is_short_printable_text(app: TaskQ, key: Any) -> None:
    @app.task
    def ping() -> None: ...

    with pytest.raises(ConfigError, match="idempotency_key"):
        ping.options(idempotency_key=key)


def test_its_time_begins_anew_with_the_success(make_app: Any, redis_client: Any, namespace: str) -> None:
    app = make_app(idempotency_expires=600)
    claim = f"{namespace}:{{default}}:claim:slow:k"

    @app.task(name="slow")
    def slow() -> None:
        redis_client.expire(claim, 100)  # as after a run of 500 s

    with running_worker(app):
        slow.options(idempotency_key="k").delay().get(timeout=30)
        assert 100 < redis_client.ttl(claim) <= 600
