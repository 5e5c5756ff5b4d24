"""``taskq tasks``: what became of each task, and the messages that have not ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from taskq.cli.output import age, echo, print_json, print_table
from taskq.cli.session import json_option, passing_app
from taskq.cli.watching import show as show_view
from taskq.cli.watching import watch_option
from taskq.errors import ExitCode
from taskq.values.durations import moment
from taskq.values.escaping import escaped, indented
from taskq.values.message import check_id
from taskq.values.redaction import redact, redact_text, redacted_call

if TYPE_CHECKING:
    from taskq.broker.views.messages import Stored
    from taskq.broker.views.totals import TaskTotals
    from taskq.client.app import TaskQ
    from taskq.values.outcome import Ending

_STATES = {"queued": "PENDING", "running": "STARTED", "delayed": "SCHEDULED"}
_COUNTED = ("SUCCESS", "FAILURE", "RETRY", "REVOKED", "EXPIRED", "SKIPPED")
_queue = click.option("--queue", metavar="NAME", help="Only of this queue.")


class _StatsByDefault(click.Group):
    """``taskq tasks`` and ``taskq tasks --json`` mean ``taskq tasks stats``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args.insert(0, "stats")
        return super().parse_args(ctx, args)


@click.group(cls=_StatsByDefault)
def tasks() -> None:
    """Show statistics of tasks, and their messages.

    \b
    taskq tasks                                 (stats) runs, failures, mean time of each task
    taskq tasks list emails                     what waits in a queue, in the order of its turn
    taskq tasks list emails --state running
    taskq tasks show 0199f0c5a3f27d0c8f5e2a4b6c8d0e1f
    taskq tasks revoke 0199f0c5a3f27d0c8f5e2a4b6c8d0e1f

    What has failed for good is in "taskq dlq".
    """


@tasks.command()
@passing_app
@_queue
@json_option
@watch_option
def stats(app: TaskQ, queue: str | None, as_json: bool, watch: float | None) -> None:
    """Show what became of each task: by state, and the mean time of a run.

    Counted by the workers since a queue's first message, until 90 days after its last. Numbers are a few seconds old.
    """
    _check_queue(app, queue)
    show_view(lambda: _totals(app, queue), _print_totals, _total_fields if as_json else None, watch)


@tasks.command("list")
@passing_app
@click.argument("queue")
@click.option("--state", type=click.Choice(tuple(_STATES)), default="queued", show_default=True)
@click.option("--task", metavar="NAME", help="Only of this task, among the next 20,000 messages.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Maximum number of rows.")
@json_option
@watch_option
def list_messages(
    app: TaskQ, queue: str, state: str, task: str | None, limit: int, as_json: bool, watch: float | None
) -> None:
    """Show the messages of a queue, in the order in which their turn comes.

    queued: not yet delivered. running: delivered to a worker, not settled. delayed: not due yet, retries among them.
    """
    from taskq.broker.views.messages import stored
    from taskq.values.message import TaskState

    _check_queue(app, queue)
    wanted, keys = TaskState(_STATES[state]), app.keys.queue(queue)

    def read() -> list[Stored]:
        return stored(app.sync_broker.execute, keys, wanted, task=task, limit=limit)

    def table(found: list[Stored]) -> None:
        _print_messages(app, found, state)

    show_view(read, table, (lambda found: [_fields(app, each) for each in found]) if as_json else None, watch)


@tasks.command()
@passing_app
@_queue
@json_option
@click.argument("id_", metavar="ID")
def show(app: TaskQ, queue: str | None, as_json: bool, id_: str) -> None:
    """Show one message: where it is, its arguments, what came out."""
    _check_queue(app, queue)
    found = _describe(app, check_id(id_, "ID"), [queue] if queue else app.known_queues())
    if as_json:
        print_json(found)
    else:
        traceback = found.pop("traceback", "")
        for name, value in found.items():
            echo(f"{name.replace('_', ' ') + ':':<12} {escaped(str(value))}")
        if traceback:
            echo(f"\n{indented(str(traceback))}")
    if found["state"] in _MISSING:
        echo(f"taskq: no trace of {id_}: {_MISSING[found['state']]}", err=True)
        raise SystemExit(ExitCode.FAILED)


@tasks.command()
@passing_app
@_queue
@json_option
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
def revoke(app: TaskQ, queue: str | None, as_json: bool, ids: tuple[str, ...]) -> None:
    """Stop messages: one that waits never starts, one that runs is cancelled.

    An ID of which there is no trace is remembered as revoked all the same: it may stand behind thousands of others.

    \b
    exit codes   0 all were stopped, 1 one was not found, or had already finished
    """
    _check_queue(app, queue)
    found = {id_: app.result(id_, queue=queue).status.value for id_ in ids}
    stopped = {id_: app.result(id_, queue=queue).revoke() for id_ in ids}
    if as_json:
        print_json([{"id": id_, "revoked": done, "found": found[id_]} for id_, done in stopped.items()])
    else:
        for id_, done in stopped.items():
            trace = "" if found[id_] not in _MISSING else ", but there is no trace of it"
            echo(f"{id_}: {'revoked' if done else 'already finished'}{trace}")
    if not all(stopped.values()) or not _MISSING.keys().isdisjoint(found.values()):
        raise SystemExit(ExitCode.FAILED)


