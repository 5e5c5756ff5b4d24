"""``ctx.tx``: Redis commands that commit together with the task's success, or not at all."""

from __future__ import annotations

from taskq.errors import ConfigError

Value = bytes | str | int | float

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

    __slots__ = ("commands",)

    def __init__(self) -> None:
        self.commands: list[tuple[Value, ...]] = []

    def execute(self, command: str, *args: Value) -> None:
        """Run *command* with the settle: ``ctx.tx.execute("INCRBY", "balance:7", -30)``.

        Raises:
            ConfigError: a command that blocks or steers a connection, or an argument that is no text or number.
        """
        if command.upper() in _BLOCKING:
            raise ConfigError(f"ctx.tx cannot run {command.upper()}: only commands that read or write keys at once")
        for value in args:
            if not isinstance(value, (bytes, str, int, float)) or isinstance(value, bool):
                raise ConfigError(f"ctx.tx: {value!r} must be text, bytes or a number")
        self.commands.append((command, *args))

    def __len__(self) -> int:
        return len(self.commands)

    def packed(self) -> tuple[Value, ...]:
        """The form of ``lua/settle.lua``: how many commands, then each with its length before it."""
        flat: list[Value] = [len(self.commands)]
        for command in self.commands:
            flat += (len(command), *command)
        return tuple(flat)
