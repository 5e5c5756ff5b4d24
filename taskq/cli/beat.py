"""``taskq beat``: fires the schedules."""

from __future__ import annotations

import click

from taskq.cli.session import app_options, log_options, open_app, reporting_errors, setup_logging
from taskq.cli.signals import stop_on_signal


@click.command()
@app_options
@log_options
@reporting_errors()
def beat(app_path: str | None, broker_url: str | None, namespace: str | None, log_level: str, log_format: str) -> None:
    """Fire the app's schedules. Run as many as you like: each fire time is fired once."""
    setup_logging(log_level, log_format)
    app = open_app(app_path, broker_url, namespace, needs_code=True)
    from taskq.scheduler.beat import Beat

    app.load()
    runner = Beat(app)
    app.sync_broker.execute("PING")  # a wrong address or password ends it here, an outage later does not
    runner.run(stop_on_signal())
