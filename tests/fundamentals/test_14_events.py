"""Event streams: every group gets every event; its workers share them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_async, run_burst, running_worker

from taskq import ConfigError, Context, Event, PositionMovedError, SerializationError, TaskQ, Topic, UnknownTopicError


def test_every_group_gets_every_event(app: TaskQ) -> None:
    app.topic("orders", retention="7d")
    stock: list[Event] = []
    mails: list[Event] = []

    @app.subscriber("orders", group="stock")
    def reserve(event: Event) -> None:
        stock.append(event)

    @app.subscriber("orders", group="notification")
    async def notify(event: Event) -> None:
        mails.append(event)

    before = datetime.now(UTC) - timedelta(milliseconds=1)
    with running_worker(app):
        app.publish("orders", {"id": 1}, key="customer-7")
        app.publish("orders", {"id": 2})
        eventually(lambda: len(stock) == len(mails) == 2)
    assert sorted(stock, key=lambda event: event.id) == sorted(mails, key=lambda event: event.id)
    first, second = sorted(stock, key=lambda event: event.id)
    assert (first.topic, first.ordinal, first.key, first.payload) == ("orders", 1, "customer-7", {"id": 1})
    assert (second.ordinal, second.key, second.payload) == (2, None, {"id": 2})
    assert before <= first.published_at <= datetime.now(UTC) + timedelta(milliseconds=1)


def test_events_published_before_the_first_worker_are_read_too(app: TaskQ) -> None:
    app.topic("orders")
    seen: list[Any] = []
    app.subscriber("orders", group="g")(lambda event: seen.append(event.payload))
    assert app.publish_many("orders", range(1200), key=lambda number: f"k{number % 3}") == 1200
    run_burst(app)
    assert sorted(seen) == list(range(1200))


def test_groups_of_one_worker_at_different_places_each_get_every_event_once(app: TaskQ) -> None:
    app.topic("orders")
    seen: dict[str, list[int]] = {f"g{number}": [] for number in range(10)}
    for group, read in seen.items():
        app.subscriber("orders", group=group)(lambda event, read=read: read.append(event.payload))
    app.publish_many("orders", range(150))
    run_burst(app, queues=["orders/g0"])
    run_burst(app, queues=["orders/g0", "orders/g1"])
    app.publish_many("orders", range(150, 250))
    run_burst(app)
    assert {group: sorted(read) for group, read in seen.items()} == {group: list(range(250)) for group in seen}


def test_the_trouble_of_one_group_is_not_that_of_another(app: TaskQ, redis_client: Any, namespace: str) -> None:
    app.topic("orders")
    seen: list[int] = []
    app.subscriber("orders", group="well")(lambda event: seen.append(event.payload))
    app.subscriber("orders", group="ill")(lambda event: None)
    app.publish("orders", 0)
    delayed = f"{namespace}:{{orders/}}:ill:delayed"
    redis_client.set(delayed, "no set of delayed messages")
    with running_worker(app):
        eventually(lambda: seen == [0])
        app.publish("orders", 1)
        eventually(lambda: len(seen) == 2)
    assert seen == [0, 1]
    assert redis_client.get(delayed) == b"no set of delayed messages", "the other group's trouble lasted"
    redis_client.delete(delayed)


def test_async_publishing(app: TaskQ) -> None:
    app.topic("orders")

    async def main() -> None:
        import asyncio

        await asyncio.gather(*(app.apublish("orders", n) for n in range(50)))
        await app.apublish_many("orders", range(50, 60))

    run_async(app, main())
    read = [event.payload for page in app.events.pages("orders") for event in page]
    assert sorted(read) == list(range(60))
    (stats,) = app.events.topics()
    assert (stats.topic, stats.total, stats.kept, stats.retention_ms) == ("orders", 60, 60, 7 * 86_400_000)


def test_a_batch_block_publishes_at_its_end(app: TaskQ) -> None:
    app.topic("orders")
    with app.batch():
        app.publish("orders", 1)
        assert app.events.topics()[0].total == 0
    assert app.events.topics()[0].total == 1


@pytest.mark.parametrize(("start", "expected"), [("earliest", [1, 2, 3]), ("latest", [3]), (None, [2, 3])])
def test_where_a_new_group_begins(app: TaskQ, start: Any, expected: list[int]) -> None:
    app.topic("orders")
    app.publish("orders", 1)
    newest = app.events.topics()[0].newest
    assert newest
    instant = datetime.fromtimestamp(int(newest.split("-")[0]) / 1000 + 0.001, UTC)
    eventually(lambda: datetime.now(UTC) > instant)
    app.publish("orders", 2)
    seen: list[int] = []
    app.subscriber("orders", group="g", start=start or instant)(lambda event: seen.append(event.payload))
    with running_worker(app):
        eventually(lambda: app.events.groups("orders") and not app.events.groups("orders")[0].unread)
        app.publish("orders", 3)
        eventually(lambda: len(seen) >= len(expected))
    assert sorted(seen) == expected


def test_a_group_goes_on_where_it_was(app: TaskQ) -> None:
    app.topic("orders")
    seen: list[int] = []
    app.subscriber("orders", group="g", start="latest")(lambda event: seen.append(event.payload))
    run_burst(app)
    app.publish("orders", 1)
    run_burst(app)
    app.publish("orders", 2)
    run_burst(app)
    assert seen == [1, 2]


def test_a_failing_event_is_retried_and_then_dead_in_its_group(app: TaskQ) -> None:
    app.topic("orders")
    seen: list[tuple[str, int]] = []

    @app.subscriber("orders", group="broken", max_retries=1, retry_backoff=0.01, bind=True)
    def fail(self: Context, event: Event) -> None:
        seen.append((event.payload, self.attempt))
        raise ValueError("no")

    @app.subscriber("orders", group="fine", ignore_result=False)
    def handle(event: Event) -> str:
        return "done"

    with running_worker(app):
        app.publish("orders", "a")
        (letter,) = eventually(lambda: app.dlq.list("orders/broken"))
    assert seen == [("a", 1), ("a", 2)]
    assert (letter.task, letter.queue) == ("orders/broken", "orders/broken")
    assert app.dlq.count("orders/fine") == 0
    groups = {group.group: group for group in app.events.groups("orders")}
    assert groups["broken"].dead == 1
    assert groups["fine"].lag == groups["fine"].pending == 0


def test_seek(app: TaskQ) -> None:
    app.topic("orders")
    seen: list[int] = []
    app.subscriber("orders", group="g")(lambda event: seen.append(event.payload))
    app.publish_many("orders", [1, 2, 3])
    run_burst(app)
    ids = [event.id for page in app.events.pages("orders") for event in page]
    app.events.seek("orders", "g", ids[1])
    assert app.events.groups("orders")[0].unread == 2
    run_burst(app)
    app.events.seek("orders", "g", "earliest")
    app.events.seek("orders", "g", "latest")
    run_burst(app)
    assert sorted(seen) == [1, 2, 2, 3, 3]


def test_replay_is_for_one_group(app: TaskQ) -> None:
    app.topic("orders")
    analytics: list[int] = []
    stock: list[int] = []
    app.subscriber("orders", group="analytics")(lambda event: analytics.append(event.payload))
    app.subscriber("orders", group="stock")(lambda event: stock.append(event.payload))
    app.publish_many("orders", [1, 2, 3])
    run_burst(app)
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    assert app.events.replay("orders", "analytics", now - hour, now + hour) == 3
    assert app.events.groups("orders")[0].replays == 1
    run_burst(app)
    assert sorted(analytics) == [1, 1, 2, 2, 3, 3]
    assert sorted(stock) == [1, 2, 3]
    assert app.events.groups("orders")[0].replays == 0
    with pytest.raises(ConfigError, match="end must be after start"):
        app.events.replay("orders", "analytics", now, now - hour)
    with pytest.raises(ConfigError, match="no group 'nobody' has begun"):
        app.events.replay("orders", "nobody")
    with pytest.raises(ConfigError, match="timezone-aware"):
        app.events.replay("orders", "analytics", datetime(2026, 1, 1))


def test_a_reader_says_itself_how_far_it_has_come(app: TaskQ) -> None:
    app.topic("orders")
    app.publish_many("orders", range(2500))
    reader = app.events.reader("orders", group="nightly")
    assert [event.payload for event in reader] == list(range(2500))
    again = app.events.reader("orders", group="nightly")
    for event in again:
        if event.payload == 999:
            break
    again.commit()
    again.commit()
    third = app.events.reader("orders", group="nightly")
    assert next(iter(third)).payload == 1000
    assert next(iter(third)).payload == 1001, "iterating again goes on"
    with pytest.raises(PositionMovedError):
        reader.commit()
    third.commit()
    assert app.events.groups("orders")[0].read == 1002


def test_what_a_reader_missed_is_counted(app: TaskQ, redis_client: Any, namespace: str) -> None:
    app.topic("orders")
    reader = app.events.reader("orders", group="nightly")
    app.publish_many("orders", range(10))
    redis_client.xtrim(f"{namespace}:{{orders/}}:events", maxlen=4, approximate=False)
    assert app.events.groups("orders")[0].trimmed == 6
    assert [event.payload for event in reader] == [6, 7, 8, 9]
    reader.commit()
    assert (app.events.groups("orders")[0].trimmed, app.events.groups("orders")[0].lag) == (6, 0)


def test_an_event_that_commits_with_its_task(app: TaskQ) -> None:
    app.topic("orders")
    seen: list[Any] = []
    app.subscriber("orders", group="g")(lambda event: seen.append((event.ordinal, event.key, event.payload)))

    @app.task(bind=True, retry_backoff=0.01)
    def pay(self: Context, amount: int) -> None:
        self.tx.publish("orders", {"paid": amount}, key="customer-7")
        self.tx.publish("orders", self.attempt)
        if self.attempt == 1:
            raise ValueError("once more")

    with running_worker(app):
        pay.delay(5)
        eventually(lambda: len(seen) == 2)
    assert sorted(seen) == [(1, "customer-7", {"paid": 5}), (2, None, 2)]
    assert app.events.topics()[0].retention_ms == 7 * 86_400_000


def test_many_events_that_commit_with_their_task(app: TaskQ) -> None:
    """They need neither a subscriber nor a direct publisher: the topic is known to views, and drops what it must."""
    app.topic("orders", max_events=300)

    @app.task(bind=True)
    def split(self: Context, count: int) -> int:
        with pytest.raises(UnknownTopicError):
            self.tx.publish_many("order", range(count))
        with pytest.raises(SerializationError):
            self.tx.publish_many("orders", [1, object()])
        assert len(self.tx) == 0
        assert self.tx.publish_many("orders", ()) == 0
        return self.tx.publish_many("orders", range(count), key=lambda n: f"customer-{n % 7}")

    with running_worker(app):
        assert split.delay(1000).get(timeout=20) == 1000
    (topic,) = app.events.topics()
    assert (topic.topic, topic.total, topic.max_events) == ("orders", 1000, 300)
    assert 300 <= topic.kept <= 500
    last = app.events.last("orders", 1)[0]
    assert (last.payload, last.key, last.ordinal) == (999, "customer-5", 1000)


def test_a_handler_can_be_called_with_an_event(app: TaskQ) -> None:
    app.topic("orders")

    @app.subscriber("orders", group="g")
    def double(event: Event) -> int:
        return 2 * event.payload

    assert double(Event("orders", "1-0", 1, None, 21)) == 42


def test_what_cannot_be_used(app: TaskQ) -> None:
    app.topic("orders", max_events=10)
    with pytest.raises(UnknownTopicError, match=r"'order' is not declared \(declared are: orders\)"):
        app.publish("order", 1)
    with pytest.raises(UnknownTopicError):
        app.subscriber("order", group="g")
    with pytest.raises(UnknownTopicError):
        app.events.groups("order")
    with pytest.raises(SerializationError, match="an event of orders"):
        app.publish("orders", object())
    for key in ("", "a\nb", "k" * 201, 7):
        with pytest.raises(ConfigError, match="key must be"):
            app.publish("orders", 1, key=key)  # type: ignore[arg-type]
    for start in ("first", datetime(2026, 1, 1), 5):
        with pytest.raises(ConfigError, match="start must be"):
            app.subscriber("orders", group="g", start=start)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="group must be"):
        app.subscriber("orders", group="a/b")
    for setting in ({"queue": "q"}, {"priority": 9}, {"expires": 5}, {"when_unavailable": "drop"}):
        with pytest.raises(ConfigError, match="takes no"):
            app.subscriber("orders", group="g", **setting)
    app.subscriber("orders", group="g")(lambda event: None)
    with pytest.raises(ConfigError, match="is taken by"):
        app.subscriber("orders", group="g")(lambda event: 1)
    with pytest.raises(ConfigError, match="declared already"):
        app.topic("orders", max_events=11)


@pytest.mark.parametrize(
    "limits", [{"retention": 0}, {"retention": "soon"}, {"retention": -1}, {"max_events": 0}, {"max_bytes": True}]
)
def test_limits_that_cannot_be_used(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Topic("orders", **limits)


def test_a_name_that_cannot_be_used() -> None:
    for name in ("", "a/b", "a:b", "{x}", 5):
        with pytest.raises(ConfigError, match="topic's name"):
            Topic(name)  # type: ignore[arg-type]
