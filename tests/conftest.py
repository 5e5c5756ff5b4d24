"""Fixtures for all tests: our own Redis server, a namespace per test, a look at what a test left behind."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from redis.backoff import NoBackoff
from redis.retry import Retry
from support import programs
from support.keys import delete_keys, leaked_keys
from support.process import Proc
from support.programs import ServerBinary

from taskq import TaskQ
from taskq.embedded import EmbeddedRedis
from taskq.errors import ConfigError

_FAILED = pytest.StashKey[bool]()


def pytest_configure() -> None:
    """Hear Ctrl-C, SIGQUIT and SIGHUP, also in a shell's background job or under nohup: there they are ignored, and
    so would what a test starts ignore them.

    And give drawn examples the time that they take: how long that is says something about the machine alone.
    """
    _put_first_on_path(os.environ.get(programs.SERVER))
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _put_first_on_path(server: str | None) -> None:
    """Have every process of this run find *server* first: examples and demos choose their own."""
    if server is None or os.environ.get("PYTEST_XDIST_WORKER"):  # a worker inherits it
        return
    folder = tempfile.mkdtemp(prefix="taskq-server-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Path(folder, "redis-server").symlink_to(Path(server).absolute())
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def _start(directory: Path | None = None, **options: Any) -> EmbeddedRedis:
    """Start a server, by default the one that the environment names."""
    options.setdefault("binary", os.environ.get(programs.SERVER))
    try:
        server = EmbeddedRedis(directory, **options)
    except ConfigError as error:
        if "pip install" in str(error):
            programs.missing(str(error))
        raise
    return server.start()


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """A command that runs in the test's own process sets up logging for good, and so does ``dictConfig``."""
    loggers = [logging.getLogger(name) for name in ("", "taskq")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("taskq"):
            logging.getLogger(name).disabled = False


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """The server of this test run (of this xdist worker); never stopped or configured by a test."""
    with _start() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """URL of ``redis_server``."""
    return redis_server.url


@pytest.fixture
def namespace() -> str:
    """A key prefix that no other test uses."""
    return f"t{secrets.token_hex(6)}"


def connect(url: str) -> Any:
    """Return a plain client: bytes in and out, no retry, no waiting for ever."""
    # Any: the annotations of redis-py say "maybe awaitable" for every reply.
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=30, protocol=2)


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[Any]:
    """A client of ``redis_server`` to look at raw data with."""
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def private_redis() -> Iterator[Callable[..., EmbeddedRedis]]:
    """Start servers that the test may kill, restart and configure: ``private_redis(directory, port=...)``.

    Takes the options of ``EmbeddedRedis``.
    """
    with ExitStack() as servers:

        def start(directory: Path | None = None, **options: Any) -> EmbeddedRedis:
            return servers.enter_context(_start(directory, **options))

        yield start


@pytest.fixture(scope="session")
def server_binaries() -> tuple[ServerBinary, ...]:
    """Every Redis or Valkey server program found on this machine, one per version."""
    return programs.server_binaries() or programs.missing("no Redis server found")


@pytest.fixture(params=programs.server_binaries() or [None], ids=lambda found: str(found or "none"))
def server_binary(request: pytest.FixtureRequest) -> ServerBinary:
    """Runs the test once on each of ``server_binaries``."""
    found: ServerBinary | None = request.param
    return found or programs.missing("no Redis server found")


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Proc]]:
    """Start Python processes: ``spawn("-m", "taskq", "worker", "-A", "app", path=tmp_path, env={...})``.

    ``path`` (default: the test's ``tmp_path``) is the working directory and is on PYTHONPATH.
    """
    with ExitStack() as processes:
        started: list[Proc] = []

        def start(*arguments: str, path: Path = tmp_path, env: dict[str, str] | None = None) -> Proc:
            output = tmp_path / f"output-{len(started)}.txt"
            started.append(Proc(arguments, output, path, env or {}))
            processes.callback(started[-1].close)
            return started[-1]

        yield start


@pytest.fixture
def make_app(redis_url: str, namespace: str) -> Iterator[Callable[..., TaskQ]]:
    """Make apps on the test's server and namespace: ``make_app(lease_timeout=1)``; closed at the end."""
    with ExitStack() as apps:

        def make(**settings: Any) -> TaskQ:
            app = TaskQ("test", **{"broker_url": redis_url, "namespace": namespace} | settings)
            apps.callback(app.close)
            return app

        yield make


@pytest.fixture
def app(make_app: Callable[..., TaskQ]) -> TaskQ:
    """An app with default settings."""
    return make_app()


@pytest.fixture(autouse=True)
def _no_key_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test on the shared server: no key without TTL, nothing pending, no consumer."""
    if not {"namespace", "redis_server"} <= set(request.fixturenames):
        yield
        return
    # Asked for before the test's other fixtures, so that those have ended when we look.
    namespace: str = request.getfixturevalue("namespace")
    client = request.getfixturevalue("redis_client")
    yield
    leaks = leaked_keys(client, namespace)
    delete_keys(client, namespace)
    excused = request.node.get_closest_marker("leaves_keys") or request.node.stash.get(_FAILED, False)
    if leaks and not excused:
        pytest.fail("the test left behind:\n" + "\n".join(leaks))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long runs are started by hand: ``-m soak``."""
    if "soak" in config.getoption("markexpr"):
        return
    soaks = [item for item in items if item.get_closest_marker("soak")]
    if soaks:
        config.hook.pytest_deselected(items=soaks)
        items[:] = [item for item in items if item not in soaks]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note a failed test: what it leaves behind would only hide the failure."""
    report: Any = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report
