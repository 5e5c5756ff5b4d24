"""The HTTP endpoint that Prometheus scrapes."""

from __future__ import annotations

from prometheus_client import start_http_server
from prometheus_client.core import CollectorRegistry

from taskq.errors import ConfigError

DEFAULT_HOST = "127.0.0.1"
"""Only this machine can scrape; widen it on purpose, for example to 0.0.0.0 in a container."""


class Endpoint:
    """A running endpoint. Made by :func:`serve`."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._server, self._thread = start_http_server(port, host, registry)
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
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(registry: CollectorRegistry, host: str = DEFAULT_HOST, port: int = 0) -> Endpoint:
    """Serve *registry* from a background thread.

    Args:
        registry: what to show.
        host: address to listen on.
        port: 0 takes a free one.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    try:
        return Endpoint(registry, host, port)
    except OSError as error:
        raise ConfigError(f"cannot serve metrics on {host}:{port}: {error.strerror or error}") from error
