"""The dead letter queue: list, show, replay, purge.

A dead letter keeps the message's bytes as they were, and the evidence of its last failure. Nothing removes one
but a replay or a purge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.keys import Keys, QueueKeys
from taskq.broker.sync import SyncBroker
from taskq.errors import DecodeError
from taskq.message import Message, Meta, decode, encode

_PAGE = 500

Quads = list[scripts.Arg]
"""Dead letter id, level, message, task id; then the next."""


class Evidence(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is known of a final failure."""

    error_type: str = ""
    error: str = ""
    traceback: str = ""
    reason: str = ""
    """Why it is here: ``failed``, ``rejected``, ``crashed``, ``malformed``, ``unknown task``."""
    attempts: int = 0
    crashes: int = 0
    exit_code: int | None = None
    """How the child process ended that ran it; below zero: killed by that signal."""
    rss_bytes: int = 0
    """Most memory that child had used when the message began; 0 when unknown."""
    started_at: int = 0
    """Epoch milliseconds when its last run began; 0 when unknown."""
    worker: str = ""
    """Host, process and consumer that saw the end."""
    died_at: int = 0
    """Epoch milliseconds."""
    first_at: int = 0
    """Epoch milliseconds of the first attempt; 0 when unknown."""


_encode_evidence = msgspec.msgpack.Encoder().encode
_decode_evidence = msgspec.msgpack.Decoder(Evidence).decode


def pack_evidence(evidence: Evidence) -> bytes:
    """The stored form."""
    return _encode_evidence(evidence)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that failed for good."""

    queue: str
    entry: str
    """Its id in the dead letter queue."""
    data: bytes
    """The message's bytes as they were."""
    message: Message | None
    """None when the bytes are no message (malformed)."""
    evidence: Evidence

    @property
    def task_id(self) -> str:
        """The task id; empty when malformed."""
        return self.message.task_id if self.message else ""

    @property
    def task(self) -> str:
        """The task's name; empty when malformed."""
        return self.message.task if self.message else ""

    @property
    def died_at(self) -> datetime:
        """When it failed for good."""
        return datetime.fromtimestamp(self.evidence.died_at / 1000, UTC)

    @property
    def replays(self) -> int:
        """How many times it came back from here before."""
        return self.message.meta.replays if self.message and self.message.meta else 0


class DeadLetters:
    """The dead letters of an app's queues: ``app.dlq``.

    Args:
        broker: runs the commands.
        keys: of the namespace.
        queues: names the queues to look at when none is given.
    """

    def __init__(self, broker: SyncBroker, keys: Keys, queues: Callable[[], list[str]]) -> None:
        self._broker = broker
        self._keys = keys
        self._queues = queues

    def count(self, queue: str | None = None) -> int:
        """How many there are."""
        return sum(self._broker.execute("XLEN", keys.dead) for keys in self._of(queue))

    def list(self, queue: str | None = None, *, limit: int = 100, task: str | None = None) -> list[DeadLetter]:
        """The oldest *limit* dead letters, of one queue or all, of one task or all."""
        found = []
        for letter in self._iterate(queue):
            if task is None or letter.task == task:
                found.append(letter)
                if len(found) >= limit:
                    break
        return found

    def get(self, task_or_entry_id: str, queue: str | None = None) -> DeadLetter | None:
        """The dead letter of a task id or entry id, or None."""
        for keys in self._of(queue):
            if "-" in task_or_entry_id and task_or_entry_id.replace("-", "").isdigit():
                rows = self._broker.execute("XRANGE", keys.dead, task_or_entry_id, task_or_entry_id)
                if rows:
                    return _letter(keys, *rows[0])
        return next((x for x in self._iterate(queue) if x.task_id == task_or_entry_id), None)

    def replay(
        self,
        ids: Iterable[str] | None = None,
        *,
        queue: str | None = None,
        task: str | None = None,
        max_replays: int | None = None,
    ) -> int:
        """Put dead letters back into their queue, with their attempts reset and ``replays`` counted up.

        Each is one atomic step that happens at most once, so a replay may be repeated or run twice at a time.

        Args:
            ids: task ids or entry ids; None means all that the other arguments leave.
            queue: only of this queue.
            task: only of this task.
            max_replays: leave those that were replayed this often.

        Returns:
            How many were put back. Malformed ones stay.

        Raises:
            BrokerError: Redis could not be asked, or has no memory; nothing is lost.
        """
        wanted = None if ids is None else set(ids)
        total = 0
        page: dict[str, Quads] = {}
        for letter in self._iterate(queue):
            if letter.message is None or (task is not None and letter.task != task):
                continue
            if wanted is not None and not wanted & {letter.task_id, letter.entry}:
                continue
            if max_replays is not None and letter.replays >= max_replays:
                continue
            quads = page.setdefault(letter.queue, [])
            quads += _revived(letter)
            if len(quads) >= 4 * _PAGE:
                total += self._replay_page(letter.queue, page.pop(letter.queue))
        return total + sum(self._replay_page(name, quads) for name, quads in page.items())

    def purge(self, ids: Iterable[str] | None = None, *, queue: str | None = None, task: str | None = None) -> int:
        """Delete dead letters for good; the arguments choose as in :meth:`replay`. Returns how many."""
        wanted = None if ids is None else set(ids)
        total = 0
        for letter in self._iterate(queue):
            if (task is None or letter.task == task) and (wanted is None or wanted & {letter.task_id, letter.entry}):
                total += self._broker.execute("XDEL", self._keys.queue(letter.queue).dead, letter.entry)
        return total

    def _replay_page(self, queue: str, quads: Sequence[scripts.Arg]) -> int:
        if failpoints.ARMED:
            failpoints.hit("replay.page")
        moved = int(self._broker.run(scripts.replay(self._keys.queue(queue), quads)))
        if failpoints.ARMED:
            failpoints.hit("replay.done")
        return moved

    def _of(self, queue: str | None) -> Iterator[QueueKeys]:
        return (self._keys.queue(name) for name in ([queue] if queue else self._queues()))

    def _iterate(self, queue: str | None) -> Iterator[DeadLetter]:
        """Every dead letter there is now, page by page, so that memory stays flat."""
        for keys in self._of(queue):
            last = self._broker.execute("XREVRANGE", keys.dead, "+", "-", "COUNT", 1)
            start = b"-"
            while last:
                rows = self._broker.execute("XRANGE", keys.dead, start, last[0][0], "COUNT", _PAGE)
                for entry, fields in rows:
                    yield _letter(keys, entry, fields)
                if len(rows) < _PAGE:
                    break
                start = b"(" + rows[-1][0]


def _letter(keys: QueueKeys, entry: bytes, fields: Sequence[bytes]) -> DeadLetter:
    stored: dict[bytes, Any] = dict(zip(fields[::2], fields[1::2], strict=False))
    data = stored.get(b"m", b"")
    try:
        message: Message | None = decode(data)
    except DecodeError:
        message = None
    try:
        evidence = _decode_evidence(stored.get(b"i", b""))
    except msgspec.DecodeError:
        evidence = Evidence(reason="malformed", error="the evidence cannot be read")
    return DeadLetter(keys.queue, entry.decode(), data, message, evidence)


def _revived(letter: DeadLetter) -> Quads:
    message = letter.message
    assert message is not None
    old = message.meta or Meta()
    meta = msgspec.structs.replace(
        old, attempt=1, crashes=0, first=0, expires=0, unknown_since=0, due=0, replays=old.replays + 1
    )
    revived = msgspec.structs.replace(message, meta=meta)
    return [letter.entry, str(meta.priority), encode(revived), message.task_id]
