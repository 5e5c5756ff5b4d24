"""What every command shares: finding the app, turning errors into exit codes, and setting up the log.

Commands parse and print; nothing here is imported by library code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from taskq.cli.output import echo
from taskq.errors import BrokerError, ConfigError, ExitCode, TaskqError, UnknownQueueError, UnknownTaskError
from taskq.logs import FORMATS

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = ("debug", "info", "warning", "error", "critical")


def app_options(command: F) -> F:
    """Add ``-A/--app``, ``--broker-url`` and ``--namespace``: the parameters of :func:`open_app`.

    ``-A`` may also stand before the command: the root group then keeps it as ``ctx.obj["app"]``.
    """
    options = (
        click.option(
            "-A",
            "--app",
            "app_path",
            metavar="MODULE:APP",
            callback=_or_from_root,
            help="Where the app is, such as shop.tasks:app.",
        ),
        click.option(
            "-b", "--broker", "--broker-url", "broker_url", metavar="URL", help="Redis to use instead of the app's."
        ),
        click.option("--namespace", metavar="NAME", help="Key prefix, instead of the app's."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def host_option(command: F) -> F:
    """Add ``--allowed-host``, for what is served over HTTP."""
    option = click.option(
        "--allowed-host",
        "allowed_hosts",
        metavar="NAME",
        multiple=True,
        envvar="TASKQ_ALLOWED_HOSTS",
        help="A host name it is reached by, besides localhost and addresses.",
    )
    return option(command)


def passing_app(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add :func:`app_options`, open the app and pass it on as *app*; errors of taskq end in exit codes.

    For commands that look at Redis and need no code of the app: a broker URL is enough.
    """

    @app_options
    @functools.wraps(command)
    @reporting_errors()
    def with_app(*, app_path: str | None, broker_url: str | None, namespace: str | None, **given: Any) -> Any:
        return command(app=open_app(app_path, broker_url, namespace), **given)

    return with_app


def json_option(command: F) -> F:
    """Add ``--json`` as *as_json*."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def log_options(command: F) -> F:
    """Add ``-l/--log-level``, ``--log-format`` and ``--log-also``: the parameters of :func:`taskq.logs.setup`."""
    options = (
        click.option(
            "-l",
            "--log-level",
            "--loglevel",
            "log_level",
            type=click.Choice(LEVELS, case_sensitive=False),
            metavar="LEVEL",
            default="info",
            envvar="TASKQ_LOG_LEVEL",
            show_default=True,
            help=f"Log level: {', '.join(LEVELS)}.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(FORMATS),
            default="text",
            envvar="TASKQ_LOG_FORMAT",
            show_default=True,
            help="text for people, json for one object per line.",
        ),
        click.option(
            "--log-also", multiple=True, metavar="LOGGER", help="Show this logger of the app too; again for more."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def open_app(
    app_path: str | None,
    broker_url: str | None = None,
    namespace: str | None = None,
    *,
    needs_code: bool = False,
) -> TaskQ:
    """The app that a command works with; its connections are closed when the command ends.

    Args:
        app_path: ``module:app``; None means an app without tasks, set up by ``TASKQ_*`` in the environment.
        broker_url, namespace: win over what the app says.
        needs_code: the command cannot do its work without the app's code.

    Raises:
        ConfigError: there is no such app, none was named though one is needed, or a setting cannot be used.
    """
    if app_path is None and needs_code:
        raise ConfigError("which app? Write -A module:app, for example -A shop.tasks:app")
    from taskq.client.app import TaskQ
    from taskq.client.loading import load_app

    given = {"broker_url": broker_url, "namespace": namespace}
    settings = {name: value for name, value in given.items() if value is not None}
    if app_path is None:
        app = TaskQ("taskq", **settings)
    else:
        app = load_app(app_path)
        if settings:
            app.reconfigure(**settings)
    context = click.get_current_context(silent=True)
    if context is not None:
        context.call_on_close(app.close)
    return app


@contextmanager
def reporting_errors() -> Iterator[None]:
    """End the command with one line on stderr and an :class:`ExitCode` when taskq raises an error.

    Works as a decorator too: ``@reporting_errors()`` below the click decorators. Errors that are not taskq's
    keep their traceback: they are bugs, ours or the app's.
    """
    try:
        yield
    except TaskqError as error:
        echo(f"taskq: {error}", err=True)
        raise SystemExit(exit_code(error)) from None


def exit_code(error: TaskqError) -> ExitCode:
    """The exit code that says what kind of error ended a command."""
    if isinstance(error, (ConfigError, UnknownQueueError, UnknownTaskError)):
        return ExitCode.USAGE
    if isinstance(error, BrokerError):
        return ExitCode.UNAVAILABLE
    return ExitCode.FAILED


def _or_from_root(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    root = context.find_root().obj
    return value or (root.get("app") if isinstance(root, dict) else None)
