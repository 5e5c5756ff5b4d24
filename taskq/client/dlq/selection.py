"""Which dead letters an action is about: by id, or by what is in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from taskq.broker.keys import QueueKeys
from taskq.broker.views.inspect import Execute
from taskq.client.dlq import query
from taskq.client.dlq.filters import Filter
from taskq.client.dlq.letter import DeadLetter
from taskq.values.message import ID_BYTES

PAGE_BYTES = 1_000_000
"""A page ends with the letter that brings its messages to so many bytes."""
_SKEW_MS = 3_600_000
"""How far the clock of a sender may be ahead of Redis's."""


def selected(
    execute: Execute, queues: Sequence[QueueKeys], chosen: Filter, ids: Collection[str] | None = None
) -> Iterator[DeadLetter]:
    """The dead letters that there are now and that are meant, read page by page so that memory stays flat.

    Args:
        execute: runs a command.
        queues: where to look.
        chosen: which are meant.
        ids: task ids or entry ids; None for all that *chosen* leaves.
    """
    if ids is not None:
        yield from (letter for letter in _named(execute, queues, ids) if chosen.matches(letter))
        return
    for keys in queues:
        last = query.last_entry(execute, keys)
        if last is None:
            continue
        for letter in query.letters(execute, keys, chosen, last=last):
            if chosen.matches(letter):
                yield letter


def pages(letters: Iterable[DeadLetter], most: int) -> Iterator[list[DeadLetter]]:
    """*letters* in pages of one queue each.

    Args:
        letters: queue by queue.
        most: most letters in a page; :data:`PAGE_BYTES` bounds it too.
    """
    page: list[DeadLetter] = []
    size = 0
    for letter in letters:
        if page and (len(page) >= most or size >= PAGE_BYTES or letter.queue != page[0].queue):
            yield page
            page, size = [], 0
        page.append(letter)
        size += len(letter.data)
    if page:
        yield page


def _named(execute: Execute, queues: Sequence[QueueKeys], ids: Collection[str]) -> Iterator[DeadLetter]:
    seen: set[tuple[str, str]] = set()
    task_ids = {name for name in ids if not query.is_entry(name)}
    for keys in queues:
        for name in sorted(set(ids) - task_ids):
            letter = query.at_entry(execute, keys, name)
            if letter is not None:
                seen.add((letter.queue, letter.entry))
                yield letter
    for letter in _of_tasks(execute, queues, task_ids) if task_ids else ():
        if (letter.queue, letter.entry) not in seen:
            yield letter


def _of_tasks(execute: Execute, queues: Sequence[QueueKeys], task_ids: Collection[str]) -> Iterator[DeadLetter]:
    """By task id: a search through the queues, from the time on when the first of them can have died."""
    born = min(map(_born, task_ids))
    for keys in queues:
        last = query.last_entry(execute, keys)
        if last is None:
            continue
        after = f"{born}-0" if born else None
        for letter in query.letters(execute, keys, Filter(), after=after, last=last):
            if letter.task_id in task_ids:
                yield letter


def _born(task_id: str) -> int:
    """The earliest epoch milliseconds at which a message can have died; 0 for an id that is not of our making."""
    try:
        raw = bytes.fromhex(task_id)
    except ValueError:
        return 0
    return max(int.from_bytes(raw[:6], "big") - _SKEW_MS, 0) if len(raw) == ID_BYTES else 0
