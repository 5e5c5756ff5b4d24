"""A worker inside the test's own process, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from taskq import TaskQ
from taskq.worker.worker import Worker, WorkerOptions

R = TypeVar("R")

_DEADLINE = 30.0
"""Seconds in which a worker must start, and end; generous, because nothing else decides a test here."""


class RunningWorker:
    """A worker on a loop in a thread; made by :func:`running_worker`."""

    def __init__(self, app: TaskQ, options: WorkerOptions) -> None:
        self._app = app
        self._options = options
        self._begun = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Worker | None = None
        self._thread = threading.Thread(target=self._run, name="worker-under-test", daemon=True)

    @property
    def worker(self) -> Worker:
        """The worker itself; use :meth:`call` for what belongs on its loop."""
        assert self._worker
        return self._worker

    @property
    def consumer(self) -> bytes:
        """The name under which it holds its leases now."""
        return self.worker._links[0].consumer

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        """Start, and wait until the worker fetches; raises what its start raised."""
        self._thread.start()
        assert self._begun.wait(_DEADLINE), "the worker did not start"
        if self._error is not None:
            self.join()

    def call(self, function: Callable[[], object]) -> None:
        """Run *function* on the worker's loop."""
        assert self._loop
        if self.running:
            self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """Drain, and wait for the end; raises what broke the worker."""
        self.call(lambda: self.worker.stop())
        self.join()

    def hurry(self) -> None:
        """Hand back also what runs, and wait for the end."""
        self.call(lambda: self.worker.hurry())
        self.join()

    def join(self) -> None:
        """Wait for the end; raises what broke the worker."""
        self._thread.join(_DEADLINE)
        assert not self.running, "the worker did not end"
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                runner.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._begun.set()

    async def _main(self) -> None:
        self._worker = Worker(self._app, self._options)
        work = asyncio.create_task(self._worker.run())
        started = asyncio.create_task(self._worker.started.wait())
        await asyncio.wait({work, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        self._begun.set()
        await work


@contextmanager
def running_worker(
    app: TaskQ,
    queues: Sequence[str] = (),
    concurrency: int | None = None,
    pool: str | None = None,
    **options: Any,
) -> Iterator[RunningWorker]:
    """Run a worker for the length of the ``with``: it has started when the body begins, and drained at the end.

    Args:
        app: whose tasks to run.
        queues, concurrency, pool: as :class:`WorkerOptions`.
        **options: the other fields of :class:`WorkerOptions`.
    """
    running = RunningWorker(app, WorkerOptions(queues=queues, concurrency=concurrency, pool=pool, **options))
    running.start()
    try:
        yield running
    finally:
        running.stop()


def run_burst(app: TaskQ, **options: Any) -> None:
    """Run a worker until the queues are empty."""
    running = RunningWorker(app, WorkerOptions(burst=True, **options))
    running.start()
    running.join()


def run_async(app: TaskQ, coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine on a new loop, as an async program would, and close the app's connections of that loop."""

    async def main() -> R:
        try:
            return await asyncio.wait_for(coroutine, _DEADLINE)
        finally:
            await app.aclose()

    return asyncio.run(main())
