"""A failed task runs again, by default three times; the wait is in Redis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.wait import eventually
from support.worker import running_worker
from tenacity import retry_if_exception_type, stop_after_attempt, wait_fixed

from taskq import Context, Reject, Retry, TaskFailedError, TaskQ, TaskState, current_task


def test_three_retries_are_the_default(app: TaskQ) -> None:
    attempts: list[int] = []

    @app.task(retry_backoff=0.01)
    def flaky() -> None:
        attempts.append(current_task().attempt)
        raise OSError("no route")

    with running_worker(app):
        result = flaky.delay()
        with pytest.raises(TaskFailedError, match="OSError: no route"):
            result.get(timeout=20)
    assert attempts == [1, 2, 3, 4]
    assert app.dlq.purge() == 1


def test_a_retry_that_succeeds_is_a_success(app: TaskQ) -> None:
    @app.task(retry_backoff=0.01)
    def flaky() -> int:
        attempt = current_task().attempt
        if attempt < 3:
            raise OSError("no route")
        return attempt

    with running_worker(app):
        assert flaky.delay().get(timeout=20) == 3
    assert app.dlq.count() == 0


def test_between_attempts_the_status_is_retry(app: TaskQ) -> None:
    @app.task(retry_backoff=60, retry_jitter=False)
    def flaky() -> None:
        raise OSError("no route")

    with running_worker(app):
        result = flaky.delay()
        eventually(lambda: result.status is TaskState.RETRY)
        assert not result.ready()
        assert "no route" in str(result.traceback)
    app.sync_broker.execute("DEL", app.keys.queue("default").delayed)


def test_max_retries_0_turns_them_off(app: TaskQ) -> None:
    runs: list[int] = []

    @app.task(max_retries=0)
    def flaky() -> None:
        runs.append(1)
        raise OSError("no route")

    with running_worker(app), pytest.raises(TaskFailedError):
        flaky.delay().get(timeout=30)
    assert runs == [1]
    app.dlq.purge()


def test_a_call_can_have_its_own_limit(app: TaskQ) -> None:
    runs: list[int] = []

    @app.task(retry_backoff=0.01)
    def flaky() -> None:
        runs.append(1)
        raise OSError("no route")

    with running_worker(app), pytest.raises(TaskFailedError):
        flaky.options(max_retries=1).delay().get(timeout=30)
    assert runs == [1, 1]
    app.dlq.purge()


def test_raise_retry_names_its_own_wait(app: TaskQ) -> None:
    @app.task(retry_backoff=60)
    def poll() -> int:
        attempt = current_task().attempt
        if attempt == 1:
            raise Retry("not ready", countdown=0.01)
        return attempt

    with running_worker(app):
        assert poll.delay().get(timeout=30) == 2


def test_bound_tasks_have_self_retry_as_in_celery(app: TaskQ) -> None:
    @app.task(bind=True, max_retries=2)
    def poll(self: Context, name: str) -> str:
        try:
            raise ConnectionError(f"{name} is away")
        except ConnectionError as error:
            self.retry(error, countdown=0.01)

    with running_worker(app):
        result = poll.delay("shop")
        with pytest.raises(TaskFailedError, match="ConnectionError: shop is away"):
            result.get(timeout=30)
    (letter,) = app.dlq.list()
    assert letter.evidence.attempts == 3
    app.dlq.purge()


def test_reject_gives_up_at_once(app: TaskQ) -> None:
    runs: list[int] = []

    @app.task
    def check() -> None:
        runs.append(1)
        raise Reject("no such customer")

    with running_worker(app), pytest.raises(TaskFailedError, match="no such customer"):
        check.delay().get(timeout=30)
    assert runs == [1]
    (letter,) = app.dlq.list()
    assert letter.evidence.reason == "rejected"
    app.dlq.purge()


def test_only_some_errors_are_retried(app: TaskQ) -> None:
    runs: list[str] = []

    @app.task(autoretry_for=OSError, retry_backoff=0.01, max_retries=1)
    def network(kind: str) -> None:
        runs.append(kind)
        raise OSError("no route") if kind == "os" else ValueError("bad")

    @app.task(dont_autoretry_for=(ValueError,), retry_backoff=0.01, max_retries=1)
    def anything_but_values(kind: str) -> None:
        runs.append(kind)
        raise OSError("no route") if kind == "os" else ValueError("bad")

    with running_worker(app, concurrency=1):
        for task in (network, anything_but_values):
            for kind in ("os", "value"):
                with pytest.raises(TaskFailedError):
                    task.delay(kind).get(timeout=30)
    assert runs == ["os", "os", "value"] * 2
    app.dlq.purge()


def test_tenacity_objects_are_the_policy(app: TaskQ) -> None:
    attempts: list[int] = []

    @app.task(
        wait=wait_fixed(0.01),
        stop=stop_after_attempt(5),
        retry=retry_if_exception_type(OSError),
    )
    def flaky() -> None:
        attempts.append(current_task().attempt)
        raise OSError("no route") if len(attempts) < 4 else ValueError("bad")

    with running_worker(app), pytest.raises(TaskFailedError, match="ValueError: bad"):
        flaky.delay().get(timeout=30)
    assert attempts == [1, 2, 3, 4]
    app.dlq.purge()


def test_a_retry_runs_with_the_arguments_as_they_were_sent(app: TaskQ) -> None:
    seen: list[list[int]] = []

    @app.task(retry_backoff=0.01, max_retries=2)
    def consume(items: list[int]) -> int:
        seen.append(list(items))
        items.pop()
        if len(seen) < 3:
            raise OSError("no route")
        return len(items)

    with running_worker(app):
        assert consume.delay([1, 2, 3]).get(timeout=30) == 2
    assert seen == [[1, 2, 3]] * 3


@pytest.mark.parametrize("asked", ["self.retry", "Retry"])
def test_the_error_being_handled_is_what_the_dead_letter_tells_of(app: TaskQ, asked: str) -> None:
    @app.task(bind=True, max_retries=1)
    def poll(self: Context) -> None:
        try:
            raise ConnectionError("shop is away")
        except ConnectionError:
            if asked == "Retry":
                raise Retry("not ready", countdown=0)  # noqa: B904 # as users write it
            self.retry(countdown=0)

    with running_worker(app):
        result = poll.delay()
        with pytest.raises(TaskFailedError, match="ConnectionError: shop is away"):
            result.get(timeout=30)
    (letter,) = app.dlq.list()
    assert (letter.evidence.error_type, letter.evidence.error) == ("ConnectionError", "shop is away")
    assert 'raise ConnectionError("shop is away")' in letter.evidence.traceback
    assert [failure.error_type for failure in letter.failures] == ["ConnectionError"] * 2
    app.dlq.purge()


@pytest.mark.parametrize(
    "when",
    [
        {"countdown": -1},
        {"countdown": -0.001},
        {"countdown": timedelta(days=-3)},
        {"eta": datetime(1970, 1, 2, tzinfo=UTC)},
    ],
)
def test_a_time_to_retry_that_is_past_is_at_once(app: TaskQ, when: dict[str, Any]) -> None:
    @app.task(bind=True, retry_backoff=600)
    def poll(self: Context) -> int:
        if self.attempt == 1:
            self.retry(**when)
        return self.attempt

    with running_worker(app):
        assert poll.delay().get(timeout=30) == 2
