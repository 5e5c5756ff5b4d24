"""The settle script: deliveries end exactly once, by their owner, and the next ones come with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taskq.broker import scripts
from taskq.broker.scripts.settling import COMPLETE, Commit, DeadLetter, NextInLane, Release, Retry, Settle

STREAM = 2
OUTCOME = b"S-result"


def complete(entry: bytes, task_id: str = "id", outcome: bytes = OUTCOME, ttl: int = 60_000) -> Settle:
    return Settle(STREAM, entry, task_id, COMPLETE, (), outcome, ttl)


def commit(entry: bytes) -> Settle:
    return Settle(STREAM, entry, "id", Commit((1, 3, "SET", "committed", "1")), (), OUTCOME, 60_000)


def retry(entry: bytes, wait_ms: int = 60_000, member: bytes = b"5again") -> Settle:
    return Settle(STREAM, entry, "id", Retry(wait_ms, member), (), b"R-error", 60_000)


def dead(entry: bytes, message: bytes = b"m", task_id: str = "id") -> Settle:
    return Settle(STREAM, entry, task_id, DeadLetter(message, b"evidence", "print", b"label"), (), b"F-error", 60_000)


def release(entry: bytes, crashes: int | None = 0) -> Settle:
    return Settle(STREAM, entry, "id", Release(crashes))


ITEMS: dict[str, Callable[[bytes], Settle]] = {
    "complete": complete,
    "commit": commit,
    "retry": retry,
    "dead letter": dead,
    "release": release,
}
every_kind = pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)


def test_complete_stores_the_outcome_and_ends_the_entry(bench: Any) -> None:
    (entry,) = bench.fetch(b"a")
    assert bench.settle(complete(entry)) == [1, [], 0, [], [], b""]
    assert bench.messages() == bench.pending() == []
    assert bench.client.get(bench.keys.result("id")) == OUTCOME
    assert 0 < bench.client.pttl(bench.keys.result("id")) <= 60_000


def test_runs_complete_many_without_results(bench: Any) -> None:
    entries = bench.fetch(*(b"%d" % n for n in range(10)))
    assert bench.settle(completed=entries[:9])[0] == 1
    assert bench.pending() == [entries[9]]
    assert bench.messages() == [b"9"]


def test_retry_puts_the_message_aside(bench: Any, ear: Any) -> None:
    (entry,) = bench.fetch(b"a")
    before = bench.now_ms()
    assert bench.settle(retry(entry, 5000))[0] == 1
    ((member, due),) = bench.delayed().items()
    assert member == b"5again"
    assert before + 5000 <= due <= bench.now_ms() + 5000
    assert bench.messages() == bench.pending() == []
    assert bench.client.get(bench.keys.result("id")) == b"R-error"
    assert ear.heard() == [b"delayed"]


def test_dead_letter_keeps_message_and_evidence(bench: Any) -> None:
    (entry,) = bench.fetch(b"a")
    bench.settle(dead(entry, b"the bytes"))
    ((letter, fields),) = bench.client.xrange(bench.keys.dead)
    assert fields == {b"m": b"the bytes", b"i": b"evidence", b"g": b"print"}
    counted = {b"n:print": b"1", b"l:print": b"label", b"f:print": letter, b"e:print": letter}
    assert bench.client.hgetall(bench.keys.dead_groups) == counted
    assert bench.messages() == bench.pending() == []
    assert bench.client.get(bench.keys.result("id")) == b"F-error"


def test_release_puts_it_at_the_front(bench: Any) -> None:
    first, _ = bench.fetch(b"a", b"b")
    bench.settle(release(first, 2))
    assert [fields for _, fields in bench.client.xrange(bench.streams[0])] == [{b"m": b"a", b"c": b"2"}]
    _status, rows, *_ = bench.settle(want=5)
    assert [(number, [fields for _, fields in entries]) for number, entries in rows] == [
        (1, [[b"m", b"a", b"c", b"2"]])
    ]
    assert not bench.client.exists(bench.keys.result("id"))


def test_many_kinds_in_one_call(bench: Any) -> None:
    a, b, c, d, e = bench.fetch(b"a", b"b", b"c", b"d", b"e")
    status, _, _, refused, *_ = bench.settle(complete(a, "a"), retry(b), dead(c), release(d), completed=[e])
    assert (status, refused) == (1, [])
    assert bench.messages() == bench.pending() == []
    assert (len(bench.delayed()), bench.client.xlen(bench.keys.dead), bench.messages("front")) == (1, 1, [b"d"])


@every_kind
def test_the_same_call_again_changes_nothing(bench: Any, item: Any) -> None:
    """A lost reply is answered by sending the call again."""
    (entry,) = bench.fetch(b"a")
    bench.settle(item(entry))
    before = bench.snapshot()
    assert bench.settle(item(entry)) == [1, [], 0, [], [], b""]
    assert bench.snapshot() == before


@every_kind
def test_a_stale_worker_changes_nothing(bench: Any, item: Any) -> None:
    (entry,) = bench.fetch(b"a")
    bench.register(b"other")
    bench.client.zrem(bench.keys.consumers, b"host:1:aaaa")
    before = bench.snapshot()
    assert bench.settle(item(entry), want=5) == [0]
    assert bench.settle(completed=[entry]) == [0]
    assert bench.snapshot() == before


@every_kind
def test_what_was_taken_over_belongs_to_another(bench: Any, item: Any) -> None:
    """The worker came back under a new lease: its old deliveries stay lost to it."""
    (entry,) = bench.fetch(b"a")
    bench.run(scripts.recover(bench.keys, bench.streams, b"host:1:aaaa", 1))
    bench.fetch(consumer=b"other")
    bench.settle(want=5, consumer=b"other")
    bench.register()
    before = bench.snapshot()
    assert bench.settle(item(entry))[0] == 1
    assert bench.settle(completed=[entry])[0] == 1
    assert bench.snapshot() == before


@pytest.mark.parametrize(
    "item",
    [commit, retry, dead, release, lambda entry: Settle(STREAM, entry, "id", COMPLETE, [NextInLane("k")], OUTCOME)],
    ids=["commit", "retry", "dead letter", "release", "complete with a follow-up"],
)
def test_what_is_pending_for_nobody_stays(bench: Any, item: Any) -> None:
    """The group was destroyed and made anew: the message will be delivered again."""
    (entry,) = bench.fetch(b"a")
    bench.client.xgroup_destroy(bench.streams[1], "taskq")
    bench.register()
    before = bench.snapshot()
    assert bench.settle(item(entry))[0] == 1
    assert bench.snapshot() == before
    assert bench.messages() == [b"a"]


def test_who_waits_is_told(bench: Any, listen: Any) -> None:
    (entry,) = bench.fetch(b"a")
    one, two = listen(b"bench:client:1"), listen(b"bench:client:2")
    for channel in (b"bench:client:1", b"bench:client:2"):
        bench.run(scripts.wait(bench.keys, "id", channel))
    bench.settle(complete(entry))
    assert one.heard() == two.heard() == [b"id\nS-result"]
    assert not bench.client.exists(bench.keys.waiting)


def test_a_retry_is_no_news_for_who_waits(bench: Any, listen: Any) -> None:
    (entry,) = bench.fetch(b"a")
    one = listen(b"bench:client:1")
    bench.run(scripts.wait(bench.keys, "id", b"bench:client:1"))
    bench.settle(retry(entry))
    assert one.heard() == []
    assert bench.client.hgetall(bench.keys.waiting) == {b"id": b"bench:client:1"}


def test_a_revoke_mark_ends_with_the_revoked_message(bench: Any) -> None:
    one, two = bench.fetch(b"a", b"b")
    for task_id in ("one", "two"):
        bench.run(scripts.revoke(bench.keys, task_id, 60_000))
    assert bench.settle(want=1)[2] == 1, "a fetch says that ids are revoked"
    bench.settle(complete(one, "one", b"V-revoked"), complete(two, "two", b"V-revoked"))
    assert not bench.client.exists(bench.keys.revoked)
    assert bench.settle(want=1)[2] == 0


def test_the_page_of_a_fetch_is_bounded_and_read_in_order(bench: Any) -> None:
    bench.register()
    for n in range(5):
        bench.client.xadd(bench.streams[1], {"m": b"%d" % n})
    bench.client.xadd(bench.streams[0], {"m": b"front", "c": 1})
    _, rows, *_ = bench.settle(want=3)
    assert [(number, [fields[1] for _, fields in entries]) for number, entries in rows] == [
        (1, [b"front"]),
        (2, [b"0", b"1"]),
    ]
    assert bench.settle(want=0)[1] == []


def test_a_whole_page_settles_in_one_call(bench: Any) -> None:
    entries = bench.fetch(*(b"%d" % n for n in range(scripts.MAX_PER_CALL)))
    items = [complete(entry, f"id-{n}") for n, entry in enumerate(entries)]
    assert bench.settle(*items)[0] == 1
    assert bench.pending() == []
    again = bench.fetch(*(b"%d" % n for n in range(scripts.MAX_PER_CALL)))
    assert bench.settle(completed=again)[0] == 1
    assert bench.messages() == bench.pending() == []


@pytest.mark.parametrize("kind", ["retry", "dead letter", "release"])
def test_without_memory_what_must_be_written_is_refused_and_stays_pending(bench: Any, kind: str) -> None:
    (entry,) = bench.fetch(b"a")
    bench.fill_up()
    before = bench.snapshot()
    _, _, _, (refused, why), *_ = bench.settle(ITEMS[kind](entry))
    assert refused == entry
    assert b"OOM" in why
    assert bench.snapshot() == before
    assert bench.pending() == [entry]
    bench.make_room()
    assert bench.settle(ITEMS[kind](entry)) == [1, [], 0, [], [], b""]
    assert bench.pending() == []


def test_without_memory_completions_are_accepted(bench: Any) -> None:
    one, two = bench.fetch(b"a", b"b")
    bench.fill_up()
    assert bench.settle(complete(one), completed=[two]) == [1, [], 0, [], [], b""]
    assert bench.messages() == bench.pending() == []
    assert bench.client.get(bench.keys.result("id"))[:1] == b"S"


def test_a_missing_group_is_said_not_swallowed(bench: Any) -> None:
    from taskq.broker.link.replies import is_nogroup
    from taskq.errors import BrokerError

    (_entry,) = bench.fetch(b"a")
    bench.client.xgroup_destroy(bench.streams[1], "taskq")
    with pytest.raises(BrokerError) as caught:
        bench.settle(want=1)
    assert is_nogroup(caught.value)
    assert bench.messages() == [b"a"]
