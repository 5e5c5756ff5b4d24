"""The fire script: one message per fire time, whoever comes first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from taskq.broker import scripts
from taskq.broker.address import parse
from taskq.broker.keys import Keys, QueueKeys
from taskq.broker.sync import SyncBroker


@pytest.fixture
def broker(redis_url: str) -> Iterator[SyncBroker]:
    made = SyncBroker(parse(redis_url), 5, 5)
    yield made
    made.close()


@pytest.fixture
def keys(namespace: str) -> QueueKeys:
    return Keys(namespace).queue("q")


def fired(client: Any, keys: QueueKeys, level: int = 5) -> list[bytes]:
    """The messages in the queue, which are removed."""
    entries = client.xrange(keys.stream(level))
    client.delete(keys.stream(level))
    return [fields[b"m"] for _, fields in entries]


def test_one_message_per_fire_time(broker: SyncBroker, keys: QueueKeys, redis_client: Any) -> None:
    answers = [
        broker.run(scripts.fire(keys, "job", time_ms, 5, b"%d" % time_ms)) for time_ms in (1000, 1000, 2000, 1000)
    ]
    assert answers == [1, 0, 1, 0]
    assert fired(redis_client, keys) == [b"1000", b"2000"]
    assert redis_client.hgetall(keys.fired) == {b"job": b"2000"}


def test_schedules_do_not_share_fire_times(broker: SyncBroker, keys: QueueKeys, redis_client: Any) -> None:
    assert [broker.run(scripts.fire(keys, name, 1000, 5, name.encode())) for name in ("a", "b")] == [1, 1]
    assert fired(redis_client, keys) == [b"a", b"b"]


def test_nothing_up_to_the_first_sight_is_fired(broker: SyncBroker, keys: QueueKeys, redis_client: Any) -> None:
    redis_client.hset(keys.fired, "job", 1500)
    answers = [broker.run(scripts.fire(keys, "job", ms, 5, b"m")) for ms in (1000, 1500, 1501)]
    assert answers == [0, 0, 1]
    assert fired(redis_client, keys) == [b"m"]


def test_another_level_is_announced_to_the_workers(broker: SyncBroker, keys: QueueKeys, redis_client: Any) -> None:
    with redis_client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(keys.wake)
        assert channel.get_message(timeout=5) is None  # the confirmation
        broker.run(scripts.fire(keys, "job", 1000, 9, b"m"))
        assert channel.get_message(timeout=5)["data"] == b"levels"
    assert redis_client.smembers(keys.levels) == {b"9"}
    assert fired(redis_client, keys, level=9) == [b"m"]
