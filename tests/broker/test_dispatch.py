"""The dispatch script: what a group has not seen is copied into its queue, each event once."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker.keys import Keys
from taskq.broker.scripts import topics as topic_scripts
from taskq.broker.scripts.topics import MOST_WAITING, NEXT_ASLEEP, NEXT_FULL, NEXT_MORE, NEXT_SEEK, PAGE
from taskq.values.message import decode
from taskq.values.serialization import dumps

KEYS = Keys("bench")
TOPIC, QUEUE = KEYS.topic("orders"), KEYS.queue("orders/g")


def publish(bench: Any, *payloads: Any, key: str = "", sequence: int = 1) -> None:
    bench.tag = b"{orders/}"
    events = [word for payload in payloads for word in (key, dumps(payload))]
    bench.run(topic_scripts.publish(TOPIC, (0, 0, 0), b"p", sequence, events))


def seek(bench: Any, where: str, *, only_first: bool = False) -> Any:
    bench.tag = b"{orders/}"
    return bench.run(topic_scripts.seek(TOPIC, "g", where, only_first=only_first))


def dispatch(bench: Any) -> Any:
    return bench.run(topic_scripts.dispatch(TOPIC, QUEUE, "g", "shop.on_order"))


def copies(bench: Any) -> list[Any]:
    return [decode(fields[b"m"]) for _, fields in bench.client.xrange(QUEUE.stream(5))]


def state(bench: Any, field: str) -> Any:
    return bench.client.hget(TOPIC.state, field)


def test_a_copy_is_a_message_of_the_task(bench: Any) -> None:
    publish(bench, {"id": 7}, key="customer-\N{SNOWMAN}" + "x" * 50)
    seek(bench, "earliest")
    assert dispatch(bench) == [1, 0, NEXT_ASLEEP]
    (message,) = copies(bench)
    entry = bench.client.xrange(TOPIC.events)[0][0].decode()
    assert message.task == "shop.on_order"
    assert message.args == [[entry, 1, "customer-\N{SNOWMAN}" + "x" * 50, {"id": 7}]]
    assert (message.kwargs, message.meta) == ({}, None)
    ms, sequence = map(int, entry.split("-"))
    assert message.id == ms.to_bytes(6, "big") + sequence.to_bytes(6, "big") + (1).to_bytes(4, "big")


def test_nothing_is_copied_twice(bench: Any) -> None:
    publish(bench, 1, 2)
    seek(bench, "earliest")
    dispatch(bench)
    before = bench.snapshot()
    assert dispatch(bench) == [0, 0, NEXT_ASLEEP]
    assert bench.snapshot() == before
    publish(bench, 3, sequence=2)
    assert dispatch(bench) == [1, 0, NEXT_ASLEEP]
    assert [message.args[0][3] for message in copies(bench)] == [1, 2, 3]
    assert len({message.id for message in copies(bench)}) == 3


def test_a_group_without_position_gets_nothing(bench: Any) -> None:
    publish(bench, 1)
    assert dispatch(bench) == [0, 0, NEXT_SEEK]
    assert copies(bench) == []


def test_the_queue_is_filled_up_to_its_limit_and_again_when_half_empty(bench: Any) -> None:
    for sequence in range(1, 4):
        publish(bench, *range(MOST_WAITING), sequence=sequence)
    seek(bench, "earliest")
    assert dispatch(bench) == [PAGE, 0, NEXT_MORE]
    assert dispatch(bench) == [MOST_WAITING - PAGE, 0, NEXT_MORE]
    assert dispatch(bench) == [0, 0, NEXT_FULL]
    bench.client.xtrim(QUEUE.stream(5), maxlen=MOST_WAITING // 2 + 1, approximate=False)
    assert dispatch(bench) == [0, 0, NEXT_FULL]
    bench.client.xtrim(QUEUE.stream(5), maxlen=MOST_WAITING // 2, approximate=False)
    assert dispatch(bench) == [MOST_WAITING // 2, 0, NEXT_MORE]
    assert bench.client.xlen(QUEUE.stream(5)) == MOST_WAITING


def test_too_many_retries_hold_it_back(bench: Any) -> None:
    publish(bench, 1)
    seek(bench, "earliest")
    bench.client.zadd(QUEUE.delayed, {str(n): n for n in range(10 * MOST_WAITING)})
    assert dispatch(bench) == [0, 0, NEXT_FULL]


def test_large_events_come_in_smaller_pages(bench: Any) -> None:
    for sequence in range(1, 31):
        publish(bench, *["x" * 10_000] * 10, sequence=sequence)
    seek(bench, "earliest")
    assert dispatch(bench) == [100, 0, NEXT_MORE]


def test_what_was_dropped_unread_is_counted(bench: Any) -> None:
    publish(bench, *range(10))
    seek(bench, "earliest")
    bench.client.xtrim(TOPIC.events, maxlen=6, approximate=False)
    assert dispatch(bench) == [6, 4, NEXT_ASLEEP]
    assert [message.args[0][1] for message in copies(bench)] == [5, 6, 7, 8, 9, 10]
    publish(bench, *range(5), sequence=2)
    bench.client.xtrim(TOPIC.events, maxlen=0, approximate=False)
    assert dispatch(bench) == [0, 5, NEXT_ASLEEP]
    assert state(bench, "trimmed:g") == b"9"
    assert dispatch(bench) == [0, 0, NEXT_ASLEEP]


def test_what_is_no_event_goes_on_for_the_dead_letter_queue(bench: Any) -> None:
    publish(bench, 1)
    bench.client.xadd(TOPIC.events, {"foo": "bar"})
    publish(bench, 2, sequence=2)
    seek(bench, "earliest")
    assert dispatch(bench) == [3, 0, NEXT_ASLEEP]
    assert [list(fields) for _, fields in bench.client.xrange(QUEUE.stream(5))] == [[b"m"], [b"foo"], [b"m"]]


@pytest.mark.parametrize(
    ("where", "ordinals"), [("earliest", [1, 2, 3]), ("latest", []), ("0", [1, 2, 3]), ("after {1}", [3])]
)
def test_where_it_begins(bench: Any, where: str, ordinals: list[int]) -> None:
    publish(bench, 1, 2, 3)
    ids = [entry.decode() for entry, _ in bench.client.xrange(TOPIC.events)]
    assert seek(bench, where.format(*ids))[1] == 3 - len(ordinals)
    dispatch(bench)
    assert [message.args[0][1] for message in copies(bench)] == ordinals
    assert state(bench, "trimmed:g") is None


def test_from_a_time(bench: Any) -> None:
    for n, ms in enumerate((1000, 2000, 2000, 3000), 1):
        bench.client.xadd(TOPIC.events, {"m": dumps(n), "n": n}, id=f"{ms}-{n}")
    bench.client.hset(TOPIC.state, "total", 4)
    for ms, read in ((1, 0), (1000, 0), (1001, 1), (2000, 1), (2001, 3), (3000, 3), (3001, 4)):
        assert seek(bench, str(ms))[1] == read, ms


def test_a_position_stays_where_it_is_unless_it_is_to_be_moved(bench: Any, listen: Any) -> None:
    publish(bench, 1, 2)
    first = seek(bench, "latest", only_first=True)
    before = bench.snapshot()
    assert seek(bench, "earliest", only_first=True) == first
    assert bench.snapshot() == before
    ear = listen(TOPIC.published)
    assert seek(bench, "earliest") == [b"0-0", 0]
    assert ear.heard() == [b"published"]


def test_only_a_known_group_is_moved_when_asked_so(bench: Any) -> None:
    publish(bench, 1, 2)
    before = bench.snapshot()
    assert bench.run(topic_scripts.seek(TOPIC, "g", "earliest", only_known=True)) is None
    assert bench.snapshot() == before
    seek(bench, "latest")
    assert bench.run(topic_scripts.seek(TOPIC, "g", "earliest", only_known=True)) == [b"0-0", 0]


def test_events_read_again_are_other_messages(bench: Any) -> None:
    publish(bench, 1)
    for _ in range(2):
        seek(bench, "earliest")
        dispatch(bench)
    one, other = copies(bench)
    assert one.id != other.id
    assert one.args == other.args


def test_after_a_begin_at_earliest_only_what_is_dropped_from_then_on_counts(bench: Any) -> None:
    publish(bench, *range(10))
    bench.client.xtrim(TOPIC.events, maxlen=4, approximate=False)
    assert seek(bench, "earliest") == [b"0-0", 6]
    assert dispatch(bench) == [4, 0, NEXT_ASLEEP]


def test_without_memory_the_position_stays(bench: Any) -> None:
    publish(bench, 1)
    seek(bench, "earliest")
    before = bench.snapshot()
    bench.fill_up()
    with pytest.raises(Exception, match="maxmemory"):
        dispatch(bench)
    assert bench.snapshot() == before
