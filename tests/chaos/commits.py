"""What Redis committed, in its order, read from its append-only file after the run.

The file has every effect of every script: which messages were written, and each outcome of each message. A result
that was overwritten, or a dead letter that is gone again, is still in it: nothing can be committed in secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import hiredis
import msgspec

from taskq.client.dlq import Evidence
from taskq.errors import DecodeError
from taskq.values.message import Message, decode
from taskq.values.outcome import unpack

_CHUNK = 1 << 20
_evidence = msgspec.msgpack.Decoder(Evidence).decode


class Commit(NamedTuple):
    """One outcome as it was written: a state letter (see ``taskq.values.outcome``), and the run it is of."""

    letter: str
    run: int = 0
    """What a successful task returned: its run. 0 for any other outcome."""
    attempt: int = 0


class Dead(NamedTuple):
    """One dead letter."""

    reason: str
    crashes: int


@dataclass
class CommitLog:
    """All that the append-only file tells about the messages of one namespace."""

    tasks: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Task id -> name of the task and its first argument (0 without one)."""
    commits: dict[str, list[Commit]] = field(default_factory=dict)
    """Task id -> its outcomes in order."""
    dead: dict[str, list[Dead]] = field(default_factory=dict)
    charged: set[str] = field(default_factory=set)
    """Task ids that were charged with a crash."""

    def take(self, namespace: str, command: Sequence[bytes]) -> None:
        """Note one command."""
        verb = command[0].upper()
        if verb not in (b"XADD", b"ZADD", b"SET") or not command[1].startswith(namespace.encode() + b":{"):
            return
        kind = command[1].rpartition(b"}:")[2]
        if verb == b"XADD":
            fields = dict(zip(command[3::2], command[4::2], strict=False))
            message = self._message(fields.get(b"m", b""))
            if kind == b"dead" and message is not None:
                evidence = _evidence(fields[b"i"])
                self.dead.setdefault(message.task_id, []).append(Dead(evidence.reason, evidence.crashes))
            elif message is not None and fields.get(b"c", b"0") != b"0":
                self.charged.add(message.task_id)
        elif verb == b"ZADD" and kind == b"delayed":
            self._message(command[-1][1:])
        elif verb == b"SET" and kind.startswith(b"result:"):
            self.commits.setdefault(kind[7:].decode(), []).append(commit(command[2]))

    def _message(self, data: bytes) -> Message | None:
        try:
            message = decode(data)
        except DecodeError:
            return None
        number = message.args[0] if message.args and isinstance(message.args[0], int) else 0
        self.tasks.setdefault(message.task_id, (message.task, number))
        return message


def commit(data: bytes) -> Commit:
    """The commit in a stored outcome."""
    ending = unpack(data)
    run = ending.value if isinstance(ending.value, int) else 0
    return Commit(data[:1].decode(), run, ending.attempt)


def read(folder: Path, namespace: str) -> CommitLog:
    """The commit log of *namespace* from the data directory of a Redis server (6.2 or newer).

    Raises:
        FileNotFoundError: there is no append-only file.
    """
    log = CommitLog()
    files = sorted(folder.glob("appendonlydir/*.incr.aof"), key=_sequence) or sorted(folder.glob("appendonly.aof"))
    if not files:
        raise FileNotFoundError(f"no append-only file in {folder}")
    for file in files:
        for command in _commands(file):
            log.take(namespace, command)
    return log


def _sequence(file: Path) -> int:
    found = re.search(r"\.(\d+)\.incr\.aof$", file.name)
    return int(found[1]) if found else 0


def _commands(file: Path) -> Iterator[list[bytes]]:
    reader = hiredis.Reader()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            reader.feed(chunk)
            while (command := reader.gets()) is not False:
                yield command
