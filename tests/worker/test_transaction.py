"""``ctx.tx`` takes what one settle can carry, and nothing that would break it."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from support.wait import eventually
from support.worker import running_worker

from taskq import ConfigError, Context, TaskQ
from taskq.broker.keys import Keys
from taskq.broker.scripts.settling import Commit
from taskq.values.transaction import MAX_COMMANDS, MAX_TOTAL, MAX_WORDS, Transaction
from taskq.worker.partition.partition import MANY_BYTES, QueueLink
from taskq.worker.partition.settling import Outcome


def test_the_longest_command_and_the_most_commands(app: TaskQ, redis_client: Any, namespace: str) -> None:
    """Each of them is settled; one more word, and Lua could not pass the command on."""
    listed, counted = f"{namespace}:listed", f"{namespace}:counted"

    @app.task(bind=True)
    def fill(self: Context) -> None:
        with pytest.raises(ConfigError, match="at most 7,000 words"):
            self.tx.execute("RPUSH", listed, *range(MAX_WORDS - 1))
        self.tx.execute("RPUSH", listed, *range(MAX_WORDS - 2))
        for key in (listed, counted):
            self.tx.execute("EXPIRE", key, 60)
        for _ in range(MAX_COMMANDS - 3):
            self.tx.execute("INCR", counted)
        with pytest.raises(ConfigError, match="at most 10,000 commands"):
            self.tx.execute("INCR", counted)

    with running_worker(app):
        fill.options(idempotency_key="full").delay().get(timeout=30)
    assert redis_client.llen(listed) == MAX_WORDS - 2
    assert redis_client.get(counted) == b"%d" % (MAX_COMMANDS - 3)
    redis_client.delete(listed, counted)


def test_no_more_words_than_a_call_to_redis_can_have() -> None:
    tx = Transaction()
    words = ["x"] * (MAX_WORDS - 1)
    for _ in range(MAX_TOTAL // MAX_WORDS):
        tx.execute("RPUSH", *words)
    before = len(tx)
    with pytest.raises(ConfigError, match="500,000 words"):
        tx.execute("RPUSH", *words)
    assert len(tx) == before


@pytest.mark.parametrize("command", ["SELECT", "select", "taskq.publish", "TASKQ.PUBLISH", "BLPOP"])
def test_a_command_that_would_mislead_the_settle_is_refused(command: str) -> None:
    with pytest.raises(ConfigError, match=r"ctx\.tx cannot run"):
        Transaction().execute(command, 1)


@pytest.mark.parametrize("value", ["\ud800", 10**5000], ids=["surrogate", "digits"])
def test_what_cannot_be_written_is_refused_at_once(value: Any) -> None:
    """Else the call that settles it and others would fail."""
    tx = Transaction()
    with pytest.raises(ConfigError, match="has no form as text"):
        tx.execute("SET", "x", value)
    assert len(tx) == 0


def test_outcomes_with_many_commands_leave_in_several_calls() -> None:
    link = QueueLink(Keys("t").queue("q"), b"me")
    items: list[Any] = []
    for n in range(5):
        delivery = SimpleNamespace(key=(b"stream", b"%d" % n))
        link.held[delivery.key] = delivery  # type: ignore[assignment]
        items.append((delivery, Outcome(Commit(("x" * 90,) * (MANY_BYTES // 250)), "SUCCESS"), 0.0))
    link.ended = deque(items)
    assert [len(link.take_ended(1000)) for _ in range(4)] == [2, 2, 1, 0]


def test_an_event_that_cannot_be_written_does_not_stop_the_settle(
    app: TaskQ, redis_client: Any, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As with any command of ``ctx.tx``: the others take effect, and it is logged. It is not counted either."""
    app.topic("orders")
    keys = Keys(namespace).topic("orders")
    redis_client.set(keys.events, "of a wrong type")

    @app.task(bind=True)
    def pay(self: Context) -> str:
        self.tx.publish("orders", 1)
        return "paid"

    with running_worker(app):
        assert pay.delay().get(timeout=20) == "paid"
        eventually(lambda: "WRONGTYPE" in caplog.text, 20)  # the caller has the result first
        redis_client.delete(keys.events)
        assert pay.delay().get(timeout=20) == "paid"
    assert [event.ordinal for event in app.events.last("orders", 10)] == [1]
