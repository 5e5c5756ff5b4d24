"""The calls of a file with one JSON value to a line: read lazily, checked, sent a page at a time in constant memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskq.broker.scripts import MAX_PER_CALL
from taskq.cli.signals import uninterrupted
from taskq.errors import ArgumentsError, ConfigError, SerializationError
from taskq.values.message import MAX_ID_LENGTH, check_id

if TYPE_CHECKING:
    from taskq.broker.producer import Outgoing
    from taskq.client.task import BaseTask

MOST_LINES = 10**15
"""So many digits have the ids of a prefix room for."""


class CallFile:
    """What the lines of one file call, and how far it was sent.

    Args:
        task: what is called.
        settings: as for ``task.options(...)``.
        name: of the file, for errors.
        id_prefix: makes the task id of each call, ``<prefix>-<line number>``; then a second sending passes over what
            was sent within a day.

    Raises:
        ConfigError: a setting or prefix that cannot be used.
    """

    def __init__(
        self, task: BaseTask[..., Any], settings: Mapping[str, Any], name: str, id_prefix: str | None = None
    ) -> None:
        if id_prefix is not None and len(check_id(id_prefix, "--id-prefix")) > MAX_ID_LENGTH - len(f"-{MOST_LINES}"):
            raise ConfigError(f"--id-prefix is too long: line numbers are added, and a task id has {MAX_ID_LENGTH}")
        self._task = task
        self._settings = dict(settings)
        self._bound = task.options(**self._settings)
        self._name = name
        self._id_prefix = id_prefix
        self.sent = 0
        """Calls that Redis has accepted."""
        self.sent_before = 0
        """Calls that were skipped, since their task id was sent before."""

    def check(self, lines: Iterable[bytes], progress: Callable[[int], object] | None = None) -> int:
        """How many calls there are, if each of them can be made. Sends nothing.

        Raises:
            ConfigError: one cannot; the text names its line.
        """
        count = 0
        for count, _ in enumerate(self._messages(lines), 1):
            if progress is not None and count % MAX_PER_CALL == 0:
                progress(count)
        return count

    def send(self, lines: Iterable[bytes], progress: Callable[[int], object] | None = None) -> None:
        """Send the calls, a page at a time; a page with a line that cannot be called is not sent.

        Ctrl-C lets a page that is on its way arrive, so that :attr:`sent` is true when ``KeyboardInterrupt`` comes.

        Raises:
            ConfigError: a call cannot be made; the text names its line. Pages before it were accepted.
            BrokerError: Redis did not accept a page in time. Pages before it were accepted.
        """
        messages = self._messages(lines)
        while page := list(itertools.islice(messages, MAX_PER_CALL)):
            with uninterrupted():
                new = self._send_page(page)
                self.sent += new
                self.sent_before += len(page) - new
            if progress is not None:
                progress(self.sent + self.sent_before)

    def _send_page(self, page: Sequence[Outgoing]) -> int:
        if self._id_prefix is not None:
            return self._task.app.send_once(page)
        self._task.app.send(page)
        return len(page)

    def _messages(self, lines: Iterable[bytes]) -> Iterator[Outgoing]:
        bound = self._bound
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            args, kwargs = self._arguments(number, line)
            if self._id_prefix is not None:
                bound = self._task.options(**self._settings, task_id=f"{self._id_prefix}-{number}")
            try:
                yield bound.prepared(*args, **kwargs)[0]
            except (ArgumentsError, SerializationError) as error:
                raise self._error(number, str(error)) from None

    def _arguments(self, number: int, line: bytes) -> tuple[list[Any], dict[str, Any]]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._error(number, f"this is not JSON: {error}") from None
        if isinstance(value, dict):
            return [], value
        if isinstance(value, list):
            return value, {}
        raise self._error(number, f"a call is a JSON array or object, such as [7, 3]; not {_kind(value)}")

    def _error(self, number: int, problem: str) -> ConfigError:
        return ConfigError(f"{self._name}, line {number}: {problem}")


def _kind(value: str | float | bool | None) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return "a text" if isinstance(value, str) else "a number"
