"""Messages, outcomes and dead letters as pages show them: redacted, shortened, ready to print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taskq.broker.views.messages import Stored
from taskq.client.app import TaskQ
from taskq.client.dlq import DeadLetter
from taskq.values.message import PLAIN, Message, TaskState
from taskq.values.outcome import Ending
from taskq.values.redaction import Call, redact, redact_text, redacted_call


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message in its queue."""

    stored: Stored
    call: Call | None
    """None when the bytes are no message."""
    facts: list[tuple[str, str]]
    """What differs from an ordinary message."""
    steps: list[Step]

    @property
    def state(self) -> TaskState:
        """Where it is."""
        return self.stored.state


@dataclass(frozen=True, slots=True)
class Step:
    """One point of a message's life."""

    kind: str
    """``ok``, ``bad``, ``warn``, ``info`` or empty."""
    text: str
    at_ms: int = 0
    more: str = ""


@dataclass(frozen=True, slots=True)
class ShownEnding:
    """How a message, or its last attempt, ended."""

    state: TaskState
    value: Any
    error_type: str
    error: str
    traceback: str
    attempt: int


@dataclass(frozen=True, slots=True)
class ShownLetter:
    """A dead letter."""

    letter: DeadLetter
    call: Call | None
    error: str
    """Its first line, with the type."""
    text: str
    traceback: str
    facts: list[tuple[str, str]]
    steps: list[Step]

    def shows(self, text: str) -> bool:
        """Whether *text* is in its arguments or its error, upper or lower case."""
        call = f"{self.call.args} {self.call.kwargs}" if self.call else ""
        return text.lower() in f"{call} {self.text}".lower()


def of_call(app: TaskQ, message: Message) -> Call:
    """The call in *message*."""
    return redacted_call(message, app.tasks.get(message.task))


def of_message(app: TaskQ, stored: Stored) -> ShownMessage:
    """A message that has not ended."""
    message = stored.message
    if message is None:
        return ShownMessage(stored, None, [("bytes", stored.data[:200].hex())], [])
    return ShownMessage(stored, of_call(app, message), _facts(message), [*_past(message), *_present(stored)])


def of_ending(ending: Ending) -> ShownEnding:
    """An outcome."""
    return ShownEnding(
        ending.state,
        redact(ending.value),
        ending.error_type,
        redact_text(ending.error),
        redact_text(ending.traceback),
        ending.attempt,
    )


def of_letter(app: TaskQ, letter: DeadLetter) -> ShownLetter:
    """A dead letter."""
    evidence, message = letter.evidence, letter.message
    text = redact_text(evidence.error)
    first = text.partition("\n")[0][:300]
    facts = _facts(message) if message else [("bytes", letter.data[:200].hex())]
    return ShownLetter(
        letter,
        of_call(app, message) if message else None,
        f"{evidence.error_type}: {first}" if evidence.error_type else first or evidence.reason,
        text,
        redact_text(evidence.traceback),
        facts,
        [*(_past(message) if message else []), _death(letter)],
    )


def _facts(message: Message) -> list[tuple[str, str]]:
    meta = message.meta or PLAIN
    found = [("attempt", str(meta.attempt)), ("priority", str(meta.priority))]
    for name in ("replays", "crashes", "max_retries", "soft_time_limit", "time_limit", "idempotency_key"):
        value = getattr(meta, name)
        if value:
            found.append((name.replace("_", " "), str(value)))
    for name, value in (redact(meta.headers) if meta.headers else {}).items():
        found.append((f"header {name}", str(value)))
    return found


def _past(message: Message) -> list[Step]:
    """Birth and the failed attempts that the message remembers."""
    steps = []
    if isinstance(message.id, bytes):
        steps.append(Step("info", "sent", int.from_bytes(message.id[:6], "big")))
    for failure in (message.meta.failures if message.meta else None) or ():
        kind = "bad" if failure.final else "warn"
        text = f"attempt {failure.attempt} failed" + (" for good" if failure.final else "")
        error = redact_text(f"{failure.error_type}: {failure.error}" if failure.error_type else failure.error)
        steps.append(Step(kind, text, failure.at, f"{error} · {failure.worker}" if failure.worker else error))
    for edit in (message.meta.edits if message.meta else None) or ():
        steps.append(Step("info", f"arguments edited by {edit.actor}", edit.at))
    return sorted(steps, key=lambda step: step.at_ms)


def _present(stored: Stored) -> list[Step]:
    if stored.state is TaskState.SCHEDULED:
        return [Step("info", "due", stored.at_ms)]
    steps = [Step("info", "came into the queue", stored.at_ms)]
    if stored.worker:
        steps.append(Step("ok", "delivered", more=f"{stored.worker} has it for {stored.held_ms / 1000:.1f} s"))
    return steps


def _death(letter: DeadLetter) -> Step:
    evidence = letter.evidence
    more = redact_text(
        f"{evidence.error_type}: {evidence.error[:200]}" if evidence.error_type else evidence.error[:200]
    )
    if evidence.exit_code is not None:
        more += f" · exit code {evidence.exit_code}"
    if evidence.worker:
        more += f" · {evidence.worker}"
    return Step("bad", f"attempt {evidence.attempts}: {evidence.reason}, dead letter", evidence.died_at, more)
