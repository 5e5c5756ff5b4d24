"""The HTTP endpoint that Prometheus scrapes."""

from __future__ import annotations

import logging
from collections.abc import Collection

from prometheus_client import MetricsHandler
from prometheus_client.core import CollectorRegistry

from taskq.errors import ConfigError
from taskq.observe.serving import Handler, Server

DEFAULT_HOST = "127.0.0.1"
"""Only this machine can scrape; widen it on purpose, for example to 0.0.0.0 in a container."""

logger = logging.getLogger("taskq.metrics")


class Endpoint:
    """A running endpoint. Made by :func:`serve`."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int, allowed_hosts: Collection[str]) -> None:
        class Metrics(_Metrics):
            pass

        Metrics.registry = registry
        self._server = Server(host, port, Metrics, allowed_hosts, "taskq-metrics")
        self.host = host
        self.port: int = self._server.server_port
        """The port it listens on, also when 0 was asked for."""

    @property
    def url(self) -> str:
        """Where Prometheus finds the metrics."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/metrics"

    def close(self) -> None:
        """Stop listening."""
        self._server.close()


class _Metrics(Handler, MetricsHandler):
    def do_GET(self) -> None:
        try:
            super().do_GET()
        except OSError:  # the client is gone, or too slow
            raise
        except Exception:
            logger.exception("the metrics could not be read")
            self.answer(500, b"the metrics could not be read; the log has more\n")


def serve(
    registry: CollectorRegistry, host: str = DEFAULT_HOST, port: int = 0, allowed_hosts: Collection[str] = ()
) -> Endpoint:
    """Serve *registry* from background threads.

    Args:
        registry: what to show.
        host: address to listen on.
        port: 0 takes a free one.
        allowed_hosts: host names by which it is scraped, besides localhost and addresses in numbers; ``*``: all.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    try:
        return Endpoint(registry, host, port, allowed_hosts)
    except OSError as error:
        raise ConfigError(f"cannot serve metrics on {host}:{port}: {error.strerror or error}") from error
