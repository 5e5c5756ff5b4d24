"""``taskq metrics``: what is in Redis, for Prometheus."""

from __future__ import annotations

import logging

import click

from taskq.cli.session import app_options, host_option, log_options, open_app, reporting_errors
from taskq.cli.signals import stop_on_signal
from taskq.logs import setup as setup_logging

DEFAULT_PORT = 9818

logger = logging.getLogger("taskq.metrics")


@click.command()
@app_options
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 lets other machines scrape.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True)
@host_option
@log_options
@reporting_errors()
def metrics(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...],
    log_level: str,
    log_format: str,
    log_also: tuple[str, ...],
) -> None:
    """Serve the metrics of Redis to Prometheus.

    Without -A the address of Redis comes from --broker-url or the environment. While Redis is away the endpoint
    answers with taskq_up 0.

    \b
    taskq metrics -b redis://localhost:6379/0        on http://127.0.0.1:9818/metrics
    taskq metrics --host 0.0.0.0 --port 9000

    \b
    exit codes  0 stopped, 2 wrong usage, or the port is taken
    """
    setup_logging(log_level, log_format, log_also)
    app = open_app(app_path, broker_url, namespace)
    from prometheus_client.core import CollectorRegistry

    from taskq.observe.metrics import Exporter, serve

    registry = CollectorRegistry()
    Exporter(app, registry)
    stop = stop_on_signal()
    endpoint = serve(registry, host, port, allowed_hosts)
    logger.info("metrics of %s at %s on %s", app.keys.namespace, app.address, endpoint.url)
    stop.wait()
    endpoint.close()
