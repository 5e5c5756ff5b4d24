"""Batch jobs: scheduled tasks that read the events of a window, and commit how far they came with their result."""

from taskq.jobs.definition import Job, previous_day
from taskq.jobs.views import JobProgress, Jobs
from taskq.jobs.window import Page, Window

__all__ = ["Job", "JobProgress", "Jobs", "Page", "Window", "previous_day"]
