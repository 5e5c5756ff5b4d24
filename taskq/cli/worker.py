"""``taskq worker``."""

from __future__ import annotations

import contextlib
import logging
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from taskq.cli.session import app_options, host_option, log_options, open_app, reporting_errors
from taskq.errors import ExitCode
from taskq.logs import setup as setup_logging
from taskq.logs import write_lines
from taskq.values.config import POOLS

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from taskq.beat.beside import BesideWorker
    from taskq.client.app import TaskQ

logger = logging.getLogger("taskq.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The command line, in a form that travels to the worker processes."""

    app_path: str | None
    broker_url: str | None
    namespace: str | None
    queues: tuple[str, ...]
    concurrency: int | None
    async_concurrency: int | None
    pool: str | None
    burst: bool
    shutdown_timeout: float | None
    metrics_host: str
    metrics_port: int | None
    health_host: str
    health_port: int | None
    allowed_hosts: tuple[str, ...]
    beat: bool
    log_level: str
    log_format: str
    log_also: tuple[str, ...]


@click.command()
@app_options
@click.option(
    "-Q",
    "--queues",
    metavar="A,B",
    help="Queues to read, the preferred first. Default: those of the app's tasks, in turns.",
)
@click.option("-c", "--concurrency", type=click.IntRange(min=1), help="Slots for sync tasks, per process. [8]")
@click.option("--async-concurrency", type=click.IntRange(min=1), help="Slots for async tasks, per process. [100]")
@click.option("-P", "--pool", type=click.Choice(POOLS), help="Where sync tasks run. [threads]")
@click.option("-w", "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Worker processes.")
@click.option("-B", "--beat", is_flag=True, help="Send scheduled tasks too; safe in any number of workers.")
@click.option("--burst", is_flag=True, help="Stop when the queues are empty.")
@click.option(
    "--shutdown-timeout", type=float, metavar="SECONDS", help="How long running tasks may finish after SIGTERM. [30]"
)
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve Prometheus metrics of this worker.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address of the metrics endpoint.")
@click.option("--health-port", type=click.IntRange(0, 65535), help="Serve /live and /ready.")
@click.option("--health-host", default="127.0.0.1", show_default=True, help="Address of the health endpoint.")
@host_option
@log_options
@reporting_errors()
def worker(queues: str | None, workers: int, **given: object) -> None:
    """Run tasks.

    \b
    taskq worker -A shop:app                        one process, 8 threads
    taskq worker -A shop:app -w 4                   four processes, started again if they die
    taskq worker -A shop:app -P processes -c 4      each sync task in a child process of its own
    taskq worker -A shop:app -Q high,low            only these queues, "high" first

    Sync tasks run in slots (-c) of the pool (-P), async tasks on the event loop, all in one worker.

    \b
    SIGTERM, SIGINT (Ctrl-C)  fetch nothing more, give back what has not started,
                              finish what runs within --shutdown-timeout, hand back the rest
    a second one, later       hand back at once
    SIGHUP, SIGQUIT           as SIGTERM; hand back at once
    exit codes                0 stopped, 1 failed, 2 wrong usage, 69 no Redis, 130 handed back at once
    """
    flags = Flags(queues=tuple(q.strip() for q in (queues or "").split(",") if q.strip()), **given)  # type: ignore[arg-type]
    setup_logging(flags.log_level, flags.log_format, flags.log_also)
    app = open_app(
        flags.app_path, flags.broker_url, flags.namespace, needs_code=True
    )  # errors once, before any process
    if workers == 1:
        from taskq.worker.running.exit import exit_with

        exit_with(serve(flags))
    raise SystemExit(supervise(flags, workers, app.keys.namespace))


def serve(flags: Flags, member: Member | None = None) -> ExitCode:
    """Run one worker in this process, alone or as one of several."""
    from taskq.worker.process.process import Process, run_worker
    from taskq.worker.worker import WorkerOptions

    write_lines()
    app = open_app(flags.app_path, flags.broker_url, flags.namespace, needs_code=True)
    app.load()
    options = WorkerOptions(
        queues=flags.queues,
        pool=flags.pool,
        concurrency=flags.concurrency,
        async_concurrency=flags.async_concurrency,
        shutdown_timeout=flags.shutdown_timeout,
        burst=flags.burst,
        app_path=flags.app_path,
        family="" if member is None else member.family,
    )
    process = Process(banner=member is None or member.index == 0)
    with contextlib.ExitStack() as beside:
        beat = None
        if flags.beat and (member is None or member.index == 0):
            beat = beside.enter_context(beating(app))
            process.sound = beat.is_sound
        if member is not None:
            process.report = member.report
            process.orders = member.orders
            if member.metrics_directory is not None:
                beside.enter_context(sharing_metrics(app, member.metrics_directory))
        else:
            process.health = address(flags.health_host, flags.health_port)
            process.allowed_hosts = flags.allowed_hosts
            if flags.metrics_port is not None:
                beside.enter_context(serving_metrics(app, flags.metrics_host, flags.metrics_port, flags.allowed_hosts))
        code = run_worker(app, options, process)
        return ExitCode.FAILED if beat is not None and beat.died else code


def supervise(flags: Flags, workers: int, ns: str) -> ExitCode:
    """Run several workers under a supervisor, with one endpoint for all of them."""
    from taskq.observe.health import serving_health
    from taskq.worker.process.supervisor import Supervisor
    from taskq.worker.process.takeover import taking_over
    from taskq.worker.worker import of_tasks, own_queues

    app = open_app(flags.app_path, flags.broker_url, flags.namespace, needs_code=True)
    app.load()
    app.sync_broker.execute("PING")  # a wrong address or password ends it here, an outage later does not
    take_over = taking_over(app, [of_tasks(queue) for queue in flags.queues] or own_queues(app))
    with contextlib.ExitStack() as beside:
        directory = retire = None

        def ended(pid: int, family: str) -> None:
            take_over(family)
            if retire is not None:
                retire(pid)

        if flags.metrics_port is not None:
            directory = beside.enter_context(tempfile.TemporaryDirectory(prefix="taskq-metrics-"))
            retire = beside.enter_context(
                serving_sum(directory, ns, flags.metrics_host, flags.metrics_port, flags.allowed_hosts)
            )
        supervisor = Supervisor(serve_member, (flags, directory), workers, ended=ended)
        if flags.health_port is not None:
            beside.enter_context(
                serving_health(flags.health_host, flags.health_port, supervisor.is_ready, flags.allowed_hosts)
            )
        return supervisor.run()


def serve_member(
    index: int, orders: Connection, slate: Any, family: str, flags: Flags, metrics_directory: str | None
) -> None:
    """Run one of several workers; the supervisor calls this in a process of its own."""
    from taskq.worker.running.exit import exit_with

    # until its event loop hears signals: Ctrl-C is the supervisor's to pass on. It was blocked for the start of this
    # process, and programs would inherit that
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    setup_logging(flags.log_level, flags.log_format, flags.log_also)
    with reporting_errors():
        exit_with(serve(flags, Member(index, orders, slate, family, metrics_directory)))


@dataclass(frozen=True, slots=True)
class Member:
    """What one of several workers knows of its place."""

    index: int
    orders: Connection
    """From the supervisor."""
    slate: Any
    """Shared with the supervisor: when each member last read its queues."""
    family: str
    """What its consumer names have in common."""
    metrics_directory: str | None

    def report(self, last_fetch: float) -> None:
        """Tell the supervisor when this worker last read its queues (``time.monotonic()``)."""
        self.slate[self.index] = last_fetch


def address(host: str, port: int | None) -> tuple[str, int] | None:
    """Where to listen, if at all."""
    return None if port is None else (host, port)


@contextlib.contextmanager
def beating(app: TaskQ) -> Iterator[BesideWorker]:
    """Fire the app's schedules from a thread meanwhile."""
    from taskq.beat.beat import Beat
    from taskq.beat.beside import BesideWorker

    beside = BesideWorker(Beat(app))
    beside.start()
    try:
        yield beside
    finally:
        beside.stop()


@contextlib.contextmanager
def serving_metrics(app: TaskQ, host: str, port: int, allowed_hosts: tuple[str, ...]) -> Iterator[None]:
    """Serve the metrics of this process meanwhile."""
    from prometheus_client.core import CollectorRegistry

    from taskq.observe.metrics import WorkerMetrics, serve

    registry = CollectorRegistry()
    WorkerMetrics(app, registry)
    with contextlib.closing(serve(registry, host, port, allowed_hosts)) as endpoint:
        logger.info("metrics on %s", endpoint.url)
        yield


@contextlib.contextmanager
def sharing_metrics(app: TaskQ, directory: str) -> Iterator[None]:
    """Leave this process's metrics where the supervisor sums them, meanwhile."""
    from taskq.observe.metrics import SharedMetrics, WorkerMetrics

    with contextlib.closing(SharedMetrics(WorkerMetrics(app), directory)):
        yield


@contextlib.contextmanager
def serving_sum(
    directory: str, ns: str, host: str, port: int, allowed_hosts: tuple[str, ...]
) -> Iterator[Callable[[int], None]]:
    """Serve the sum of the members' metrics meanwhile; yields what to call with the pid of one that has ended."""
    from prometheus_client.core import CollectorRegistry

    from taskq.observe.metrics import aggregate, serve

    registry = CollectorRegistry()
    children = aggregate(directory, ns, registry)
    with contextlib.closing(serve(registry, host, port, allowed_hosts)) as endpoint:
        logger.info("metrics of all on %s", endpoint.url)
        yield children.retire
