"""A TCP proxy in front of a Redis server that breaks connections on demand."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 65536


class FaultProxy:
    """Passes bytes between clients and a server, until it is told to misbehave.

    A context manager. The switches may be used from any thread, and act on open and later connections.
    It knows nothing of Redis's protocol: a chunk is what one read of the socket returned.

    Args:
        target: ``redis://`` URL of the server; ``url`` is the same with the proxy's address.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._listener: socket.socket | None = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        login, at, _ = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))
        self.connections = 0
        """Connections accepted so far."""
        self.requests = 0
        """Chunks that came from clients, passed on or not."""
        self.replies = 0
        """Chunks that came from the server, passed on or not."""
        self.dropped = 0
        """Replies swallowed."""
        self._state = threading.Condition()
        self._links: set[_Link] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._stalled = False
        self._delay = 0.0
        self._rate = 0
        self._to_drop = 0
        self._to_have = b""

    def __enter__(self) -> Self:
        assert self._listener
        self._accept_from(self._listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        with self._state:
            self._closed = True
        self.cut()
        for thread in self._threads:
            thread.join()

    def drop_replies(self, chunks: int = 1, *, having: bytes = b"") -> None:
        """Swallow the next *chunks* replies that have those bytes in them, then cut the connections that missed one.

        The server has then done what it was asked, and the client cannot know.
        """
        with self._state:
            self._to_drop, self._to_have = chunks, having

    def cut(self) -> int:
        """Cut every open connection; returns how many."""
        with self._state:
            links = list(self._links)
            for link in links:
                link.cut()
            self._state.notify_all()
        return len(links)

    def refuse(self) -> None:
        """Refuse new connections; open ones go on (see ``cut``)."""
        listener, self._listener = self._listener, None
        if listener:
            # Wakes the thread in accept(), which close() alone would not.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def accept(self) -> None:
        """Take new connections again, on the same port."""
        if self._listener is None:
            self._listener = _listen(self.port)
            self._accept_from(self._listener)

    def stall(self) -> None:
        """Hold everything back in both directions; new connections are accepted and hang too."""
        with self._state:
            self._stalled = True

    def resume(self) -> None:
        """End ``stall``: what was held back is passed on."""
        with self._state:
            self._stalled = False
            self._state.notify_all()

    def silence(self) -> None:
        """Hold back for ever what the server answers on the connections that are open now; new ones are whole."""
        with self._state:
            for link in self._links:
                link.silent = True

    def delay(self, seconds: float) -> None:
        """Pass every chunk on only after *seconds*; 0 ends it."""
        with self._state:
            self._delay = seconds

    def throttle(self, rate: int) -> None:
        """Pass on no more than *rate* bytes a second in each direction of a connection; 0 ends it."""
        with self._state:
            self._rate = rate

    def redirect(self, target: str) -> None:
        """Lead new connections to another server; open ones stay where they are, as after a failover."""
        parts = urlsplit(target)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 6379)

    def _run(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept_from(self, listener: socket.socket) -> None:
        self._run(self._accept_loop, listener)

    def _accept_loop(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                link = _Link(client, socket.create_connection(self._upstream, timeout=5))
            except OSError:
                client.close()
                continue
            with self._state:
                self.connections += 1
                self._links.add(link)
                if self._closed:
                    link.cut()
            self._run(self._pump, link, link.client, link.server)
            self._run(self._pump, link, link.server, link.client)

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        """Pass bytes on in one direction until either end closes."""
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if self._passes(link, data, from_server=source is link.server):
                    self._send(link, sink, data)
        with self._state:
            link.cut()
            self._links.discard(link)
            self._state.notify_all()
        link.leave()

    def _send(self, link: _Link, sink: socket.socket, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not link.is_cut:
            with self._state:
                rate = self._rate
            some = max(rate // 20, 1) if rate else len(rest)
            sink.sendall(rest[:some])
            rest = rest[some:]
            if rate:
                time.sleep(some / rate)

    def _passes(self, link: _Link, data: bytes, *, from_server: bool) -> bool:
        """Count a chunk, hold it as long as it must wait, and say whether to pass it on."""
        with self._state:
            self.replies += from_server
            self.requests += not from_server
            delay = self._delay
        if delay:
            time.sleep(delay)
        with self._state:
            self._state.wait_for(lambda: not (self._stalled or (from_server and link.silent)) or link.is_cut)
            if not from_server or not self._to_drop or self._to_have not in data:
                return not link.is_cut
            self._to_drop -= 1
            self.dropped += 1
            link.missed_reply = True
            if not self._to_drop:
                for other in self._links:
                    if other.missed_reply:
                        other.cut()
            return False


class _Link:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.is_cut = False
        self.silent = False
        self.missed_reply = False
        self._pumps = 2
        self._lock = threading.Lock()
        server.settimeout(None)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)  # what waits here is not seen by who sent it

    def cut(self) -> None:
        """Shut both ends down; the last pump closes them, so that no descriptor is reused under the other."""
        self.is_cut = True
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """Called by each pump at its end."""
        with self._lock:
            self._pumps -= 1
            last = not self._pumps
        if last:
            self.client.close()
            self.server.close()


def _listen(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=128)
