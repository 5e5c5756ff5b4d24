"""``app.schedules``: schedules defined at runtime, and steering all of them; the beat's clock is given."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from support.wait import eventually
from support.worker import running_worker

from taskq import PeriodicEntry, ScheduleError, TaskQ, TaskRevokedError, TaskState, at, cron, current_task, every
from taskq.beat.beat import Beat
from taskq.broker import scripts
from taskq.broker.scripts import schedules as schedule_scripts
from taskq.broker.views.messages import stored
from taskq.client.result import Result
from taskq.client.schedules.definition import fire_id
from taskq.client.schedules.registry import Registry
from taskq.values.message import Message, decode
from taskq.values.outcome import pack_error

SECOND = timedelta(seconds=1)
Make = Callable[..., TaskQ]


@pytest.fixture
def take(app: TaskQ, redis_client: Any) -> Callable[..., list[str]]:
    """The ids of the messages in a queue, which are removed."""

    def taken(queue: str = "default") -> list[str]:
        return [message.task_id for message in messages(app, redis_client, queue)]

    return taken


def messages(app: TaskQ, client: Any, queue: str = "default", level: int = 5) -> list[Message]:
    stream = app.keys.queue(queue).stream(level)
    entries = client.xrange(stream)
    client.xtrim(stream, maxlen=0)
    return [decode(fields[b"m"]) for _, fields in entries]


@pytest.fixture
def now(app: TaskQ) -> datetime:
    """The present by Redis's clock, at a whole ten seconds."""
    return datetime.fromtimestamp(int(app.sync_broker.execute("TIME")[0]) // 10 * 10, UTC)


@pytest.fixture
def beat(make_app: Make) -> Beat:
    """A beat of another process, which knows no code."""
    return Beat(make_app())


def code(app: TaskQ, name: str = "job", when: Any = None, **settings: Any) -> TaskQ:
    app.add_periodic(PeriodicEntry(name, "shop.job", when or every(10), **settings))
    return app


def look(beat: Beat, now: datetime) -> None:
    """Have a beat look at the definitions, too."""
    beat._updated = None
    beat.tick(now)


# --- runtime ---


def test_what_is_added_fires_in_every_beat(app: TaskQ, beat: Beat, now: datetime, redis_client: Any) -> None:
    added = app.schedules.add("job", every(10), "shop.job", args=[1], kwargs={"b": 2}, priority=9, expires=60)
    assert (added.spec, added.source, added.paused, added.last_fire) == ("every 10s", "runtime", False, None)
    assert added.next_fire is not None
    for after in range(25):
        beat.tick(now + after * SECOND)
    sent = messages(app, redis_client, level=9)
    assert 2 <= len(sent) <= 3
    assert (sent[0].args, sent[0].kwargs) == ([1], {"b": 2})
    assert sent[0].meta is not None
    assert sent[0].meta.schedule == "job"
    assert sent[0].meta.fire_time % 10_000 == 0


def test_adding_again_changes_nothing_and_another_replaces_it(app: TaskQ) -> None:
    first = app.schedules.add("job", every(10), "shop.job")
    assert app.schedules.add("job", every(10), "shop.job").revision == first.revision
    assert app.schedules.add("job", every(20), "shop.job").revision > first.revision
    assert [one.spec for one in app.schedules.list()] == ["every 20s"]


def test_what_was_due_before_any_beat_ran_counts_as_missed(
    app: TaskQ, beat: Beat, now: datetime, take: Callable[..., list[str]]
) -> None:
    app.schedules.add("once", at(now + 100 * SECOND), "shop.job")
    beat.tick(now + 3600 * SECOND)
    assert len(take()) == 1


def test_a_running_beat_takes_up_what_is_added_and_drops_what_is_removed(
    app: TaskQ, beat: Beat, now: datetime, take: Callable[..., list[str]]
) -> None:
    look(beat, now)
    app.schedules.add("job", every(1), "shop.job", catch_up="none")
    look(beat, now + 23 * SECOND)
    assert take()
    app.schedules.remove("job")
    beat.tick(now + 26 * SECOND)  # it has not heard of it yet
    look(beat, now + 29 * SECOND)
    assert take() == []
    assert app.schedules.list() == []


def test_a_schedule_that_is_over_is_forgotten_in_the_end(
    app: TaskQ, beat: Beat, now: datetime, take: Callable[..., list[str]]
) -> None:
    app.schedules.add("once", at(now + 10 * SECOND), "shop.job")
    look(beat, now + 11 * SECOND)
    assert len(take()) == 1
    look(beat, now + timedelta(hours=23))
    assert len(app.schedules.list()) == 1
    for _ in range(2):
        look(beat, now + timedelta(hours=25))
    assert app.schedules.list() == []


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"schedule": "0 2 * * *"}, "write cron"),
        ({"schedule": at(datetime(2020, 1, 1, tzinfo=UTC))}, "no fire time after now"),
        ({"end": datetime(2020, 1, 1, tzinfo=UTC)}, "no fire time after now"),
        ({"start": datetime(2020, 1, 1)}, "timezone-aware"),
        ({"catch_up": "some"}, "none, last, all"),
        ({"overlap": "maybe"}, "allow, skip, queue, cancel"),
        ({"max_held": 0}, "from 1 to 1000"),
        ({"max_catch_up": 10_000}, "from 1 to 1000"),
        ({"jitter": "soon"}, "jitter"),
        ({"jitter": "999999999999999d"}, "36500 days"),
        ({"task": ""}, "a task.s name"),
        ({"start": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=10)))}, "out of range"),
        ({"countdown": 5}, "each fire time has its own"),
        ({"prioritty": 5}, "did you mean 'priority'"),
        ({"args": [object()]}, "argument"),
        ({"name": ""}, "printable"),
        ({"name": "x" * 161}, "160"),
        ({"queue": "no such:queue"}, "queue"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    app: TaskQ, namespace: str, redis_client: Any, given: dict[str, Any], text: str
) -> None:
    settings: dict[str, Any] = {"name": "job", "schedule": every(10), "task": "shop.job"} | given
    with pytest.raises(ScheduleError, match=text):
        app.schedules.add(**settings)
    assert list(redis_client.scan_iter(match=f"{namespace}:*")) == []


