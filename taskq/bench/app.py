"""The app that the measured worker runs; broker and namespace come from the environment."""

from __future__ import annotations

from taskq.client.app import TaskQ

app = TaskQ("taskq-bench")


@app.task(ignore_result=True)
def nothing() -> None:
    """The cheapest task there is: what remains is taskq."""


@app.task
def echo(value: int) -> int:
    """A task whose result is asked for."""
    return value
