"""A name with several addresses: one that leads nowhere costs little time, as long as another answers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskq.broker.link import dial
from taskq.broker.link.address import Address, parse
from taskq.broker.link.aio import AsyncConnection
from taskq.broker.link.sync import SyncBroker
from taskq.errors import BrokerUnavailableError

NAMED = "redis://several.invalid:6379/0"
Resolve = Callable[..., Address]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Gives a name the addresses (host and port) that a test chooses."""

    def give(*addresses: tuple[str, int]) -> Address:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **named: found)
        return parse(NAMED)

    return give


@pytest.fixture
def refusing() -> Iterator[tuple[str, int]]:
    """An address at which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that answers to nobody, as behind a firewall: its queue of connections is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(8):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listening.getsockname())
            waiting.append(sock)
        yield listening.getsockname()
        for sock in waiting:
            sock.close()


@pytest.fixture
def real(redis_url: str) -> tuple[str, int]:
    """The address of a Redis."""
    return "127.0.0.1", parse(redis_url).port


def ping(address: Address, timeout: float = 30) -> None:
    """From ordinary code."""
    broker = SyncBroker(address, timeout, timeout)
    try:
        assert broker.execute("PING") == b"PONG"
    finally:
        broker.close()


def aping(address: Address, timeout: float = 30) -> None:
    """From an event loop."""

    async def main() -> None:
        connection = await AsyncConnection.open(address, timeout)
        assert await connection.execute("PING", timeout=timeout) == b"PONG"
        connection.close()

    asyncio.run(main())


both = pytest.mark.parametrize("reach", [ping, aping], ids=["sync", "async"])


@both
@pytest.mark.parametrize("first", ["refusing", "silent"])
def test_the_next_address_is_tried(
    reach: Callable[..., None], first: str, real: tuple[str, int], resolve: Resolve, request: Any
) -> None:
    dead = request.getfixturevalue(first)
    reach(resolve(dead, real))
    reach(resolve(dead, dead, real))
    reach(resolve(real, dead))


@both
def test_a_silent_address_leaves_time_for_the_next(
    reach: Callable[..., None], silent: tuple[str, int], real: tuple[str, int], resolve: Resolve, monkeypatch: Any
) -> None:
    monkeypatch.setattr(dial, "PATIENCE", 0.01)
    address = resolve(silent, real)
    began = time.monotonic()
    reach(address, 600)
    assert time.monotonic() - began < 300  # not the whole time for the first


@both
@pytest.mark.parametrize("kind", ["refusing", "silent"])
def test_when_none_can_be_reached_the_error_says_why(
    reach: Callable[..., None], kind: str, resolve: Resolve, request: Any
) -> None:
    dead = request.getfixturevalue(kind)
    why = "Connect call failed|Connection refused|refused" if kind == "refusing" else "no answer"
    with pytest.raises(BrokerUnavailableError, match=f"several.invalid:6379/0: .*({why})"):
        reach(resolve(dead, dead), 0.3)


@both
def test_a_name_without_an_address_is_a_connection_error(reach: Callable[..., None], resolve: Resolve) -> None:
    with pytest.raises(BrokerUnavailableError, match="has no address"):
        reach(resolve(), 0.3)
