"""The events of one run of a batch job, in pages, with checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, overload

from taskq.broker.keys import TopicKeys
from taskq.broker.link.sync import SyncBroker
from taskq.broker.scripts import jobs as job_scripts
from taskq.broker.scripts.jobs import Holder
from taskq.broker.views import topics
from taskq.client.context import current_task
from taskq.errors import JobSupersededError
from taskq.values import serialization
from taskq.values.functions import never_ran
from taskq.values.topics import Event

KNOWN_WINDOWS = 400
"""Windows with a beginning of their own that a job remembers to have committed: more than a year of days."""
MAX_RESULT = 2000
"""Longest result kept in the job's record, in bytes; the result itself is kept as any."""


class Page(Sequence[Event]):
    """Some events of a window, in order."""

    __slots__ = ("_cursor", "_done", "_events", "_window")

    def __init__(self, window: Window, events: list[Event], cursor: str, done: int) -> None:
        self._window = window
        self._events = events
        self._cursor = cursor
        self._done = done

    def __len__(self) -> int:
        return len(self._events)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        return self._events[index]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def commit(self, state: Any = None) -> None:
        """A checkpoint: this page and all before it are done, and *state* is what came of them.

        A run that dies goes on after it, with *state* as ``window.state``.

        Args:
            state: plain data, as the arguments of a task.

        Raises:
            SerializationError: the state has no wire form.
            JobSupersededError: the run belongs to another worker by now; nothing was written.
            BrokerError: Redis could not be reached.
        """
        self._window._checkpoint(self._cursor, self._done, state)

    async def acommit(self, state: Any = None) -> None:
        """As :meth:`commit`, without blocking the event loop."""
        await asyncio.to_thread(self.commit, state)


class Window:
    """The events of one run: given to the function of a batch job.

    Args:
        broker: runs the commands.
        topic: whose events.
        job: the job's name.
        page: events in a page.
        holder: the message of this run.
        opened: the answer of ``lua/open.lua``.
    """

    def __init__(
        self, broker: SyncBroker, topic: TopicKeys, job: str, page: int, holder: Holder, opened: Sequence[bytes]
    ) -> None:
        from_ms, to_ms, cursor, state, done, total, position, ordinal = opened
        self._broker = broker
        self._topic = topic
        self._job = job
        self._page = page
        self._holder = holder
        self._from_ms = int(from_ms) if from_ms else None
        self._to_ms = int(to_ms)
        before = position.decode() or "0-0" if self._from_ms is None else _before(self._from_ms)
        self._first = before
        self._cursor = cursor.decode() or before
        self._position = self._cursor
        self._until = _before(self._to_ms)
        self._done = int(done)
        self._ordinal = int(ordinal)
        self.state: Any = serialization.loads(state) if state else None
        """What the last checkpoint of this run kept; None when there was none."""
        self.resumed = bool(cursor)
        """Whether an earlier delivery of this run has made a checkpoint."""
        self.missed = 0
        """Events that the topic's retention dropped before this window could read them; known at its first page."""
        self._total = int(total) if total else None

    @property
    def start(self) -> datetime | None:
        """The first instant of the window; None for what begins where the last run ended."""
        return None if self._from_ms is None else datetime.fromtimestamp(self._from_ms / 1000, UTC)

    @property
    def end(self) -> datetime:
        """The instant before which its events were published."""
        return datetime.fromtimestamp(self._to_ms / 1000, UTC)

    @property
    def done(self) -> int:
        """Events in the pages given out, also by earlier deliveries of this run, up to its last checkpoint."""
        return self._done

    @property
    def total(self) -> int:
        """Events in the window; what retention drops meanwhile may be missing."""
        if self._total is None:
            self._measure()
        return self._total or 0

    def pages(self) -> Iterator[Page]:
        """The events that are still to be done, a page at a time: memory stays flat.

        Raises:
            BrokerError: Redis could not be reached.
        """
        if self._total is None:
            self._measure()
        more = True
        while more:
            page, more = self._next()
            if page is not None:
                yield page

    async def apages(self) -> AsyncIterator[Page]:
        """As :meth:`pages`, for ``async for``, without blocking the event loop."""
        pages = self.pages()
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            yield page

    def _next(self) -> tuple[Page | None, bool]:
        events, cursor, more = topics.read_page(
            self._broker.execute, self._topic, self._cursor, self._until, self._page
        )
        self._cursor = cursor
        if not events:
            return None, more
        self._done += len(events)
        self._ordinal = events[-1].ordinal
        self._position = cursor
        return Page(self, events, cursor, self._done), more

    def committed(self, value: Any) -> Any:
        """The run has returned *value*: how far it came commits with its success."""
        if never_ran(value):
            return value  # nothing of it may be committed; the runner refuses it, as of any task
        seconds, micros = self._broker.execute("TIME")
        fields: list[bytes | str | int] = ["status", "done", "done", self._done, "cursor", self._position]
        fields += ["finished", int(seconds) * 1000 + int(micros) // 1000]
        packed = serialization.dumps(value, f"the result of job {self._job}")
        if len(packed) <= MAX_RESULT:
            fields += ["result", packed]
        fields += self._end_of_window()
        name, tx = self._holder.keys.job(self._job), current_task().tx
        tx.execute("HSET", name, *fields)
        tx.execute("HDEL", name, "state", "error")
        return value

    def _end_of_window(self) -> list[bytes | str | int]:
        """The fields by which the next runs know what was done."""
        if self._from_ms is not None:
            known = self._broker.execute("HGET", self._holder.keys.job(self._job), "committed") or b""
            return ["committed", b" ".join([*known.split(), b"%d" % self._to_ms][-KNOWN_WINDOWS:])]
        last = topics.newest(self._broker.execute, self._topic, 1, self._position)
        ordinal = last[0].ordinal if last else self._ordinal
        return ["until_ms", self._to_ms, "position", self._position, "ordinal", ordinal]

    def note(self, error: str) -> None:
        """Keep the text of an error in the job's record."""
        self._write("error", error)

    def _checkpoint(self, cursor: str, done: int, state: Any) -> None:
        packed = serialization.dumps(state, f"the state of job {self._job}")
        self._write("cursor", cursor, "done", done, "state", packed)

    def _write(self, *pairs: bytes | str | int) -> None:
        if not self._broker.run(job_scripts.checkpoint(self._holder, self._job, pairs)):
            raise JobSupersededError(f"job {self._job}: this run belongs to another worker by now")

    def _measure(self) -> None:
        """Count the window by the ordinals of its first and last event."""
        execute, events = self._broker.execute, self._topic
        first, _, _ = topics.read_page(execute, events, self._first, self._until, 1)
        last = topics.newest(execute, events, 1, self._until)
        self._total = 0
        if first and last:
            self._total = last[0].ordinal - first[0].ordinal + 1
            if self._first != "0-0" and self._from_ms is None and not self.resumed:
                self.missed = max(first[0].ordinal - self._ordinal - 1, 0)
        self._write("total", self._total, "missed", self.missed)


def _before(ms: int) -> str:
    """The largest event id before that instant."""
    return f"{ms - 1}-18446744073709551615" if ms > 0 else "0-0"
