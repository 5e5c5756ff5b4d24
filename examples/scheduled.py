"""Tasks that run later, and tasks that run again and again.

Run it: python examples/scheduled.py

The worker sends the scheduled tasks itself (``-B``). In production ``taskq beat`` does that, as often and on as many
machines as you like: each fire time happens once.
"""

from __future__ import annotations

import time

from surroundings import worker_for

from taskq import TaskQ, cron, current_task, every

app = TaskQ("scheduled")


@app.periodic(every(1))
@app.task(ignore_result=True)
def tick() -> None:
    print("tick:", current_task().id, flush=True)


@app.periodic(cron("0 2 * * *", tz="Asia/Seoul"))
@app.task
def nightly() -> None:
    """At two in the morning, in Seoul."""


@app.task
def remind(text: str) -> str:
    return text


if __name__ == "__main__":
    with worker_for(app, "scheduled:app", "-B"):
        began = time.monotonic()
        text = remind.options(countdown=1.5).delay("tea is ready").get(timeout=10)
        print(f"remind: {text}, after {time.monotonic() - began:.1f} s")
        time.sleep(1)
