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
from multiprocessing.connection import Connection

from taskq.broker.link.aio import AsyncConnection, insist
from taskq.broker.views.durability import ServerSettings, server_settings
from taskq.client.app import TaskQ
from taskq.errors import ConfigError, ExitCode
from taskq.observe.health import serving_health
from taskq.worker.process.deadline import Deadline, closing
from taskq.worker.process.supervisor import DRAIN, HAND_BACK, READY_WITHIN, SAME_ORDER, Repeated
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
    orders: Connection | None = None
    """From the supervisor; when that is gone the worker drains."""
    sound: Callable[[], bool] = lambda: True
    """Whether what runs beside the worker is well; else the process is not ready."""


def run_worker(app: TaskQ, options: WorkerOptions, process: Process) -> ExitCode:
    """Run one worker in this process until a signal.

    SIGTERM and SIGINT drain, and a second one hands back at once; SIGHUP drains, SIGQUIT hands back at once.

    Raises:
        ConfigError: settings that cannot be used, or that ``strict_durability`` refuses.
        BrokerError: Redis could not be reached at the start, or refused.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    runner = asyncio.Runner(loop_factory=_loop_factory())
    code = ExitCode.FAILED
    try:
        code = runner.run(_main(app, options, process))
    finally:
        closing(runner.close, code)  # it waits for coroutines that were cancelled, and for threads
    return code


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
    deadline = Deadline(worker, worker.shutdown_timeout)
    signals = _Signals(worker)
    signals.install(deadline)
    if process.orders is not None:
        obey = (process.orders, asyncio.get_running_loop(), signals, deadline)
        threading.Thread(target=_obey, args=obey, name="taskq-orders", daemon=True).start()
    async with contextlib.AsyncExitStack() as beside:
        if process.health is not None:
            ready = lambda: process.sound() and is_ready(worker)  # noqa: E731
            beside.enter_context(serving_health(*process.health, ready, process.allowed_hosts))
        if process.report is not None:
            reporter = asyncio.create_task(_report(worker, process.report, process.sound))
            beside.callback(reporter.cancel)
        await worker.run()
    deadline.end()
    signals.say()
    logger.info("stopped")
    return ExitCode.INTERRUPTED if signals.handed_back else ExitCode.OK


class _Signals:
    """Turns signals into what the worker does: finish what runs, or hand it back at once."""

    def __init__(self, worker: Worker) -> None:
        self.handed_back = False
        self._worker = worker
        self._draining = False
        self._repeated = Repeated()
        self._news: asyncio.TimerHandle | None = None
        self._who = ""

    def install(self, deadline: Deadline) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked, number.name)
            deadline.watch(number)
        for number, act in ((signal.SIGHUP, self.drain), (signal.SIGQUIT, self.hand_back)):
            if signal.getsignal(number) != signal.SIG_IGN:  # as by nohup
                loop.add_signal_handler(number, act, signal.Signals(number).name)
                deadline.watch(number)

    def drain(self, who: str) -> None:
        """Finish what runs."""
        if not self._draining:
            self._draining = True
            self._worker.stop()
            # who reads this and sends another signal means it
            self._news = asyncio.get_running_loop().call_later(SAME_ORDER, self.say)
            self._who = who

    def say(self) -> None:
        """Log that the worker drains, unless that was done."""
        if self._news is not None:
            self._news.cancel()
            self._news = None
            logger.info("%s: finishing what runs (again to hand it back at once)", self._who)

    def hand_back(self, who: str) -> None:
        """Hand back what runs."""
        if not self.handed_back:
            self.handed_back = self._draining = True
            self.say()
            logger.warning("%s: handing back at once", who)
            self._worker.hurry()

    def _asked(self, name: str) -> None:
        (self.hand_back if self._repeated.note() else self.drain)(name)


def _obey(orders: Connection, loop: asyncio.AbstractEventLoop, signals: _Signals, deadline: Deadline) -> None:
    """Do what the supervisor says; without it nobody else would ever stop this worker."""
    with contextlib.suppress(RuntimeError):  # the loop has ended
        while True:
            try:
                order = orders.recv_bytes()
            except (EOFError, OSError):
                deadline.begin(hurry=False)
                loop.call_soon_threadsafe(signals.drain, "the supervisor is gone")
                return
            deadline.begin(hurry=order == HAND_BACK)
            act = {DRAIN: signals.drain, HAND_BACK: signals.hand_back}[order]
            loop.call_soon_threadsafe(act, "told by the supervisor")


def is_ready(worker: Worker) -> bool:
    """Whether the worker has read its queues lately, and knows all that it holds."""
    read = worker.started.is_set() and time.monotonic() - worker.last_fetch < READY_WITHIN
    return read and not worker.strays.any


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
        if worker.last_fetch and sound() and not worker.strays.any:
            report(worker.last_fetch)
        await asyncio.sleep(1 if worker.last_fetch else 0.02)
