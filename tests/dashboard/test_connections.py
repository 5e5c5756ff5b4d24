"""``taskq dashboard`` and slow clients: headers and bodies that trickle, connections that only wait."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import uvicorn
from support.asgi import ask
from support.wait import eventually

from taskq.cli.dashboard import SERVING
from taskq.dashboard import connections, guard
from taskq.dashboard.connections import Connection

Address = tuple[str, int]
GET = b"GET /login HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture
def served(open_site: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    """The address of a dashboard that is served as by the command, with short times and few connections."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.6)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.6)
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 20)
    server = uvicorn.Server(uvicorn.Config(open_site, http=Connection, **SERVING))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()


def closed(connection: socket.socket) -> bool:
    """Wait until the other side has closed."""
    connection.settimeout(20)
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


def answered(address: Address) -> bool:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(GET + b"Connection: close\r\n\r\n")
        return connection.recv(100).startswith(b"HTTP/1.1 303")


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b""),
        (GET, b""),
        (GET + b"X: ", b"x"),
        (POST, b""),
        (POST, b"x"),
        (GET + b"\r\n" + GET + b"X: ", b"x"),
        (b"GET /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", b"x"),
    ],
    ids=[
        "nothing",
        "half of the headers",
        "headers that trickle",
        "half of a body",
        "a body that trickles",
        "the headers of a second request",
        "a body that nobody reads",
    ],
)
def test_a_client_that_is_too_slow_is_hung_up(begin: bytes, more: bytes, served: Address) -> None:
    stop = threading.Event()
    with socket.create_connection(served) as slow:
        slow.sendall(begin)

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while more and not stop.wait(0.05):
                    slow.sendall(more)

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert closed(slow)
        finally:
            stop.set()
            thread.join()


def test_many_connections_that_send_nothing_keep_nobody_out(served: Address) -> None:
    with ExitStack() as held:
        silent = [held.enter_context(socket.create_connection(served)) for _ in range(60)]
        assert answered(served)
        assert closed(silent[0]), "the oldest one makes room"


def test_a_page_that_is_open_is_not_hung_up_for_a_crowd(served: Address) -> None:
    with ExitStack() as held:
        live = held.enter_context(socket.create_connection(served, timeout=20))
        live.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"text/event-stream" in live.recv(4096)
        for _ in range(60):
            held.enter_context(socket.create_connection(served))
        assert answered(served)
        seen = b""
        while seen.count(b"event: ") < 3:
            piece = live.recv(4096)
            assert piece, "it was closed"
            seen += piece


def test_a_client_that_takes_nothing_of_an_answer_is_hung_up(served: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.3)
    request = b"GET /static/vendor/uplot/uPlot.iife.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.connect(served)
        greedy.settimeout(20)

        def ask_on() -> bool:
            try:
                greedy.sendall(request * 20)
            except ConnectionError:
                return True
            return False

        eventually(ask_on)


def test_the_times_leave_room_for_slow_lines() -> None:
    assert connections.HEADER_SECONDS >= 5
    assert connections.BODY_SECONDS >= 10
    assert connections.MOST_CONNECTIONS >= 100


def test_a_form_that_does_not_arrive_is_refused_where_it_is_mounted_too(
    open_site: Any, monkeypatch: pytest.MonkeyPatch, browser: Callable[[Any], Any]
) -> None:
    import asyncio

    monkeypatch.setattr(guard, "BODY_SECONDS", 0.1)
    answers: list[int] = []

    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answers.append(message["status"])

    scope = {
        "type": "http", "method": "POST", "path": "/theme", "raw_path": b"/theme", "root_path": "", "scheme": "http",
        "query_string": b"", "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "http_version": "1.1",
        "server": ("localhost", 80),
    }  # fmt: skip
    asyncio.run(open_site(scope, never, send))
    assert answers == [408]
    assert ask(open_site, "GET", "/login").status == 303
