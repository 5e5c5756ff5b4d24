"""The task that replays dead letters by schedule, and the schedules that send it."""

from __future__ import annotations

from hashlib import blake2s
from typing import TYPE_CHECKING

from taskq.client.dlq.canary import Sweep
from taskq.client.dlq.letter import DeadLetter
from taskq.values.delivery import current_delivery
from taskq.values.message import new_id

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

TASK = "taskq.replay_dead_letters"


def install(app: TaskQ) -> None:
    """Register the task with *app*."""

    def replay_dead_letters(task: str | None = None, run: str | None = None, step: int = 0) -> None:
        """One step of the replay of all tasks that have no schedule of their own, or of one; sends the next."""
        delivery = current_delivery.get()
        run = run or (delivery.message.task_id if delivery is not None else new_id().hex())
        wait = sweep(app, run, task, begin=step == 0)
        if wait is not None:
            # its id makes it one message, also when this step is done twice
            following = {"task": task, "run": run, "step": step + 1}
            app.send_task(TASK, kwargs=following, countdown=wait, task_id=f"{run}#{step + 1}")

    settings = {"max_retries": 3, "ignore_result": True}
    app.register(replay_dead_letters, name=TASK, bind=False, settings=settings)


def sweep(app: TaskQ, run: str, task: str | None, *, begin: bool) -> float | None:
    """One step of a careful replay in every queue; seconds until the next, None when it is over.

    Args:
        app: whose dead letters.
        run: its id.
        task: only of this task; None for all tasks that have no schedule of their own.
        begin: whether it is the first step.

    Raises:
        BrokerError: Redis could not be asked; the step may be repeated.
    """

    def eligible(letter: DeadLetter) -> bool:
        return letter.replays < app.config.dlq_max_replays and _meant(app, letter.task, task)

    meant = ",".join(sorted(name for name in app.tasks if _meant(app, name, task)))
    rule = blake2s(f"{app.config.dlq_max_replays} {meant}".encode(), digest_size=8).hexdigest()
    where = f"by schedule, task={task}" if task else "by schedule"
    waits = []
    for queue in app.known_queues():
        one = Sweep(app.sync_broker, app.keys, queue, run, where, eligible, rule, app.config.dlq_canary_timeout)
        if begin:
            one.begin()
        if (wait := one.step()) is not None:
            waits.append(wait)
    return min(waits, default=None)


def _meant(app: TaskQ, name: str, only: str | None) -> bool:
    """Whether dead letters of a task are replayed; what this app does not know, others may."""
    known = app.tasks.get(name)
    if known is None or name == TASK:
        return False
    if only is not None:
        return name == only
    own = known.settings.dlq_replay
    return own is True or (own is None and not known.settings.at_most_once)
