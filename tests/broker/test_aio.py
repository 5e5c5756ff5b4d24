"""The async connection: replies reach who waits for them, those of commands sent together as one list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from taskq.broker.link import address
from taskq.broker.link.aio import AsyncConnection
from taskq.errors import BrokerError, BrokerRefusedError, BrokerUnavailableError

TIMEOUT = 20.0


@pytest.fixture
def connected(redis_url: str) -> Callable[[Callable[[AsyncConnection], Awaitable[None]]], None]:
    """Runs a coroutine function with an open connection."""

    def run(work: Callable[[AsyncConnection], Awaitable[None]]) -> None:
        async def main() -> None:
            connection = await AsyncConnection.open(address.parse(redis_url), TIMEOUT)
            try:
                await work(connection)
            finally:
                connection.close()

        asyncio.run(main())

    return run


Connected = Callable[[Callable[[AsyncConnection], Awaitable[None]]], None]


def test_commands_sent_together_have_all_their_replies_in_one_list(connected: Connected) -> None:
    async def work(connection: AsyncConnection) -> None:
        first = connection.begin(("ECHO", "a"), ("ECHO", "b"), ("ECHO", "c"), timeout=TIMEOUT)
        alone = connection.execute("ECHO", "d", timeout=TIMEOUT)
        second = connection.begin(("ECHO", "e"), ("LRANGE", "nothing", 0, -1), timeout=TIMEOUT)
        assert await alone == b"d"
        assert await connection.finish(second) == [b"e", []]
        assert await connection.finish(first) == [b"a", b"b", b"c"]

    connected(work)


def test_a_refusal_among_them_is_raised_and_ends_nothing_else(connected: Connected) -> None:
    async def work(connection: AsyncConnection) -> None:
        together = connection.begin(("ECHO", "a"), ("NO-SUCH-COMMAND",), ("ECHO", "c"), timeout=TIMEOUT)
        with pytest.raises(BrokerRefusedError, match="unknown command"):
            await connection.finish(together)
        assert await connection.execute("ECHO", "d", timeout=TIMEOUT) == b"d"

    connected(work)


def test_a_refusal_in_a_pipeline_stands_in_its_place(connected: Connected) -> None:
    async def work(connection: AsyncConnection) -> None:
        first, refused, last = await connection.pipeline([("ECHO", "a"), ("NO-SUCH-COMMAND",), ["ECHO", "c"]], TIMEOUT)
        assert (first, last) == (b"a", b"c")
        assert isinstance(refused, BrokerError)
        assert await connection.pipeline([("LRANGE", "nothing", 0, -1)], TIMEOUT) == [[]]

    connected(work)


def test_a_connection_that_ends_fails_whatever_waits(connected: Connected) -> None:
    async def work(connection: AsyncConnection) -> None:
        blocked = connection.begin(("BLPOP", "nothing", 0), ("ECHO", "b"), timeout=TIMEOUT)
        unread = connection.begin(("ECHO", "c"), ("ECHO", "d"), timeout=TIMEOUT)
        connection.close()
        with pytest.raises(BrokerUnavailableError, match="lost"):
            await connection.finish(blocked)
        assert unread.done()

    connected(work)


def test_no_reply_in_time_ends_the_connection(connected: Connected) -> None:
    async def work(connection: AsyncConnection) -> None:
        silent = connection.begin(("BLPOP", "nothing", 0), ("ECHO", "b"), timeout=0.01)
        behind = connection.begin(("ECHO", "c"), ("ECHO", "d"), timeout=TIMEOUT)
        with pytest.raises(BrokerUnavailableError, match="no answer"):
            await connection.finish(silent)
        with pytest.raises(BrokerUnavailableError, match="lost"):
            await connection.finish(behind)
        assert not connection.is_open

    connected(work)