@pytest.mark.parametrize("make", [lambda: cron("61 * * * *"), lambda: cron("0 2 * * *", "Mars/Olympus")])
def test_a_bad_line_or_zone_is_refused_where_it_is_written(make: Callable[[], Any]) -> None:
    with pytest.raises(ScheduleError):
        make()


def test_code_that_a_beat_runs_keeps_its_name(app: TaskQ, make_app: Make, now: datetime) -> None:
    Beat(code(make_app())).tick(now)
    with pytest.raises(ScheduleError, match="taken by the code"):
        app.schedules.add("job", every(5), "shop.other")
    with pytest.raises(ScheduleError, match="in the code of a running beat"):
        app.schedules.remove("job")


def test_an_unknown_schedule_is_an_error_that_names_the_known_ones(app: TaskQ) -> None:
    app.schedules.add("known", every(10), "shop.job")
    for act in (
        app.schedules.get,
        app.schedules.pause,
        app.schedules.run_now,
        app.schedules.next,
        app.schedules.remove,
    ):
        with pytest.raises(ScheduleError, match="no schedule 'unknown'; did you mean 'known'"):
            act("unknown")


# --- pause ---


def test_a_paused_schedule_never_fires_and_makes_up_for_nothing(
    make_app: Make, app: TaskQ, now: datetime, take: Callable[..., list[str]]
) -> None:
    beat = Beat(code(make_app(), catch_up="all"))
    beat.tick(now)
    assert app.schedules.pause("job") is True
    assert app.schedules.pause("job") is False
    assert app.schedules.get("job").paused
    for after in (11, 21, 31):
        beat.tick(now + after * SECOND)
    Beat(code(make_app(), catch_up="all")).tick(now + 41 * SECOND)
    assert take() == []
    assert app.schedules.resume("job") is True
    beat.tick(now + timedelta(minutes=1))
    assert all(one > fire_id("job", now) for one in take())


def test_code_that_no_beat_has_run_yet_can_be_paused(make_app: Make, now: datetime, redis_client: Any) -> None:
    app = code(make_app())
    app.schedules.pause("job")
    Beat(code(make_app())).tick(now)
    Beat(code(make_app())).tick(now + timedelta(hours=1))
    assert messages(app, redis_client) == []


# --- by hand ---


def test_run_now_sends_one_message_and_leaves_the_fire_times_alone(
    app: TaskQ, now: datetime, take: Callable[..., list[str]]
) -> None:
    app.schedules.add("job", every(10), "shop.job", overlap="skip")
    app.schedules.pause("job")
    result = app.schedules.run_now("job")
    assert app.schedules.get("job").running == result.id
    with pytest.raises(ScheduleError, match="has not ended"):
        app.schedules.run_now("job")
    assert app.schedules.get("job").last_fire is None
    assert take() == [result.id]
    assert [fire.outcome for fire in app.schedules.history("job")] == ["skipped", "fired"]