_MISSING = {
    "UNKNOWN": "never sent here, or its result has expired or was not kept",
    "UNTRACED": "not among the messages that were looked at; there are too many to look at all",
}
"""States of a message that was not found, and what that means."""


def _check_queue(app: TaskQ, queue: str | None) -> None:
    """Raise for a name that no queue has."""
    if queue is not None:
        app.dlq.check_queue(queue)


def _totals(app: TaskQ, queue: str | None) -> dict[str, dict[str, TaskTotals]]:
    from taskq.broker.views.totals import read_totals

    names = [queue] if queue else app.known_queues()
    return read_totals(app.sync_broker.pipeline, [app.keys.queue(name) for name in names])


def _print_totals(found: dict[str, dict[str, TaskTotals]]) -> None:
    numbers = [state.lower() for state in _COUNTED] + ["mean run"]
    rows = [
        [task, queue, *(totals.states.get(state, 0) for state in _COUNTED), _mean(totals)]
        for queue, each in found.items()
        for task, totals in sorted(each.items())
    ]
    print_table(["task", "queue", *numbers], rows, numbers=numbers, spare=("expired", "revoked", "queue"))


def _mean(totals: TaskTotals) -> str:
    if not totals.runs:
        return "-"
    seconds = totals.runtime / totals.runs
    return f"{seconds * 1000:.1f}ms" if seconds < 1 else age(seconds)


def _total_fields(found: dict[str, dict[str, TaskTotals]]) -> list[dict[str, Any]]:
    return [
        {
            "task": task,
            "queue": queue,
            **{state.lower(): totals.states.get(state, 0) for state in _COUNTED},
            "runs": totals.runs,
            "runtime_seconds": totals.runtime,
        }
        for queue, each in found.items()
        for task, totals in sorted(each.items())
    ]


def _print_messages(app: TaskQ, found: list[Stored], state: str) -> None:
    when = {"queued": "sent", "running": "sent", "delayed": "due"}[state]
    if not found:
        echo(f"no {state} messages")
        return
    columns = ["task id", "task", "level", when, "attempt", "arguments"]
    rows = []
    for each in found:
        meta = each.message.meta if each.message else None
        row = [each.task_id or "-", each.task or "(no message)", each.level, _clock(each.at_ms)]
        rows.append([*row, meta.attempt if meta else 1, _call(app, each)])
        if state == "running":
            rows[-1] += [each.worker, age(each.held_ms / 1000)]
    columns += ["worker", "for"] if state == "running" else []
    spare = ("worker", "level", "attempt", when)
    print_table(columns, rows, numbers=("attempt", "for"), spare=spare, whole=("task id",))


def _fields(app: TaskQ, each: Stored) -> dict[str, Any]:
    message = each.message
    call = redacted_call(message, app.tasks.get(message.task)) if message else None
    meta = message.meta if message else None
    fields: dict[str, Any] = {
        "id": each.task_id,
        "queue": each.queue,
        "task": each.task,
        "state": each.state.value,
        "level": each.level,
        "attempt": meta.attempt if meta else 1,
        "due" if each.state.value == "SCHEDULED" else "sent": _iso(each.at_ms),
        "args": call.args if call else None,
        "kwargs": call.kwargs if call else None,
    }
    if each.worker:
        fields |= {"worker": each.worker, "held_seconds": each.held_ms / 1000}
    return fields


def _describe(app: TaskQ, id_: str, queues: Sequence[str]) -> dict[str, Any]:
    """All that Redis tells about one message: where it is, or what came out."""
    from taskq.broker.views.messages import find
    from taskq.values import outcome
    from taskq.values.message import TaskState

    missing = TaskState.UNKNOWN
    for name in queues:
        trace = find(app.sync_broker, app.keys.queue(name), id_)
        ending = None if trace.outcome is None else outcome.unpack(trace.outcome)
        if ending is not None and ending.state.final:
            return {"id": id_, "queue": name, "state": ending.state.value, **_came_out(ending)}
        last = {}
        if ending is not None:
            last = {"last_error": redact_text(ending.error), "traceback": redact_text(ending.traceback)}
        if trace.found is not None:
            return _fields(app, trace.found) | ({"revoked": True} if trace.revoked else {}) | last
        if ending is not None:
            return {"id": id_, "queue": name, "state": ending.state.value, **last}
        missing = trace.state if trace.state is TaskState.UNTRACED else missing
    return {"id": id_, "state": missing.value}


def _came_out(ending: Ending) -> dict[str, Any]:
    if ending.state.value == "SUCCESS":
        return {"attempt": ending.attempt, "result": redact(ending.value)}
    return {
        "attempt": ending.attempt,
        "error_type": ending.error_type,
        "error": redact_text(ending.error),
        "traceback": redact_text(ending.traceback),
    }


def _call(app: TaskQ, each: Stored) -> str:
    if each.message is None:
        return each.data[:30].hex()
    return redacted_call(each.message, app.tasks.get(each.message.task)).line(60)


def _clock(ms: int) -> str:
    return f"{moment(ms):%Y-%m-%d %H:%M:%S}"


def _iso(ms: int) -> str:
    return moment(ms).isoformat(timespec="milliseconds")
