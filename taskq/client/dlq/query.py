"""The read side of dead letters. It needs a connection and the names of keys, no app and no code of tasks.

Each read is bounded. A page looks at so many entries and says how many there are; groups come from an index that the
scripts keep as dead letters come and go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from taskq.broker.keys import QueueKeys
from taskq.broker.views.inspect import MOST_DIGITS, Execute, of_our_types
from taskq.client.dlq.filters import Filter
from taskq.client.dlq.letter import OTHER, DeadLetter, read_letter, unpack_label
from taskq.errors import ConfigError
from taskq.values.checks import shown
from taskq.values.durations import moment

PAGE = 500
"""Most entries in one read."""
FIRST_READ = 20
"""Entries in the first read, which tells how large they are."""
READ_BYTES = 1_000_000
"""About so many bytes come with one read."""
SCAN = 20_000
"""Most entries that one page looks at, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some dead letters, and where to go on."""

    letters: list[DeadLetter]
    scanned: int
    """How many entries were looked at for them."""
    total: int
    """How many dead letters there are in the queues asked for, whatever the filter."""
    next: str | None
    """Give this as ``after`` for the next page; None when everything was looked at."""


@dataclass(frozen=True, slots=True)
class Group:
    """The dead letters of one queue that have a fingerprint in common."""

    queue: str
    fingerprint: str
    """``other`` for what came when there were a thousand groups already; empty for what is in no group."""
    count: int
    task: str
    reason: str
    error_type: str
    error: str
    """Of the latest one, shortened."""
    first_at: datetime | None
    """When the first of them came; it may be gone by now."""
    last_at: datetime | None
    last_entry: str
    """Id of the latest one in the dead letter queue; it may be gone by now."""


def count(execute: Execute, queues: Sequence[QueueKeys]) -> int:
    """How many dead letters *queues* have."""
    read = of_our_types(execute)
    return sum(read("XLEN", keys.dead) or 0 for keys in queues)


def page(
    execute: Execute,
    queues: Sequence[QueueKeys],
    chosen: Filter,
    *,
    limit: int = 100,
    after: str | None = None,
    newest_first: bool = False,
    scan: int = SCAN,
) -> Page:
    """The next dead letters of *queues* that are meant, queue by queue.

    Args:
        execute: runs a command.
        queues: in this order.
        chosen: which are meant.
        limit: most letters in the page.
        after: the ``next`` of the page before, asked for with the same arguments.
        newest_first: from the latest to the oldest.
        scan: look at no more than so many entries.

    Raises:
        ConfigError: *after* is of no page of these queues.
    """
    at, position = _position(queues, after)
    size = PAGE if chosen.looks_inside else min(limit + 1, PAGE)
    found: list[DeadLetter] = []
    scanned = 0
    following: str | None = None
    for keys in queues[at:]:
        for letter in letters(execute, keys, chosen, after=position, newest_first=newest_first, size=size):
            if len(found) >= limit or scanned >= scan:
                break
            scanned += 1
            following = f"{keys.queue}@{letter.entry}"
            if chosen.matches(letter):
                found.append(letter)
        else:
            position = None
            continue
        return Page(found, scanned, count(execute, queues), following or after)
    return Page(found, scanned, count(execute, queues), None)


def letters(
    execute: Execute,
    keys: QueueKeys,
    chosen: Filter,
    *,
    after: str | None = None,
    newest_first: bool = False,
    last: str | None = None,
    size: int = PAGE,
) -> Iterator[DeadLetter]:
    """Every dead letter within the time asked for, read page by page; :meth:`Filter.matches` is left to the caller.

    Args:
        execute: runs a command.
        keys: of the queue.
        chosen: its time range counts here.
        after: begin behind this entry.
        newest_first: from the latest to the oldest.
        last: go no further than this entry.
        size: most entries in one read; fewer when they are large.
    """
    low, high = chosen.bounds
    if last is not None:
        high = last.encode() if high == b"+" else min(high, last.encode(), key=_order)
    verb, start, end = ("XREVRANGE", high, low) if newest_first else ("XRANGE", low, high)
    if after is not None:
        start = b"(" + after.encode()
    count = min(FIRST_READ, size)
    while True:
        rows = of_our_types(execute)(verb, keys.dead, start, end, "COUNT", count)
        read = 1
        for entry, fields in rows:
            letter = read_letter(keys.queue, entry, fields)
            read += len(letter.data) + len(letter.raw_evidence)
            yield letter
        if len(rows) < count:
            return
        start = b"(" + rows[-1][0]
        count = max(1, min(size, count * READ_BYTES // read))


def at_entry(execute: Execute, keys: QueueKeys, entry: str) -> DeadLetter | None:
    """The dead letter with that entry id."""
    rows = of_our_types(execute)("XRANGE", keys.dead, entry, entry)
    return read_letter(keys.queue, *rows[0]) if rows else None


def last_entry(execute: Execute, keys: QueueKeys) -> str | None:
    """The id of the latest dead letter; None when there is none."""
    rows = of_our_types(execute)("XREVRANGE", keys.dead, "+", "-", "COUNT", 1)
    return rows[0][0].decode() if rows else None


def is_entry(name: str) -> bool:
    """Whether *name* is an entry id rather than a task id."""
    ms, dash, number = name.partition("-")
    return bool(dash) and _small(ms) and _small(number)


def _small(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 20 and int(text) < 2**64


def groups(execute: Execute, queues: Sequence[QueueKeys]) -> list[Group]:
    """The groups of *queues*, largest first; last what is in no group, as one with an empty fingerprint."""
    found = [group for keys in queues for group in _groups_of(execute, keys)]
    return sorted(found, key=lambda group: (not group.fingerprint, -group.count, group.queue, group.fingerprint))


def _groups_of(execute: Execute, keys: QueueKeys) -> Iterator[Group]:
    execute = of_our_types(execute)
    flat = execute("HGETALL", keys.dead_groups)
    index: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    grouped = 0
    for field, value in index.items():
        if not field.startswith(b"n:") or not value.isdigit() or len(value) > MOST_DIGITS:
            continue
        name, number = field[2:], int(value)
        grouped += number
        label = unpack_label(index.get(b"l:" + name, b"\x90"))
        first, last = (index.get(prefix + name, b"").decode("ascii", "replace") for prefix in (b"f:", b"e:"))
        shown = name.decode("ascii", "replace")
        yield Group(
            keys.queue,
            shown,
            number,
            label.task,
            label.reason,
            label.error_type,
            label.error if shown != OTHER else "what came when there were 1,000 groups already",
            _when(first),
            _when(last),
            last,
        )
    if (left := (execute("XLEN", keys.dead) or 0) - grouped) > 0:
        yield Group(keys.queue, "", left, "", "", "", "not written by a worker of this release", None, None, "")


def _position(queues: Sequence[QueueKeys], after: str | None) -> tuple[int, str | None]:
    """Which queue to begin with, and behind which entry."""
    if after is None:
        return 0, None
    queue, _, entry = after.rpartition("@") if isinstance(after, str) else ("", "", "")
    names = [keys.queue for keys in queues]
    if queue not in names or not is_entry(entry):
        raise ConfigError(f"after must be what the page before gave as its next, not {shown(after)}")
    return names.index(queue), entry


def _when(entry: str) -> datetime | None:
    ms = entry.partition("-")[0]
    return moment(int(ms)) if ms.isascii() and ms.isdecimal() and len(ms) <= MOST_DIGITS else None


def _order(entry: bytes) -> tuple[int, float]:
    """Entry ids in their order; an id without its second part is that millisecond's last."""
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number) if number else float("inf")
