"""One connection to ``taskq dashboard``: uvicorn's, with an end to every wait for the client and a bound on all."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from taskq.dashboard.guard import BODY_SECONDS

MOST_CONNECTIONS = 200
HEADER_SECONDS = 10.0
"""Within which the headers of a request have to be there, however they trickle in."""
WRITE_SECONDS = 30.0
"""How long a client may take nothing of an answer."""


class Connection(H11Protocol):
    """Closes what sends its headers or its body too slowly, or does not take its answer.

    Where there would be more than :data:`MOST_CONNECTIONS`, the one is closed that has waited longest for its client.
    """

    _phase: tuple[object, ...] = ()
    _timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _since = 0.0

    @property
    def waits_for_client(self) -> bool:
        """Whether no whole request is there."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and make room."""
        super().connection_made(transport)
        self._follow()
        if len(self.connections) > MOST_CONNECTIONS:
            waiting = [one for one in self.connections if isinstance(one, Connection) and one.waits_for_client]
            min(waiting, key=lambda one: one._since).transport.abort()  # this one waits, too

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._follow()

    def pause_writing(self) -> None:
        """The client takes nothing more for now."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes something again."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def _follow(self) -> None:
        """Start the clock when the client has to send something else than before; what trickles in does not stop it."""
        idle = self.timeout_keep_alive_task is not None  # between two requests: uvicorn's own clock runs
        phase = (self.conn.their_state, self.cycle, idle)
        if phase == self._phase:
            return
        self._phase, self._since = phase, self.loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.waits_for_client and not idle:
            seconds = HEADER_SECONDS if self.conn.their_state is h11.IDLE else BODY_SECONDS
            self._timer = self.loop.call_later(seconds, self.transport.abort)
