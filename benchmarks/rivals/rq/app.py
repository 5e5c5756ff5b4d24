"""How tasks are sent with RQ."""

from collections.abc import Sequence
from typing import Any

import redis
import tally
import tasks
from rq import Queue

queue = Queue("default", connection=redis.Redis.from_url(tally.REDIS_URL))
TTL = 3600 if tally.RESULTS else 0


def send(task: str, *args: Any) -> None:
    queue.enqueue(getattr(tasks, task), *args, result_ttl=TTL)


def send_many(task: str, calls: Sequence[Sequence[Any]]) -> None:
    function = getattr(tasks, task)
    queue.enqueue_many([Queue.prepare_data(function, args=tuple(args), result_ttl=TTL) for args in calls])
