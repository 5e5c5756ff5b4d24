"""The last sequence number of a key: events that are older than what was done already are skipped."""

from __future__ import annotations

from typing import Any

import pytest
from support.worker import run_burst, running_worker

from taskq import ConfigError, Context, TaskFailedError, TaskQ, current_task


def test_older_and_equal_numbers_are_told(app: TaskQ) -> None:
    @app.task(bind=True)
    def update(self: Context, customer: str, sequence: int) -> bool:
        return self.newer(customer, sequence)

    @app.task
    async def aupdate(customer: str, sequence: int) -> bool:
        return await current_task().anewer(customer, sequence)

    for task in (update, aupdate):
        with running_worker(app):
            told = [task.delay("customer-7", n).get(timeout=30) for n in (3, 3, 2, 5, 4, -1, 6)]
            assert told == [True, False, False, True, False, False, True]
            assert task.delay("customer-8", 1).get(timeout=30), "each key has numbers of its own"


def test_a_failed_attempt_does_not_count(app: TaskQ) -> None:
    @app.task(bind=True, max_retries=1, retry_backoff=0.01)
    def update(self: Context, sequence: int) -> bool:
        newer = self.newer("k", sequence)
        if self.attempt == 1:
            raise ValueError("the database is down")
        return newer

    with running_worker(app):
        assert update.delay(1).get(timeout=30), "the first attempt has committed nothing"


def test_only_success_moves_it(app: TaskQ) -> None:
    @app.task(bind=True, max_retries=0)
    def update(self: Context, sequence: int, *, fail: bool = False) -> bool:
        newer = self.newer("k", sequence)
        if fail:
            raise ValueError("no")
        return newer

    with running_worker(app):
        with pytest.raises(TaskFailedError):
            update.delay(5, fail=True).get(timeout=30)
        assert update.delay(4).get(timeout=30)


def test_the_last_number_never_goes_back(app: TaskQ, redis_client: Any, namespace: str) -> None:
    """As when an older event was slow, and ends after the newer one."""
    place = f"{namespace}:{{default}}:last:update:k"

    @app.task(name="update", bind=True)
    def update(self: Context, sequence: int) -> bool:
        newer = self.newer("k", sequence)
        redis_client.zadd(place, {"n": 9}, gt=True)
        return newer

    with running_worker(app):
        assert update.delay(8).get(timeout=30)
    assert redis_client.zscore(place, "n") == 9


def test_it_is_remembered_for_its_time(app: TaskQ, redis_client: Any, namespace: str) -> None:
    @app.task(name="update", bind=True, ignore_result=True)
    def update(self: Context, sequence: int) -> None:
        self.newer("k", sequence, expires="30d")

    update.delay(2**53)
    run_burst(app)
    place = f"{namespace}:{{default}}:last:update:k"
    assert redis_client.zscore(place, "n") == 2**53
    assert 0 < redis_client.pttl(place) <= 30 * 86_400_000


@pytest.mark.parametrize(("key", "sequence"), [("", 1), ("a\nb", 1), ("k", "1"), ("k", True), ("k", 2**53 + 1)])
def test_what_cannot_be_used(app: TaskQ, key: str, sequence: Any) -> None:
    errors: list[BaseException] = []

    @app.task(bind=True)
    def update(self: Context) -> None:
        try:
            self.newer(key, sequence)
        except ConfigError as error:
            errors.append(error)

    update.delay()
    run_burst(app)
    assert len(errors) == 1


def test_at_most_once_has_no_success_to_commit_with(app: TaskQ) -> None:
    @app.task(bind=True, delivery="at_most_once")
    def update(self: Context) -> bool:
        return self.newer("k", 1)

    with running_worker(app), pytest.raises(TaskFailedError, match="at_most_once"):
        update.delay().get(timeout=30)
