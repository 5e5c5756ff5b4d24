"""``taskq beat``: fires the schedules."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from taskq.cli.session import app_options, host_option, log_options, open_app, reporting_errors
from taskq.cli.signals import stop_on_signal
from taskq.logs import setup as setup_logging

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

logger = logging.getLogger("taskq.beat")


@click.command()
@app_options
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve Prometheus metrics of this beat.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address of the metrics endpoint.")
@click.option("--health-port", type=click.IntRange(0, 65535), help="Serve /live and /ready.")
@click.option("--health-host", default="127.0.0.1", show_default=True, help="Address of the health endpoint.")
@host_option
@log_options
@reporting_errors()
def beat(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    metrics_port: int | None,
    metrics_host: str,
    health_port: int | None,
    health_host: str,
    allowed_hosts: tuple[str, ...],
    log_level: str,
    log_format: str,
    log_also: tuple[str, ...],
) -> None:
    """Fire the app's schedules. Run as many as you like: each fire time is fired once.

    \b
    taskq beat -A shop:app
    taskq beat -A shop:app --health-port 8001 --log-format json
    taskq worker -A shop:app -B             a worker that does it beside its tasks

    It sends the messages; workers run them. "taskq schedule list" shows what fires when.

    \b
    exit codes  0 stopped, 1 failed, 2 wrong usage, 69 no Redis at the start
    """
    setup_logging(log_level, log_format, log_also)
    app = open_app(app_path, broker_url, namespace, needs_code=True)
    from taskq.beat.beat import Beat
    from taskq.observe.health import serving_health

    app.load()
    runner = Beat(app)
    app.sync_broker.execute("PING")  # a wrong address or password ends it here, an outage later does not
    with contextlib.ExitStack() as beside:
        if metrics_port is not None:
            beside.enter_context(_serving_metrics(app, metrics_host, metrics_port, allowed_hosts))
        if health_port is not None:
            beside.enter_context(serving_health(health_host, health_port, lambda: runner.ready, allowed_hosts))
        runner.run(stop_on_signal())


@contextlib.contextmanager
def _serving_metrics(app: TaskQ, host: str, port: int, allowed_hosts: tuple[str, ...]) -> Iterator[None]:
    """Serve the metrics of this process meanwhile."""
    from prometheus_client.core import CollectorRegistry

    from taskq.observe.metrics import BeatMetrics, SenderMetrics, serve

    registry = CollectorRegistry()
    BeatMetrics(app, registry)
    SenderMetrics(app, registry)
    with contextlib.closing(serve(registry, host, port, allowed_hosts)) as endpoint:
        logger.info("metrics on %s", endpoint.url)
        yield
