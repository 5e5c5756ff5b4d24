"""The fire script: one message per fire time, whoever comes first; what overlap and a pause do to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taskq.broker.scripts import schedules as scripts
from taskq.broker.scripts.settling import COMPLETE, Commit, DeadLetter, End, EndOfSchedule, Retry, Settle

Fire = Callable[..., list[Any]]


@pytest.fixture
def fire(bench: Any) -> Fire:
    """Fire the schedule ``job``, which is armed with revision 1 from 0 on."""
    bench.run(scripts.arm(bench.keys, "job", 1, 0, 0))

    def fired(time_ms: int, **given: Any) -> list[Any]:
        firing = {"revision": 1, "level": 5, "message": b"m%d" % time_ms, "task_id": f"job@{time_ms}", "history": 10}
        answer = bench.run(scripts.fire(bench.keys, scripts.Firing("job", fire_time_ms=time_ms, **firing | given)))
        return [answer[0], int(answer[1])]

    return fired


def state(bench: Any, field: str) -> Any:
    return bench.client.hget(bench.keys.schedule("job"), field)


def history(bench: Any) -> list[tuple[bytes, bytes]]:
    return [(row[b"k"], row[b"t"]) for _, row in bench.client.xrange(bench.keys.fires("job"))]


def end(bench: Any, task_id: str, how: End = COMPLETE, status: str = "SUCCESS") -> Any:
    """Deliver the oldest message of the queue and settle it as the message *task_id* of the schedule."""
    bench.register()
    _, rows, *_ = bench.settle(want=1)
    ((number, ((entry, _),)),) = rows
    return bench.settle(over(bench, number, entry, task_id, how, status))


def over(bench: Any, number: int, entry: bytes, task_id: str, how: End = COMPLETE, status: str = "SUCCESS") -> Settle:
    return Settle(number, entry, task_id, how, [EndOfSchedule("job", 1000, 7, status)])


def test_one_message_per_fire_time(bench: Any, fire: Fire) -> None:
    assert [fire(ms) for ms in (1000, 1000, 2000, 1000)] == [[1, 1000], [0, 1000], [1, 2000], [0, 2000]]
    assert bench.messages() == [b"m1000", b"m2000"]
    assert history(bench) == [(b"fired", b"1000"), (b"fired", b"2000")]


def test_schedules_do_not_share_fire_times(bench: Any, fire: Fire) -> None:
    bench.run(scripts.arm(bench.keys, "other", 2, 0, 0))
    other = scripts.Firing("other", 2, 1000, "other@1000", 5, b"other")
    assert fire(1000)[0] == bench.run(scripts.fire(bench.keys, other))[0] == 1


def test_nothing_up_to_the_first_sight_is_fired(bench: Any, fire: Fire) -> None:
    bench.run(scripts.arm(bench.keys, "job", 2, 0, 1500))
    assert [fire(ms, revision=2)[0] for ms in (1000, 1500, 1501)] == [0, 0, 1]


@pytest.mark.parametrize("revision", [2, 4])
def test_only_the_armed_revision_fires(bench: Any, fire: Fire, revision: int) -> None:
    bench.run(scripts.arm(bench.keys, "job", 3, 0, 0))
    before = bench.snapshot()
    assert fire(1000, revision=revision)[0] == scripts.NOT_ARMED
    assert bench.snapshot() == before
    assert fire(1000, revision=3)[0] == 1


def test_what_was_never_armed_or_has_moved_does_not_fire(bench: Any, fire: Fire) -> None:
    unknown = scripts.Firing("unknown", 1, 1000, "unknown@1000", 5, b"m")
    assert bench.run(scripts.fire(bench.keys, unknown))[0] == scripts.NOT_ARMED
    bench.run(scripts.retire(bench.keys, "job", 1))
    assert fire(1000)[0] == scripts.NOT_ARMED
    assert bench.messages() == []


def test_a_paused_schedule_fires_nothing_but_by_hand(bench: Any, fire: Fire) -> None:
    assert bench.run(scripts.suspend(bench.keys, "job", True, b"wake")) == 1
    assert fire(1000) == [scripts.PAUSED, 0]
    assert fire(5, revision=None)[0] == 1
    assert bench.messages() == [b"m5"]


def test_by_hand_is_sent_once_per_id_and_leaves_the_fire_times_alone(bench: Any, fire: Fire) -> None:
    assert [fire(5000, revision=None)[0] for _ in range(2)] == [1, 0]
    assert fire(1000) == [1, 1000]
    assert bench.messages() == [b"m5000", b"m1000"]


def test_missed_fire_times_are_noted_by_whoever_knew_the_last_one(bench: Any, fire: Fire) -> None:
    fire(5000, last_ms=0, missed=4)
    fire(9000, last_ms=1000, missed=7)
    rows = bench.client.xrange(bench.keys.fires("job"))
    assert [(row[b"k"], row.get(b"n")) for _, row in rows] == [(b"missed", b"4"), (b"fired", None), (b"fired", None)]


def test_the_history_is_bounded_and_may_be_off(bench: Any, fire: Fire) -> None:
    for ms in range(1, 10):
        fire(ms, history=2)
    assert len(history(bench)) == 4
    bench.client.delete(bench.keys.fires("job"))
    fire(100, history=0)
    assert history(bench) == []


def test_another_level_is_announced_to_the_workers(bench: Any, fire: Fire, ear: Any) -> None:
    fire(1000, level=9)
    assert ear.heard() == [b"levels"]
    assert bench.client.smembers(bench.keys.levels) == {b"9"}
    assert bench.messages(9) == [b"m1000"]


# --- overlap ---


def test_skip_sends_nothing_until_the_message_before_has_ended(bench: Any, fire: Fire) -> None:
    assert [fire(ms, overlap="skip")[0] for ms in (1000, 2000)] == [scripts.FIRED, scripts.SKIPPED]
    end(bench, "job@1000")
    assert fire(3000, overlap="skip")[0] == scripts.FIRED
    assert [kind for kind, _ in history(bench)] == [b"fired", b"skipped", b"ended", b"fired"]


@pytest.mark.parametrize("how", [COMPLETE, Commit((0,)), DeadLetter(b"m", b"i", "g", b"l")], ids=lambda how: how.kind)
def test_every_end_releases_the_schedule(bench: Any, fire: Fire, how: End) -> None:
    fire(1000, overlap="skip")
    end(bench, "job@1000", how)
    assert state(bench, "message") is None
    assert fire(2000, overlap="skip")[0] == scripts.FIRED


def test_a_retry_does_not_release_it(bench: Any, fire: Fire) -> None:
    fire(1000, overlap="skip")
    bench.register()
    _, rows, *_ = bench.settle(want=1)
    bench.settle(Settle(rows[0][0], rows[0][1][0][0], "job@1000", Retry(60_000, b"5m")))
    assert fire(2000, overlap="skip")[0] == scripts.SKIPPED


def test_an_end_that_is_told_twice_counts_once(bench: Any, fire: Fire) -> None:
    fire(1000, overlap="queue")
    fire(2000, overlap="queue")
    bench.register()
    _, rows, *_ = bench.settle(want=1)
    ((number, ((entry, _),)),) = rows
    item = over(bench, number, entry, "job@1000")
    bench.settle(item)
    after = bench.snapshot()
    bench.settle(item)
    assert bench.snapshot() == after


def test_a_stale_worker_does_not_release_it(bench: Any, fire: Fire) -> None:
    fire(1000, overlap="skip")
    bench.register()
    _, rows, *_ = bench.settle(want=1)
    ((number, ((entry, _),)),) = rows
    bench.client.zrem(bench.keys.consumers, b"host:1:aaaa")
    assert bench.settle(over(bench, number, entry, "job@1000")) == [0]
    assert state(bench, "message") == b"job@1000"


def test_queue_holds_back_up_to_so_many(bench: Any, fire: Fire) -> None:
    answers = [fire(ms, overlap="queue", max_held=2, level=7)[0] for ms in (1, 2, 3, 4)]
    assert answers == [scripts.FIRED, scripts.HELD, scripts.HELD, scripts.SKIPPED]
    assert bench.messages(7) == [b"m1"]


def test_queue_sends_the_next_when_the_one_before_ends(bench: Any, fire: Fire) -> None:
    for ms in (1, 2, 3):
        fire(ms, overlap="queue", max_held=2)
    end(bench, "job@1")
    assert (bench.messages(), state(bench, "message")) == ([b"m2"], b"job@2")
    end(bench, "job@2", status="FAILURE")
    end(bench, "job@3")
    assert state(bench, "message") is None
    assert not bench.client.exists(bench.keys.held("job"))


def test_cancel_revokes_the_message_before(bench: Any, fire: Fire, ear: Any) -> None:
    fire(1000, overlap="cancel")
    assert fire(2000, overlap="cancel")[0] == scripts.FIRED
    assert bench.client.zrange(bench.keys.revoked, 0, -1) == [b"job@1000"]
    assert ear.heard() == [b"revoked job@1000"]
    assert state(bench, "message") == b"job@2000"
    end(bench, "job@1000", status="REVOKED")  # its end is not that of the one that runs now
    assert state(bench, "message") == b"job@2000"


@pytest.mark.parametrize("how", ["purged", "settled by a release that does not tell"])
def test_a_message_that_ended_without_telling_holds_nobody_up(bench: Any, fire: Fire, how: str) -> None:
    fire(1000, overlap="queue")
    fire(2000, overlap="queue")
    if how == "purged":
        bench.client.delete(bench.keys.stream(5))
    else:
        bench.client.set(bench.keys.result("job@1000"), b"S...", px=60_000)
    assert fire(3000, overlap="queue")[0] == scripts.HELD
    assert bench.messages()[-1] == b"m2000"  # what was held back goes first
    assert bench.client.lrange(bench.keys.held("job"), 0, -1) == [b"5job@3000\nm3000"]


def test_without_memory_nothing_has_happened(bench: Any, fire: Fire) -> None:
    before = bench.snapshot()
    bench.fill_up()
    with pytest.raises(Exception, match="OOM"):
        fire(1000)
    bench.make_room()
    assert bench.snapshot() == before
    assert fire(1000)[0] == 1
