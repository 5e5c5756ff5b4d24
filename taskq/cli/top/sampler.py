"""Looks at Redis from a thread of its own, so that keys answer at once."""

from __future__ import annotations

import queue
import threading

from taskq.broker.views.survey import read_queues
from taskq.broker.views.workers import read_workers
from taskq.cli.top.state import Action, Do, Snapshot
from taskq.client.app import TaskQ
from taskq.errors import TaskqError


class Sampler:
    """Takes snapshots, and does what keys ask for between two of them.

    Args:
        app: which Redis and namespace.
        every: seconds between two snapshots.
    """

    def __init__(self, app: TaskQ, every: float) -> None:
        self._app = app
        self._every = every
        self._asked: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="taskq-top", daemon=True)
        self.latest = Snapshot()
        self.message = ""
        """What came of the last action."""
        self.changed = threading.Event()
        """Set when there is something new."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, action: Action) -> None:
        """Do this soon."""
        self._asked.put(action)

    def stop(self) -> None:
        """End; waits for a look that is under way, for a second at most."""
        self._asked.put(None)
        self._thread.join(1)

    def _run(self) -> None:
        while True:
            try:
                self.latest = self.look()
            except TaskqError as error:
                self.latest = Snapshot(trouble=str(error))
            self.changed.set()
            try:
                action = self._asked.get(timeout=self._every)
            except queue.Empty:
                continue
            if action is None:
                return
            try:
                self.message = self._do(action)
            except TaskqError as error:
                self.message = str(error)

    def look(self) -> Snapshot:
        """A snapshot.

        Raises:
            BrokerError: Redis could not be asked.
        """
        app = self._app
        pipeline = app.sync_broker.pipeline
        views = read_queues(pipeline, [app.keys.queue(name) for name in app.known_queues()])
        rates = {view.stats.queue: view.service_rate for view in views}
        at = views[0].at if views else 0.0
        return Snapshot([view.stats for view in views], read_workers(pipeline, app.keys, list(rates)), rates, at)

    def _do(self, action: Action) -> str:
        name = action.queue
        match action.do:
            case Do.PAUSE:
                self._app.pause(name)
                return f"{name}: paused"
            case Do.RESUME:
                self._app.resume(name)
                return f"{name}: resumed"
            case Do.REPLAY:
                return f"{name}: replayed {self._app.dlq.replay(queue=name)} dead letters"
            case Do.QUIT:
                return ""
