"""taskq: a fast, safe task queue for Python on Redis streams."""

from taskq.client.app import TaskQ, task
from taskq.client.context import Context, current_task
from taskq.client.dlq import DeadLetter
from taskq.client.fifo import Fifo, Item
from taskq.client.jobs import JobProgress, Page, Window
from taskq.client.result import Result
from taskq.client.schedules.entry import PeriodicEntry
from taskq.client.task import AsyncTask, Task
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
