"""A plain FIFO between programs, for what is not a task: ``app.queue("jobs")``."""

from taskq.client.fifo.item import Item
from taskq.client.fifo.queue import Fifo

__all__ = ["Fifo", "Item"]
