"""``/live`` and ``/ready`` for load balancers and orchestrators."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from taskq.errors import ConfigError

logger = logging.getLogger("taskq.health")

Check = Callable[[], bool]


def serve_health(host: str, port: int, ready: Check) -> ThreadingHTTPServer:
    """Answer on *host*:*port*, in a thread of its own, until ``shutdown()`` is called on the returned server.

    ``/live`` says 200 as long as the process can answer; ``/ready`` says 200 while *ready* holds, else 503.

    Raises:
        OSError: the port cannot be used.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/live":
                self._answer(200, b"live\n")
            elif self.path == "/ready":
                ok = ready()
                self._answer(200 if ok else 503, b"ready\n" if ok else b"not ready\n")
            else:
                self._answer(404, b"/live or /ready\n")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a probe every few seconds is no news."""

    server = ThreadingHTTPServer((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="taskq-health", daemon=True).start()
    return server


@contextmanager
def serving_health(host: str, port: int, ready: Check) -> Iterator[None]:
    """As :func:`serve_health`, meanwhile.

    Raises:
        ConfigError: the port cannot be used.
    """
    try:
        server = serve_health(host, port, ready)
    except OSError as error:
        raise ConfigError(f"cannot serve health on {host}:{port}: {error.strerror or error}") from error
    logger.info("health on http://%s:%d", host, server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
