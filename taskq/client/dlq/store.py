"""``app.dlq``: what can be done with the dead letters of an app's queues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from taskq.broker import scripts
from taskq.broker.keys import Keys
from taskq.broker.link.sync import SyncBroker
from taskq.client.audit import Audit, this_user
from taskq.client.dlq import transfer
from taskq.client.dlq.filters import Filter, Where
from taskq.client.dlq.letter import DeadLetter
from taskq.client.dlq.reader import DeadLetterReader
from taskq.client.dlq.replay import PAGE, Job, Replayer
from taskq.client.dlq.revive import NewArguments
from taskq.client.dlq.runs import STOPPED
from taskq.client.dlq.selection import pages, selected
from taskq.errors import (
    BrokerError,
    ConfigError,
    DeadLetterNotFoundError,
    ImportFormatError,
    UnknownTaskError,
    suggestion,
)
from taskq.values import serialization
from taskq.values.checks import check_count, check_function, check_text, named, positional, texts
from taskq.values.config import MAX_COUNT, check_queue, is_fifo
from taskq.values.message import new_id
from taskq.values.topics import carries_event, check_same_event

MAX_ACTOR = 200
"""Characters."""
CheckArguments = Callable[[str, Sequence[Any], Mapping[str, Any]], None]
Progress = Callable[[int], object]
"""Told after each page how many dead letters were dealt with so far."""


class PurgeOptions(Where, total=False):
    """What :meth:`DeadLetters.purge` takes."""

    queue: str | None
    skip_missing: bool
    dry_run: bool
    actor: str | None
    progress: Progress | None


class ReplayOptions(PurgeOptions, total=False):
    """What :meth:`DeadLetters.replay` takes."""

    to: str | None
    new_task: str | None
    rate: float | str | None
    max_replays: int | None


class DeadLetters(DeadLetterReader):
    """The dead letters of an app's queues: ``app.dlq``.

    Args:
        broker: runs the commands.
        keys: of the namespace.
        queues: names the queues to look at when none is given.
        audit: where it is written down who does what.
        tasks: names the tasks that are known here.
        check_arguments: raises when a task of that name does not take these arguments.
    """

    def __init__(
        self,
        broker: SyncBroker,
        keys: Keys,
        queues: Callable[[], list[str]],
        audit: Audit,
        tasks: Callable[[], Collection[str]],
        check_arguments: CheckArguments,
    ) -> None:
        super().__init__(broker, keys, queues)
        self._audit = audit
        self._tasks = tasks
        self._check_arguments = check_arguments

    def replay(
        self,
        ids: Collection[str] | None = None,
        *,
        queue: str | None = None,
        to: str | None = None,
        new_task: str | None = None,
        rate: float | str | None = None,
        max_replays: int | None = None,
        skip_missing: bool = False,
        dry_run: bool = False,
        actor: str | None = None,
        progress: Progress | None = None,
        **where: Unpack[Where],
    ) -> int:
        """Put dead letters back into their queue, with their attempts reset and ``replays`` counted up.

        Each is put back at most once, so a replay may be repeated after a crash, or run twice at a time.

        Args:
            ids: task ids or entry ids; None means all that the other arguments leave.
            queue: only of this queue.
            to: the queue that they go to, instead of the one they died in.
            new_task: the name of their task from now on, for a task that was renamed.
            rate: most a second, as a number or ``"100/s"``, ``"30/m"``.
            max_replays: leave those that were replayed this often.
            skip_missing: pass over ids that are not there; else they are an error.
            dry_run: only count.
            actor: who does it, for the audit trail; default the user of this process.
            progress: told after each page how many were dealt with; an error that it raises stops the replay.
            **where: which are meant, see :class:`Where`.

        Returns:
            How many were put back. Malformed ones stay, and items of FIFOs when *to* is not a FIFO.

        Raises:
            DeadLetterNotFoundError, UnknownQueueError, UnknownTaskError, ConfigError: nothing was replayed.
            BrokerError: Redis could not be asked, or has no memory; nothing is lost.
        """
        ids = None if ids is None else texts(ids, "ids")
        chosen = self._checked(ids, queue, where, skip_missing=skip_missing, replay=True)
        self._check_replay(queue, to, new_task, max_replays, progress)
        job = Job(new_id().hex(), _actor(actor), _told(chosen, ids), to, task=new_task)
        replayer = Replayer(self._broker, self._keys, job, rate=rate, progress=progress)

        def meant() -> Iterator[DeadLetter]:
            for letter in selected(self._broker.execute, self._of(queue), chosen, ids):
                fits = to is None or is_fifo(to) == is_fifo(letter.queue)
                if letter.message is not None and fits and (max_replays is None or letter.replays < max_replays):
                    yield letter

        if dry_run:
            return sum(1 for _ in meant())
        detail = {"run": job.run, "where": job.where, "to": to or "", "rate": "" if rate is None else str(rate)}
        if new_task is not None:
            detail["new_task"] = new_task
        self._audit.record(job.actor, "dlq.replay", queue or "*", detail)
        return _put_back(replayer, meant())

    def _check_replay(
        self, queue: str | None, to: str | None, new_task: str | None, max_replays: int | None, progress: object
    ) -> None:
        """Check what :meth:`replay` was given, but for which letters are meant.

        Raises:
            UnknownQueueError, UnknownTaskError, ConfigError: one of them cannot be.
        """
        if to is not None:
            self.check_queue(to)
            _check_kind(queue or "", to)
        if progress is not None:
            check_function(progress, "progress")
        if max_replays is not None:
            check_count(max_replays, "max_replays", 0, MAX_COUNT)
        if new_task is not None:
            self._check_new_task(new_task)

    def _check_new_task(self, name: str) -> None:
        """Make sure that a task may be called *name*.

        Raises:
            UnknownTaskError: this app has tasks, and not this one.
            ConfigError: it is not a name.
        """
        check_text(name, "new_task")
        known = [task for task in self._tasks() if not task.startswith("taskq.")]
        if not name or (known and name not in known):
            raise UnknownTaskError(f"there is no task {name!r} to replay as; {suggestion(name, known)}")

    def edit(
        self,
        task_or_entry_id: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        to: str | None = None,
        actor: str | None = None,
    ) -> None:
        """Replay one dead letter with other arguments. It remembers those it had, and who changed them.

        Args:
            task_or_entry_id: which one.
            args: the positional arguments from now on; None keeps them.
            kwargs: the keyword arguments from now on; None keeps them.
            queue: where to look for it.
            to: the queue that it goes to, instead of the one it died in.
            actor: who does it; default the user of this process.

        Raises:
            DeadLetterNotFoundError: it is not there, or no longer.
            UnknownTaskError: this app has tasks, and not this one.
            ArgumentsError, SerializationError: the arguments do not fit the task, or have no wire form; they make
                another event of an event: only its payload may change.
            ConfigError: it is not a message, or the queue is unknown.
        """
        letter = self.get(task_or_entry_id, queue)
        if letter is None:
            raise _missing([task_or_entry_id])
        if letter.message is None:
            raise ConfigError(f"dead letter {letter.entry} is not a message: it has no arguments to edit")
        if to is not None:
            self.check_queue(to)
            _check_kind(letter.queue, to)
        after_args = letter.message.args if args is None else positional(args)
        after_kwargs = letter.message.kwargs if kwargs is None else named(kwargs)
        change = NewArguments(args, kwargs, _actor(actor))
        if carries_event(letter.message):
            check_same_event(letter.message.args[0], after_args, after_kwargs)
        self._check_arguments(letter.task, after_args, after_kwargs)
        serialization.dumps((after_args, after_kwargs), f"an argument of {letter.task}")
        job = Job(new_id().hex(), change.actor, f"edit of {letter.task_id}", to, change=change)
        detail = {
            "run": job.run,
            "task_id": letter.task_id,
            "before": [letter.message.args, letter.message.kwargs],
            "after": [list(after_args), dict(after_kwargs)],
        }
        self._audit.record(job.actor, "dlq.edit", letter.queue, detail)
        replayer = Replayer(self._broker, self._keys, job)
        if not replayer.put_back([letter]):
            raise _missing([task_or_entry_id])
        replayer.finish()

    def purge(
        self,
        ids: Collection[str] | None = None,
        *,
        queue: str | None = None,
        skip_missing: bool = False,
        dry_run: bool = False,
        actor: str | None = None,
        progress: Progress | None = None,
        **where: Unpack[Where],
    ) -> int:
        """Delete dead letters for good; the arguments choose as in :meth:`replay`. Returns how many.

        Raises:
            DeadLetterNotFoundError, UnknownQueueError, ConfigError: nothing was deleted.
            BrokerError: Redis could not be asked.
        """
        ids = None if ids is None else texts(ids, "ids")
        chosen = self._checked(ids, queue, where, skip_missing=skip_missing)
        if progress is not None:
            check_function(progress, "progress")
        actor = _actor(actor)
        letters = selected(self._broker.execute, self._of(queue), chosen, ids)
        if dry_run:
            return sum(1 for _ in letters)
        self._audit.record(actor, "dlq.purge", queue or "*", {"where": _told(chosen, ids)})
        total = 0
        for page in pages(letters, PAGE):
            total += self._discard(page)
            if progress is not None:
                progress(total)
        return total

    def export_to(self, path: str | Path, *, queue: str | None = None, **where: Unpack[Where]) -> int:
        """Write dead letters to a file, one JSON object a line, their bytes kept exactly. Returns how many.

        They are written into a file beside it, ``<path>.<process id>.part``, which takes the place of *path* when it
        is whole.

        Raises:
            UnknownQueueError, ConfigError, BrokerError, OSError: *path* is as it was before.
        """
        chosen = self._checked(None, queue, where)
        with transfer.whole(Path(path)) as file:
            return transfer.write_lines(file, selected(self._broker.execute, self._of(queue), chosen))

    def import_from(self, path: str | Path, *, queue: str | None = None, actor: str | None = None) -> tuple[int, int]:
        """Bring dead letters back that :meth:`export_to` has written. Repeating it within a day changes nothing.

        Args:
            path: the file; it is read twice, so that nothing is imported from one that is damaged.
            queue: where they go; default the queue that each was exported from.
            actor: who does it; default the user of this process.

        Returns:
            How many were imported, and how many were there, or had been imported, before.

        Raises:
            ImportFormatError: a line is not an exported dead letter; nothing was imported.
            OSError: the file cannot be read.
        """
        actor = _actor(actor)
        if queue is not None:
            check_queue(queue)
        with Path(path).open(encoding="utf-8") as file:
            try:
                for line in transfer.read_lines(file, queue):
                    del line
            except UnicodeDecodeError:
                raise ImportFormatError(f"{path} is not an export of dead letters: it is not UTF-8 text") from None
        self._audit.record(actor, "dlq.import", queue or "*", {"file": str(path)})
        with Path(path).open(encoding="utf-8") as file:
            return transfer.restore(self._broker, self._keys, transfer.read_lines(file, queue))

    async def areplay(self, ids: Collection[str] | None = None, **options: Unpack[ReplayOptions]) -> int:
        """As :meth:`replay`, without blocking the event loop; *progress* is told from another thread."""
        return await asyncio.to_thread(lambda: self.replay(ids, **options))

    async def aedit(
        self,
        task_or_entry_id: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        to: str | None = None,
        actor: str | None = None,
    ) -> None:
        """As :meth:`edit`, without blocking the event loop."""
        await asyncio.to_thread(lambda: self.edit(task_or_entry_id, args, kwargs, queue=queue, to=to, actor=actor))

    async def apurge(self, ids: Collection[str] | None = None, **options: Unpack[PurgeOptions]) -> int:
        """As :meth:`purge`, without blocking the event loop; *progress* is told from another thread."""
        return await asyncio.to_thread(lambda: self.purge(ids, **options))

    def _checked(
        self,
        ids: Collection[str] | None,
        queue: str | None,
        where: Where,
        *,
        skip_missing: bool = False,
        replay: bool = False,
    ) -> Filter:
        """The checked choice, before anything is done."""
        chosen = Filter.build(where)
        if queue is not None:
            self.check_queue(queue)
        if replay and chosen.task is not None:
            self._check_task(chosen.task)
        if ids is not None and not skip_missing:
            found: set[str] = set()
            for letter in selected(self._broker.execute, self._of(queue), chosen, ids):
                found |= {letter.entry, letter.task_id}
                if replay and letter.message is None:
                    raise ConfigError(f"dead letter {letter.entry} is not a message: it cannot be replayed")
            if absent := sorted(set(ids) - found):
                raise _missing(absent)
        return chosen

    def _check_task(self, task: str) -> None:
        """A task that neither the app nor any dead letter knows is treated as a typo."""
        if task in self._tasks():
            return
        groups = self.groups()
        if all(group.task for group in groups) and task not in (known := {group.task for group in groups}):
            there = ", ".join(sorted(known)) or "none"
            raise UnknownTaskError(f"no dead letter is of task {task!r}; tasks that have some: {there}")

    def _discard(self, page: Sequence[DeadLetter]) -> int:
        triples = [part for letter in page for part in (letter.entry, letter.group, "")]
        return int(self._broker.run(scripts.discard(self._keys.queue(page[0].queue), triples)))


def _actor(given: str | None) -> str:
    """Who acts: as given, or the user of this process."""
    return this_user() if given is None else check_text(given, "actor", MAX_ACTOR)


def _check_kind(queue: str, to: str) -> None:
    """Items of FIFOs and calls of tasks do not mix: nobody could handle them."""
    if is_fifo(queue) != is_fifo(to):
        raise ConfigError(f"dead letters of {queue or 'all queues'} cannot go to {to}: one is a FIFO, the other is not")


def _missing(ids: Sequence[str]) -> DeadLetterNotFoundError:
    shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    return DeadLetterNotFoundError(f"no dead letter {shown}: replayed or purged before, or never there")


def _told(chosen: Filter, ids: Collection[str] | None) -> str:
    """What was chosen, in words."""
    if ids is None:
        return str(chosen)
    return f"{len(ids)} ids" if len(ids) > 3 else ", ".join(sorted(ids))


def _put_back(replayer: Replayer, letters: Iterator[DeadLetter]) -> int:
    """Run the replay and note in its record how it ended."""
    try:
        count = replayer.put_back(letters)
    except BrokerError:
        raise
    except Exception:  # of progress: somebody has stopped it
        replayer.finish(STOPPED)
        raise
    replayer.finish()
    return count
