"""``taskq worker``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from taskq.cli.session import app_options, log_options, open_app, reporting_errors, setup_logging
from taskq.config import POOLS

if TYPE_CHECKING:
    from taskq.errors import ExitCode


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
    beat: bool
    log_level: str
    log_format: str


@click.command()
@app_options
@click.option(
    "-Q", "--queues", metavar="A,B", help="Queues to read, the preferred first. Default: those of the app's tasks."
)
@click.option("-c", "--concurrency", type=click.IntRange(min=1), help="Slots for ordinary tasks, per process. [8]")
@click.option("--async-concurrency", type=click.IntRange(min=1), help="Slots for async tasks, per process. [100]")
@click.option("-P", "--pool", type=click.Choice(POOLS), help="Where ordinary tasks run. [threads]")
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
@log_options
@reporting_errors()
def worker(queues: str | None, workers: int, **given: object) -> None:
    """Run tasks.

    \b
    taskq worker -A shop:app                        one process, 8 threads
    taskq worker -A shop:app -w 4                   four processes, started again if they die
    taskq worker -A shop:app -P processes -c 4      each ordinary task in a child process of its own
    taskq worker -A shop:app -Q high,low            only these queues, "high" first

    Ordinary tasks run in slots (-c) of the pool (-P), async tasks on the event loop, all in one worker.

    \b
    SIGTERM, SIGINT (Ctrl-C)  fetch nothing more, give back what has not started,
                              finish what runs within --shutdown-timeout, hand back the rest
    a second signal           hand back at once
    exit codes                0 stopped, 1 failed, 2 wrong usage, 69 no Redis, 130 second signal
    """
    flags = Flags(queues=tuple(q.strip() for q in (queues or "").split(",") if q.strip()), **given)  # type: ignore[arg-type]
    setup_logging(flags.log_level, flags.log_format)
    open_app(flags.app_path, flags.broker_url, flags.namespace, needs_code=True)  # errors once, before any process
    if workers == 1:
        from taskq.worker.process import exit_with

        exit_with(serve(flags))
    raise SystemExit(supervise(flags, workers))


def serve(flags: Flags, *, banner: bool = True) -> ExitCode:
    """Run one worker in this process."""
    from taskq.worker.process import Endpoints, run_worker
    from taskq.worker.worker import WorkerOptions

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
    )
    return run_worker(
        app, options, Endpoints(health_host=flags.health_host, health_port=flags.health_port), banner=banner
    )


def serve_member(index: int, flags: Flags) -> None:
    """Run one of several workers; the supervisor calls this in a process of its own."""
    from taskq.worker.process import exit_with

    setup_logging(flags.log_level, flags.log_format)
    with reporting_errors():
        exit_with(serve(flags, banner=index == 0))


def supervise(flags: Flags, workers: int) -> ExitCode:
    """Run several workers under a supervisor."""
    import os

    from taskq.worker.supervisor import Supervisor

    os.environ["TASKQ_SUPERVISED"] = str(os.getpid())
    return Supervisor(serve_member, (flags,), workers).run()
