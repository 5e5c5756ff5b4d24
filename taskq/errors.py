"""Every error taskq raises, and the exit codes of its commands.

::

    Exception
     ├─ TaskqError                     root: ``except TaskqError`` catches all of ours
     │   ├─ ConfigError                a setting or an option is wrong; the text says which and what to write
     │   │   ├─ UnknownOptionError     no such option ("did you mean ...?")
     │   │   ├─ ArgumentsError         (also TypeError) arguments that the task's function does not take
     │   │   ├─ ImportFormatError      a line that is not an exported dead letter
     │   │   ├─ ScheduleError          a cron line, interval or time zone that cannot be used
     │   │   ├─ UnknownTopicError      a topic that this app has not declared
     │   │   └─ UnknownGroupError      a group that has not begun to read its topic
     │   ├─ SerializationError         an argument or result that cannot be written to the wire
     │   ├─ NeverRanError              a task returned a coroutine, generator or future: work that has not run
     │   ├─ DecodeError                bytes from Redis that are no message of ours
     │   ├─ UnknownTaskError           a task name that this app does not know
     │   ├─ UnknownQueueError          a queue that neither this app nor Redis knows
     │   ├─ JobSupersededError         a run of a batch job that is another worker's by now
     │   ├─ PositionMovedError         a reader's group was moved by somebody else
     │   ├─ DeadLetterNotFoundError    no dead letter of that id
     │   ├─ QueueEmptyError            (also TimeoutError, queue.Empty) no item in a FIFO within the timeout
     │   ├─ QueueClosedError           a FIFO that was closed in this process
     │   ├─ ItemSettledError           an item of a FIFO that was acknowledged, released or rejected before
     │   ├─ LeaseLostError             an item of a FIFO that is another consumer's by now
     │   ├─ BrokerError                Redis did not do what was asked
     │   │   ├─ BrokerUnavailableError no connection, or no answer within the deadline
     │   │   │   └─ SpoolFullError     ... and the spool on local disk has no room
     │   │   ├─ BrokerAuthError        wrong or missing user name or password, or a right that the user lacks
     │   │   └─ BrokerRefusedError     Redis answered with an error (full, read-only, wrong type ...)
     │   ├─ WaitInsideTaskError        a task that waits for another one, which may never get a slot
     │   ├─ ResultTimeoutError         (also TimeoutError) ``get(timeout=...)`` ran out
     │   ├─ TaskFailedError            the task ended FAILURE; ``get()`` raises it
     │   │   ├─ TaskRevokedError       the task was revoked
     │   │   ├─ TaskExpiredError       the message expired before it could start
     │   │   └─ TaskSkippedError       another message has the same idempotency key
     │   ├─ SoftTimeLimitExceededError the soft time limit: a task may clean up
     │   ├─ TimeLimitExceededError     the hard time limit ended the task
     │   └─ WorkerLostError            the process that ran the task died
     └─ TaskControl                    raised by a task to steer taskq; never a failure of taskq itself
         ├─ Retry                      run this message again later
         └─ Reject                     straight to the dead letter queue
"""

from __future__ import annotations

import queue
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Protocol


class ExitCode(IntEnum):
    """Exit codes of the ``taskq`` commands.

    A *name* that nothing has (of a queue, topic, group, task, job or schedule) is treated as a typo: USAGE, and nothing
    was done. An *id* (of a message or dead letter) that is not there is an answer, for messages come and go: FAILED.
    What a filter such as ``--task`` leaves may be nothing: OK.

    A service (``worker``, ``beat``, ``metrics``, ``dashboard``, ``outbox-relay``) and a view (``top``, ``--watch``,
    ``--follow``) run until they are told to stop: the first Ctrl-C ends them with OK, for services SIGTERM as well.
    Other commands have something to finish: Ctrl-C ends them with INTERRUPTED.
    """

    OK = 0
    FAILED = 1
    """The command ran and its answer is no: a check failed, a question was answered with no, an id is not there, a
    worker process died for good."""
    USAGE = 2
    """Wrong flags, app path or settings, or a name that nothing has."""
    UNHEALTHY = 3
    """``taskq doctor`` found something by which tasks can be lost or do not run."""
    UNAVAILABLE = 69
    """Redis cannot be reached or refuses us (EX_UNAVAILABLE of sysexits.h)."""
    INTERRUPTED = 130
    """Ctrl-C before a command had finished; of a worker a second signal: running tasks were handed back at once."""


class TaskqError(Exception):
    """Root of every error that taskq raises on its own account."""


class ConfigError(TaskqError, ValueError):
    """A setting or option is wrong."""


class UnknownOptionError(ConfigError, TypeError):
    """An option that does not exist."""

    def __init__(self, name: str, known: Iterable[str], where: str) -> None:
        close = nearest(name, known)
        hint = f"; did you mean {close!r}?" if close else ""
        super().__init__(f"{where} has no option {name!r}{hint}")


class ScheduleError(ConfigError):
    """A cron line, interval or time zone that cannot be used."""


class UnknownTopicError(ConfigError, LookupError):
    """A topic that this app has not declared."""


class UnknownGroupError(ConfigError, LookupError):
    """A group that has not begun to read its topic."""


class SerializationError(TaskqError, TypeError):
    """A value that cannot be written to the wire."""


class NeverRanError(TaskqError, TypeError):
    """A task returned a coroutine, a generator or a future: its work has not run, or not to its end."""


class DecodeError(TaskqError):
    """Bytes from Redis that are no message of ours.

    The bytes are kept: they go to the dead letter queue as they were found.
    """

    def __init__(self, reason: str, data: bytes = b"") -> None:
        super().__init__(reason)
        self.data = data


