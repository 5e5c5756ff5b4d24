"""``taskq outbox-relay``: publishes what committed transactions have left in a database's outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskq.cli.session import app_options, log_options, open_app, reporting_errors
from taskq.cli.signals import stop_on_signal
from taskq.errors import ConfigError
from taskq.logs import setup as setup_logging

if TYPE_CHECKING:
    from sqlalchemy import Engine


@click.command("outbox-relay")
@app_options
@click.option(
    "--database-url",
    metavar="URL",
    envvar="TASKQ_DATABASE_URL",
    help="As SQLAlchemy writes it: postgresql+psycopg://..., sqlite:///... With a password in it, give it as "
    "TASKQ_DATABASE_URL: other users of this host can read a command line.",
)
@click.option("--page", type=click.IntRange(1, 1000), default=500, show_default=True, help="Rows taken at a time.")
@click.option(
    "--poll", type=float, default=0.5, show_default=True, metavar="SECONDS", help="Between looks at an empty outbox."
)
@click.option("--burst", is_flag=True, help="Stop when the outbox is empty.")
@click.option("--create-tables", is_flag=True, help="Make taskq's tables first, where they are missing.")
@log_options
@reporting_errors()
def outbox_relay(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    database_url: str | None,
    page: int,
    poll: float,
    burst: bool,
    create_tables: bool,
    log_level: str,
    log_format: str,
    log_also: tuple[str, ...],
) -> None:
    """Send what waits in a database's outbox.

    \b
    TASKQ_DATABASE_URL=postgresql+psycopg://shop@db/shop taskq outbox-relay -A shop:app

    The app only says where Redis is; TASKQ_BROKER_URL does as well. Run one relay, or several: each message and event
    leaves once; events in the order in which they were written, messages too with one relay. Needs SQLAlchemy: pip
    install "taskq-streams[sqlalchemy]".

    \b
    exit codes  0 stopped, 1 the database cannot be used, 2 wrong usage, 69 no Redis
    """
    setup_logging(log_level, log_format, log_also)
    engine = open_engine(database_url)
    from taskq.contrib import sqlalchemy

    app = open_app(app_path, broker_url, namespace)
    relay = sqlalchemy.OutboxRelay(engine, app, page=page, poll=poll)
    if create_tables:
        relay.create_tables()
    relay.check()  # a wrong address or password ends it here, an outage later does not
    relay.run(stop_on_signal(), burst=burst)
    engine.dispose()


def open_engine(database_url: str | None) -> Engine:
    """The engine for *database_url*; its text never reaches an error, since it may hold a password.

    Raises:
        ConfigError: none given, or SQLAlchemy or a driver cannot make use of it.
    """
    if not database_url:
        raise ConfigError("which database? Set TASKQ_DATABASE_URL, for example postgresql+psycopg://shop@db/shop")
    try:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import ArgumentError
    except ImportError:
        raise ConfigError('SQLAlchemy is not installed: pip install "taskq-streams[sqlalchemy]"') from None
    try:
        # an idle connection may have been cut by a firewall or a restart: find out before it is used
        return create_engine(database_url, pool_pre_ping=True)
    except ArgumentError:
        raise ConfigError("TASKQ_DATABASE_URL is not a URL; write postgresql+psycopg://shop@db/shop") from None
    except ImportError as error:
        raise ConfigError(f"the driver that TASKQ_DATABASE_URL asks for is not installed: {error.name}") from None
