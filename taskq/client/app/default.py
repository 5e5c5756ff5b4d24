"""The app of those who make none: that of ``@taskq.task``."""

from __future__ import annotations

import os
import threading

from taskq.client.app.application import TaskQ
from taskq.client.task import TaskDecorator

_default: TaskQ | None = None
_default_lock = threading.Lock()


def default_app() -> TaskQ:
    """The app behind the module-level ``task``, configured by the environment; made when first needed."""
    global _default
    with _default_lock:
        if _default is None:
            _default = TaskQ(os.environ.get("TASKQ_NAME", "taskq"))
        return _default


task = TaskDecorator(default_app)