class UnknownTaskError(TaskqError, LookupError):
    """A task name that this app does not know."""


class DeadLetterNotFoundError(TaskqError, LookupError):
    """There is no dead letter of that id: replayed or purged before, or never there."""


class ArgumentsError(ConfigError, TypeError):
    """Arguments that the task's function does not take."""


class ImportFormatError(ConfigError):
    """A line that is not an exported dead letter; nothing was imported."""


class UnknownQueueError(TaskqError, LookupError):
    """A queue that neither this app nor Redis knows."""


class PositionMovedError(TaskqError):
    """A group's position was moved by somebody else while a reader read: what it did may be done twice."""


class QueueEmptyError(TaskqError, TimeoutError, queue.Empty):
    """There was no item in a FIFO within the timeout of ``get``."""


class QueueClosedError(TaskqError):
    """The FIFO was closed in this process, by its ``close()`` or with its app."""


class ItemSettledError(TaskqError):
    """An item of a FIFO can be settled once; it was acknowledged, released or rejected before."""


class LeaseLostError(TaskqError):
    """An item of a FIFO is another consumer's by now: nothing was changed, and its work may be done twice."""


class Unsent(Protocol):
    """The messages of an ``app.batch()`` that were not accepted."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def send(self) -> None:
        """Try them again: one that was accepted after all is not sent twice."""

    async def asend(self) -> None:
        """As :meth:`send`, without blocking the event loop."""


class BrokerError(TaskqError):
    """Redis did not do what was asked."""

    unsent: Unsent | None = None
    """After ``with app.batch():`` what was not accepted, to be tried again; else None."""


class BrokerUnavailableError(BrokerError, ConnectionError):
    """No connection, or no answer within the deadline.

    After this error from ``.delay()`` the message may or may not exist, but never twice.
    """

    identity: tuple[bytes, int] | None = None
    """Producer id and sequence number of what was sent, for another try that must not be executed twice."""


class SpoolFullError(BrokerUnavailableError):
    """Redis cannot be reached and the spool holds as much as it may; the message was not kept."""


class BrokerAuthError(BrokerError):
    """Redis refused the user name or password, or the user has no right to do that."""


class BrokerRefusedError(BrokerError):
    """Redis answered with an error; nothing was written."""


class ResultTimeoutError(TaskqError, TimeoutError):
    """``get(timeout=...)`` ran out before the task ended."""


class WaitInsideTaskError(TaskqError, RuntimeError):
    """A task that waits for the result of another one, which may wait for its slot: see ``Result.get``."""


class TaskFailedError(TaskqError):
    """The task ended FAILURE.

    The original exception is described, not re-created: nothing stored in Redis is ever imported by name.
    """

    def __init__(self, message: str, *, task_id: str = "", error_type: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id
        self.error_type = error_type
        self.traceback = traceback


class TaskRevokedError(TaskFailedError):
    """The task was revoked before it ended."""


class TaskExpiredError(TaskFailedError):
    """The message expired before it could start."""


class TaskSkippedError(TaskFailedError):
    """The message did not run: another one has the same idempotency key, and no result of that one is stored."""


class SoftTimeLimitExceededError(TaskqError):
    """The soft time limit: the task may clean up, and return or re-raise.

    Raised inside sync tasks. An async task is cancelled, as by ``asyncio.timeout``: inside it sees
    ``CancelledError``, and its outcome is this error.
    """


class TimeLimitExceededError(TaskqError):
    """The hard time limit ended the task."""


class WorkerLostError(TaskqError):
    """The process that ran the task died."""


class JobSupersededError(TaskqError):
    """A run of a batch job that is not this worker's any more: what it had not committed was not written."""


class TaskControl(Exception):
    """Base of what a task raises to steer taskq."""


class Retry(TaskControl):
    """Run this message again later.

    Args:
        reason: shown in logs and in the result while the task waits. After the last retry the dead letter tells of
            it, if it is an exception; else of the exception that was being handled when this was raised, if one was.
        countdown: seconds (or ``timedelta``) to wait, below 0 is at once; by default the task's backoff decides.
        eta: the instant to run at, instead of ``countdown``; must be timezone-aware. One that is past is at once.
        max_retries: replaces the task's limit for this message.
    """

    def __init__(
        self,
        reason: str | BaseException = "retry asked for by the task",
        *,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        max_retries: int | None = None,
    ) -> None:
        if not isinstance(reason, (str, BaseException)):
            raise ConfigError(f"Retry: reason must be text or an exception, not {type(reason).__name__}")
        super().__init__(str(reason))
        if countdown is not None and eta is not None:
            raise ConfigError("Retry takes countdown or eta, not both")
        self.reason = reason
        self.countdown = countdown
        self.eta = eta
        self.max_retries = max_retries


class Reject(TaskControl):
    """Give up now: straight to the dead letter queue, without further retries.

    Args:
        reason: kept in the dead letter.
    """

    def __init__(self, reason: str = "rejected by the task") -> None:
        super().__init__(reason)
        self.reason = reason


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The one of *known* that *name* was probably meant to be."""
    import difflib  # only a mistake needs it

    if not isinstance(name, str):
        return None
    close = difflib.get_close_matches(name[:100], list(known), n=1)
    return close[0] if close else None


def suggestion(name: object, known: Iterable[str], most: int = 10) -> str:
    """What to write instead of *name*: the nearest of *known*, else *most* of them; to end an error's text with."""
    names = sorted(known)
    if close := nearest(name, names):
        return f"did you mean {close!r}?"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"known are {', '.join(names[:most]) or 'none'}{more}"
