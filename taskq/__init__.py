"""taskq: a fast, safe task queue for Python on Redis streams."""

from taskq.app import TaskQ, task
from taskq.context import Context, current_task
from taskq.dlq import DeadLetter
from taskq.errors import (
    BrokerAuthError,
    BrokerError,
    BrokerRefusedError,
    BrokerUnavailableError,
    ConfigError,
    DecodeError,
    ItemSettledError,
    JobSupersededError,
    LeaseLostError,
    PositionMovedError,
    QueueClosedError,
    QueueEmptyError,
    Reject,
    ResultTimeoutError,
    Retry,
    ScheduleError,
    SerializationError,
    SoftTimeLimitExceededError,
    TaskExpiredError,
    TaskFailedError,
    TaskqError,
    TaskRevokedError,
    TaskSkippedError,
    TimeLimitExceededError,
    UnknownOptionError,
    UnknownTaskError,
    UnknownTopicError,
    WorkerLostError,
)
from taskq.fifo import Fifo, Item
from taskq.jobs import JobProgress, Page, Window
from taskq.result import Result
from taskq.schedules.entry import PeriodicEntry
from taskq.task import AsyncTask, Task
from taskq.values.batch import Batch, BatchItem
from taskq.values.config import Config
from taskq.values.message import TaskState
from taskq.values.schedule import at, cron, crontab, every
from taskq.values.secret import Secret
from taskq.values.topics import Event, Topic

__version__ = "0.1.0"

__all__ = [
    "AsyncTask",
    "Batch",
    "BatchItem",
    "BrokerAuthError",
    "BrokerError",
    "BrokerRefusedError",
    "BrokerUnavailableError",
    "Config",
    "ConfigError",
    "Context",
    "DeadLetter",
    "DecodeError",
    "Event",
    "Fifo",
    "Item",
    "ItemSettledError",
    "JobProgress",
    "JobSupersededError",
    "LeaseLostError",
    "Page",
    "PeriodicEntry",
    "PositionMovedError",
    "QueueClosedError",
    "QueueEmptyError",
    "Reject",
    "Result",
    "ResultTimeoutError",
    "Retry",
    "ScheduleError",
    "Secret",
    "SerializationError",
    "SoftTimeLimitExceededError",
    "Task",
    "TaskExpiredError",
    "TaskFailedError",
    "TaskQ",
    "TaskRevokedError",
    "TaskSkippedError",
    "TaskState",
    "TaskqError",
    "TimeLimitExceededError",
    "Topic",
    "UnknownOptionError",
    "UnknownTaskError",
    "UnknownTopicError",
    "Window",
    "WorkerLostError",
    "at",
    "cron",
    "crontab",
    "current_task",
    "every",
    "task",
]
