"""A subscription: which group of which topic a task serves, and where the group begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskq.errors import ConfigError
from taskq.values.checks import shown
from taskq.values.config import check_name
from taskq.values.topics import check_instant, epoch_ms, queue_of

STARTS = ("earliest", "latest")

_OF_QUEUES = {
    "queue": "its queue is that of its group",
    "priority": "events are read in the order of their publication",
    "expires": "the topic's retention says how long an event is of use",
    "when_unavailable": "nothing is sent to it directly",
}


@dataclass(frozen=True, slots=True)
class Subscription:
    """One group of a topic, as this app's code declares it."""

    topic: str
    group: str
    task: str
    """The name of the task that gets the events."""
    start: str
    """``earliest``, ``latest`` or epoch milliseconds: where the group begins when it has no position yet."""
    ordered: bool = False
    """Whether events of one key are handled one after the other."""

    @property
    def queue(self) -> str:
        """The queue in which the group's events wait."""
        return queue_of(self.topic, self.group)


def check_start(value: object, what: str = "start") -> str:
    """The form in which scripts take a place to start from.

    Raises:
        ConfigError: neither ``"earliest"``, ``"latest"`` nor an aware datetime.
    """
    if isinstance(value, str) and value in STARTS:
        return value
    if isinstance(value, datetime):
        return str(max(epoch_ms(check_instant(value, what)), 0))
    raise ConfigError(f"{what} must be 'earliest', 'latest' or a timezone-aware datetime, not {shown(value)}")


def check_group(group: object) -> str:
    """Return *group* if it can be a group's name.

    Raises:
        ConfigError: it cannot.
    """
    return check_name(group, "group")


def check_settings(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The task settings of a subscriber; nobody waits for its results, so none are stored unless asked for.

    Raises:
        ConfigError: a setting that has no meaning for subscribers.
    """
    for key, why in _OF_QUEUES.items():
        if key in settings:
            raise ConfigError(f"{where} takes no {key}: {why}")
    return {"ignore_result": True, **settings}
