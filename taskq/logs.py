"""Logging: text or JSON on stderr, with the task on every line that is written while one runs.

taskq logs under the logger ``taskq``, through the standard library. Importing it sets up nothing. The commands call
:func:`setup`, which gives handlers to ``taskq`` and to loggers that were named, and :func:`code_imported`, which gives
one to the app's own logger where the app has set up nothing. The root logger is left alone. A program with a logging
configuration of its own adds :class:`TaskFilter` to its handlers instead, and one that uses structlog adds
:func:`add_task` to its processors.

What runs the task is known from a context variable that is set anyway: tasks that log nothing pay nothing.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any

from taskq.values.delivery import Delivery, current_delivery
from taskq.values.escaping import escaped, indented
from taskq.values.serialization import to_json

FORMATS = ("text", "json")
FIELDS = ("task_id", "task", "queue", "attempt")
"""What a line says about the task that wrote it."""

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", *FIELDS}
_active: tuple[str, str, tuple[str, ...]] | None = None


def get_task_logger(name: str) -> logging.Logger:
    """A logger for tasks, shown like taskq's own: ``logger = get_task_logger(__name__)``."""
    return logging.getLogger(f"taskq.task.{name}")


def task_fields(delivery: Delivery | None = None) -> dict[str, Any]:
    """The :data:`FIELDS` of *delivery*, by default of the one that runs here; empty outside of tasks."""
    delivery = delivery or current_delivery.get()
    if delivery is None:
        return {}
    message = delivery.message
    return {
        "task_id": message.task_id,
        "task": message.task,
        "queue": str(delivery.link.queue),
        "attempt": delivery.attempt,
    }


class TaskFilter(logging.Filter):
    """Gives every record ``task_id``, ``task``, ``queue`` and ``attempt``: None outside of tasks. Drops nothing.

    In a ``dictConfig``: ``"filters": {"task": {"()": "taskq.logs.TaskFilter"}}``, and ``"filters": ["task"]`` on a
    handler; then formats may use ``%(task_id)s``.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Fill in what the record does not have; True."""
        fields = task_fields()
        for name in FIELDS:
            if not hasattr(record, name):
                setattr(record, name, fields.get(name))
        return True


def add_task(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that adds the :data:`FIELDS` of the running task."""
    for name, value in task_fields().items():
        event.setdefault(name, value)
    return event


def setup(level: str = "info", fmt: str = "text", also: Sequence[str] = ()) -> None:
    """Send what taskq logs to stderr. The root logger and the app's own loggers stay as they are.

    Args:
        level: debug, info, warning, error or critical, upper or lower case.
        fmt: ``text``, or ``json`` for one object per line.
        also: loggers of the app to be shown in the same way.
    """
    global _active
    _active = (level, fmt, tuple(also))
    handler = _handler(fmt)
    for name in ("taskq", *also):
        logger = logging.getLogger(name)
        for old in [handler for handler in logger.handlers if isinstance(handler, _StderrHandler)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.setLevel(level.upper())
        logger.propagate = False


def write_lines() -> None:
    """Write out each line that is printed as it comes: a service's output is a pipe or a file, which are read along."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def active() -> tuple[str, str, tuple[str, ...]] | None:
    """What :func:`setup` was called with, for child processes; None if it was not."""
    return _active


def code_imported(package: str | None = None) -> None:
    """Call it when the app's modules were imported. Does nothing unless :func:`setup` was called.

    Turns taskq's loggers on again: ``dictConfig`` turns off every logger that exists, by its default
    ``disable_existing_loggers``. And shows the logger of the app's own *package*, such as ``shop``, if the app has
    configured neither that one nor the root logger: nobody would see what its tasks log.
    """
    if _active is None:
        return
    for name in [name for name in logging.root.manager.loggerDict if name == "taskq" or name.startswith("taskq.")]:
        logging.getLogger(name).disabled = False
    if package and not logging.root.handlers:
        logger = logging.getLogger(package)
        if not logger.handlers:
            logger.addHandler(_handler(_active[1]))
            if logger.level == logging.NOTSET:
                logger.setLevel(_active[0].upper())


def _handler(fmt: str) -> _StderrHandler:
    handler = _StderrHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if fmt == "json" else TextFormatter())
    handler.addFilter(TaskFilter())
    return handler


class _StderrHandler(logging.StreamHandler[Any]):
    """Ours, so that a second set-up replaces it and leaves other people's handlers alone."""


class TextFormatter(logging.Formatter):
    """One line for people; a task's ends with ``[task id attempt]``.

    Control characters are escaped, and the lines of a traceback are indented: a name or an error from Redis can
    neither steer a terminal nor look like a line of its own.
    """

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname:<7} {name}: {message}", style="{")
        self.default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        """The line, and what belongs to it, indented."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        line = escaped(self.formatMessage(record))
        # not super().format(): it keeps the traceback in the record, where other handlers would find it escaped
        if record.exc_info:
            line += "\n" + indented(self.formatException(record.exc_info))
        if record.stack_info:
            line += "\n" + indented(self.formatStack(record.stack_info))
        return line

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without traceback."""
        line = super().formatMessage(record)
        task_id = getattr(record, "task_id", None)
        if task_id is None:
            return line
        return f"{line} [{getattr(record, 'task', '')} {task_id} attempt {getattr(record, 'attempt', '')}]"


class JsonFormatter(logging.Formatter):
    """One object per line, with the task's fields, and with what was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None}
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return to_json(line)
