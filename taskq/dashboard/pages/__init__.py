"""The pages, in the order of the navigation. A new page is a module here, named in :data:`NAVIGATION`."""

from taskq.dashboard.pages import (
    audit,
    batch_jobs,
    bulk,
    dlq,
    ended,
    events,
    jobs,
    limits,
    live,
    login,
    messages,
    overview,
    queues,
    schedules,
    tasks,
    workers,
)
from taskq.dashboard.routing import Group

NAVIGATION = (
    Group("Now", (overview.page, queues.page, workers.page)),
    Group("Work", (tasks.page, messages.page, dlq.page)),
    Group("Time", (schedules.page, batch_jobs.page, events.page)),
    Group("Control", (limits.page, audit.page)),
)
PAGES = (
    *(page for group in NAVIGATION for page in group.pages),
    bulk.page,
    ended.page,
    jobs.page,
    login.page,
    live.page,
)
