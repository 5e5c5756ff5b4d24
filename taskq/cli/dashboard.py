"""``taskq dashboard``: the web dashboard."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

import click

from taskq.cli.session import app_options, host_option, log_options, open_app, reporting_errors
from taskq.cli.signals import stop_on_signal
from taskq.errors import ConfigError
from taskq.logs import setup as setup_logging
from taskq.observe.serving import is_address

if TYPE_CHECKING:
    from taskq.dashboard.access import Credential

DEFAULT_PORT = 8000
SERVING: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "lifespan": "off",
    "ws": "none",
    "proxy_headers": False,  # uvicorn would believe X-Forwarded-For from everybody on this machine
    "timeout_graceful_shutdown": 1,  # an open page's event stream never ends by itself
}
"""How the web server runs."""

logger = logging.getLogger("taskq.dashboard")


@click.command()
@app_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need a password.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True)
@click.option("--read-only", is_flag=True, help="Nobody can change anything.")
@click.option("--users", metavar="FILE", envvar="TASKQ_DASHBOARD_USERS", help="Who may sign in: role, name, secret.")
@host_option
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    metavar="ADDRESS",
    multiple=True,
    envvar="TASKQ_DASHBOARD_TRUSTED_PROXIES",
    help="A proxy, or network of them, whose X-Forwarded-For counts.",
)
@log_options
@reporting_errors()
def dashboard(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    host: str,
    port: int,
    read_only: bool,
    users: str | None,
    allowed_hosts: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
    log_level: str,
    log_format: str,
    log_also: tuple[str, ...],
) -> None:
    """Serve the web dashboard.

    \b
    taskq dashboard                                 on http://127.0.0.1:8000, for this machine
    taskq dashboard -A shop:app                     knows the tasks' parameters and the schedules in the code
    taskq dashboard --host 0.0.0.0 --users FILE     for others, who sign in

    A password comes from the environment (TASKQ_DASHBOARD_PASSWORD lets an operator in,
    TASKQ_DASHBOARD_VIEWER_PASSWORD somebody who only looks) or from a file with lines such as
    "operator alice <secret>" that only you can read. Never from the command line, where others would see it.
    """
    setup_logging(log_level, log_format, log_also)
    try:
        import uvicorn

        from taskq.dashboard import asgi
        from taskq.dashboard.connections import Connection
    except ModuleNotFoundError as error:
        raise ConfigError(f"the dashboard needs {error.name}; write: pip install 'taskq-streams[dashboard]'") from error
    credentials = _credentials(users, host)
    app = open_app(app_path, broker_url, namespace)
    if app_path is not None:
        app.load()
    key = os.environ.get("TASKQ_DASHBOARD_SESSION_KEY")
    site = asgi.app(
        app,
        credentials=credentials,
        read_only=read_only,
        allowed_hosts=allowed_hosts if allowed_hosts or is_address(host) else (host,),
        trusted_proxies=trusted_proxies,
        session_key=key.encode() if key else None,
    )
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    logger.info("the dashboard is on http://%s:%s", f"[{host}]" if ":" in host else host, port)
    server = uvicorn.Server(uvicorn.Config(site, http=Connection, **SERVING))
    # uvicorn's own way with signals is to raise them again when it has stopped, which would end this with an error
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    stop_on_signal(lambda: setattr(server, "should_exit", True))
    server.run(sockets=[listener])
    site.close()


def _credentials(users: str | None, host: str) -> tuple[Credential, ...]:
    """Who may sign in; nobody need where only this machine can reach us.

    Raises:
        ConfigError: others can reach us, and nobody would be asked for a password.
    """
    from taskq.dashboard.access import load_credentials

    credentials = load_credentials(os.environ, users)
    if not credentials and not _is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other machines in, and nobody would be asked for a password; set "
            "TASKQ_DASHBOARD_PASSWORD or give --users FILE, or listen on 127.0.0.1"
        )
    return credentials


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
