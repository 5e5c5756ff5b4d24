"""Connections on a slow network: a timeout means silence, however large what travels is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from support.proxy import FaultProxy

from taskq.broker.link import address
from taskq.broker.link.aio import AsyncConnection
from taskq.broker.link.sync import SyncConnection
from taskq.errors import BrokerUnavailableError

SILENCE = 1.0
SIZE = 900_000
RATE = 300_000
"""Bytes a second: SIZE takes three times SILENCE in each direction."""


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
def connection(proxy: FaultProxy) -> Iterator[SyncConnection]:
    connection = SyncConnection(address.parse(proxy.url), 10.0)
    connection.execute("PING", deadline=time.monotonic() + 10)
    yield connection
    connection.close()


def test_a_large_request_and_its_large_reply_get_through(proxy: FaultProxy, connection: SyncConnection) -> None:
    proxy.throttle(RATE)
    began = time.monotonic()
    assert len(connection.execute("ECHO", b"x" * SIZE, deadline=began + SILENCE)) == SIZE
    assert time.monotonic() - began > SILENCE, "it must have taken longer than the silence, to show anything"


def test_the_same_on_an_event_loop_and_a_small_call_behind_it_waits_as_patiently(proxy: FaultProxy) -> None:
    async def main() -> None:
        connection = await AsyncConnection.open(address.parse(proxy.url), 10.0)
        proxy.throttle(RATE)
        large = asyncio.create_task(connection.execute("ECHO", b"x" * SIZE, timeout=SILENCE))
        await asyncio.sleep(0)
        assert await connection.execute("ECHO", "small", timeout=SILENCE) == b"small"
        assert len(await large) == SIZE
        connection.close()

    asyncio.run(main())


@pytest.mark.parametrize("size", [1, SIZE])
def test_what_stands_still_ends(proxy: FaultProxy, connection: SyncConnection, size: int) -> None:
    proxy.stall()
    with pytest.raises(BrokerUnavailableError, match="no answer"):
        connection.execute("ECHO", b"x" * size, deadline=time.monotonic() + 0.2)


def test_what_stands_still_ends_on_an_event_loop(proxy: FaultProxy) -> None:
    async def main() -> None:
        connection = await AsyncConnection.open(address.parse(proxy.url), 10.0)
        proxy.stall()
        with pytest.raises(BrokerUnavailableError, match="no answer"):
            await connection.execute("ECHO", b"x" * SIZE, timeout=0.2)
        assert not connection.is_open

    asyncio.run(main())


def test_a_reply_that_comes_byte_by_byte_ends(proxy: FaultProxy, connection: SyncConnection) -> None:
    proxy.throttle(1)
    with pytest.raises(BrokerUnavailableError, match="no answer"):
        connection.execute("ECHO", b"0123456789" * 10, deadline=time.monotonic() + 1.5)
