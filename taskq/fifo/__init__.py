"""A plain FIFO between programs, for what is not a task: ``app.queue("jobs")``."""

from taskq.fifo.item import Item
from taskq.fifo.queue import Fifo

__all__ = ["Fifo", "Item"]
