"""The app: one object that registers, sends, publishes, schedules and looks. Its parts build upon each other."""

from taskq.client.app.application import TaskQ
from taskq.client.app.default import default_app, task

__all__ = ["TaskQ", "default_app", "task"]
