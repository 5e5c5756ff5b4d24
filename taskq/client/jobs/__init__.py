"""Batch jobs: scheduled tasks that read the events of a window, and commit how far they came with their result."""

from taskq.client.jobs.definition import Job, previous_day
from taskq.client.jobs.views import JobProgress, Jobs
from taskq.client.jobs.window import Page, Window

__all__ = ["Job", "JobProgress", "Jobs", "Page", "Window", "previous_day"]