def test_backfill_sends_each_fire_time_once(app: TaskQ, redis_client: Any) -> None:
    app.schedules.add("job", cron("0 2 * * *", tz="Asia/Seoul"), "shop.job")
    span = (datetime(2025, 3, 1, 17, tzinfo=UTC), datetime(2025, 3, 3, 17, tzinfo=UTC))
    sent = app.schedules.backfill("job", *span)
    assert [one.id for one in sent] == [f"job@2025-03-0{day}T17:00:00Z:backfill" for day in (1, 2, 3)]
    again = app.schedules.backfill("job", *span)
    assert [one.id for one in again] == [one.id for one in sent]
    found = messages(app, redis_client)
    assert [message.task_id for message in found] == [one.id for one in sent]
    assert next(message.meta.fire_time for message in found if message.meta) == span[0].timestamp() * 1000


def test_a_backfill_is_bounded(app: TaskQ) -> None:
    app.schedules.add("job", every(1), "shop.job")
    start = datetime(2025, 3, 1, tzinfo=UTC)
    with pytest.raises(ScheduleError, match="more than 1000 fire times"):
        app.schedules.backfill("job", start, start + timedelta(days=1))
    with pytest.raises(ScheduleError, match="time zone"):
        app.schedules.backfill("job", datetime(2025, 3, 1), start)
    for begin in (start + timedelta(days=1), datetime.min.replace(tzinfo=UTC)):
        with pytest.raises(ScheduleError, match="not a time to fill"):
            app.schedules.backfill("job", begin, min(begin, start))


def test_a_start_at_the_edge_of_the_calendar_is_no_bound(app: TaskQ) -> None:
    app.schedules.add("job", every(10), "shop.job", start=datetime.min.replace(tzinfo=UTC))
    assert len(app.schedules.next("job", 2)) == 2


def test_next_tells_fire_times_of_any_schedule(app: TaskQ, make_app: Make, now: datetime) -> None:
    begin = datetime(2025, 3, 29, 12, tzinfo=UTC)
    Beat(code(make_app(), when=cron("30 2 * * *", tz="Europe/Berlin"))).tick(now)
    found = app.schedules.next("job", 2, after=begin)
    assert [f"{when:%d %H:%M}" for when in found] == ["30 01:00", "31 00:30"]


# --- revisions ---


def test_a_beat_of_an_older_release_fires_nothing_once_the_newer_is_known(
    make_app: Make, app: TaskQ, now: datetime, redis_client: Any
) -> None:
    old = Beat(code(make_app(), args=("old",)))
    old.tick(now)
    new = Beat(code(make_app(), args=("new",)))
    new.tick(now + 1 * SECOND)
    for after in range(2, 32):
        old.tick(now + after * SECOND)  # with its stale knowledge first
        new.tick(now + after * SECOND)
    restarted = Beat(code(make_app(), args=("old",)))
    restarted.tick(now + 40 * SECOND)
    new.tick(now + 41 * SECOND)
    sent = messages(app, redis_client)
    assert {tuple(message.args) for message in sent} == {("new",)}
    assert len({message.task_id for message in sent}) == len(sent) == 4


