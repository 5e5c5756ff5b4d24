"""Batch jobs: those of the app's code, and those that schedules in Redis are of."""

from __future__ import annotations

from datetime import UTC

from taskq.client.app import TaskQ
from taskq.client.jobs import Job, JobProgress
from taskq.client.jobs.views import progress_of

MOST = 200
"""Jobs that are looked at."""


def batch_jobs(app: TaskQ) -> tuple[list[JobProgress], int]:
    """Every batch job, by name, and how many commands that took, about.

    Source and window are empty where the code is not known.

    Raises:
        BrokerError: Redis could not be asked.
    """
    jobs, schedules = dict(app.batch_jobs), app.schedules.list()
    for info in schedules:
        jobs.setdefault(info.task, Job(info.task, info.queue, "", "", 0, UTC))
    chosen = [jobs[name] for name in sorted(jobs)[:MOST]]
    commands = 6 + 2 * len(schedules) + len(chosen)
    replies = app.sync_broker.pipeline([("HGETALL", app.keys.queue(job.queue).job(job.name)) for job in chosen])
    found = []
    for job, reply in zip(chosen, replies, strict=True):
        if job.source or (isinstance(reply, list) and reply):  # other schedules have no record
            found.append((job, reply if isinstance(reply, list) else []))
    endings = app.sync_broker.pipeline(
        [("GET", app.keys.queue(job.queue).result(progress_of(job, flat).run)) for job, flat in found]
    )
    ended = [ending if isinstance(ending, bytes) else None for ending in endings]
    commands += len(ended)
    return [progress_of(job, flat, ending) for (job, flat), ending in zip(found, ended, strict=True)], commands
