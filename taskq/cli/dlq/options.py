"""What the ``taskq dlq`` commands share: which dead letters are meant, and how one is shown."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from taskq.errors import ConfigError, suggestion
from taskq.values import durations
from taskq.values.durations import seconds
from taskq.values.redaction import parameters, redact, redact_args, redact_text, redacted_call

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.dlq import DeadLetter

_CHOICES = ("task", "error", "since", "until", "text", "fingerprint")

queue_option = click.option("--queue", metavar="NAME", help="Only of this queue.")
ids_argument = click.argument("ids", nargs=-1, metavar="[ID]...")
skip_missing_option = click.option("--skip-missing", is_flag=True, help="Pass over IDs that are not there.")
all_option = click.option("--all", "everything", is_flag=True, help="Every dead letter there is.")


def where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose dead letters; the command gets them as one mapping, ``where``."""

    @functools.wraps(command)
    def collected(**given: Any) -> Any:
        where = {name: value for name in _CHOICES if (value := given.pop(name)) is not None}
        return command(where=where, **given)

    options = (
        click.option("--task", metavar="NAME", help="Only of this task."),
        click.option("--error", metavar="TYPE", help="Only with this type of error, such as ValueError."),
        click.option(
            "--since", metavar="TIME", callback=_instant, help="Only after TIME: 2026-11-01T08:00 (UTC), or 2h ago."
        ),
        click.option("--until", metavar="TIME", callback=_instant, help="Only before TIME; written as --since."),
        click.option("--text", metavar="TEXT", help="Only with this in the arguments or the error."),
        click.option("--fingerprint", metavar="HEX", help='Only of this group of "taskq dlq groups".'),
    )
    decorated: Callable[..., Any] = collected
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def check_fingerprint(app: TaskQ, queue: str | None, where: dict[str, Any]) -> None:
    """A fingerprint is copied from a list: one that nothing has was copied wrong, or its group is gone.

    Raises:
        click.UsageError: no dead letter has it.
    """
    if (wanted := where.get("fingerprint")) is None:
        return
    known = {group.fingerprint for group in app.dlq.groups(queue)}
    if wanted not in known and not app.dlq.list(queue, limit=1, fingerprint=wanted):
        raise click.UsageError(f"no dead letter has the fingerprint {wanted!r}; {suggestion(wanted, known - {''})}")


def check_choice(ids: tuple[str, ...], queue: str | None, where: dict[str, Any], everything: bool) -> None:
    """An action on many must be asked for in so many words.

    Raises:
        click.UsageError: it is not clear which dead letters are meant.
    """
    if everything and (ids or queue or where):
        raise click.UsageError("--all goes without IDs, --queue, --task and the like")
    if not (everything or ids or queue or where):
        raise click.UsageError("specify IDs, a filter (--queue, --task, ...) or --all")


def fields_of(app: TaskQ, letter: DeadLetter) -> dict[str, Any]:
    """All that is known of a dead letter, redacted, with the names that ``--json`` promises."""
    evidence, message = letter.evidence, letter.message
    task = app.tasks.get(letter.task)
    names = parameters(task)
    call = redacted_call(message, task) if message else None
    fields: dict[str, Any] = {
        "id": letter.entry,
        "queue": letter.queue,
        "task": letter.task,
        "task_id": letter.task_id,
        "args": call.args if call else None,
        "kwargs": call.kwargs if call else None,
        "reason": evidence.reason,
        "error_type": evidence.error_type,
        "error": redact_text(evidence.error),
        "fingerprint": letter.fingerprint,
        "attempts": evidence.attempts,
        "crashes": evidence.crashes,
        "exit_code": evidence.exit_code,
        "rss_bytes": evidence.rss_bytes,
        "replays": letter.replays,
        "parked": letter.replays >= app.config.dlq_max_replays,
        "worker": evidence.worker,
        "died_at": letter.died_at.isoformat(timespec="milliseconds"),
        "failures": [
            {
                "replay": failure.replay,
                "attempt": failure.attempt,
                "at": moment(failure.at),
                "error_type": failure.error_type,
                "error": redact_text(failure.error),
                "worker": failure.worker,
                "final": failure.final,
            }
            for failure in letter.failures
        ],
        "edits": [
            {
                "at": moment(edit.at),
                "actor": edit.actor,
                "args": redact_args(edit.args, names),
                "kwargs": redact(edit.kwargs),
            }
            for edit in letter.edits
        ],
        "traceback": redact_text(evidence.traceback),
    }
    if message is None:
        fields["data"] = letter.data.hex()
    return fields


def moment(epoch_ms: int) -> str:
    """An instant as ``--json`` gives it."""
    return durations.moment(epoch_ms).isoformat(timespec="milliseconds")


def first_line(text: str, width: int = 60) -> str:
    """The first line of *text*, shortened for a table."""
    line = text.partition("\n")[0]
    return line if len(line) <= width else line[: width - 1] + "…"


def clock(when: datetime | None) -> str:
    """An instant in a table, in UTC."""
    return "-" if when is None else f"{when:%Y-%m-%d %H:%M:%S}"


def _instant(_: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds(value))
    except (ConfigError, OverflowError):
        pass
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter("write 2026-11-01T08:00, or a time ago such as 30m, 2h or 7d") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