def test_a_release_that_was_rolled_back_fires_when_no_beat_has_the_newer(
    make_app: Make, app: TaskQ, now: datetime, redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Beat(code(make_app(), args=("old",)))
    for beat in (old, Beat(code(make_app(), args=("new",)))):
        beat.tick(now)
    monkeypatch.setattr("taskq.client.schedules.registry.PATIENCE", 0.0)
    look(old, now + 1 * SECOND)
    look(old, now + 11 * SECOND)
    assert [message.args for message in messages(app, redis_client)] == [["old"]]


def test_a_change_of_timing_does_not_fire_what_is_past(
    make_app: Make, now: datetime, take: Callable[..., list[str]]
) -> None:
    Beat(code(make_app(), when=every("1d"))).tick(now - timedelta(days=1))
    Beat(code(make_app(), when=every("1m"))).tick(now)
    assert take() == []


def test_a_change_of_arguments_loses_no_fire(make_app: Make, now: datetime, take: Callable[..., list[str]]) -> None:
    Beat(code(make_app(), args=(1,), catch_up="all")).tick(now)
    Beat(code(make_app(), args=(2,), catch_up="all")).tick(now + 30 * SECOND)
    assert len(take()) == 3


# --- another queue ---


def test_a_schedule_that_moves_goes_on_where_it_was(
    make_app: Make, app: TaskQ, now: datetime, take: Callable[..., list[str]]
) -> None:
    old = Beat(code(make_app(), catch_up="all", options={"queue": "one"}))
    old.tick(now)
    old.tick(now + 11 * SECOND)
    app.schedules.pause("job")
    app.schedules.resume("job")
    app.schedules.pause("job")
    moved = Beat(code(make_app(), catch_up="all", options={"queue": "two"}))
    moved.tick(now + 12 * SECOND)
    assert app.schedules.get("job").queue == "two"
    assert app.schedules.get("job").paused
    app.schedules.resume("job")
    old.tick(now + 22 * SECOND)
    moved.tick(now + 22 * SECOND)
    assert len(take("one")) == 1
    assert len(take("two")) <= 1


def test_a_move_loses_nothing_and_fires_nothing_twice(
    make_app: Make, now: datetime, take: Callable[..., list[str]]
) -> None:
    Beat(code(make_app(), catch_up="all", options={"queue": "one"})).tick(now)
    Beat(code(make_app(), catch_up="all", options={"queue": "one"})).tick(now + 30 * SECOND)
    Beat(code(make_app(), catch_up="all", options={"queue": "two"})).tick(now + 60 * SECOND)
    one, two = take("one"), take("two")
    assert len(one) == len(two) == 3
    assert not {*one} & {*two}


def test_a_move_that_broke_off_half_way_is_completed(
    make_app: Make, now: datetime, take: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Beat(code(make_app(), catch_up="all", options={"queue": "one"})).tick(now)
    Beat(code(make_app(), catch_up="all", options={"queue": "one"})).tick(now + 30 * SECOND)
    with monkeypatch.context() as patched:
        patched.setattr(Registry, "arm", lambda *_: None)  # it dies after its definition was registered
        Beat(code(make_app(), catch_up="all", options={"queue": "two"})).tick(now + 31 * SECOND)
    Beat(code(make_app(), catch_up="all", options={"queue": "two"})).tick(now + 60 * SECOND)
    assert (len(take("one")), len(take("two"))) == (3, 3)


# --- views ---


def test_a_view_says_whether_a_beat_is_there_and_how_late_it_is(
    make_app: Make, app: TaskQ, now: datetime, take: Callable[..., list[str]]
) -> None:
    beat = Beat(code(make_app(), when=every(1)))
    look(beat, now - 3 * SECOND)
    (one,) = app.schedules.list()
    assert one.has_beat
    assert one.overdue > 1
    assert len(app.schedules.beats()) == 1
    beat.tick(now)
    one = app.schedules.get("job")
    assert (one.last_fire, one.source, one.task) == (now, "code", "shop.job")
    beat._leave()
    assert not app.schedules.get("job").has_beat
    assert take()


def test_a_definition_that_cannot_be_read_is_left_out(app: TaskQ, beat: Beat, now: datetime) -> None:
    app.schedules.add("good", every(1), "shop.job")
    app.sync_broker.execute("HSET", app.keys.schedules.definitions, "bad", b"\xc1", "good2", b"\x80")
    assert [one.name for one in app.schedules.list()] == ["good"]
    beat.tick(now)


# --- messages held back ---


@pytest.fixture
def holding(app: TaskQ) -> Callable[[], list[Result[Any]]]:
    """Have the schedule ``job`` send one message, and hold two back."""
    app.schedules.add("job", every("1d"), "shop.job", overlap="queue", max_held=3)
    return lambda: [app.schedules.run_now("job") for _ in range(3)]


def worked_off(app: TaskQ, client: Any) -> list[str]:
    """The ids of what is in the default queue, in the order in which a worker runs it, until it is empty."""
    stream, done, alone = app.keys.queue("default").stream(5), list[str](), list[bool]()

    @app.task(name="shop.job")
    def job() -> None:
        done.append(current_task().id)
        alone.append(client.xlen(stream) == 1)

    with running_worker(app):
        eventually(lambda: client.xlen(stream) == 0)
    assert all(alone), "one at a time is what overlap='queue' promises"
    return done


def test_a_removed_schedule_revokes_what_it_holds_back(app: TaskQ, holding: Any, take: Any) -> None:
    first, *held = holding()
    assert app.schedules.remove("job") == 2
    for result in held:
        assert result.status == "REVOKED"
        with pytest.raises(TaskRevokedError, match="its schedule was removed"):
            result.get(timeout=5)
    assert take() == [first.id]


def test_who_waits_for_a_message_held_back_is_told_that_its_schedule_was_removed(
    app: TaskQ, holding: Any, take: Any
) -> None:
    *_, last = holding()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(last.get, timeout=20)
        eventually(lambda: app.sync_broker.execute("HLEN", app.keys.queue("default").waiting))
        app.schedules.remove("job")
        with pytest.raises(TaskRevokedError):
            waiting.result(timeout=10)
    take()


@pytest.mark.parametrize("change", ["moved", "over", "paused"])
def test_what_is_held_back_is_sent_in_turn_after_its_schedule_has(
    change: str, app: TaskQ, holding: Any, redis_client: Any
) -> None:
    sent = [result.id for result in holding()]
    if change == "moved":
        app.schedules.add("job", every("1d"), "shop.job", overlap="queue", queue="elsewhere")
    elif change == "over":
        (one,) = Registry(app.sync_broker, app.keys).load().registered.values()
        assert Registry(app.sync_broker, app.keys).remove(one) == 0
    else:
        app.schedules.pause("job")
    assert worked_off(app, redis_client) == sent
    assert not redis_client.exists(app.keys.queue("default").held("job"))
    assert change == "paused" or redis_client.ttl(app.keys.queue("default").schedule("job")) > 0


def test_what_is_held_back_is_counted_listed_and_purged_as_what_waits(
    app: TaskQ, holding: Any, redis_client: Any, take: Any
) -> None:
    results, keys = holding(), app.keys.queue("default")
    (queue,) = app.queues()
    assert (queue.lag, queue.pending, queue.delayed) == (3, 0, 0)
    waiting = stored(app.sync_broker.execute, keys, TaskState.PENDING)
    assert [(each.task_id, each.level) for each in waiting] == [
        (result.id, level) for result, level in zip(results, ("5", "held", "held"), strict=True)
    ]
    assert [result.status for result in results] == ["PENDING"] * 3
    assert app.purge("default") == 3
    assert [result.status for result in results] == ["REVOKED"] * 3
    assert app.queues()[0].lag == 0
    assert not redis_client.exists(keys.held("job"), keys.holding)
    again = app.schedules.run_now("job")
    assert take() == [again.id], "nothing is left that the next fire would send"


def test_what_is_held_back_moves_on_though_the_message_before_was_purged(
    app: TaskQ, holding: Any, take: Any, redis_client: Any
) -> None:
    first, second, third = holding()
    keys = app.keys.queue("default")
    ((entry, _),) = redis_client.xrange(keys.stream(5))
    alone = (1, entry, first.id, b"", "")
    assert app.sync_broker.run(scripts.purge(keys, [keys.stream(5)], 60_000, pack_revoked(), alone)) == 1
    assert first.status == "REVOKED"
    assert take() == [second.id]
    assert [fire.outcome for fire in app.schedules.history("job")][-1] == "REVOKED"
    # the one before is gone without a word: a move does not wait for it
    app.schedules.add("job", every("1d"), "shop.job", queue="elsewhere")
    assert take() == [third.id]


def pack_revoked() -> bytes:
    return pack_error(TaskState.REVOKED, "", "it was purged", "", 0)


@pytest.mark.parametrize("overlap", ["allow", "cancel", "skip"])
def test_what_is_held_back_is_sent_when_the_new_definition_holds_nothing_back(
    overlap: str, app: TaskQ, holding: Any, take: Any
) -> None:
    first, *held = holding()
    assert take() == [first.id]
    app.schedules.add("job", every("1d"), "shop.job", overlap=overlap)
    new = app.schedules.run_now("job")
    assert take() == [*(result.id for result in held), new.id]


def test_a_schedule_that_was_removed_meanwhile_is_not_run_by_hand(app: TaskQ, holding: Any, take: Any) -> None:
    """What it would hold back would wait for ever."""
    holding()
    (one,) = Registry(app.sync_broker, app.keys).load().registered.values()
    app.sync_broker.run(schedule_scripts.retire(app.keys.queue("default"), "job", one.number))
    with pytest.raises(ScheduleError, match="try again"):
        app.schedules.run_now("job")
    take()
    app.schedules.remove("job")


def test_the_history_of_a_schedule_that_came_back_stays(app: TaskQ, redis_client: Any, take: Any) -> None:
    app.schedules.add("job", every("1d"), "shop.job")
    app.schedules.run_now("job")
    app.schedules.remove("job")
    app.schedules.add("job", every("1d"), "shop.job")
    assert redis_client.ttl(app.keys.queue("default").fires("job")) == -1
    take()
