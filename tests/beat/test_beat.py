"""Beat on a real Redis; the clock is given, so nothing waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.wait import eventually

from taskq.beat.beat import LOOK_EVERY, Beat
from taskq.beat.catch_up import jittered
from taskq.client.app import TaskQ
from taskq.client.schedules.entry import PeriodicEntry
from taskq.embedded import EmbeddedRedis
from taskq.errors import BrokerUnavailableError, ScheduleError
from taskq.values.message import Message, decode
from taskq.values.schedule import at, cron, every

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class Fixture:
    """An app, and what its queues received."""

    def __init__(self, url: str, namespace: str, client: Any) -> None:
        self._url, self._namespace, self._client = url, namespace, client
        self.app = self.new_app()

    def new_app(self) -> TaskQ:
        """An app as another process would have it."""
        return TaskQ("test", self._url, namespace=self._namespace)

    def take(self, queue: str = "default", level: int = 5) -> list[Message]:
        """The messages sent so far, which are removed."""
        stream = self.app.keys.queue(queue).stream(level)
        entries = self._client.xrange(stream)
        if entries:
            self._client.xdel(stream, *(entry for entry, _ in entries))
        return [decode(fields[b"m"]) for _, fields in entries]

    def ids(self) -> list[str]:
        return [message.task_id for message in self.take()]


@pytest.fixture
def shop(redis_url: str, namespace: str, redis_client: Any) -> Iterator[Fixture]:
    fixture = Fixture(redis_url, namespace, redis_client)
    yield fixture
    fixture.app.close()


def schedule(app: TaskQ, name: str = "job", when: Any = None, **settings: Any) -> None:
    app.add_periodic(PeriodicEntry(name, settings.pop("task", "shop.job"), when or every(10), **settings))


def test_a_new_schedule_fires_its_future_times(shop: Fixture) -> None:
    schedule(shop.app)
    beat = Beat(shop.app)
    assert beat.tick(later(4)) == LOOK_EVERY
    assert beat.tick(later(6)) == pytest.approx(4)
    assert beat.tick(later(9.5)) == pytest.approx(0.5)
    assert shop.ids() == []
    assert beat.tick(later(10)) == LOOK_EVERY
    assert shop.ids() == ["job@2025-03-01T12:00:10Z"]
    beat.tick(later(10.001))
    assert shop.ids() == []


def test_the_message_is_like_any_other(shop: Fixture) -> None:
    @shop.app.task(name="shop.add", queue="sums")
    def add(a: int, b: int) -> int:
        return a + b

    schedule(shop.app, task="shop.add", args=(1,), kwargs={"b": 2}, options={"priority": 9, "expires": 60})
    beat = Beat(shop.app)
    beat.tick(NOON)
    beat.tick(later(10))
    (message,) = shop.take("sums", level=9)
    assert (message.task, message.args, message.kwargs) == ("shop.add", [1], {"b": 2})
    assert message.meta is not None
    assert message.meta.priority == 9
    assert message.meta.expires > 0
    assert "sums" in shop.app.known_queues()


def test_any_number_of_beats_fires_once(shop: Fixture) -> None:
    beats = []
    for _ in range(4):
        app = shop.new_app()
        for name in ("one", "two"):
            schedule(app, name, catch_up="all")
        beats.append(Beat(app))
    with ThreadPoolExecutor(len(beats)) as pool:
        for second in range(0, 100, 5):
            list(pool.map(Beat.tick, beats, [later(second)] * len(beats)))
    ids = shop.ids()
    assert len(ids) == 18
    assert len(set(ids)) == 18
    for beat in beats:
        beat._app.close()


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [("none", []), ("last", ["12:00:30"]), ("all", ["12:00:10", "12:00:20", "12:00:30"])],
)
def test_fire_times_missed_while_no_beat_ran(shop: Fixture, catch_up: str, expected: list[str]) -> None:
    schedule(shop.app, catch_up=catch_up)
    Beat(shop.app).tick(NOON)
    successor = Beat(shop.app)
    successor.tick(later(35))
    assert shop.ids() == [f"job@2025-03-01T{time}Z" for time in expected]
    successor.tick(later(40))
    assert shop.ids() == ["job@2025-03-01T12:00:40Z"]


def test_a_crash_right_after_the_first_start_loses_no_fire(shop: Fixture) -> None:
    schedule(shop.app, when=at(later(10)))
    Beat(shop.app).tick(NOON)
    Beat(shop.app).tick(later(3600))
    assert shop.ids() == ["job@2025-03-01T12:00:10Z"]


def test_a_fire_whose_reply_was_lost_is_not_repeated(shop: Fixture) -> None:
    schedule(shop.app, catch_up="all")
    beat = Beat(shop.app)
    beat.tick(NOON)
    beat.tick(later(10))
    for one in beat._roster.all():  # as if this beat had not heard that it was fired
        one.seen = one.last = NOON
        one.due = None
    beat.tick(later(11))
    assert shop.ids() == ["job@2025-03-01T12:00:10Z"]


def test_a_look_that_comes_late_loses_no_fire(shop: Fixture) -> None:
    schedule(shop.app, catch_up="none")
    beat = Beat(shop.app)
    beat.tick(NOON)
    beat.tick(later(25))
    assert shop.ids() == ["job@2025-03-01T12:00:10Z", "job@2025-03-01T12:00:20Z"]


def test_what_was_due_while_the_machine_slept_counts_as_missed(shop: Fixture) -> None:
    schedule(shop.app, catch_up="last")
    beat = Beat(shop.app)
    beat.tick(NOON)
    beat.tick(later(3605))
    assert shop.ids() == ["job@2025-03-01T13:00:00Z"]


def test_a_clock_that_goes_back_fires_nothing_twice(shop: Fixture) -> None:
    schedule(shop.app, catch_up="all")
    beat = Beat(shop.app)
    for second in (0, 10, 20, 5, 10, 20, 30):
        beat.tick(later(second))
    assert shop.ids() == [f"job@2025-03-01T12:00:{second}Z" for second in (10, 20, 30)]


def test_fractions_of_a_millisecond_fire_once(shop: Fixture) -> None:
    moment = later(1).replace(microsecond=123)
    schedule(shop.app, when=at(moment))
    for second in (0, 2, 3):
        Beat(shop.app).tick(later(second))
    assert shop.ids() == ["job@2025-03-01T12:00:01.000123Z"]


def test_cron_lines_fire_in_their_zone(shop: Fixture) -> None:
    schedule(shop.app, when=cron("0 2 * * *", tz="Asia/Seoul"))
    beat = Beat(shop.app)
    assert beat.tick(NOON) == LOOK_EVERY
    Beat(shop.app).tick(NOON + timedelta(hours=6))
    assert shop.ids() == ["job@2025-03-01T17:00:00Z"]


def test_a_flushed_redis_does_not_stop_a_running_beat(shop: Fixture, redis_client: Any) -> None:
    schedule(shop.app)
    beat = Beat(shop.app)
    beat.tick(NOON)
    redis_client.delete(shop.app.keys.queue("default").schedule("job"))
    beat.tick(later(10))
    beat.tick(later(11))
    assert shop.ids() == ["job@2025-03-01T12:00:10Z"]


def test_one_refusing_queue_does_not_stop_the_others(shop: Fixture, redis_client: Any) -> None:
    schedule(shop.app, "bad", options={"queue": "bad"})
    schedule(shop.app, "good")
    redis_client.set(shop.app.keys.queue("bad").schedule("bad"), "not a hash", ex=60)
    beat = Beat(shop.app)
    for second in (0, 10):
        with pytest.raises(Exception, match="WRONGTYPE"):
            beat.tick(later(second))
    assert shop.ids() == ["good@2025-03-01T12:00:10Z"]


def test_a_schedule_that_raises_does_not_stop_the_others(shop: Fixture, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        spec = "broken"

        def next_after(self, after: datetime) -> datetime | None:
            raise RuntimeError("no such day")

    schedule(shop.app, "bad", when=Broken())
    schedule(shop.app, "good")
    beat = Beat(shop.app)
    beat.tick(NOON)
    beat.tick(later(10))
    assert shop.ids() == ["good@2025-03-01T12:00:10Z"]
    assert "schedule bad failed" in caplog.text


def test_a_definition_that_cannot_be_fired_does_not_stop_the_others(
    shop: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    schedule(shop.app, "bad")
    schedule(shop.app, "good")
    beat = Beat(shop.app)
    (bad,) = [one for one in beat._roster.all() if one.name == "bad"]
    bad.definition = msgspec.structs.replace(bad.definition, jitter=1e300)
    beat.tick(NOON)
    beat.tick(later(10))
    assert shop.ids() == ["good@2025-03-01T12:00:10Z"]
    assert "schedule bad failed" in caplog.text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"options": {"countdown": 5}}, "countdown"),
        ({"options": {"eta": NOON}}, "eta"),
        ({"options": {"task_id": "x"}}, "task_id"),
        ({"options": {"prioritty": 5}}, "did you mean 'priority'"),
        ({"args": (object(),)}, "argument"),
        ({"task": "shop.known", "args": (1, 2, 3)}, "positional"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_a_schedule_that_cannot_be_sent_is_refused_at_start(
    namespace: str, settings: dict[str, Any], text: str
) -> None:
    app = TaskQ("test", namespace=namespace)
    app.task(name="shop.known")(lambda one: one)
    schedule(app, **settings)
    with pytest.raises(ScheduleError, match=text):
        Beat(app)


def running(beat: Beat, stop: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=beat.run, args=(stop,))
    thread.start()
    return thread


def test_run_fires_by_the_clock_of_redis_and_stops_at_once(shop: Fixture) -> None:
    schedule(shop.app, when=every(0.1))
    stop = threading.Event()
    thread = running(Beat(shop.app), stop)
    collected: list[str] = []

    def fired_thrice() -> bool:
        collected.extend(shop.ids())
        return len(collected) >= 3

    eventually(fired_thrice)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    collected += shop.ids()
    assert len(collected) == len(set(collected))


def test_run_without_schedules_warns_and_idles(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    thread = running(Beat(TaskQ("test", "redis://127.0.0.1:1/0", namespace=namespace)), stop)
    eventually(lambda: "no schedules" in caplog.text)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_run_outlives_redis(
    private_redis: Callable[..., EmbeddedRedis], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "taskq.beat")
    server = private_redis(tmp_path / "redis")
    app = TaskQ("test", server.url)
    schedule(app, when=every(0.2))
    stop = threading.Event()
    thread = running(Beat(app), stop)
    try:
        eventually(lambda: "fired job@" in caplog.text)
        server.stop()
        eventually(lambda: "cannot fire schedules" in caplog.text)
        with pytest.raises(BrokerUnavailableError):
            app.sync_broker.execute("PING", deadline=0.1)
        server.start()
        eventually(lambda: "schedules fire again" in caplog.text)
        count = caplog.text.count("fired job@")
        eventually(lambda: caplog.text.count("fired job@") > count)
        assert caplog.text.count("cannot fire schedules") == 1
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    app.close()


def expiries(shop: Fixture) -> list[float]:
    """Seconds after noon at which the messages sent so far expire."""
    return [message.meta.expires / 1000 - NOON.timestamp() for message in shop.take() if message.meta is not None]


def test_expires_counts_from_the_fire_time_however_late_it_is_fired(shop: Fixture) -> None:
    schedule(shop.app, options={"expires": 2})
    first = Beat(shop.app)
    first.tick(later(4))
    first.tick(later(10))
    assert expiries(shop) == [12]
    Beat(shop.app).tick(later(38))
    assert expiries(shop) == [32]


def test_expires_of_a_task_counts_from_the_fire_time_too(shop: Fixture) -> None:
    @shop.app.task(name="shop.job", expires="5m")
    def job() -> None: ...

    schedule(shop.app)
    Beat(shop.app).tick(NOON)
    Beat(shop.app).tick(later(99))
    assert expiries(shop) == [90 + 300]


def test_expires_counts_from_when_jitter_has_the_fire(shop: Fixture) -> None:
    """From the fire time itself, a jitter longer than it would let nothing run."""
    schedule(shop.app, when=every(1000), jitter=500, options={"expires": 2})
    beat = Beat(shop.app)
    beat.tick(NOON)
    for after in range(0, 2000, 5):
        beat.tick(later(after))
    planned = [jittered("job", later(after), 500) for after in (600, 1600)]
    assert expiries(shop) == pytest.approx([(when - NOON).total_seconds() + 2 for when in planned], abs=0.002)


def test_an_instant_of_expiry_is_that(shop: Fixture) -> None:
    schedule(shop.app, options={"expires": later(15)})
    beat = Beat(shop.app)
    for after in (4, 10, 20):
        beat.tick(later(after))
    assert expiries(shop) == [15, 15]
