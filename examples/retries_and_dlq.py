"""A task that fails is tried again; one that goes on failing becomes a dead letter, and can be replayed.

Run it: python examples/retries_and_dlq.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from surroundings import worker_for

from taskq import TaskFailedError, TaskQ, current_task

app = TaskQ("retries_and_dlq")


@app.task(max_retries=3, retry_backoff=0.1)
def flaky() -> str:
    attempt = current_task().attempt
    if attempt < 3:
        raise ConnectionError("nobody answers")
    return f"attempt {attempt} worked"


@app.task(max_retries=1, retry_backoff=0.1)
def read(path: str) -> str:
    return Path(path).read_text()


if __name__ == "__main__":
    with worker_for(app, "retries_and_dlq:app"), tempfile.TemporaryDirectory() as folder:
        print("flaky:", flaky.delay().get(timeout=10))

        report = Path(folder, "report.txt")
        result = read.delay(str(report))
        try:
            result.get(timeout=10)
        except TaskFailedError as error:
            print("read:", error.error_type)

        for letter in app.dlq.list(task=read.name):
            print("dead letter:", letter.task, "after", letter.evidence.attempts, "attempts")

        report.write_text("here it is")
        print("replayed:", app.dlq.replay([result.id]))
        print("read:", result.get(timeout=10))
