"""Small HTTP servers for probes and scrapers: no slow client holds them, and no foreign host name reaches them."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

logger = logging.getLogger("taskq.serving")

REQUEST_SECONDS = 5.0
"""Within which a request has to be there, from the connection to the end of its headers."""
ANSWER_SECONDS = 10.0
"""Within which a client has to take the answer."""
MOST_CONNECTIONS = 32
FOREIGN_HOST = "This host name is not allowed; use an address, or allow the name with {}.\n"


def host_is_allowed(host: str, names: Collection[str]) -> bool:
    """Whether a ``Host`` header is localhost, an address in numbers, or one of *names* (in lower case; ``*``: all).

    A name that an attacker points at 127.0.0.1 (DNS rebinding) is none of these.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return False
    return bool(name) and (name == "localhost" or name in names or "*" in names or is_address(name))


def is_address(host: str) -> bool:
    """Whether *host* is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Handler(BaseHTTPRequestHandler):
    """Reads one request within :data:`REQUEST_SECONDS`; subclasses have ``do_GET``."""

    server: Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        # the timeout of a socket is for one read: a client that sends a byte now and then would never meet it
        self.rfile = io.BufferedReader(_Until(self.connection, time.monotonic() + REQUEST_SECONDS))

    def parse_request(self) -> bool:
        """Read the request and check its host; False when it was refused."""
        if not super().parse_request():
            return False
        self.server.has_asked(self.connection)
        self.connection.settimeout(ANSWER_SECONDS)
        host = self.headers.get("Host")  # probes with HTTP/1.0 send none; browsers always do
        if host is None or host_is_allowed(host, self.server.hosts):
            return True
        self.answer(421, FOREIGN_HOST.format("--allowed-host").encode())
        return False

    def answer(self, status: int, body: bytes) -> None:
        """Send a short text."""
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a probe every few seconds is not news."""


class Server(ThreadingHTTPServer):
    """Answers requests from threads, at most :data:`MOST_CONNECTIONS` at a time.

    Where there would be more, the connection goes that has waited longest without a whole request.

    Args:
        host: address to listen on, or a name of one.
        port: 0 takes a free one.
        handler: answers the requests.
        hosts: names by which it may be reached, besides localhost and addresses; *host* is one. ``*``: all.
        name: of its thread.

    Raises:
        OSError: the address cannot be listened on.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, handler: type[Handler], hosts: Collection[str], name: str) -> None:
        self.hosts = frozenset({host.lower(), *(each.lower() for each in hosts)})
        self._lock = threading.RLock()
        self._waiting: dict[socket.socket, bool] = {}
        """Open connections, the oldest first, and whether each has yet to send its request."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, address = found[0][0], found[0][4]
        super().__init__((str(address[0]), port), handler)
        self._thread = threading.Thread(target=self.serve_forever, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def server_bind(self) -> None:
        """Listen, without asking the resolver for a name of this machine."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer from a thread, if there is room or somebody too slow to make some."""
        with self._lock:
            if len(self._waiting) >= MOST_CONNECTIONS:
                slowest = next((each for each, waits in self._waiting.items() if waits), request)
                _hang_up(slowest)
                self._waiting.pop(slowest, None)
                if slowest is request:
                    self.shutdown_request(request)
                    return
            self._waiting[request] = True
        super().process_request(request, client_address)

    def has_asked(self, request: socket.socket) -> None:
        """The whole request is there: what takes time from now on is not the client's fault."""
        with self._lock:
            if request in self._waiting:
                self._waiting[request] = False

    def close_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._waiting.pop(request, None)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or is sent away, is not worth a line."""
        logger.debug("a connection failed", exc_info=True)


class _Until(socket.SocketIO):
    """Reads from a socket until a moment of ``time.monotonic()``, whatever trickles in."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        super().__init__(connection, "r")
        self._connection = connection
        self._end = end

    def readinto(self, buffer: Any) -> int | None:
        self._connection.settimeout(max(self._end - time.monotonic(), 0.001))
        return super().readinto(buffer)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is gone already
        connection.shutdown(socket.SHUT_RDWR)  # its thread reads the end
