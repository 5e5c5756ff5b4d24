"""One worker process from start to exit code: event loop, signals, banner, endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from taskq.app import TaskQ
from taskq.broker.aio import AsyncConnection, insist
from taskq.broker.durability import ServerSettings, server_settings
from taskq.errors import ConfigError, ExitCode
from taskq.worker.health import serving_health
from taskq.worker.supervisor import READY_WITHIN
from taskq.worker.worker import Worker, WorkerOptions

logger = logging.getLogger("taskq.worker")

SWITCH_INTERVAL = 0.0005
"""Seconds a thread may hold the interpreter lock while others want it. Python's own 0.005 would let one task that
computes keep the event loop waiting ten times as long before it can fetch, settle or start another."""


@dataclass(slots=True, kw_only=True)
class Process:
    """What a worker process does besides its work."""

    banner: bool = True
    health: tuple[str, int] | None = None
    """Where to serve ``/live`` and ``/ready``."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names by which that is reached, besides localhost and addresses."""
    report: Callable[[float], None] | None = None
    """Told every second when the worker last read its queues."""
    parent: int | None = None
    """The supervisor; when it is gone the worker drains."""
    sound: Callable[[], bool] = lambda: True
    """Whether what runs beside the worker is well; else the process is not ready."""


def run_worker(app: TaskQ, options: WorkerOptions, process: Process) -> ExitCode:
    """Run one worker in this process until a signal.

    SIGTERM and SIGINT drain; a second one hands back at once.

    Raises:
        ConfigError: settings that cannot be used, or that ``strict_durability`` refuses.
        BrokerError: Redis could not be reached at the start, or refused.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    if process.parent is not None:
        _drain_without(process.parent)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_main(app, options, process))


async def _main(app: TaskQ, options: WorkerOptions, process: Process) -> ExitCode:
    settings = await check_server(app)
    worker = Worker(app, options)
    if process.banner:
        for line in banner_lines(app, worker, settings):
            logger.info("%s", line)
        if not own_tasks(app):
            logger.warning("the app has no task of its own: is a module missing in include=, or -A another app?")
        if settings.hidden:
            logger.warning("%s", settings.hidden)
        for danger in settings.dangers():
            logger.warning("%s", danger)
    signals = _Signals(worker)
    signals.install(supervised=process.parent is not None)
    async with contextlib.AsyncExitStack() as beside:
        if process.health is not None:
            ready = lambda: process.sound() and is_ready(worker)  # noqa: E731
            beside.enter_context(serving_health(*process.health, ready, process.allowed_hosts))
        if process.report is not None:
            reporter = asyncio.create_task(_report(worker, process.report, process.sound))
            beside.callback(reporter.cancel)
        await worker.run()
    logger.info("stopped")
    return ExitCode.INTERRUPTED if signals.count > 1 else ExitCode.OK


class _Signals:
    """The first signal drains, the second hands back at once."""

    def __init__(self, worker: Worker) -> None:
        self.count = 0
        self._worker = worker

    def install(self, *, supervised: bool) -> None:
        loop = asyncio.get_running_loop()
        if supervised:  # Ctrl-C reaches the whole group, and the supervisor passes it on: it must not count twice
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM,) if supervised else (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received, signal.Signals(number).name)

    def _received(self, name: str) -> None:
        self.count += 1
        if self.count == 1:
            logger.info("%s: finishing what runs (again to hand it back at once)", name)
            self._worker.stop()
        else:
            logger.warning("%s: handing back at once", name)
            self._worker.hurry()


def is_ready(worker: Worker) -> bool:
    """Whether the worker has read its queues lately."""
    return worker.started.is_set() and time.monotonic() - worker.last_fetch < READY_WITHIN


async def check_server(app: TaskQ) -> ServerSettings:
    """Read the server's settings.

    Raises:
        ConfigError: ``strict_durability`` is on and they can lose tasks.
        BrokerError: Redis cannot be reached, or refuses.
    """
    config = app.config

    async def ask(silence: float) -> ServerSettings:
        timeout = min(config.broker_connection_timeout, silence)
        connection = await AsyncConnection.open(app.address, timeout, "taskq-check")
        try:
            return await server_settings(lambda *command: connection.execute(*command, timeout=silence))
        finally:
            connection.close()

    settings = await insist(ask, config.broker_deadline)
    if config.strict_durability and settings.dangers():
        raise ConfigError(f"strict_durability: {'; '.join(settings.dangers())}")
    return settings


def own_tasks(app: TaskQ) -> list[str]:
    """The tasks of the app but those that taskq brings along."""
    return sorted(name for name in app.tasks if not name.startswith("taskq."))


def banner_lines(app: TaskQ, worker: Worker, settings: ServerSettings) -> list[str]:
    """What a worker says of itself at the start."""
    from taskq import __version__

    names = sorted(app.tasks)
    slots = worker.options.concurrency or app.config.worker_concurrency
    async_slots = worker.options.async_concurrency or app.config.worker_async_concurrency
    return [
        f"taskq {__version__}: app {app.name}, process {os.getpid()}",
        f"queues: {', '.join(worker.queues)}",
        f"pool: {worker.pool}, {slots} slots, {async_slots} for async tasks",
        f"tasks: {', '.join(names)}",
        f"{app.address} ({settings})",
    ]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed: the exchange loop is about a third cheaper on it."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _report(worker: Worker, report: Callable[[float], None], sound: Callable[[], bool]) -> None:
    while True:
        if worker.last_fetch and sound():
            report(worker.last_fetch)
        await asyncio.sleep(1 if worker.last_fetch else 0.02)


def _drain_without(parent: int) -> None:
    """Drain when the supervisor is gone: nobody else would ever stop this worker."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="taskq-parent", daemon=True).start()
