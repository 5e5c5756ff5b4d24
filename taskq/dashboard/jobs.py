"""Work on many dead letters: it runs in a thread of this process, and a page shows how far it is."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from taskq.errors import TaskqError

logger = logging.getLogger("taskq.dashboard")

KEPT = 100
"""Jobs that are remembered."""
AT_ONCE = 4

Progress = Callable[[int], object]
Work = Callable[[Progress], int]
"""Does the work, tells after each part how many it has done so far, and returns how many they were."""


class StoppedError(Exception):
    """Raised where the work tells how far it is: somebody has stopped it."""


@dataclass(slots=True)
class Job:
    """One piece of work on many."""

    title: str
    actor: str
    total: int
    """About how many there are to do; 0 when that is not known."""
    back: str
    """The page to go to afterwards."""
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    done: int = 0
    error: str = ""
    running: bool = True
    stopped_by: str = ""
    """Who stopped it; it ends after the part that it is at."""
    began: float = field(default_factory=time.time)
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it has taken so far, or took."""
        return (self.ended or time.time()) - self.began


class Jobs:
    """The jobs of this process."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, job: Job, work: Work) -> Job:
        """Begin *work*.

        Raises:
            TaskqError: there are as many as may run at a time.
        """
        with self._lock:
            if sum(one.running for one in self._jobs.values()) >= AT_ONCE:
                raise TaskqError(f"{AT_ONCE} such jobs run already; wait until one has ended")
            self._jobs[job.id] = job
            while len(self._jobs) > KEPT:
                self._jobs.popitem(last=False)
        threading.Thread(target=_run, args=(job, work), name="taskq-dashboard-job", daemon=True).start()
        return job

    def get(self, id_: str) -> Job | None:
        """The job of that id, if this process has it."""
        return self._jobs.get(id_)


def _run(job: Job, work: Work) -> None:
    def progress(count: int) -> None:
        job.done = count
        if job.stopped_by:
            raise StoppedError

    try:
        job.done = work(progress)
        job.stopped_by = ""  # it was done already
    except StoppedError:
        pass
    except TaskqError as error:
        job.error = str(error)
    except Exception:
        logger.exception("%s failed", job.title)
        job.error = "The dashboard's log has more."
    job.ended = time.time()
    job.running = False
