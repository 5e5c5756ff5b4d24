"""``ctx.tx``: Redis commands that commit together with the task's success, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from taskq.errors import ConfigError
from taskq.values.checks import check_text, shown

Value = bytes | str | int | float
KeyOf = Callable[[Any], str | None]
"""Tells the key of an event by its payload; None for none."""
EventCommands = Callable[[str, Iterable[Any], KeyOf | None], list[tuple[Value, ...]]]
"""Makes the commands that publish events: of their topic, their payloads and what tells their keys."""
PUBLISH_EVENT = "taskq.publish"
"""Not a command of Redis's: ``lua/settle.lua`` appends an event to a topic, which takes more than one."""

MAX_COMMANDS = 10_000
"""Of one attempt: Redis serves nobody else while it runs them."""
MAX_WORDS = 7_000
"""Of one command: Lua cannot pass on more."""
MAX_TOTAL = 500_000
"""Words of one attempt: Redis takes no call with more than a million."""

_REFUSED = frozenset(
    {
        *("SUBSCRIBE", "PSUBSCRIBE", "MULTI", "EXEC", "WATCH", "EVAL", "EVALSHA", "SCRIPT", "BLPOP", "BRPOP"),
        "SELECT",  # what the settle has still to write would go into the other database
        PUBLISH_EVENT.upper(),
    }
)


class Transaction:
    """Commands collected by one attempt of a task.

    They run inside the script that settles the task, in order, after it has proved that this worker still owns the
    message: a stale worker's commands never run, and a retried attempt's run once. They run only when the task
    succeeds. As in MULTI/EXEC, a command that Redis refuses (a wrong type, say) does not undo the others; it is
    logged. On a Redis Cluster their keys must share the queue's hash tag.
    """

    __slots__ = ("_event", "_words", "commands")

    def __init__(self, event: EventCommands | None = None) -> None:
        self.commands: list[tuple[Value, ...]] = []
        self._event = event
        self._words = 0

    def execute(self, command: str, *args: Value) -> None:
        """Run *command* with the settle: ``ctx.tx.execute("INCRBY", "balance:7", -30)``.

        Raises:
            ConfigError: a command that blocks or steers a connection, an argument that is not text or number or has no
                UTF-8 form, more than 7,000 words in a command, or more than 10,000 commands or 500,000 words in all.
        """
        if check_text(command, "ctx.tx: a command").upper() in _REFUSED:
            raise ConfigError(f"ctx.tx cannot run {command.upper()}: only commands that read or write keys at once")
        for value in args:
            _check_word(value)
        if len(args) >= MAX_WORDS:
            raise ConfigError(f"ctx.tx: a command has at most {MAX_WORDS:,} words, not {len(args) + 1:,}; split it")
        self._add([(command, *args)])

    def publish(self, topic: str, payload: Any, *, key: str | None = None) -> None:
        """Publish an event with the settle; the arguments are those of ``app.publish``.

        It is published once, and only if the task succeeds. On a Redis Cluster, the topic must share the hash slot of
        the task's queue: a subscriber of the same topic does.

        Raises:
            UnknownTopicError, ConfigError, SerializationError: as ``app.publish``.
        """
        self.publish_many(topic, (payload,), key=lambda _: key)

    def publish_many(self, topic: str, payloads: Iterable[Any], *, key: KeyOf | None = None) -> int:
        """Publish many events with the settle, in order; the arguments are those of ``app.publish_many``.

        Returns:
            How many there are.

        Raises:
            UnknownTopicError, ConfigError, SerializationError: as ``app.publish_many``; then none of them is added.
            ConfigError: also when there are more than 10,000 commands by then. So many go through an outbox.
        """
        if self._event is None:
            raise ConfigError("ctx.tx.publish needs the app of a running task")
        commands = self._event(topic, payloads, key)
        self._add(commands)
        return max(len(commands) - 1, 0)  # one declares the limits of the topic

    def _add(self, commands: list[tuple[Value, ...]]) -> None:
        words = self._words + sum(map(len, commands))
        if len(self.commands) + len(commands) > MAX_COMMANDS or words > MAX_TOTAL:
            raise ConfigError(
                f"ctx.tx: an attempt commits at most {MAX_COMMANDS:,} commands with {MAX_TOTAL:,} words in all"
            )
        self.commands += commands
        self._words = words

    def __len__(self) -> int:
        return len(self.commands)

    def packed(self) -> tuple[Value, ...]:
        """The form of ``lua/settle.lua``: how many commands, then each with its length before it."""
        flat: list[Value] = [len(self.commands)]
        for command in self.commands:
            flat += (len(command), *command)
        return tuple(flat)


def _check_word(value: object) -> None:
    """What cannot be written would fail, or end the process, in the call that settles many messages.

    Raises:
        ConfigError: *value* has no form as a word of a command.
    """
    if not isinstance(value, (bytes, str, int, float)) or isinstance(value, bool):
        raise ConfigError(f"ctx.tx: {shown(value)} must be text, bytes or a number")
    if not isinstance(value, bytes):
        try:
            str(value).encode()
        except ValueError:  # half a surrogate pair, or more digits than Python writes
            raise ConfigError(f"ctx.tx: {shown(value)} has no form as text in UTF-8; give bytes") from None
