"""``/live`` and ``/ready`` for load balancers and orchestrators."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator

from taskq.errors import ConfigError
from taskq.observe.serving import Handler, Server

logger = logging.getLogger("taskq.health")

Check = Callable[[], bool]


def serve_health(host: str, port: int, ready: Check, allowed_hosts: Collection[str] = ()) -> Server:
    """Answer on *host*:*port*, in threads, until ``close()`` is called on the returned server.

    ``/live`` says 200 as long as the process can answer; ``/ready`` says 200 while *ready* holds, else 503.

    Raises:
        OSError: the port cannot be used.
    """

    class Health(Handler):
        def do_GET(self) -> None:
            if self.path == "/live":
                self.answer(200, b"live\n")
            elif self.path == "/ready":
                ok = ready()
                self.answer(200 if ok else 503, b"ready\n" if ok else b"not ready\n")
            else:
                self.answer(404, b"/live or /ready\n")

    return Server(host, port, Health, allowed_hosts, "taskq-health")


@contextlib.contextmanager
def serving_health(host: str, port: int, ready: Check, allowed_hosts: Collection[str] = ()) -> Iterator[None]:
    """As :func:`serve_health`, meanwhile.

    Raises:
        ConfigError: the port cannot be used.
    """
    try:
        server = serve_health(host, port, ready, allowed_hosts)
    except OSError as error:
        raise ConfigError(f"cannot serve health on {host}:{port}: {error.strerror or error}") from error
    logger.info("health on http://%s:%d", host, server.server_port)
    with contextlib.closing(server):
        yield
