"""Looking at dead letters: pages, filters, groups."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.worker import running_worker

from taskq import TaskFailedError, TaskQ
from taskq.broker.keys import Keys
from taskq.client.dlq import query, selection
from taskq.client.dlq.filters import Filter
from taskq.client.dlq.fingerprint import fingerprint
from taskq.errors import ConfigError, UnknownOptionError, UnknownQueueError

Bury = Callable[..., str]
FRAME = 'Traceback:\n  File "{}", line {}, in charge\n    x()\nValueError: x'


def ids(letters: Any) -> list[str]:
    return [letter.task_id for letter in letters]


def test_pages_follow_each_other_over_queues(app: TaskQ, bury: Bury) -> None:
    bury(*(f"a{n}" for n in range(5)), queue="a")
    bury(*(f"b{n}" for n in range(3)), queue="b")
    bury("c0", queue="c/group")
    seen: list[str] = []
    after = None
    while True:
        page = app.dlq.page(limit=2, after=after)
        assert (page.total, len(page.letters) <= 2) == (9, True)
        seen += ids(page.letters)
        if (after := page.next) is None:
            break
    assert seen == ["a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2", "c0"]
    newest = app.dlq.page("a", limit=2, newest_first=True)
    assert ids(newest.letters) == ["a4", "a3"]
    assert ids(app.dlq.page("a", limit=9, newest_first=True, after=newest.next).letters) == ["a2", "a1", "a0"]
    assert ids(app.dlq.list("c/group")) == ["c0"]


def test_a_filter_says_what_it_looked_at(app: TaskQ, bury: Bury) -> None:
    bury(*(f"pay{n}" for n in range(30)))
    bury("ship", task="shop.ship", error_type="KeyError", error="Box 17", args=("Customer-9",))
    page = app.dlq.page(task="shop.ship", scan=10)
    assert (page.letters, page.scanned, page.total) == ([], 10, 31)
    page = app.dlq.page(task="shop.ship", scan=100, after=page.next)
    assert (ids(page.letters), page.scanned, page.next) == (["ship"], 21, None)
    for where in ({"error": "KeyError"}, {"text": "box 17"}, {"text": "customer-9"}, {"task": "shop.ship"}):
        assert ids(app.dlq.list(**where)) == ["ship"]  # type: ignore[arg-type]
    assert ids(app.dlq.list(fingerprint=app.dlq.list(task="shop.ship")[0].fingerprint)) == ["ship"]
    assert app.dlq.list(task="shop.ship", error="ValueError") == []


def test_time_is_when_it_came_into_the_queue(app: TaskQ, bury: Bury, redis_client: Any, namespace: str) -> None:
    dead = Keys(namespace).queue("default").dead
    bury("now")
    hour = timedelta(hours=1)
    letter = app.dlq.list()[0]
    assert ids(app.dlq.list(since=letter.entered_at, until=letter.entered_at)) == ["now"]
    assert app.dlq.list(until=letter.entered_at - hour) == app.dlq.list(since=letter.entered_at + hour) == []
    redis_client.delete(dead, dead + b":groups")


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ({"since": datetime(2026, 1, 1)}, ConfigError),
        ({"since": "yesterday"}, ConfigError),
        ({"task": 7}, ConfigError),
        ({"tasks": "x"}, UnknownOptionError),
        ({"after": "elsewhere@1-1"}, ConfigError),
    ],
)
def test_what_cannot_be_asked_is_said(app: TaskQ, where: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        app.dlq.page(**where)


def test_an_unknown_queue_is_an_error_where_it_is_checked(app: TaskQ) -> None:
    app.dlq.check_queue("default")
    with pytest.raises(UnknownQueueError, match="no queue 'defualt'; did you mean 'default'"):
        app.dlq.check_queue("defualt")


def test_groups_are_counted_as_dead_letters_come_and_go(app: TaskQ, bury: Bury, redis_client: Any) -> None:
    bury("a", "b", "c", error="no money for 17")
    bury("d", error="no money for 18")
    last = bury("e", task="shop.ship", queue="ships")
    pay, ship = app.dlq.groups()
    assert (pay.count, pay.task, pay.error_type, pay.error, pay.queue) == (
        4, "shop.pay", "ValueError", "no money for 18", "default",
    )  # fmt: skip
    assert (ship.count, ship.last_entry) == (1, last)
    assert pay.first_at
    assert pay.last_at
    assert pay.first_at <= pay.last_at <= datetime.now(UTC) + timedelta(minutes=1)
    assert app.dlq.replay(["a"]) == 1
    assert app.dlq.purge(["b"]) == 1
    assert [group.count for group in app.dlq.groups("default")] == [2]
    assert app.dlq.purge(fingerprint=pay.fingerprint) == 2
    assert [group.queue for group in app.dlq.groups()] == ["ships"]
    assert app.dlq.purge() == 1
    assert app.dlq.groups() == []
    keys = app.keys.queue("default")
    redis_client.delete(keys.stream(5))
    assert not redis_client.exists(keys.dead_groups)


def test_what_is_in_no_group_is_counted_apart(app: TaskQ, bury: Bury, redis_client: Any) -> None:
    bury("a")
    redis_client.xadd(app.keys.queue("default").dead, {"m": b"?", "i": b"?"})
    assert [(group.fingerprint != "", group.count) for group in app.dlq.groups("default")] == [(True, 1), (False, 1)]
    assert app.dlq.purge() == 2


def test_beyond_a_thousand_groups_the_others_share_one(app: TaskQ, bury: Bury, redis_client: Any) -> None:
    known = {f"{kind}:{n}": 1 if kind == "n" else b"" for n in range(1000) for kind in "nlfe"}
    keys = app.keys.queue("default")
    redis_client.hset(keys.dead_groups, mapping=known)
    entry = bury("a", "b")
    assert {letter.group for letter in app.dlq.list()} == {"other"}
    assert app.dlq.groups("default")[0].count == 2
    assert ids(app.dlq.list(fingerprint="other")) == ["a", "b"]
    assert app.dlq.purge([entry]) == 1
    assert redis_client.hget(keys.dead_groups, "n:other") == b"1"
    assert app.dlq.purge() == 1
    assert not redis_client.exists(keys.dead_groups)


def test_a_view_needs_no_app(app: TaskQ, bury: Bury) -> None:
    entry = bury("a")
    execute, queues = app.sync_broker.execute, [app.keys.queue("default")]
    assert query.count(execute, queues) == 1
    found = query.at_entry(execute, queues[0], entry)
    assert found
    assert found.task_id == "a"
    assert [group.count for group in query.groups(execute, queues)] == [1]
    app.dlq.purge()


def test_a_fingerprint_is_of_the_place_not_of_the_words() -> None:
    def of(path: str, line: int, error: str = "x", traceback: str | None = None) -> str:
        return fingerprint("t", "failed", "ValueError", error, FRAME.format(path, line) if traceback is None else "")

    assert of("/srv/one/shop/pay.py", 3, "a") == of("/home/two/shop/pay.py", 99, "b")
    assert of("/srv/one/shop/pay.py", 3) != of("/srv/one/shop/ship.py", 3)
    assert of("", 0, "order 17 of 'ann'", "") == of("", 0, "order 18 of 'bob'", "")
    assert of("", 0, "late", "") != of("", 0, "early", "")


def test_every_attempt_is_remembered(app: TaskQ) -> None:
    @app.task(max_retries=6, retry_backoff=0.001)
    def flaky() -> None:
        from taskq import current_task

        raise OSError(f"run {current_task().attempt}")

    with running_worker(app):
        result = flaky.delay()
        with pytest.raises(TaskFailedError):
            result.get(timeout=20)
    (letter,) = app.dlq.list()
    told = [(failure.attempt, failure.error, failure.final) for failure in letter.failures]
    assert told == [(n, f"run {n}", False) for n in (1, 3, 4, 5, 6)] + [(7, "run 7", True)]
    assert all(failure.worker and failure.at and failure.error_type == "OSError" for failure in letter.failures)
    assert app.dlq.purge() == 1


def test_large_letters_come_few_at_a_time(app: TaskQ, bury: Bury) -> None:
    bury(*(f"t{n}" for n in range(60)), args=("x" * 100_000,))
    counts = []

    def execute(*command: Any) -> Any:
        if command[0] == "XRANGE":
            counts.append(command[-1])
        return app.sync_broker.execute(*command)

    keys = app.keys.queue("default")
    assert ids(query.letters(execute, keys, Filter())) == [f"t{n}" for n in range(60)]
    assert counts[0] == query.FIRST_READ
    assert max(counts[1:]) == 9
    found = list(selection.pages(app.dlq.list(), 250))
    assert [len(page) for page in found] == [10] * 6
    assert app.dlq.purge() == 60


def test_a_page_is_of_one_queue(app: TaskQ, bury: Bury) -> None:
    bury("a", "b", "c")
    bury("d", queue="other")
    found = list(selection.pages(app.dlq.list(), 2))
    assert [ids(page) for page in found] == [["a", "b"], ["c"], ["d"]]
    assert app.dlq.purge() == 4
