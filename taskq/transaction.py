"""``ctx.tx``: Redis commands that commit together with the task's success, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskq.checks import check_text, shown
from taskq.errors import ConfigError

Value = bytes | str | int | float
EventCommands = Callable[[str, Any, str | None], list[tuple[Value, ...]]]
"""Makes the commands that publish an event: of its topic, payload and key."""
PUBLISH_EVENT = "taskq.publish"
"""Not a command of Redis's: ``lua/settle.lua`` appends an event to a topic, which takes more than one."""

_BLOCKING = frozenset(
    {"SUBSCRIBE", "PSUBSCRIBE", "MULTI", "EXEC", "WATCH", "EVAL", "EVALSHA", "SCRIPT", "BLPOP", "BRPOP"}
)


class Transaction:
    """Commands collected by one attempt of a task.

    They run inside the script that settles the task, in order, after it has proved that this worker still owns the
    message: a stale worker's commands never run, and a retried attempt's run once. They run only when the task
    succeeds. As in MULTI/EXEC, a command that Redis refuses (a wrong type, say) does not undo the others; it is
    logged. On a Redis Cluster their keys must share the queue's hash tag.
    """

    __slots__ = ("_event", "commands")

    def __init__(self, event: EventCommands | None = None) -> None:
        self.commands: list[tuple[Value, ...]] = []
        self._event = event

    def execute(self, command: str, *args: Value) -> None:
        """Run *command* with the settle: ``ctx.tx.execute("INCRBY", "balance:7", -30)``.

        Raises:
            ConfigError: a command that blocks or steers a connection, or an argument that is no text or number.
        """
        if check_text(command, "ctx.tx: a command").upper() in _BLOCKING:
            raise ConfigError(f"ctx.tx cannot run {command.upper()}: only commands that read or write keys at once")
        for value in args:
            if not isinstance(value, (bytes, str, int, float)) or isinstance(value, bool):
                raise ConfigError(f"ctx.tx: {shown(value)} must be text, bytes or a number")
        self.commands.append((command, *args))

    def publish(self, topic: str, payload: Any, *, key: str | None = None) -> None:
        """Publish an event with the settle; the arguments are those of ``app.publish``.

        It is published once, and only if the task succeeds. What the topic need not keep is dropped when an event is
        published directly, or by a subscriber's worker once a minute. On a Redis Cluster, the topic must share the
        hash slot of the task's queue: a subscriber of the same topic does.

        Raises:
            UnknownTopicError, ConfigError, SerializationError: as ``app.publish``.
        """
        if self._event is None:
            raise ConfigError("ctx.tx.publish needs the app of a running task")
        self.commands += self._event(topic, payload, key)

    def __len__(self) -> int:
        return len(self.commands)

    def packed(self) -> tuple[Value, ...]:
        """The form of ``lua/settle.lua``: how many commands, then each with its length before it."""
        flat: list[Value] = [len(self.commands)]
        for command in self.commands:
            flat += (len(command), *command)
        return tuple(flat)
