"""Dead letters as lines of JSON, to keep them elsewhere and to bring them back. Their bytes are kept exactly."""

from __future__ import annotations

import binascii
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from taskq.broker import scripts
from taskq.broker.calls import Arg
from taskq.broker.keys import Keys
from taskq.broker.link.sync import SyncBroker
from taskq.client.dlq.letter import DeadLetter, buried, read_letter
from taskq.client.dlq.query import is_entry
from taskq.client.dlq.replay import identity
from taskq.errors import ImportFormatError
from taskq.values.config import check_queue

FORMAT = 1
_PAGE = 100
_PAGE_BYTES = 1_000_000
"""A page of an import ends with the letter that brings it to so many bytes."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, checked."""

    letter: DeadLetter
    to: str
    """The queue that it goes to."""


def write_lines(file: IO[str], letters: Iterable[DeadLetter]) -> int:
    """Write *letters*, one line each; how many."""
    count = 0
    for letter in letters:
        file.write(json.dumps(_fields(letter), ensure_ascii=False) + "\n")
        count += 1
    return count


def read_lines(file: Iterable[str], to: str | None = None) -> Iterator[Line]:
    """The dead letters of a file.

    Args:
        file: its lines; empty ones are skipped.
        to: the queue that all of them go to; None for the one that each was exported from.

    Raises:
        ImportFormatError: a line is none that :func:`write_lines` has written; it says which.
    """
    if to is not None:
        check_queue(to)
    for number, text in enumerate(file, 1):
        if text.strip():
            try:
                letter = _letter(json.loads(text))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ImportFormatError(f"line {number} is not an exported dead letter: {_why(error)}") from None
            yield Line(letter, to or letter.queue)


def restore(broker: SyncBroker, keys: Keys, lines: Iterable[Line]) -> tuple[int, int]:
    """Bring dead letters back, each once by its identity; how many, and how many were there or came before.

    Raises:
        BrokerError: Redis could not be asked, or has no memory; then it may be repeated.
    """
    new = total = size = 0
    page: list[Arg] = []
    to = ""
    for line in lines:
        letter = line.letter
        if page and (line.to != to or len(page) >= 6 * _PAGE or size >= _PAGE_BYTES):
            new += int(broker.run(scripts.restore(keys.queue(to), page)))
            page, size = [], 0
        if line.to != to:
            to = line.to
            broker.execute("SADD", keys.queues, to)
        end = buried(letter.data, letter.task, letter.evidence)
        page += (identity(letter), letter.entry, letter.data, letter.raw_evidence, end.fingerprint, end.label)
        size += len(letter.data) + len(letter.raw_evidence)
        total += 1
    if page:
        new += int(broker.run(scripts.restore(keys.queue(to), page)))
    return new, total - new


@contextmanager
def whole(path: Path) -> Iterator[IO[str]]:
    """A file to write, which is there when all is written: until then, and after a failure, *path* is as it was.

    What is not an ordinary file, such as a pipe, is written at once.

    Raises:
        OSError: it cannot be written.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        with target.open("w", encoding="utf-8") as file:
            yield file
        return
    part = target.with_name(f"{target.name}.{os.urandom(6).hex()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)  # it has people's data
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            yield file
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _fields(letter: DeadLetter) -> dict[str, Any]:
    evidence = letter.evidence
    return {
        "taskq_dead_letter": FORMAT,
        "queue": letter.queue,
        "id": letter.entry,
        # for the reader's eye; not read back
        "task": letter.task,
        "task_id": letter.task_id,
        "error": f"{evidence.error_type}: {evidence.error}",
        "message": b64encode(letter.data).decode(),
        "evidence": b64encode(letter.raw_evidence).decode(),
    }


def _letter(fields: Any) -> DeadLetter:
    if not isinstance(fields, dict) or fields.get("taskq_dead_letter") != FORMAT:
        raise ValueError(f'it must be an object with "taskq_dead_letter": {FORMAT}')
    queue, entry = check_queue(fields["queue"]), fields["id"]
    if not isinstance(entry, str) or not is_entry(entry) or entry == "0-0":
        raise ValueError(f"its id is {entry!r}")
    data, evidence = (b64decode(fields[name], validate=True) for name in ("message", "evidence"))
    return read_letter(queue, entry.encode(), (b"m", data, b"i", evidence))


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, binascii.Error):
        return f"its bytes are not base64 ({error})"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error})"
    return str(error)
