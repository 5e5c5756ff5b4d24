"""The part of an app that opens FIFOs, through which programs pass items to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskq.client.app.queueing import Queueing
from taskq.client.app.sending import Sending
from taskq.client.fifo import Fifo


class Passing(Sending, Queueing):
    """What :class:`taskq.TaskQ` can do with FIFOs."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._fifos: dict[tuple[str, int], Fifo] = {}

    def queue(self, name: str, *, prefetch: int = 0) -> Fifo:
        """A plain FIFO between programs, for what is not a task: ``app.queue("jobs").put(value)`` and ``.get()``.

        It is kept apart from the queues of tasks; views call it ``fifo:<name>``. Asked for again, it is the same object
        until it is closed.

        Args:
            name: 1 to 100 letters, digits, ``_``, ``-`` or ``.``.
            prefetch: how many items ``get`` may take ahead, for speed: they wait in this process until asked for.

        Raises:
            ConfigError: a name or prefetch that cannot be used.
        """
        opened = Fifo(self, name, prefetch)
        with self._lock:
            known = self._fifos.get((name, prefetch))
            if known is None or known.closed:
                known = self._fifos[name, prefetch] = opened
            return known

    def close(self) -> None:
        """Close this process's connections; they open again when needed, but FIFOs stay closed.

        What was received from a FIFO and not settled goes back to it.
        """
        for fifo in self._opened():
            fifo.close()
        super().close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop, and what :meth:`close` closes."""
        for fifo in self._opened():
            await fifo.aclose()
        await super().aclose()

    def _connected(self) -> bool:
        return bool(self._fifos) or super()._connected()

    def _opened(self) -> list[Fifo]:
        with self._lock:
            fifos, self._fifos = list(self._fifos.values()), {}
        return fifos
